# SPDX-License-Identifier: Apache-2.0
"""``video_depth``: one command, one subcommand per job."""

from __future__ import annotations

import argparse
import importlib
import logging
import sys

from rich.console import Console
from rich.logging import RichHandler

from video_depth_ros import __version__
from video_depth_ros.cli import termination
from video_depth_ros.errors import VideoDepthError

# module under video_depth_ros.cli for every subcommand, in the order of the help text
COMMANDS = (
    "demo",
    "simulate",
    "import_",
    "reprocess",
    "evaluate",
    "benchmark",
    "train",
    "average",
    "download",
    "fold",
)

EXAMPLES = """\
worked examples:
  video_depth demo                                        see it work, on a simulated robot
  video_depth simulate street.mcap --world street --seconds 20
  video_depth import --format kitti_raw DRIVE drive.mcap
  video_depth reprocess drive.mcap drive_depth.mcap
  video_depth evaluate drive.mcap --report report.html
  video_depth COMMAND --help                              every command has examples of its own
"""


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command."""
    parser = argparse.ArgumentParser(
        prog="video_depth",
        description="Metric, temporally stable depth from one camera.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"video_depth {__version__}")
    parser.add_argument("-v", "--verbose", action="store_true", help="log what happens, in detail")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in COMMANDS:
        importlib.import_module(f"video_depth_ros.cli.{name}").add_parser(subparsers)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one subcommand; bad input is one clear line and exit status 2."""
    args = build_parser().parse_args(argv)
    errors = Console(stderr=True, soft_wrap=True, highlight=False)
    logging.basicConfig(
        level=logging.INFO if args.verbose else logging.ERROR,
        format="%(message)s",
        handlers=[RichHandler(console=errors, show_path=False)],
    )
    try:
        return int(args.run(args))
    except VideoDepthError as error:
        errors.print(f"[red]video_depth {args.command}:[/red] ", end="")
        errors.print(str(error), markup=False)
        return 2
    except KeyboardInterrupt as stop:
        errors.print(f"video_depth {args.command}: stopped")
        return termination.STATUS if isinstance(stop, termination.Terminated) else 130


if __name__ == "__main__":
    sys.exit(main())
