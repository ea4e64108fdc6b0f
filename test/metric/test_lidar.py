# SPDX-License-Identifier: Apache-2.0
"""Clouds and sparse depth images to anchors."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from video_depth_ros.camera import Camera
from video_depth_ros.metric.anchors import Anchors, View
from video_depth_ros.metric.config import LidarConfig
from video_depth_ros.metric.lidar import depth_to_anchors, points_to_anchors
from video_depth_ros.metric.misalignment import agreement
from video_depth_ros.metric.poses import rotation
from video_depth_ros.metric.reasons import Verdict

from .scenes import HEIGHT, WIDTH, A, B, Scene, make_scene

CONFIG = LidarConfig()


def _view(scene: Scene) -> View:
    return View(0, scene.disparity, scene.camera)


def _anchors(found: Anchors | Verdict) -> Anchors:
    assert isinstance(found, Anchors), found
    return found


@pytest.mark.parametrize(
    "camera",
    [
        Camera(WIDTH, HEIGHT, 240.0, 240.0, 159.5, 119.5),
        Camera(WIDTH, HEIGHT, 240, 238, 155, 121, "plumb_bob", (-0.28, 0.07, 2e-4, -1e-4, 0.0)),
        Camera(WIDTH, HEIGHT, 180, 180, 160, 120, "equidistant", (-0.01, 0.02, -0.01, 0.002)),
    ],
    ids=lambda camera: camera.distortion_model,
)
def test_anchors_lie_on_the_disparity_they_measure(camera: Camera) -> None:
    scene = make_scene(camera=camera)
    found = points_to_anchors(
        scene.scan(5000, noise=0.0), scene.T_camera_lidar, _view(scene), CONFIG
    )
    anchors = _anchors(found)
    d, _ = _view(scene).sample(anchors.uv)
    assert len(anchors) > 500
    np.testing.assert_allclose(A * d + B, anchors.inverse_depth, rtol=0.01)


def test_bad_points_are_passed_over(scene: Scene) -> None:
    good = scene.scan(3000)
    bad = np.array([[np.nan, 0, 0], [np.inf, 1, 1], [0, 0, 0], [-5, 0, 0], [1e9, 1, 1]], "f4")
    mixed = np.concatenate([bad, good])
    clean = _anchors(points_to_anchors(good, scene.T_camera_lidar, _view(scene), CONFIG))
    dirty = _anchors(points_to_anchors(mixed, scene.T_camera_lidar, _view(scene), CONFIG))
    assert len(clean) == pytest.approx(len(dirty), abs=20)
    assert np.isfinite(dirty.uv).all() and (dirty.inverse_depth > 0).all()


def test_reasons(scene: Scene) -> None:
    view, T = _view(scene), scene.T_camera_lidar
    assert points_to_anchors(np.zeros((0, 3)), T, view, CONFIG) is Verdict.NO_POINTS
    assert points_to_anchors(np.full((9, 3), np.nan), T, view, CONFIG) is Verdict.NO_POINTS
    behind = scene.scan(100) * np.float32(-1.0)
    assert points_to_anchors(behind, T, view, CONFIG) is Verdict.OUT_OF_VIEW
    blind = dataclasses.replace(view, camera=None)
    assert points_to_anchors(scene.scan(100), T, blind, CONFIG) is Verdict.NO_CAMERA
    unknown = dataclasses.replace(view, disparity=np.full_like(scene.disparity, np.nan))
    assert points_to_anchors(scene.scan(100), T, unknown, CONFIG) is Verdict.TOO_FEW
    nothing = np.zeros((HEIGHT, WIDTH), np.float32)
    assert depth_to_anchors(nothing, scene.camera, view, CONFIG) is Verdict.NO_POINTS


def test_points_seen_through_a_pane_are_left_out(scene: Scene) -> None:
    """The network sees a smooth near surface; every third return comes from far behind it."""
    disparity = np.full((HEIGHT, WIDTH), 0.5, np.float32)
    disparity += np.linspace(0.0, 0.4, WIDTH, dtype=np.float32)
    view = View(0, disparity, scene.camera)
    rng = np.random.default_rng(0)
    uv = np.column_stack([rng.integers(4, WIDTH - 4, 4000), rng.integers(4, HEIGHT - 4, 4000)])
    z = 1.0 / (A * disparity[uv[:, 1], uv[:, 0]] + B)
    through = np.arange(4000) % 3 == 0
    z = np.where(through, 15.0, z)
    points = np.column_stack([scene.camera.normalised(uv), np.ones(4000)]) * z[:, None]
    kept = _anchors(points_to_anchors(points, np.eye(4), view, CONFIG))
    assert np.mean(kept.inverse_depth < 0.1) < 0.02
    off = dataclasses.replace(CONFIG, occlusion_margin=0.0)
    all_of_them = _anchors(points_to_anchors(points, np.eye(4), view, off))
    assert np.mean(all_of_them.inverse_depth < 0.1) > 0.2


def test_edges_and_clipped_disparity_are_left_out(scene: Scene) -> None:
    disparity = scene.disparity.copy()
    disparity[:, 100:] -= 0.5  # an edge between columns 99 and 100
    disparity[150:] = disparity.max() + 0.1  # nearer than the network's range
    view = View(0, disparity, scene.camera)
    kept = _anchors(points_to_anchors(scene.scan(8000), scene.T_camera_lidar, view, CONFIG))
    u, v = kept.uv.T
    assert not ((u > 99.0) & (u < 100.0)).any()
    assert not (v > 150.5).any()


def test_thinning_keeps_the_far_ones(scene: Scene) -> None:
    few = dataclasses.replace(CONFIG, max_points=300)
    kept = _anchors(points_to_anchors(scene.scan(12000), scene.T_camera_lidar, _view(scene), few))
    assert len(kept) == 300
    octaves = np.unique(np.floor(np.log2(1.0 / kept.inverse_depth)))
    assert len(octaves) >= 3


def test_a_depth_image_of_a_camera_with_another_lens_in_the_same_place(scene: Scene) -> None:
    """Registered to the raw images, while the view is rectified: rays count, not pixels."""
    raw = Camera(200, 150, 130.0, 128.0, 99.0, 76.0, "plumb_bob", (-0.2, 0.05, 0.0, 0.0, 0.0))
    uv, inside = scene.camera.project(raw.rays().reshape(-1, 3))
    d = np.full(raw.width * raw.height, np.nan)
    d[inside] = View(0, scene.disparity, scene.camera).sample(uv[inside])[0]
    depth = (1.0 / (A * d + B)).reshape(raw.height, raw.width)
    anchors = _anchors(depth_to_anchors(depth, raw, _view(scene), CONFIG))
    assert len(anchors) > 500
    found, _ = _view(scene).sample(anchors.uv)
    np.testing.assert_allclose(A * found + B, anchors.inverse_depth, rtol=0.01)


def test_a_sparse_depth_image_of_another_size(scene: Scene) -> None:
    small = scene.camera.resized(WIDTH // 2, HEIGHT // 2)
    depth = np.full((small.height, small.width), np.nan, np.float32)
    depth[::3, ::3] = scene.depth[0:HEIGHT:6, 0:WIDTH:6]
    anchors = _anchors(depth_to_anchors(depth, small, _view(scene), CONFIG))
    d, _ = _view(scene).sample(anchors.uv)
    assert len(anchors) > 1000
    assert np.median(np.abs((A * d + B) / anchors.inverse_depth - 1.0)) < 0.02


@pytest.mark.parametrize("axis", [(0, 1, 0), (0, -1, 0), (1, 0, 0), (-1, 0, 0), (0, 0, 1)])
def test_wrong_extrinsics_are_recognised_without_a_scale(axis: tuple[int, int, int]) -> None:
    scene = make_scene(seed=3, error=0.1)
    points = scene.scan(6000)
    right = _anchors(points_to_anchors(points, scene.T_camera_lidar, _view(scene), CONFIG))
    in_place = agreement(_view(scene), scene.camera, right).elsewhere
    assert in_place is not None
    assert np.nanmax(in_place) < 1.0
    turn = np.eye(4)
    turn[:3, :3] = rotation(np.deg2rad(20.0) * np.array(axis))
    wrong = _anchors(points_to_anchors(points, turn @ scene.T_camera_lidar, _view(scene), CONFIG))
    found = agreement(_view(scene), scene.camera, wrong).elsewhere
    assert found is not None
    assert np.nanmax(found) > CONFIG.max_misalignment
