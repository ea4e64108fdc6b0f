# SPDX-License-Identifier: Apache-2.0
"""Targets against values worked out by hand and against DVD's published rule."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from video_depth_ros.errors import InputError
from video_depth_ros.training.targets import normalised_disparity


def test_known_answer():
    # disparities 0.00, 0.01 ... 1.00 (depth of the first is clamped): quantiles 0.02 and 0.98
    disparity = np.linspace(0.0, 1.0, 101, dtype=np.float64)
    with np.errstate(divide="ignore"):
        depth = (1.0 / disparity).reshape(1, 1, 101)
    depth[0, 0, 0] = 1e9
    target = normalised_disparity(depth)
    assert target.low == pytest.approx(0.02, abs=1e-6)
    assert target.high == pytest.approx(0.98, abs=1e-6)
    expected = np.clip((disparity - 0.02) / (0.96 + 1e-5), 0, 1)
    np.testing.assert_allclose(target.disparity[0, 0], expected, atol=1e-5)


def test_sky_is_zero_known_and_outside_the_quantiles():
    depth = np.full((2, 8, 8), 4.0)
    depth[:, 4:] = 2.0
    without_sky = normalised_disparity(depth)
    depth[:, :2] = np.inf
    depth[0, 7, 7] = np.nan
    target = normalised_disparity(depth)
    assert (target.disparity[:, :2] == 0).all()
    assert target.known[:, :2].all()
    assert not target.known[0, 7, 7]
    assert target.disparity[0, 7, 7] == 0
    assert (target.low, target.high) == (without_sky.low, without_sky.high) == (0.25, 0.5)


def test_one_pair_of_quantiles_for_all_frames():
    # a frame nearer than the others keeps its larger values
    near, far = np.full((1, 8, 8), 1.0), np.full((1, 8, 8), 10.0)
    target = normalised_disparity(np.concatenate([near, far]))
    assert (target.disparity[0] > 0.99).all()
    assert (target.disparity[1] == 0).all()


def test_max_depth_clamps():
    depth = np.concatenate([np.full((1, 4, 4), 1000.0), np.full((1, 4, 4), 1.0)])
    assert normalised_disparity(depth, max_depth=50.0).low == pytest.approx(1 / 50)


def test_too_little_truth_is_refused():
    with pytest.raises(InputError, match="known depth") as caught:
        normalised_disparity(np.full((1, 8, 8), np.nan))
    assert caught.value.reason == "empty"


@settings(max_examples=25, deadline=None)
@given(scale=st.floats(0.1, 10.0), seed=st.integers(0, 1000))
def test_scale_of_the_scene_does_not_matter(scale, seed):
    depth = np.random.default_rng(seed).uniform(1.0, 20.0, (2, 6, 6))
    a = normalised_disparity(depth)
    b = normalised_disparity(depth * scale)
    # 1e-5 in the denominator is DVD's; it is what keeps this from being exact
    np.testing.assert_allclose(a.disparity, b.disparity, atol=2e-3)
    assert a.low == pytest.approx(b.low * scale, rel=1e-5)
