# SPDX-License-Identifier: Apache-2.0
"""The affine-invariant protocol and the metric one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from video_depth_ros.errors import InputError
from video_depth_ros.evaluation.affine import (
    AffineFit,
    affine_depth,
    affine_metrics,
    metric_metrics,
)
from video_depth_ros.evaluation.metrics import DepthRange, depth_errors


def video(seed=0, frames=3, shape=(12, 16)):
    rng = np.random.default_rng(seed)
    truths = [rng.uniform(1.0, 20.0, shape) for _ in range(frames)]
    for truth in truths:
        truth[rng.random(shape) < 0.2] = np.nan
    noisy = [1.0 / np.nan_to_num(t, nan=5.0) + rng.normal(0.0, 0.03, shape) for t in truths]
    return noisy, truths


def test_fit_equals_numpys_least_squares_on_all_pixels_at_once():
    disparities, truths = video()
    fit = AffineFit()
    for d, z in zip(disparities, truths, strict=True):
        fit.add(d, z, np.isfinite(z))
    x = np.concatenate([d[np.isfinite(z)] for d, z in zip(disparities, truths, strict=True)])
    y = np.concatenate([1.0 / z[np.isfinite(z)] for z in truths])
    expected = np.linalg.lstsq(np.stack([x, np.ones_like(x)], 1), y, rcond=None)[0]
    assert fit.count == len(x)
    assert fit.solve() == pytest.approx(tuple(expected), rel=1e-10)


def test_one_fit_for_the_whole_video_not_one_per_frame():
    truth = np.array([[1.0, 2.0, 4.0]])
    disparity = 1.0 / truth
    alone = affine_metrics([disparity], [truth])
    assert alone["abs_rel"] == pytest.approx(0.0, abs=1e-6)
    assert (alone["scale"], alone["shift"]) == pytest.approx((1.0, 0.0), abs=1e-6)
    flickering = affine_metrics([disparity, disparity + 0.3], [truth, truth])
    assert flickering["abs_rel"] > 0.1


def test_frames_are_averaged_not_pixels():
    near, far = np.full((1, 10), 2.0), np.array([[4.0] + [np.nan] * 9])
    # constant prediction: mean disparity over 11 pixels
    level = (10 * 0.5 + 0.25) / 11
    got = affine_metrics([np.ones((1, 10))] * 2, [near, far])
    expected = (abs(1 / level - 2) / 2 + abs(1 / level - 4) / 4) / 2
    assert got["abs_rel"] == pytest.approx(expected, rel=1e-6)
    assert got["scale"] == 0.0


def test_clipping_before_and_after_inversion():
    got = affine_depth(np.array([[-1.0, 0.0005, 0.5, 1000.0]]), 1.0, 0.0, DepthRange(0.1, 70.0))
    assert got.tolist() == [[70.0, 70.0, 2.0, 0.1]]
    unclipped = affine_depth(np.array([[-1.0]]), 1.0, 0.0, DepthRange(0.1, 1e9))
    assert unclipped[0, 0] == pytest.approx(1000.0)


@settings(deadline=None, max_examples=30)
@given(
    scale=st.floats(0.01, 100.0) | st.floats(-100.0, -0.01),
    shift=st.floats(-100.0, 100.0),
    seed=st.integers(0, 20),
)
def test_no_scale_or_shift_of_the_prediction_matters(scale, shift, seed):
    disparities, truths = video(seed)
    plain = affine_metrics(disparities, truths)
    moved = affine_metrics([scale * d + shift for d in disparities], truths)
    for name in ("abs_rel", "sq_rel", "rmse", "rmse_log", "log10"):
        assert moved[name] == pytest.approx(plain[name], rel=1e-6)


@settings(deadline=None, max_examples=20)
@given(order=st.permutations(range(4)), seed=st.integers(0, 20))
def test_the_order_of_frames_does_not_matter(order, seed):
    disparities, truths = video(seed, frames=4)
    plain = affine_metrics(disparities, truths)
    mixed = affine_metrics([disparities[i] for i in order], [truths[i] for i in order])
    assert mixed == pytest.approx(plain, rel=1e-9)


def test_small_predictions_are_resized_and_frames_without_truth_passed_over():
    truth = np.full((8, 8), 3.0)
    truth[:, 4:] = 6.0
    small = np.where(np.arange(4) < 2, 1 / 3.0, 1 / 6.0)[None].repeat(4, 0)
    got = affine_metrics([small, small], [truth, None])
    assert got["delta1"] >= 0.75
    with pytest.raises(InputError, match="one truth"):
        affine_metrics([small], [truth, None])
    with pytest.raises(InputError, match="no pixel"):
        affine_metrics([small], [np.full((8, 8), np.nan)])


def test_metric_protocol_aligns_nothing_and_counts_coverage():
    truth = np.array([[2.0, 4.0, np.nan, 8.0]])
    depth = np.array([[4.0, 8.0, 1.0, np.nan]])
    got = metric_metrics([depth], [truth])
    assert got["abs_rel"] == pytest.approx(1.0)
    assert got["coverage"] == pytest.approx(2 / 3)
    with pytest.raises(InputError, match="metric estimate"):
        metric_metrics([np.full((1, 4), np.nan)], [truth])


def test_metric_protocol_equals_the_plain_errors_of_a_full_map():
    rng = np.random.default_rng(1)
    truth, depth = rng.uniform(1, 9, (2, 6, 7)).astype(np.float32)
    got = metric_metrics([depth], [truth])
    expected = depth_errors(depth, truth, np.ones(truth.shape, dtype=bool))
    assert {name: got[name] for name in expected} == pytest.approx(expected)
