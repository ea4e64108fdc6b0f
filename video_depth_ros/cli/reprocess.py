# SPDX-License-Identifier: Apache-2.0
"""``video_depth reprocess``: depth for a recorded bag, with no ROS running."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from video_depth_ros.cli import options
from video_depth_ros.cli.progress import UNKNOWN, progress_bar
from video_depth_ros.cli.termination import unwinding_on_sigterm

if TYPE_CHECKING:
    from video_depth_ros.bags.reprocess import ReprocessSummary

EXAMPLES = """\
worked examples:
  video_depth reprocess drive.mcap drive_depth.mcap
      add /depth/image, sigma, camera_info, points and disparity to a bag
  video_depth reprocess old_ros1.bag converted/ --image-topic /front/image_raw/compressed
      a ROS 1 bag with several cameras, to a rosbag2 folder
  video_depth reprocess in.mcap out.mcap --params config/depth.yaml --set scale.max_depth=30.0
      the node's parameter file, and one parameter changed
  video_depth reprocess in.mcap out.mcap --set extrinsics.points='[0.0, -0.08, -0.27, 0.5, -0.5, 0.5, 0.5]'
      where the LiDAR sits, for a bag without /tf_static
  video_depth reprocess in.mcap out.mcap --points-topic none --imu-topic none
      leave sensors out

Messages get the stamp and frame_id of their image. Metric depth (/depth/image, /depth/points) is
written from the moment at which a LiDAR, odometry or another source has given the scale. Where
that leaves out more than a tenth of the images, what became of each source is told.
"""  # noqa: E501

HOW_TO_SCALE = (
    "no metric depth: the scale stayed unknown. It comes from a LiDAR (--points-topic), a sparse "
    "depth image, odometry or an IMU, together with camera_info and the sensor's mounting "
    "(/tf_static in the bag, or --set extrinsics.points=...)"
)

_FEW = 0.9  # share of metric depth below which it is told what became of the sources


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the subcommand."""
    parser = subparsers.add_parser(
        "reprocess",
        help="run the pipeline over a bag, offline, and write the bag with depth added",
        description="Run the pipeline over a recorded bag (ROS 1 or ROS 2) with no ROS running. "
        "The original topics are copied, the depth topics added.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", type=Path, metavar="IN", help="bag file or folder")
    parser.add_argument(
        "output", type=Path, metavar="OUT", help="OUT.mcap, OUT.db3, or the name of a bag folder"
    )
    options.add_topics(parser)
    options.add_parameters(parser)
    parser.add_argument("--prefix", default="/depth", help="namespace of what is added (/depth)")
    parser.add_argument("--storage", help="mcap or sqlite3, for a bag folder (default: mcap)")
    parser.add_argument("--overwrite", action="store_true", help="replace OUT if it is there")
    parser.set_defaults(run=run)


@unwinding_on_sigterm()
def run(args: argparse.Namespace) -> int:
    """Reprocess; prints one line about what came out, and what was left out and why."""
    from video_depth_ros.bags.reprocess import reprocess
    from video_depth_ros.regressors.registry import load

    config = options.configuration(args)
    with progress_bar() as progress:
        task = progress.add_task("messages", total=UNKNOWN)
        summary = reprocess(
            args.source,
            args.output,
            config,
            lambda: load(config.regressor),
            topics=options.topic_choice(args),
            storage=args.storage,
            overwrite=args.overwrite,
            prefix=args.prefix,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    report(summary, args.output, config.scale.has_source)
    return 0


def report(summary: ReprocessSummary, output: Path, scale_wanted: bool = True) -> None:
    """The summary for people; without a source of scale there is no metric depth to be missed."""
    rate = summary.images / summary.seconds if summary.seconds else 0.0
    Console(soft_wrap=True, highlight=False).print(
        f"{output}: {summary.images} images, {summary.estimates} disparity and {summary.metric} "
        f"metric depth images in {summary.seconds:.1f} s ({rate:.1f} images/s), "
        f"{summary.resets} restarts of the stream",
        markup=False,
    )
    notes = Console(stderr=True, soft_wrap=True, highlight=False)
    for topic, why in summary.left_out.items():
        notes.print(f"{topic} is not in {output}: {why}", markup=False)
    for reason, count in sorted(summary.dropped.items()):
        problem = summary.first_problems[reason]
        notes.print(f"left out, {reason}: {count} ({problem})", markup=False)
    if not scale_wanted:
        return
    if summary.estimates and not summary.metric:
        if summary.parts.camera_info is None:
            notes.print(
                f"no camera_info belongs to {summary.parts.image} by its name or frame_id; name "
                "one with --camera-info-topic",
                markup=False,
            )
        notes.print(HOW_TO_SCALE, markup=False)
    if summary.metric < _FEW * summary.estimates:
        for source, told in summary.sources.items():
            verdicts = ", ".join(f"{v.value} {n}" for v, n in told.verdicts.most_common())
            notes.print(
                f"{source}: {told.received} received; {verdicts or 'none was judged'} "
                "(see docs/metric.md)",
                markup=False,
            )
