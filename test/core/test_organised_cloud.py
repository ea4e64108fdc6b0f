# SPDX-License-Identifier: Apache-2.0
"""Which depth images become clouds, and which pixels become points."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from video_depth_ros.camera import Camera
from video_depth_ros.frames import UNSCALED, DepthEstimate
from video_depth_ros.node_config import OutputConfig
from video_depth_ros.organised_cloud import OrganisedClouds

CAMERA = Camera(8, 6, 7.0, 7.5, 3.5, 2.5)
DEPTH = np.random.default_rng(0).uniform(1.0, 9.0, (6, 8)).astype(np.float32)
RGB = torch.arange(6 * 8 * 3, dtype=torch.uint8).reshape(6, 8, 3)


def estimate(sigma: np.ndarray | None = None) -> DepthEstimate:
    depth = torch.from_numpy(DEPTH)
    return DepthEstimate(
        stamp_ns=0, index=0, rgb=RGB, disparity=1.0 / depth, depth=depth,
        sigma=None if sigma is None else torch.from_numpy(sigma),
        scale=UNSCALED, sequence=0, camera=CAMERA,
    )  # fmt: skip


def test_every_nth_row_and_column_keeps_its_place_and_colour():
    clouds = OrganisedClouds()
    whole, _ = clouds.of(estimate(), DEPTH, CAMERA, OutputConfig())
    np.testing.assert_allclose(whole, CAMERA.back_project(DEPTH), rtol=1e-5)
    points, rgb = clouds.of(estimate(), DEPTH, CAMERA, OutputConfig(cloud_decimation=3))
    assert points.dtype == np.float32
    np.testing.assert_array_equal(points, whole[::3, ::3])
    np.testing.assert_array_equal(rgb, RGB.numpy()[::3, ::3])


def test_another_camera_has_other_rays():
    clouds = OrganisedClouds()
    clouds.of(estimate(), DEPTH, CAMERA, OutputConfig())
    other = Camera(8, 6, 9.0, 9.5, 3.0, 2.0)
    points, _ = clouds.of(estimate(), DEPTH, other, OutputConfig())
    np.testing.assert_allclose(points, other.back_project(DEPTH), rtol=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_no_point(bad):
    depth = DEPTH.copy()
    depth[2, 3] = bad
    points, _ = OrganisedClouds().of(estimate(), depth, CAMERA, OutputConfig())
    missing = np.zeros((6, 8), dtype=bool)
    missing[2, 3] = True
    np.testing.assert_array_equal(np.isnan(points), np.repeat(missing[..., None], 3, axis=2))


def test_points_that_are_less_sure_than_asked_for_are_left_out():
    sigma = 0.2 * DEPTH
    sigma[:, 4:] *= 0.4
    sigma[0, 5] = np.nan  # not known
    points, _ = OrganisedClouds().of(
        estimate(sigma), DEPTH, CAMERA, OutputConfig(cloud_max_sigma=0.1)
    )
    kept = np.zeros((6, 8), dtype=bool)
    kept[:, 4:] = True
    kept[0, 5] = False
    np.testing.assert_array_equal(np.isfinite(points[..., 2]), kept)
    for given, limit in ((sigma, 0.0), (None, 0.1)):  # no limit; nothing to hold it against
        points, _ = OrganisedClouds().of(
            estimate(given), DEPTH, CAMERA, OutputConfig(cloud_max_sigma=limit)
        )
        assert np.isfinite(points).all()


def test_at_most_so_many_a_second_by_the_stamps():
    clouds = OrganisedClouds()
    stamps = [k * 33_300_000 + (k % 3) * 100_000 for k in range(30)]  # 30 Hz, not quite periodic
    due = [clouds.due(stamp, 10.0) for stamp in stamps]
    assert due == [k % 3 == 0 for k in range(30)]
    assert clouds.due(0, 10.0)  # time has moved back
    assert not clouds.due(0, 10.0)
    assert all(clouds.due(stamp, 0.0) for stamp in stamps)
