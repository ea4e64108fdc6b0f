# SPDX-License-Identifier: Apache-2.0
"""``video_depth import``: recordings in the layouts people have them, to a rosbag2."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from video_depth_ros.cli.progress import UNKNOWN, progress_bar
from video_depth_ros.cli.termination import unwinding_on_sigterm
from video_depth_ros.errors import RecordingError

EXAMPLES = """\
worked examples:
  video_depth import 2011_09_26_drive_0001_sync drive.mcap
      KITTI raw: camera, LiDAR, calibration, true depth from the LiDAR (format found by itself)
  video_depth import --format tum_rgbd rgbd_dataset_freiburg3_office office.mcap
      RGB-D with true depth and poses
  video_depth import --format euroc V1_01_easy flight.mcap --poses-as-odometry
      grey camera and IMU; the true poses also become /odom
  video_depth import --format video walk.mp4 walk.mcap --hfov 70 --compressed
      a video whose camera sees 70 degrees across; images stay JPEG in the bag
  video_depth import --format images frames/ frames.db3 --rate 15 --camera 610,610,319.5,239.5
      a folder of images, 15 per second, known intrinsics, sqlite3 storage
  video_depth import --format tum_rgbd mine/ mine.mcap --camera 615,615,320,240 --depth-scale 1000
      a recording of one's own in TUM's layout: its camera, depth in millimetres

formats: kitti_raw, tum_rgbd, seven_scenes, euroc, video, images
topics:  /camera/image_raw, /camera/camera_info, /points, /imu/data, /odom, /tf_static,
         /ground_truth/depth, /ground_truth/pose -- whichever the source has
"""

_COMPLETE = 0.95  # containers state their number of frames only roughly


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the subcommand."""
    parser = subparsers.add_parser(
        "import",
        help="make a ROS bag of a data set, a video or a folder of images",
        description="Make a rosbag2 of a recording in one of the usual layouts.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", type=Path, metavar="SRC", help="folder or file to import")
    parser.add_argument(
        "output", type=Path, metavar="OUT", help="OUT.mcap, OUT.db3, or the name of a bag folder"
    )
    parser.add_argument("--format", help="layout of SRC (default: found out by looking)")
    parser.add_argument(
        "--camera",
        metavar="FX,FY,CX,CY",
        help="intrinsics [px] of an undistorted camera, instead of the source's own",
    )
    parser.add_argument(
        "--hfov", type=float, metavar="DEG", help="horizontal field of view, instead of --camera"
    )
    parser.add_argument(
        "--rate", type=float, metavar="HZ", help="frames per second where SRC has no stamps"
    )
    parser.add_argument(
        "--depth-scale",
        type=float,
        metavar="UNITS_PER_METRE",
        help="raw value of one metre in the depth PNGs of tum_rgbd (default: 5000; millimetres: "
        "1000); other formats state it themselves",
    )
    parser.add_argument("--storage", help="mcap or sqlite3, for a bag folder (default: mcap)")
    parser.add_argument(
        "--compressed", action="store_true", help="store images as JPEG or PNG, a tenth the size"
    )
    parser.add_argument(
        "--poses-as-odometry", action="store_true", help="write the true poses to /odom as well"
    )
    parser.add_argument(
        "--hold-out",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="where true depth comes from the LiDAR: share of its points that becomes truth only "
        "and is left out of /points (default: 0)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace OUT if it is there")
    parser.set_defaults(run=run)


@unwinding_on_sigterm()
def run(args: argparse.Namespace) -> int:
    """Import; prints one line about what was written."""
    from video_depth_ros.bags.formats.base import SourceOptions
    from video_depth_ros.bags.importer import import_sequence
    from video_depth_ros.bags.sequences import open_sequence

    if args.rate is not None and not 0.01 <= args.rate <= 10_000.0:
        raise RecordingError(f"--rate: expected 0.01 to 10000 frames per second, got {args.rate}")
    if not 0.0 <= args.hold_out < 1.0:
        raise RecordingError(
            f"--hold-out: expected a share from 0 to below 1, got {args.hold_out}"
        )
    options = SourceOptions(
        _intrinsics(args.camera), args.hfov, args.rate, args.hold_out, args.depth_scale
    )
    reader = open_sequence(args.format, args.source, options)
    console = Console(stderr=True)
    if reader.assumed:  # before the work: a wrong assumption is a reason to stop
        console.print(f"{args.source}: {reader.assumed}", markup=False, soft_wrap=True)
    with progress_bar(console) as progress:
        task = progress.add_task("importing", total=reader.frame_count or UNKNOWN)
        counts = import_sequence(
            reader,
            args.output,
            storage=args.storage,
            overwrite=args.overwrite,
            compressed=args.compressed,
            poses_as_odometry=args.poses_as_odometry,
            progress=lambda frames: progress.update(task, completed=frames),
        )
    written = ", ".join(f"{count} {topic}" for topic, count in counts.items())
    Console(soft_wrap=True, highlight=False).print(
        f"{args.output} ({reader.format}): {written}", markup=False
    )
    images = sum(n for topic, n in counts.items() if topic.startswith("/camera/image_raw"))
    if images < _COMPLETE * reader.frame_count:
        console.print(
            f"{args.source} speaks of {reader.frame_count} frames but only {images} could be "
            "decoded; is the file complete?"
        )
    if reader.camera is None:
        console.print("no camera_info: give --camera or --hfov, or no metric depth can be had")
    return 0


def _intrinsics(text: str | None) -> tuple[float, float, float, float] | None:
    """fx, fy, cx, cy of the command line.

    Raises:
        RecordingError: not four numbers.
    """
    if text is None:
        return None
    try:
        fx, fy, cx, cy = (float(part) for part in text.split(","))
    except ValueError:
        raise RecordingError(f"--camera: expected FX,FY,CX,CY in pixels, got {text!r}") from None
    return fx, fy, cx, cy
