# SPDX-License-Identifier: Apache-2.0
"""``video_depth demo``: the real node on a recording, measured, with pictures."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from video_depth_ros.cli import options
from video_depth_ros.cli.progress import UNKNOWN, progress_bar
from video_depth_ros.errors import ConfigError, VideoDepthError

if TYPE_CHECKING:
    from video_depth_ros.bags.reader import Recording
    from video_depth_ros.bags.topics import Parts
    from video_depth_ros.node_config import DepthNodeConfig
    from video_depth_ros.ros.live_run import LiveRun

EXAMPLES = """\
worked examples:
  video_depth demo
      simulate a robot with camera and LiDAR, run the node on it
  video_depth demo --bag drive.mcap
      your own bag, ROS 1 or ROS 2; camera_info and points are used where the bag has them
  video_depth demo --bag drive.mcap --odometry-topic /odom --imu-topic none
      a bag with several topics of a kind; sources left out of scale.sources need no choice
  video_depth demo --sequence 2011_09_26_drive_0001_sync
      a recording in a layout that `video_depth import` knows (found out by itself)
  video_depth demo --set regressor.name=dvd --set regressor.weights=dvd_folded.safetensors
      any parameter of the node

What it leaves in the output folder: summary.json, comparison.mp4 (RGB, depth, error side by
side), contact_sheet.png, cloud.ply, input.mcap (what was played, unless --bag) and output.mcap
(what the node published).
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the subcommand."""
    parser = subparsers.add_parser(
        "demo",
        help="run the node on a recording over DDS, measure, make pictures",
        description="Start the real node in its own process, play a recording to it over DDS, "
        "record what it publishes, and measure it.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--bag", type=Path, help="ROS bag to play (default: simulate one)")
    source.add_argument("--sequence", type=Path, help="recording to import and play")
    parser.add_argument("--output", type=Path, default=Path("demo_output"), help="folder to fill")
    parser.add_argument("--world", default="street", help="simulated world (default: street)")
    parser.add_argument("--seconds", type=float, default=12.0, help="simulated seconds")
    parser.add_argument("--seed", type=int, default=7, help="of the simulated world")
    parser.add_argument("--rate", type=float, default=1.0, help="playing speed, 1 = as recorded")
    options.add_topics(parser)
    options.add_parameters(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the demo; the exit status is 0 when the node did its work."""
    _check(args)
    console = Console()
    require_ros()
    config = options.configuration(args)
    with _folder(args.output):
        return _fill(args, config, console)


@contextlib.contextmanager
def _folder(path: Path) -> Iterator[None]:
    """The folder to fill; one that was made here and stayed empty is gone after an error."""
    made = not path.exists()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--output: cannot make folder {path}: {error}") from error
    try:
        yield
    except VideoDepthError:
        if made:
            with contextlib.suppress(OSError):  # what was recorded before stays
                path.rmdir()
        raise


def _fill(args: argparse.Namespace, config: DepthNodeConfig, console: Console) -> int:
    from video_depth_ros.bags.messages import IMAGE
    from video_depth_ros.bags.reader import Recording
    from video_depth_ros.bags.topics import parts_for
    from video_depth_ros.demo.report import make_report

    bag = args.bag or make_recording(args, console)
    with Recording(bag) as recording:
        parts = parts_for(recording, options.topic_choice(args), config.scale.sources)
        if parts.sparse_depth is not None:
            recording.require(parts.sparse_depth, IMAGE)  # the node takes no compressed one
        result = play(args, recording, parts, config, console)
        with progress_bar(console, elapsed=True, transient=False) as progress:
            task = progress.add_task("measuring and drawing", total=UNKNOWN)
            summary = make_report(
                recording,
                parts,
                result,
                args.output,
                tick=lambda done, total: progress.update(task, completed=done, total=total),
            )
    console.print(table(summary))
    console.print(
        f"written to {args.output}/: summary.json, comparison.mp4, contact_sheet.png, "
        "cloud.ply, output.mcap"
    )
    if result.exit_status != 0:
        console.print(f"the node ended with status {result.exit_status}", style="red")
        console.print(result.node_output[-2000:], markup=False)
        return 1
    return 0


def _check(args: argparse.Namespace) -> None:
    """Refuse before anything is simulated or started.

    Raises:
        ConfigError: a playing speed that is none, or a file in the output folder's place.
    """
    if not (math.isfinite(args.rate) and args.rate > 0.0):
        raise ConfigError(f"--rate: expected a finite speed above 0, got {args.rate}")
    if args.output.exists() and not args.output.is_dir():
        raise ConfigError(f"--output: expected a folder to fill, got the file {args.output}")


def require_ros() -> None:
    """Refuse to start where there is no ROS 2.

    Raises:
        ConfigError: rclpy cannot be imported; says how to get it.
    """
    try:
        import rclpy  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"the demo needs ROS 2 ({error}); run `make demo`, which installs it from PyPI, or "
            "source a ROS 2 installation"
        ) from error


def make_recording(args: argparse.Namespace, console: Console) -> Path:
    """The bag to play: imported from ``--sequence``, else simulated."""
    from video_depth_ros.cli import import_, simulate

    bag = args.output / "input.mcap"
    bag.unlink(missing_ok=True)
    parser = argparse.ArgumentParser()
    subparsers = parser.add_subparsers()
    import_.add_parser(subparsers)
    simulate.add_parser(subparsers)
    if args.sequence is not None:
        # half of a LiDAR's points give the scale, the other half judge it
        command = ["import", str(args.sequence), str(bag), "--hold-out", "0.5"]
    else:
        command = ["simulate", str(bag), "--world", args.world, "--seconds", str(args.seconds)]
        # a world of the evaluation split: the embedded network was not trained on it
        command += ["--seed", str(args.seed), "--size", "320x240", "--rate", "10", "--heldout"]
    made = parser.parse_args(command)
    made.run(made)
    return bag


def play(
    args: argparse.Namespace,
    recording: Recording,
    parts: Parts,
    config: DepthNodeConfig,
    console: Console,
) -> LiveRun:
    """One live run with progress shown."""
    from video_depth_ros.ros.live_run import run_live

    domain = int(os.environ.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 100)))
    images = recording.topics[parts.image].count
    with progress_bar(console, elapsed=True, transient=False) as progress:
        task = progress.add_task("node", total=images)
        return run_live(
            recording,
            parts,
            args.output / "output.mcap",
            node_parameters(config, recording, parts),
            domain=domain,
            rate=args.rate,
            stage=lambda text: progress.update(task, description=text),
            tick=lambda sent: progress.update(task, completed=sent),
        )


def node_parameters(config: DepthNodeConfig, recording: Recording, parts: Parts) -> dict[str, Any]:
    """What differs from the node's defaults: parameters, and the sensors' mounting."""
    from video_depth_ros.demo.mounting import mounting_parameters
    from video_depth_ros.node_config import DepthNodeConfig
    from video_depth_ros.settings import leaves

    before = {leaf.name: leaf.value for leaf in leaves(DepthNodeConfig())}
    changed = {n.name: n.value for n in leaves(config) if n.value != before[n.name]}
    return {**mounting_parameters(recording, parts), **changed}


def table(summary: dict[str, Any]) -> Table:
    """The summary for people."""
    shown = Table(title="video_depth demo", show_header=False)
    for key, value in summary.items():
        text = json.dumps(value) if isinstance(value, dict) else value
        shown.add_row(key, f"{text:.4g}" if isinstance(value, float) else str(text))
    return shown
