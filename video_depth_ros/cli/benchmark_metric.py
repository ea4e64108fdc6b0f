# SPDX-License-Identifier: Apache-2.0
"""``video_depth benchmark --metric``: what metric scale is worth, on drives with truth."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

from video_depth_ros.files import write_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this part of ``benchmark``; what they may be is checked when it runs."""
    group = parser.add_argument_group(
        "options of --metric",
        "instead, run drives with true depth through the whole pipeline, one source of scale at a "
        "time, and measure scale error, time to metric, depth error and sigma",
    )
    group.add_argument(
        "--metric", default="", metavar="STUDY",
        help="simulated: robots in all worlds; still: an IMU at standstill, at constant velocity "
        "and on a swing; kitti: half of each scan given, half is truth; euroc: IMU against poses",
    )  # fmt: skip
    group.add_argument("--seeds", type=int, default=10, help="simulated: drives per world")
    group.add_argument("--first-seed", type=int, default=100, help="simulated, still")
    group.add_argument(
        "--worlds", nargs="+", default=["room", "corridor", "street", "clutter"], metavar="WORLD",
        help="simulated",
    )  # fmt: skip
    group.add_argument(
        "--source", nargs="+", default=["lidar", "odometry", "imu"], metavar="SOURCE",
        help="simulated: lidar, odometry, imu, sparse_depth; each is measured alone",
    )  # fmt: skip
    group.add_argument("--seconds", type=float, default=6.0, help="simulated, still: of a drive")
    group.add_argument("--rate", type=float, default=10.0, help="simulated: images per second")
    group.add_argument(
        "--mounting-error", type=float, nargs=3, default=(0.0, 0.0, 0.0), metavar=("X", "Y", "Z"),
        help="simulated: degrees about the camera's axes by which the extrinsics of LiDAR, "
        "odometry and IMU are wrong",
    )  # fmt: skip
    group.add_argument("--cache", type=Path, metavar="DIR", help="keep simulated drives here")
    group.add_argument("--runs", type=int, default=100, help="still: runs without acceleration")
    group.add_argument("--data", type=Path, metavar="DIR", help="kitti, euroc: the recording")
    group.add_argument(
        "--set", nargs="+", default=[], dest="assignments", metavar="NAME=VALUE",
        help="parameters of the pipeline, such as scale.filter.max_sigma=0.05",
    )  # fmt: skip
    group.add_argument("--plot", type=Path, metavar="FILE", help="the sigma curve as a PNG")


def run(args: argparse.Namespace, machine: str) -> int:
    """Print the tables of one study, perhaps write JSON and a plot.

    Raises:
        ConfigError: unknown study, world, source or parameter, or a number out of range.
        RecordingError: the recording is missing or lacks what is needed.
    """
    from video_depth_ros.config import PipelineConfig, apply_overrides
    from video_depth_ros.evaluation.metric_study_run import MetricStudy
    from video_depth_ros.evaluation.metric_study_sigma import plot
    from video_depth_ros.evaluation.metric_study_tables import sigma_table

    study = MetricStudy(
        study=args.metric,
        regressor=args.regressor,
        weights=args.weights,
        device=args.device,
        seeds=args.seeds,
        first_seed=args.first_seed,
        worlds=tuple(args.worlds),
        sources=tuple(args.source),
        seconds=args.seconds,
        rate=args.rate,
        size=args.size[0] if args.size else (144, 192),
        mounting_error=tuple(args.mounting_error),
        cache=args.cache,
        runs=args.runs,
        data=args.data,
        pipeline=apply_overrides(PipelineConfig(), args.assignments),
    )
    outcome = study.run()
    tables = [*outcome.tables, *([sigma_table(outcome.curves)] if outcome.curves else [])]
    print("\n\n".join([f"{outcome.setting}; {machine}", *map(str, tables)]))
    if args.json:  # first: the picture can be drawn again from it
        row = {"machine": machine, "set": args.assignments, **outcome.row()}
        write_text(args.json, json.dumps(_plain(row), indent=2, allow_nan=False) + "\n")
    if args.plot and outcome.curves:
        plot(outcome.curves, args.plot)
    return 0


def _plain(value: Any) -> Any:
    """The same with null where a number is not finite, which JSON cannot say."""
    if isinstance(value, dict):
        return {name: _plain(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
