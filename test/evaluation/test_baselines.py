# SPDX-License-Identifier: Apache-2.0
"""Maps that know nothing of the image, and what they reach on real recordings."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from video_depth_ros.bags.sequences import open_sequence
from video_depth_ros.errors import InputError
from video_depth_ros.evaluation.affine import affine_depth
from video_depth_ros.evaluation.baselines import SPATIAL_BASELINES, SpatialFit
from video_depth_ros.evaluation.metrics import DepthRange, MeanOfFrames, depth_errors

SHARED = Path(os.environ.get("VIDEO_DEPTH_SHARED", Path(__file__).parents[3] / "shared")) / "data"


def test_each_recovers_a_map_of_its_own_kind_from_part_of_the_pixels():
    v, u = np.meshgrid(np.linspace(-1, 1, 20), np.linspace(-1, 1, 30), indexing="ij")
    maps = {
        "constant": np.full_like(u, 0.4),
        "ramp": 0.5 + 0.3 * v,
        "quadratic": 0.6 + 0.1 * u + 0.05 * v + 0.1 * u * u - 0.08 * u * v + 0.07 * v * v,
    }
    rng = np.random.default_rng(0)
    for name in SPATIAL_BASELINES:
        fit = SpatialFit(name, 20, 30)
        for _ in range(2):
            fit.add(1.0 / maps[name], rng.random(u.shape) < 0.2)
        np.testing.assert_allclose(fit.disparity(), maps[name], atol=1e-9)


def test_nothing_to_fit_on_is_said():
    with pytest.raises(InputError, match="no valid pixel"):
        SpatialFit("ramp", 4, 4).disparity()


# Figures of a separate calculation that this project was given. Here: 0.3756 and 0.2537 as means
# of frames, 0.3751 and 0.2533 over all pixels at once.
@pytest.mark.parametrize(
    ("name", "format_name", "expected"),
    [("kitti_sfnd_40f", "kitti_raw", 0.375), ("7scenes_redkitchen_60f", "seven_scenes", 0.253)],
)
def test_ramp_on_real_recordings(name, format_name, expected):
    if not (SHARED / name).is_dir():
        pytest.skip(f"recording {name} is not there (VIDEO_DEPTH_SHARED)")
    depth_range = DepthRange(1e-3, 80.0 if format_name == "kitti_raw" else 10.0)
    truths = [
        frame.depth[::2, ::2] if format_name == "seven_scenes" else frame.depth
        for frame in open_sequence(format_name, SHARED / name).frames()
        if frame.depth is not None
    ]
    fit = SpatialFit("ramp", *truths[0].shape)
    for truth in truths:
        fit.add(truth, depth_range.valid(truth))
    depth = affine_depth(fit.disparity(), 1.0, 0.0, depth_range)
    mean = MeanOfFrames()
    for truth in truths:
        mean.add(depth_errors(depth, truth, depth_range.valid(truth)))
    assert mean.mean()["abs_rel"] == pytest.approx(expected, abs=0.0015)
