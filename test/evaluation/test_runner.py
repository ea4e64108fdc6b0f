# SPDX-License-Identifier: Apache-2.0
"""The real pipeline and the baselines on a video whose truth the regressor knows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from video_depth_ros.errors import RecordingError
from video_depth_ros.evaluation.map_store import MapStore
from video_depth_ros.evaluation.runner import (
    PIPELINE,
    EvaluationOptions,
    evaluate_video,
    split_truth,
)

NAMES = {"abs_rel", "sq_rel", "rmse", "rmse_log", "log10", "delta1", "delta2", "delta3"}


def test_a_regressor_that_knows_the_truth_is_measured_as_right(laboratory):
    ticks = []
    result = evaluate_video(
        laboratory.video(), laboratory.regressor(), advance=lambda: ticks.append(1)
    )
    assert len(ticks) == 2 * 33
    assert result.metrics["abs_rel"] < 1e-4
    assert result.metrics["delta1"] == 1.0
    for name in ("flicker", "relative_temporal_difference", "scale_drift", "scale_spread"):
        assert result.metrics[name] < 1e-4, name
    assert result.metrics["depth_boundary_f1"] == 1.0
    assert result.metrics.keys() >= NAMES
    assert result.details["scale"] == pytest.approx(1.0, abs=1e-3)
    assert result.details["affine_frames"] == 1.0
    assert list(result.baselines) == [
        "per_frame", "plain_chaining", "constant", "ramp", "quadratic",
    ]  # fmt: skip
    for name in ("per_frame", "plain_chaining"):
        assert result.baselines[name]["abs_rel"] < 1e-4, name
    errors = [result.baselines[name]["abs_rel"] for name in ("constant", "ramp", "quadratic")]
    assert min(errors) > 0.05
    assert len(result.series[PIPELINE]["abs_rel"]) == 33
    assert [p.index for p in result.pictures] == [8, 16, 24]


def test_alignment_tells_the_pipeline_from_images_taken_alone(laboratory):
    regressor = laboratory.regressor(scale_sigma=0.1, shift_sigma=0.02, noise=0.002)
    result = evaluate_video(laboratory.video(), regressor)
    alone, chained = result.baselines["per_frame"], result.baselines["plain_chaining"]
    # every window has an affine frame of its own: aligned, one fit undoes it; alone, it flickers
    assert result.metrics["abs_rel"] < 0.05
    assert result.metrics["flicker"] < 0.5 * alone["flicker"]
    assert chained["abs_rel"] < 0.1


def test_metric_protocol_takes_scale_from_the_points_it_is_given(laboratory):
    options = EvaluationOptions(metric=True, metric_points=400)
    result = evaluate_video(laboratory.video(frames=17), laboratory.regressor(), options)
    assert result.metrics["abs_rel"] < 0.05
    assert result.metrics["coverage"] > 0.5
    assert "scale" not in result.details


def test_without_truth_only_what_needs_none_is_measured(laboratory):
    video = laboratory.video(frames=9, with_truth=False)
    result = evaluate_video(video, laboratory.regressor())
    assert result.metrics.keys() <= {"static_flicker"}
    assert list(result.baselines) == ["per_frame", "plain_chaining"]
    assert all(picture.truth is None for picture in result.pictures)
    with pytest.raises(RecordingError, match="needs true depth"):
        evaluate_video(video, laboratory.regressor(), EvaluationOptions(metric=True))


def test_a_video_without_frames_is_refused(laboratory):
    with pytest.raises(RecordingError, match="no frames"):
        evaluate_video(laboratory.video(frames=0), laboratory.regressor())


@settings(deadline=None, max_examples=30)
@given(most=st.integers(1, 300), known=st.floats(0.0, 1.0), seed=st.integers(0, 1000))
def test_given_and_true_pixels_never_meet(most, known, seed):
    rng = np.random.default_rng(seed)
    depth = rng.uniform(1, 5, (12, 20))
    depth[rng.random(depth.shape) >= known] = np.nan
    given_, kept = split_truth(depth, most, rng)
    of_sensor, of_truth = np.isfinite(given_), np.isfinite(kept)
    assert not (of_sensor & of_truth).any()
    assert ((of_sensor | of_truth) == np.isfinite(depth)).all()
    assert of_sensor.sum() == min(most, np.isfinite(depth).sum() // 2)
    np.testing.assert_array_equal(given_[of_sensor], depth[of_sensor])


def test_stored_maps_come_back_and_may_be_replaced():
    first, second = np.arange(6, dtype=np.float32).reshape(2, 3), np.ones((2, 3), np.float32)
    with MapStore() as store:
        store.put(7, first)
        store.put(3, second)
        store.put(7, first + 1)
        assert len(store) == 2
        np.testing.assert_array_equal(store.get(7), first + 1)
        np.testing.assert_array_equal(store.get(3), second)
        assert store.get(0) is None
        with pytest.raises(ValueError, match="expected"):
            store.put(1, np.ones((3, 2), np.float32))
