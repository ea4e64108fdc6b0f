# SPDX-License-Identifier: Apache-2.0
"""``video_depth average``: several training runs as one weight file."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from video_depth_ros.cli.train import add_export_arguments, check_export, write_export

EXAMPLES = """\
worked examples:
  a run and the file it began with, seven tenths and three:
    video_depth average runs/long@0.7 before.safetensors@0.3 --export mine.safetensors --window 3

  go on training from the mean:
    video_depth train --stage pixel --init mine.safetensors --set tau=0 ...
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:  # type: ignore[type-arg]
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "average",
        help="average training runs into one weight file",
        description=(
            "Write the mean, weight by weight, of runs of `video_depth train` that began with "
            "the same weights, as a folded file that regressor.weights takes."
        ),
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "runs",
        nargs="+",
        metavar="RUN[@SHARE]",
        help="a run's folder or checkpoint.pt; after the first also a file that training "
        "exported; share 1 if none",
    )
    add(
        "--encoder",
        choices=("image", "video"),
        default="",
        help="switch the encoder's memory off (image) or on (video) in every run first",
    )
    add_export_arguments(parser, required=True)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Average and export."""
    from video_depth_ros.training.average import average
    from video_depth_ros.training.checkpoint import NAME

    runs = [split_share(word) for word in args.runs]
    check_export(args, [path / NAME if path.is_dir() else path for path, _ in runs])
    mean = average(runs, args.encoder, args.licence)
    write_export(args, mean.config, mean.model, {"average": mean.parts}, Console())
    return 0


def split_share(word: str) -> tuple[Path, float]:
    """``runs/a@0.3`` is (runs/a, 0.3); a path that itself has an @ needs its share spelt out.

    Raises:
        ConfigError: a share that is no positive number.
    """
    from video_depth_ros.training.sources import read_share

    path, at, share = word.rpartition("@")
    return (Path(path), read_share(f"average: {word!r}", share)) if at else (Path(word), 1.0)
