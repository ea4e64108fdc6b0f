# SPDX-License-Identifier: Apache-2.0
"""``video_depth benchmark --pipeline``: images and scans in, metric depth out."""

from __future__ import annotations

import argparse
import time
from typing import Any

from rich.table import Table

from video_depth_ros.cli.tables import print_whole
from video_depth_ros.regressors.base import Regressor

_RATE = 10.0  # of the camera [1/s]
_WARMUP = 4  # groups


def run(args: argparse.Namespace, regressor: Regressor, machine: str) -> list[dict[str, Any]]:
    """Time a simulated robot with camera and LiDAR, one row per image size; prints the table.

    Raises:
        ConfigError: unknown parameter, or a drive too short to time anything.
    """
    from video_depth_ros.config import PipelineConfig, apply_overrides
    from video_depth_ros.evaluation.metric_study_drives import simulated_drive
    from video_depth_ros.evaluation.pipeline_timing import time_pipeline
    from video_depth_ros.simulation.recording import SimulationConfig

    spec = regressor.spec
    frames = spec.first_group + spec.group * (_WARMUP + args.pushes)
    config = apply_overrides(PipelineConfig(), args.assignments)
    rows = []
    for height, width in args.size or [(240, 320)]:
        simulation = SimulationConfig(
            world=args.world, seed=args.first_seed, seconds=frames / _RATE, rate=_RATE,
            height=height, width=width, heldout=True, threads=1,
        )  # fmt: skip
        timing = time_pipeline(
            simulated_drive(simulation, args.cache),
            config,
            regressor,
            _WARMUP,
            clock=time.process_time if args.cpu_time else time.perf_counter,
        )
        rows.append(
            {
                "regressor": spec.name,
                "camera": f"{height}x{width}",
                "frames": timing.frames,
                "metric": timing.metric,
                "group": timing.group,
                "network": timing.network,
                "fps": timing.fps,
                "ratio": timing.ratio,
            }
        )
    print_whole(
        _table(
            rows, f"whole pipeline, simulated {args.world} {args.first_seed} with LiDAR; {machine}"
        )
    )
    return rows


def _table(rows: list[dict[str, Any]], title: str) -> Table:
    table = Table(title=title)
    for name in ("regressor", "camera"):
        table.add_column(name)
    for name in ("frames", "metric", "group ms", "network ms", "FPS", "ratio to network"):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(
            row["regressor"],
            row["camera"],
            str(row["frames"]),
            str(row["metric"]),
            f"{1e3 * row['group']:.1f}",
            f"{1e3 * row['network']:.1f}",
            f"{row['fps']:.1f}",
            f"{row['ratio']:.2f}",
        )
    return table
