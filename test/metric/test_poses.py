# SPDX-License-Identifier: Apache-2.0
"""Rotation vectors against scipy's; poses between and past those of an odometer."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from video_depth_ros.metric.poses import PoseHistory, rotation, rotation_vector


@pytest.mark.parametrize("angle", [0.0, 1e-9, 4e-6, 9.9e-5, 1.1e-4, 0.3, 2.0, 3.1])
def test_rotation_vectors_of_any_length(angle: float) -> None:
    vector = angle * np.array([0.6, -0.48, 0.64])
    R = Rotation.from_rotvec(vector).as_matrix()
    np.testing.assert_allclose(rotation(vector), R, atol=1e-12)
    np.testing.assert_allclose(rotation_vector(R), vector, rtol=1e-7, atol=1e-15)


def driven(stamps_ms: list[int], arrivals_ms: list[int]) -> PoseHistory:
    """1 m/s along x, stamped when it arrives."""
    history = PoseHistory()
    for stamp, arrival in zip(stamps_ms, arrivals_ms, strict=True):
        pose = np.eye(4)
        pose[0, 3] = 1e-3 * stamp
        history.add(arrival * 1_000_000, pose)
    return history


def x_at(history: PoseHistory, ms: float) -> float | None:
    pose = history.at(int(ms * 1e6))
    return None if pose is None else float(pose[0, 3])


def test_poses_between_and_past_the_newest() -> None:
    history = driven(list(range(0, 200, 20)), list(range(0, 200, 20)))
    for ms in (0.0, 7.0, 20.0, 170.0, 180.0, 195.0, 230.0):
        assert x_at(history, ms) == pytest.approx(1e-3 * ms)
    assert x_at(history, -1.0) is None and x_at(history, 231.0) is None
    assert x_at(driven([0, 20], [0, 20]), 30.0) is None  # too short for a velocity
    assert x_at(driven([0, 20], [0, 20]), 15.0) == pytest.approx(0.015)
    assert x_at(driven([0, 600], [0, 600]), 610.0) is None  # a hole


def test_messages_that_arrive_in_pairs_do_not_run_away() -> None:
    """50 Hz, stamped on arrival, two together every 40 ms: the last two give 20 m/s."""
    true = list(range(0, 220, 20))
    arrivals = [40 * ((t + 20) // 40) + (t // 20) % 2 for t in true]
    arrivals = [a if k == 0 else max(a, arrivals[k - 1] + 1) for k, a in enumerate(arrivals)]
    assert sorted(set(arrivals)) == arrivals
    history = driven(true, arrivals)
    for past in (5.0, 20.0, 40.0):
        x = x_at(history, arrivals[-1] + past)
        assert x == pytest.approx(1e-3 * (true[-1] + past), abs=0.03)
