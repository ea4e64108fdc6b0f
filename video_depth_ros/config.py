# SPDX-License-Identifier: Apache-2.0
"""The whole configuration of a pipeline, and its YAML form.

The rooms own their parameters; this file only composes them. Names are the same everywhere:
``alignment.overlap`` is a field here, a ROS parameter, a key in ``config/depth.yaml`` and a value
for ``--set``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import yaml

from video_depth_ros.alignment import AlignmentConfig
from video_depth_ros.errors import ConfigError
from video_depth_ros.metric import ScaleConfig
from video_depth_ros.regressors.registry import RegressorConfig
from video_depth_ros.settings import flatten_tree, group, leaves, parameter, replace_flat

T = TypeVar("T")


@dataclass(frozen=True)
class StreamConfig:
    """How frames become a stream."""

    latency: str = parameter(
        "group",
        "group: a frame's depth comes when its group is complete (best quality per computation); "
        "frame: at once, by padding the group with its last frame, one network run per frame.",
        choices=("group", "frame"),
    )
    max_gap: float = parameter(
        0.5,
        "A gap between two images longer than this starts the window anew.",
        unit="s",
        low=0.01,
        high=60.0,
    )
    max_backward: float = parameter(
        0.1,
        "An image older than the newest by up to this is dropped as out of order; older still, "
        "time has jumped back and the stream is reset.",
        unit="s",
        low=0.0,
        high=10.0,
    )


@dataclass(frozen=True)
class PipelineConfig:
    """Everything the pipeline needs besides its inputs."""

    regressor: RegressorConfig = group(RegressorConfig)
    stream: StreamConfig = group(StreamConfig)
    alignment: AlignmentConfig = group(AlignmentConfig)
    scale: ScaleConfig = group(ScaleConfig)


def load_yaml(config: T, path: Path) -> T:
    """``config`` with the values of a YAML file, plain or in ROS's parameter-file form.

    A ROS parameter file nests the values under ``<node>: ros__parameters:``; names that belong to
    ROS itself (``use_sim_time``, ``qos_overrides``) are passed over, any other unknown name is an
    error.

    Raises:
        ConfigError: unreadable file, not a mapping, unknown name or bad value.
    """
    try:
        tree = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read parameters from {path}: {error}") from error
    if tree is None:
        return config
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: expected names and values, got {type(tree).__name__}")
    for value in tree.values():
        if isinstance(value, dict) and "ros__parameters" in value:
            tree = value["ros__parameters"] or {}
            break
    flat = flatten_tree(tree)
    values = {
        name: value
        for name, value in flat.items()
        if name != "use_sim_time" and not name.startswith("qos_overrides.")
    }
    return replace_flat(config, values)


def apply_overrides(config: T, assignments: Iterable[str]) -> T:
    """``config`` with ``name=value`` texts applied, values read as YAML.

    Raises:
        ConfigError: no ``=``, unknown name, or bad value.
    """
    texts = {leaf.name for leaf in leaves(config) if leaf.type is str}
    values = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise ConfigError(f"expected name=value, got {assignment!r}")
        value = text if name in texts else yaml.safe_load(text)
        values[name] = tuple(value) if isinstance(value, list) else value
    return replace_flat(config, values)
