# SPDX-License-Identifier: Apache-2.0
"""Known answers of the depth errors."""

from __future__ import annotations

import math

import numpy as np
import pytest

from video_depth_ros.errors import ConfigError, InputError
from video_depth_ros.evaluation.metrics import (
    DepthRange,
    MeanOfFrames,
    depth_errors,
    mean_of_videos,
    resize_to,
)

ALL = np.ones((1, 4), dtype=bool)


def test_errors_of_four_pixels_worked_by_hand():
    truth = np.array([[1.0, 2.0, 4.0, 10.0]])
    predicted = np.array([[1.1, 2.0, 2.0, 20.0]])
    got = depth_errors(predicted, truth, ALL)
    logs = [math.log(1.1), 0.0, math.log(2.0), math.log(2.0)]
    assert got == pytest.approx(
        {
            "abs_rel": (0.1 + 0.0 + 0.5 + 1.0) / 4,
            "sq_rel": (0.01 + 0.0 + 1.0 + 10.0) / 4,
            "rmse": math.sqrt((0.01 + 4.0 + 100.0) / 4),
            "rmse_log": math.sqrt(sum(x * x for x in logs) / 4),
            "log10": sum(logs) / 4 / math.log(10),
            "delta1": 0.5,
            "delta2": 0.5,
            "delta3": 0.5,
        }
    )


def test_the_three_thresholds_are_powers_of_a_quarter_more():
    truth = np.full((1, 4), 8.0)
    predicted = truth * [[1.2, 1.3, 1.6, 2.0]]  # 1.25, 1.5625, 1.953
    for sign in (1.0, -1.0):  # too far and too near count the same
        got = depth_errors(truth * (predicted / truth) ** sign, truth, ALL)
        assert (got["delta1"], got["delta2"], got["delta3"]) == (0.25, 0.5, 0.75)


def test_only_pixels_of_the_mask_count():
    truth = np.array([[1.0, np.nan, 0.0, 5.0]])
    predicted = np.array([[2.0, np.inf, -1.0, np.nan]])
    mask = np.array([[True, False, False, False]])
    assert depth_errors(predicted, truth, mask)["abs_rel"] == 1.0
    assert depth_errors(predicted, truth, np.zeros_like(mask)) == {}


def test_range_leaves_out_nan_zero_and_far():
    truth = np.array([[np.nan, 0.0, 0.05, 5.0, 80.0, np.inf]])
    assert DepthRange(0.1, 80.0).valid(truth).tolist() == [
        [False, False, False, True, False, False]
    ]


@pytest.mark.parametrize(("low", "high"), [(0.0, 80.0), (5.0, 5.0), (80.0, 0.1), (math.nan, 1.0)])
def test_what_is_no_range_of_depths_is_refused(low, high):
    with pytest.raises(ConfigError, match="0 < low < high"):
        DepthRange(low, high)


def test_frames_weigh_the_same_and_undefined_values_do_not_count():
    mean = MeanOfFrames()
    mean.add({"a": 1.0, "b": 4.0})
    mean.add({"a": 3.0, "b": math.nan})
    mean.add({})
    assert mean.mean() == {"a": 2.0, "b": 4.0}
    assert mean_of_videos([{"a": 1.0}, {"a": 2.0, "c": 5.0}]) == {"a": 1.5, "c": 5.0}


def test_resizing_aligns_pixel_areas():
    ramp = np.arange(4, dtype=np.float32)[None].repeat(4, 0)
    doubled = resize_to(ramp, (8, 8))
    assert doubled[0].tolist() == [0.0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3.0]


@pytest.mark.parametrize(
    ("predicted", "reason"),
    [(np.ones((2, 2)), "size"), (np.full((1, 4), np.nan), "depth"), (np.zeros((1, 4)), "depth")],
)
def test_unusable_predictions_are_refused(predicted, reason):
    with pytest.raises(InputError) as caught:
        depth_errors(predicted, np.ones((1, 4)), ALL)
    assert caught.value.reason == reason
