# SPDX-License-Identifier: Apache-2.0
"""How often faults of a LiDAR give metric depth: ``pytest -s test/metric/fault_statistics.py``.

Twenty drives (seeds 0 to 4 of four worlds) of twenty images, each fault by itself; then a LiDAR
that from the eleventh image on sees one twelfth of the view, with networks of several errors. Not
part of the suite, which drives four of them, and a real one (``test_kitti.py``).
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from video_depth_ros.metric import Verdict
from video_depth_ros.simulation.recording import SimulationConfig

from .drives import ERROR, Drive, Fault, Turn, make_drive, run
from .test_faults import AXES, clock, turned

WORLDS = ("room", "corridor", "street", "clutter")


def line(name: str, drives: list[Drive], faults: list[Fault | None]) -> tuple[str, int]:
    """Metric frames, wrong ones and errors in words, and the number of wrong ones."""
    outcomes = [run(drive, fault) for drive in drives for fault in faults]
    errors = np.abs(np.concatenate([np.asarray(o.errors, float) for o in outcomes]))
    frames = len(faults) * sum(len(drive.times) for drive in drives)
    wrong = sum(outcome.wrong for outcome in outcomes)
    sizes = "none"
    if len(errors):
        sizes = f"median {100 * np.median(errors):.1f} %, largest {100 * errors.max():.1f} %"
    text = f"{len(errors)} of {frames} frames metric, {wrong} wrong, error {sizes}"
    return f"{name}: {text}", wrong


def narrowed(left: float, degrees: float, since: int = 10) -> Fault:
    """From an image on, only points in a quarter of the columns and a third of the rows are left;
    extrinsics turned about the vertical."""
    turn_it = turned((0, 1, 0), degrees)

    def fault(drive: Drive, turn: Turn, k: int) -> Turn:
        told = turn_it(drive, turn, k)
        assert told is not None
        if k < since:
            return told
        seen = told.points @ told.T_camera_lidar[:3, :3].T + told.T_camera_lidar[:3, 3]
        uv, before = drive.camera.project(seen)
        u, v = (uv / (drive.camera.width, drive.camera.height)).T
        kept = before & (u >= left) & (u < left + 0.25) & (v >= 0.5) & (v < 0.5 + 1.0 / 3.0)
        offset_s = None if told.offset_s is None else told.offset_s[kept]
        return dataclasses.replace(told, points=told.points[kept], offset_s=offset_s)

    return fault


@pytest.mark.parametrize("error", [0.05, 0.15, 0.3])
def test_a_lidar_that_comes_to_see_little(error: float) -> None:
    drives = _drives(error)
    for name, degrees in (("right", 0.0), ("20 degrees off", 20.0)):
        faults: list[Fault | None] = [narrowed(left, degrees) for left in (0.25, 0.5)]
        outcomes = [run(drive, fault) for drive in drives for fault in faults]
        misaligned = [o.report.sources["lidar"].verdicts[Verdict.MISALIGNED] > 0 for o in outcomes]
        text, _ = line(f"error {error:g}, extrinsics {name}", drives, faults)
        print(f"{text}; misaligned in {sum(misaligned)} of {len(outcomes)} runs")
        assert np.mean(misaligned) > 0.9 if degrees else np.mean(misaligned) < 0.3


def _drives(error: float = ERROR) -> list[Drive]:
    return [
        make_drive(world, seed, SimulationConfig(world=world).style, error)
        for world in WORLDS
        for seed in range(5)
    ]


def test_faults_of_twenty_drives() -> None:
    drives = _drives()
    cases: list[tuple[str, list[Fault | None], int]] = [
        ("no fault", [None], 0),
        ("extrinsics 20 degrees off", [turned(axis, 20.0) for axis in AXES], 0),
        ("clocks 0.1 s apart", [clock(0.1), clock(-0.1)], 0),
        ("clocks 0.3 s apart", [clock(0.3), clock(-0.3)], 20),
    ]
    for name, faults, most in cases:
        text, wrong = line(name, drives, faults)
        print(text)
        assert wrong <= most
