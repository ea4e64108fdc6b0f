# SPDX-License-Identifier: Apache-2.0
"""Known answers of the temporal measures."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from video_depth_ros.camera import Camera
from video_depth_ros.evaluation.temporal import (
    ScaleDrift,
    StaticFlicker,
    correspond_by_pose,
    correspond_in_place,
    flicker,
    relative_temporal_difference,
    temporal_alignment_error,
)

CAMERA = Camera(64, 48, 50.0, 50.0, 31.5, 23.5)
ALL = np.ones((48, 64), dtype=bool)


def forward(distance):
    """T_1_0 of a camera that drives forward: points come nearer."""
    T = np.eye(4)
    T[2, 3] = -distance
    return T


def wall(depth):
    return np.full((48, 64), float(depth))


def test_relative_temporal_difference_of_changes_in_percent():
    got = relative_temporal_difference(wall(2), wall(2.2), wall(4), wall(4.0), ALL)
    assert got == pytest.approx(0.1)
    assert relative_temporal_difference(wall(2), wall(1), wall(8), wall(4), ALL) == 0.0
    assert math.isnan(relative_temporal_difference(wall(1), wall(1), wall(1), wall(1), ~ALL))


def test_points_of_a_wall_are_found_again_when_driving_towards_it():
    pairs = correspond_by_pose(CAMERA, wall(4), wall(3), forward(1.0), ALL)
    # the view of frame 1 is 3/4 as wide and as high as that of frame 0
    assert len(pairs.first) == pytest.approx(64 * 48 * 9 / 16, rel=0.06)
    v0, u0 = np.divmod(pairs.first, 64)
    v1, u1 = np.divmod(pairs.second, 64)
    assert np.abs((u0 - 31.5) * 4 / 3 + 31.5 - u1).max() <= 0.5 + 1e-9
    assert np.abs((v0 - 23.5) * 4 / 3 + 23.5 - v1).max() <= 0.5 + 1e-9


def test_what_moves_or_is_hidden_makes_no_pair():
    z1 = wall(3)
    z1[:, :32] = 2.0  # something came between
    pairs = correspond_by_pose(CAMERA, wall(4), z1, forward(1.0), ALL)
    assert (pairs.second % 64 >= 32).all()
    z1[:] = np.nan
    assert len(correspond_by_pose(CAMERA, wall(4), z1, forward(1.0), ALL).first) == 0


def test_flicker_is_the_change_of_the_logarithmic_error():
    pairs = correspond_by_pose(CAMERA, wall(4), wall(3), forward(1.0), ALL)
    wrong_but_steady = flicker(wall(8), wall(6), wall(4), wall(3), pairs)
    assert wrong_but_steady == pytest.approx(0.0, abs=1e-12)
    jump = flicker(wall(4), wall(3.3), wall(4), wall(3), pairs)
    assert jump == pytest.approx(math.log(1.1))
    assert math.isnan(flicker(wall(1), wall(1), wall(1), wall(1), correspond_in_place(
        wall(4), wall(8), ALL)))  # fmt: skip


@settings(deadline=None, max_examples=25)
@given(factor=st.floats(0.1, 10.0), seed=st.integers(0, 50))
def test_flicker_does_not_see_a_constant_factor(factor, seed):
    rng = np.random.default_rng(seed)
    z, p0, p1 = rng.uniform(1, 9, (3, 48, 64))
    pairs = correspond_in_place(z, z, ALL)
    plain = flicker(p0, p1, z, z, pairs)
    assert flicker(factor * p0, factor * p1, z, z, pairs) == pytest.approx(plain, rel=1e-9)


def test_alignment_error_of_truth_is_zero_and_of_a_wrong_scale_is_not():
    pairs = correspond_by_pose(CAMERA, wall(4), wall(3), forward(1.0), ALL)
    exact = temporal_alignment_error(CAMERA, wall(4), wall(3), forward(1.0), pairs)
    assert exact == pytest.approx(0.0, abs=1e-12)
    # twice as far: 8 - 1 = 7 m against 6 m, and back 6 + 1 = 7 m against 8 m
    doubled = temporal_alignment_error(CAMERA, wall(8), wall(6), forward(1.0), pairs)
    assert doubled == pytest.approx((1 / 6 + 1 / 8) / 2)


def test_scale_drift_of_a_stream_that_shrinks():
    steady, shrinking = ScaleDrift(), ScaleDrift()
    for k in range(8):
        steady.add(wall(2), wall(6), ALL)
        shrinking.add(wall(math.exp(-0.1 * k)), wall(1), ALL)
    assert steady.result() == {"scale_drift": 0.0, "scale_spread": 0.0}
    got = shrinking.result()
    assert got["scale_drift"] == pytest.approx(0.6)  # ln s = 0 .. 0.7: mean 0.05 to mean 0.65
    assert got["scale_spread"] == pytest.approx(np.std(0.1 * np.arange(8)))
    assert math.isnan(ScaleDrift().add(wall(1), wall(1), ~ALL))
    assert ScaleDrift().result() == {}


@settings(deadline=None, max_examples=15)
@given(scale=st.floats(0.05, 20.0), shift=st.floats(-10.0, 10.0))
def test_static_flicker_is_in_units_of_the_spread(scale, shift):
    ramp = np.linspace(0.0, 1.0, 48 * 64).reshape(48, 64)
    image = np.full((48, 64, 3), 90, np.uint8)
    meter = StaticFlicker()
    for k in range(4):
        meter.add(scale * (ramp + 0.02 * (k % 2)) + shift, image)
    spread = 0.96
    assert meter.result()["static_flicker"] == pytest.approx(0.02 / spread, rel=1e-3)


def test_static_flicker_leaves_out_what_changes_and_cameras_that_move():
    rng = np.random.default_rng(0)
    ramp = np.linspace(0.0, 1.0, 48 * 64).reshape(48, 64)
    image = np.full((48, 64, 3), 90, np.uint8)
    walker = image.copy()
    walker[:, :10] = 200
    jumping = ramp.copy()
    jumping[:, :8] += 5.0  # well inside the walker
    meter = StaticFlicker()
    meter.add(ramp, image)
    meter.add(jumping, walker)
    assert meter.result()["static_flicker"] == pytest.approx(0.0, abs=1e-9)
    moving = StaticFlicker()
    for _ in range(3):
        moving.add(ramp, rng.integers(0, 255, (48, 64, 3)).astype(np.uint8))
    assert moving.result() == {}
