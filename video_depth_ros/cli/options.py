# SPDX-License-Identifier: Apache-2.0
"""Options that several subcommands share: topics of a bag, and parameters of the node."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from video_depth_ros.bags.topics import TopicChoice
    from video_depth_ros.node_config import DepthNodeConfig

_THE_ONE = ", or none (default: the one there is)"
_PARTS = {
    "image": "",
    "camera-info": _THE_ONE,
    "points": _THE_ONE,
    "imu": _THE_ONE,
    "odometry": _THE_ONE,
    "sparse-depth": " (default: none)",
}


def add_topics(parser: argparse.ArgumentParser) -> None:
    """Declare ``--image-topic`` and its like."""
    for part, note in _PARTS.items():
        parser.add_argument(f"--{part}-topic", metavar="TOPIC", help=f"{part} topic{note}")


def topic_choice(args: argparse.Namespace) -> TopicChoice:
    """The topics that were named."""
    from video_depth_ros.bags.topics import TopicChoice

    names = (part.replace("-", "_") for part in _PARTS)
    return TopicChoice(**{name: getattr(args, f"{name}_topic") for name in names})


def add_parameters(parser: argparse.ArgumentParser) -> None:
    """Declare ``--params`` and ``--set``."""
    parser.add_argument(
        "--params", type=Path, metavar="YAML", help="parameter file, as the node's"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="one parameter, repeatable",
    )


def configuration(args: argparse.Namespace) -> DepthNodeConfig:
    """The node's parameters: defaults, then the file, then the command line.

    Raises:
        ConfigError: unreadable file, unknown name or bad value.
    """
    from video_depth_ros.config import apply_overrides, load_yaml
    from video_depth_ros.node_config import DepthNodeConfig

    config = DepthNodeConfig()
    if args.params is not None:
        config = load_yaml(config, args.params)
    return apply_overrides(config, args.set)
