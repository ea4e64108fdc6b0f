# SPDX-License-Identifier: Apache-2.0
"""The real pipeline and the baselines on a video whose truth the regressor knows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from video_depth_ros.bags.formats.base import SequenceFrame
from video_depth_ros.config import PipelineConfig, StreamConfig
from video_depth_ros.errors import RecordingError
from video_depth_ros.evaluation.map_store import MapStore
from video_depth_ros.evaluation.meters import TrueFrame, VideoMeter
from video_depth_ros.evaluation.predictors import PipelinePredictor
from video_depth_ros.evaluation.protocols import protocol_of
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


def test_a_frame_that_repeats_a_stamp_does_not_take_the_estimate_of_the_first(laboratory):
    video = laboratory.video(frames=13)
    frames = list(video.frames())
    frames.insert(6, replace(frames[9], stamp_ns=frames[5].stamp_ns))  # within a group of four
    predictor = PipelinePredictor(
        PipelineConfig(), laboratory.regressor(), video.camera, metric=False
    )
    maps = [m for index, frame in enumerate(frames) for m in predictor.push(index, frame, None)]
    indices = [index for index, _ in [*maps, *predictor.flush()]]
    assert predictor.dropped == 1
    assert indices == [index for index in range(14) if index != 6]


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
    assert [picture.shown for picture in result.pictures] == ["image, prediction"] * 3
    assert any("no true depth" in note for note in result.notes)
    video.sequence.truth = None  # as of a recording that has no such topic
    video.sequence.assumed = "the camera is 525"
    result = evaluate_video(video, laboratory.regressor())
    assert "the camera is 525" in result.notes
    assert any("no topic holds true depth" in note for note in result.notes)
    with pytest.raises(RecordingError, match="needs true depth"):
        evaluate_video(video, laboratory.regressor(), EvaluationOptions(metric=True))


def test_frames_far_apart_in_time_are_said_to_be_no_video(laboratory):
    config = PipelineConfig(stream=StreamConfig(max_gap=0.05))  # s; the frames are 0.1 s apart
    result = evaluate_video(
        laboratory.video(frames=12), laboratory.regressor(), EvaluationOptions(config)
    )
    assert result.details["affine_frames"] == 12
    assert any("started anew 12 times in 12 frames" in note for note in result.notes)
    assert not evaluate_video(laboratory.video(frames=12), laboratory.regressor()).notes


@pytest.mark.parametrize("metric", [False, True])
def test_a_still_camera_flickers_alike_in_metres_and_in_disparity(metric):
    meter = VideoMeter(protocol_of("default"), None, metric=metric)
    rgb = np.full((20, 30, 3), 90, np.uint8)
    disparity = np.linspace(0.2, 1.0, 600).reshape(20, 30)
    for index in range(4):
        values = disparity + 0.01 * (index % 2)
        frame = TrueFrame(index, SequenceFrame(index, rgb), None)
        meter.add(1.0 / values if metric else values, frame, None)
    assert meter.result()["static_flicker"] == pytest.approx(0.01 / (0.96 * 0.8), rel=1e-2)


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
