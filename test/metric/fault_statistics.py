# SPDX-License-Identifier: Apache-2.0
"""How often faults of a LiDAR give metric depth: ``pytest -s test/metric/fault_statistics.py``.

Twenty drives (seeds 0 to 4 of four worlds) of twenty images, each fault by itself. Not part of the
suite, which drives four of them, and a real one (``test_kitti.py``).
"""

from __future__ import annotations

import numpy as np

from video_depth_ros.simulation.recording import SimulationConfig

from .drives import Drive, Fault, make_drive, run
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


def test_faults_of_twenty_drives() -> None:
    drives = [
        make_drive(world, seed, SimulationConfig(world=world).style)
        for world in WORLDS
        for seed in range(5)
    ]
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
