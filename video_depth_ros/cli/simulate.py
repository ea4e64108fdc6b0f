# SPDX-License-Identifier: Apache-2.0
"""``video_depth simulate``: a recording of a simulated robot, with exact depth and poses."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from rich.console import Console
from rich.table import Table

from video_depth_ros.cli.progress import progress_bar
from video_depth_ros.cli.termination import unwinding_on_sigterm
from video_depth_ros.errors import ConfigError

EXAMPLES = """\
worked examples:
  video_depth simulate room.mcap
      ten seconds of a hand-held camera in a furnished room, with LiDAR, IMU and odometry
  video_depth simulate street.mcap --world street --seconds 20 --rate 10 --size 1242x375
      a car in traffic, images of KITTI's shape
  video_depth simulate flight.db3 --world clutter --path drone --distortion --no-lidar
      a drone with a distorting lens and no LiDAR, sqlite3 storage
  video_depth simulate hall --world corridor --rings 64 --storage sqlite3 --seed 3
      a bag folder with metadata.yaml, as `ros2 bag record` makes it

OUT.mcap and OUT.db3 are lone files, any other name is a bag folder; `ros2 bag` plays all three.
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the subcommand."""
    parser = subparsers.add_parser(
        "simulate",
        help="record a simulated robot: camera, LiDAR, IMU, odometry, exact depth",
        description="Render a procedural world and write what a robot in it would record.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "output", type=Path, metavar="OUT", help="OUT.mcap, OUT.db3, or the name of a bag folder"
    )
    parser.add_argument("--world", default="room", help="room, corridor, street or clutter")
    parser.add_argument("--seconds", type=float, default=10.0, help="length (default: 10)")
    parser.add_argument("--rate", type=float, default=20.0, help="images per second (default: 20)")
    parser.add_argument("--size", default="640x480", metavar="WxH", help="default: 640x480")
    parser.add_argument("--seed", type=int, default=0, help="another seed, another world")
    parser.add_argument(
        "--path", default="", help="handheld, vehicle, drone or static (default: suits the world)"
    )
    parser.add_argument("--hfov", type=float, default=75.0, help="field of view [deg], default 75")
    parser.add_argument(
        "--distortion", action="store_true", help="a lens with plumb_bob distortion"
    )
    parser.add_argument("--clean", action="store_true", help="no noise, blur, exposure changes")
    parser.add_argument("--rings", type=int, default=16, help="LiDAR rings (default: 16)")
    parser.add_argument("--no-lidar", dest="lidar", action="store_false", help="no /points")
    parser.add_argument("--no-imu", dest="imu", action="store_false", help="no /imu/data")
    parser.add_argument(
        "--no-odometry", dest="odometry", action="store_false", help="no /odom, /tf"
    )
    parser.add_argument(
        "--no-truth", dest="truth", action="store_false", help="no /ground_truth/*"
    )
    parser.add_argument("--compressed", action="store_true", help="JPEG images, a tenth the size")
    parser.add_argument("--heldout", action="store_true", help="a world of the evaluation split")
    parser.add_argument("--storage", help="mcap or sqlite3, for a bag folder (default: mcap)")
    parser.add_argument(
        "--threads", type=int, default=min(8, os.cpu_count() or 1), help="to render"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace OUT if it is there")
    parser.set_defaults(run=run)


@unwinding_on_sigterm()
def run(args: argparse.Namespace) -> int:
    """Simulate; prints what was written and how fast the images were rendered."""
    from video_depth_ros.simulation.recording import Simulation, SimulationConfig, record

    width, height = _size(args.size)
    config = SimulationConfig(
        world=args.world, seed=args.seed, seconds=args.seconds, rate=args.rate, width=width,
        height=height, hfov_deg=args.hfov, path=args.path, distortion=args.distortion,
        clean=args.clean, rings=args.rings, lidar=args.lidar, imu=args.imu,
        odometry=args.odometry, truth=args.truth, compressed=args.compressed,
        heldout=args.heldout, threads=args.threads,
    )  # fmt: skip
    simulation = Simulation.of(config)
    with progress_bar(transient=False) as progress:
        task = progress.add_task("simulating", total=len(simulation.image_times()))
        summary = record(
            simulation,
            args.output,
            storage=args.storage,
            overwrite=args.overwrite,
            progress=lambda frames: progress.update(task, completed=frames),
        )
    table = Table("topic", "messages", title=f"{args.output} ({config.world}, seed {config.seed})")
    for topic, count in sorted(summary.counts.items()):
        table.add_row(topic, str(count))
    console = Console(soft_wrap=True, highlight=False)
    console.print(table)
    console.print(
        f"{summary.frames} images over {summary.distance_m:.1f} m of path, rendered at "
        f"{summary.frames / max(summary.render_s, 1e-9):.1f} frames/s "
        f"({width}x{height}, {config.threads} threads)"
    )
    return 0


def _size(text: str) -> tuple[int, int]:
    """Width and height of WxH.

    Raises:
        ConfigError: not two whole numbers.
    """
    try:
        width, height = (int(part) for part in text.lower().split("x"))
    except ValueError:
        raise ConfigError(f"--size: expected WxH such as 640x480, got {text!r}") from None
    return width, height
