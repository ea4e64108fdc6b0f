# SPDX-License-Identifier: Apache-2.0
"""What vision tells the IMU: features along the predicted flow, turns, errors of shape."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from scipy.linalg import lstsq
from scipy.optimize import minimize_scalar

from video_depth_ros.camera import Camera
from video_depth_ros.metric.flow import predicted, refine
from video_depth_ros.metric.poses import rotation
from video_depth_ros.metric.tracks import FeatureTracker, evened, homogeneous
from video_depth_ros.metric.visual import (
    PairSystem,
    common_offset,
    common_rate,
    neutral_disparity,
    pair_system,
    residuals,
    shape_error,
    solve_motion,
    steadied,
    unknown_motion,
)

CAMERA = Camera(192, 144, 140.0, 140.0, 95.5, 71.5)
BENT = Camera(192, 144, 140.0, 140.0, 95.5, 71.5, "plumb_bob", (-0.2, 0.05, 0.0, 0.0, 0.0))
NORMAL = np.array([0.1, 0.75, 0.3])  # of a plane n . X = 1 [1/m]: 1/Z = n . x for the ray x
PIXEL = 0.2 / 140.0  # noise of a ray
A, BETA = 0.5, 0.2  # 1/Z = A (d + BETA)


def _approach() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Two views of a textured slanted plane: images, disparity, R and tau = t / 1 m."""
    rng = np.random.default_rng(3)
    texture = sum(
        blur * cv2.GaussianBlur(rng.normal(size=(144, 192)).astype(np.float32), (0, 0), blur)
        for blur in (1.2, 2.5, 5.0)
    )
    first = np.clip(128.0 + 40.0 * texture / texture.std(), 0, 255).astype(np.uint8)
    R, t = rotation(np.array([0.01, -0.02, 0.12])), np.array([0.02, 0.01, -0.12])
    H = CAMERA.matrix @ (R + np.outer(t, NORMAL)) @ np.linalg.inv(CAMERA.matrix)
    second = cv2.warpPerspective(first, H, (192, 144), flags=cv2.INTER_CUBIC)
    return first, second, CAMERA.rays() @ NORMAL, R, t


def test_features_along_the_predicted_flow_have_no_bias() -> None:
    """Approaching with roll, a plain tracker is off by more than twice as much."""
    first, second, disparity, R, t = _approach()
    tracker = FeatureTracker(200)
    tracker.follow(first)
    tracker.start_keyframe(0)
    tracker.follow(second)
    tracks = tracker.tracks
    assert tracks is not None and len(tracks.key) > 60
    rays, d = homogeneous(CAMERA, tracks.key), disparity
    at = tracks.key.round().astype(int)
    seen = rays @ R.T + (rays @ NORMAL)[:, None] * t
    true, _ = CAMERA.project(seen)
    pair = pair_system(
        rays, homogeneous(CAMERA, tracks.now), d[at[:, 1], at[:, 0]], R, PIXEL, 0.01
    )
    assert pair is not None
    flow = predicted(CAMERA, disparity, R, unknown_motion(pair))
    now, good = refine(first, second, flow, tracks.key, tracks.now)
    assert good.sum() > 0.7 * len(good)
    before = np.median(np.abs(tracks.now - true)[good])
    after = np.median(np.abs(now - true)[good])
    assert after < 0.06 and after < 0.5 * before


@pytest.mark.parametrize("camera", [CAMERA, BENT])
def test_the_predicted_flow_is_that_of_points(camera: Camera) -> None:
    rng = np.random.default_rng(0)
    disparity = rng.uniform(0.1, 1.0, (144, 192))
    disparity[5, 7] = np.nan
    R, w, t = rotation(np.array([0.02, 0.05, -0.1])), np.array([0.004, -0.003, 0.01]), 0.05
    tau = np.array([t, -t, t])
    flow = predicted(camera, disparity, R, np.concatenate([tau, BETA * tau, w]))
    assert np.isfinite(flow).all()
    uv = np.column_stack([rng.integers(20, 170, 50), rng.integers(20, 120, 50)])
    z = 1.0 / (disparity[uv[:, 1], uv[:, 0]] + BETA)
    points = homogeneous(camera, uv) * z[:, None] @ (R @ rotation(w)).T + tau
    there, _ = camera.project(points)
    np.testing.assert_allclose(flow[uv[:, 1], uv[:, 0]], there, atol=1e-3)


def test_a_prediction_that_moves_a_feature_far_along_one_axis_is_not_believed() -> None:
    first = _approach()[0]
    still = np.stack(np.meshgrid(np.arange(192.0), np.arange(144.0)), axis=2).astype(np.float32)
    corners = cv2.goodFeaturesToTrack(first, 60, 0.01, 8).reshape(-1, 2).astype(np.float64)
    refined, good = refine(first, first, still, corners, corners)
    assert good.all()
    np.testing.assert_allclose(refined, corners, atol=1e-3)
    for axis in (0, 1):
        elsewhere = corners.copy()
        elsewhere[::2, axis] += 4.0
        np.testing.assert_array_equal(
            refine(first, first, still, corners, elsewhere)[1], np.arange(len(corners)) % 2 == 1
        )


def test_a_picture_without_features_has_none_that_survive() -> None:
    tracker = FeatureTracker(50)
    assert tracker.survival == 0.0
    tracker.follow(np.full((60, 80), 90, np.uint8))
    tracker.start_keyframe(0)
    assert tracker.survival == 0.0
    tracker.follow(np.full((60, 80), 91, np.uint8))
    assert tracker.tracks is not None and len(tracker.tracks.key) == 0


def test_exposure_is_evened_out() -> None:
    rng = np.random.default_rng(0)
    image = np.clip(90.0 + 20.0 * rng.normal(size=(100, 100)), 0, 255).astype(np.uint8)
    even = evened(image)
    assert even.mean() == pytest.approx(128.0, abs=2.0)
    assert even.std() == pytest.approx(48.0, abs=2.0)
    darker = evened((0.5 * image).astype(np.uint8))
    assert np.abs(darker.astype(int) - even).mean() < 3.0
    nearly_flat = np.full((10, 10), 60, np.uint8)
    nearly_flat[::2] = 61  # noise is not blown up to contrast
    assert set(np.unique(evened(nearly_flat))) <= {123, 124, 131, 132}


def test_nothing_to_refine() -> None:
    first, second, disparity, R, _ = _approach()
    flow = predicted(CAMERA, disparity, R, np.zeros(9))
    now, good = refine(first, second, flow, np.zeros((0, 2)), np.zeros((0, 2)))
    assert now.shape == (0, 2) and good.shape == (0,)


class _Scene:
    """A pair of views of random points, 1/Z from ``far`` to 1, and disparity with errors: alike in
    parts of the view, and from point to point."""

    def __init__(
        self,
        rng: np.random.Generator,
        w: np.ndarray,
        shape: float = 0.0,
        scatter: float = 0.0,
        far: float = 0.15,
    ) -> None:
        n = 120
        uv = np.column_stack([rng.uniform(5, 187, n), rng.uniform(5, 139, n)])
        self.first = homogeneous(CAMERA, uv)
        q = np.exp(rng.uniform(np.log(far), 0.0, n))
        self.part = (uv[:, 1] // 48).astype(int) * 4 + (uv[:, 0] // 48).astype(int)
        error = shape * rng.normal(size=12)[self.part] + scatter * rng.normal(size=n)
        self.d = q * np.exp(error) / A - BETA
        self.R = rotation(rng.normal(0.0, 0.02, 3))
        self.t = rng.normal(0.0, 0.1, 3)
        seen = self.first @ (self.R @ rotation(w)).T + q[:, None] * self.t
        noise = PIXEL * rng.normal(size=(n, 2))
        self.second = np.column_stack([seen[:, :2] / seen[:, 2:] + noise, np.ones(n)])

    def system(self) -> PairSystem:
        found = pair_system(self.first, self.second, self.d, self.R, PIXEL, 0.01)
        assert found is not None
        return found


def test_a_common_bias_is_found_and_steadies_the_motion() -> None:
    """Pairs of different durations, from some of which a part of the bias was taken before."""
    rng = np.random.default_rng(1)
    rate = np.array([5e-3, -1e-2, 3e-3])
    seconds = [0.2 if k % 3 else 0.4 for k in range(20)]
    taken = [0.05 * k * rate for k in range(20)]
    turns = [(rate - before) * s for before, s in zip(taken, seconds, strict=True)]
    scenes = [_Scene(rng, w, far=0.7) for w in turns]
    systems = [scene.system() for scene in scenes]
    assert np.linalg.norm(common_rate(systems, seconds, taken) - rate) < 3e-3
    found = common_rate(systems, seconds, taken, BETA)
    assert np.linalg.norm(found - rate) < 2e-3
    loose: list[np.ndarray] = []
    steady: list[np.ndarray] = []
    for k, scene in enumerate(scenes):
        known = steadied(systems[k], (found - taken[k]) * seconds[k], 3e-4)
        for which, errors in ((systems[k], loose), (known, steady)):
            errors.append(solve_motion(which, BETA)[0] / A - scene.t)  # tau = a t
    scale = [np.sqrt(np.mean(np.square(errors))) for errors in (loose, steady)]
    assert scale[1] < 0.7 * scale[0]


def test_the_common_offset_is_where_scipy_finds_the_least_squares() -> None:
    rng = np.random.default_rng(4)
    systems = [_Scene(rng, np.zeros(3)).system() for _ in range(10)]
    found = common_offset(systems)
    assert found is not None
    offset, sigma = found

    def left(beta: float) -> float:
        total = 0.0
        for pair in systems:
            # columns (tau, w) of the unknowns (tau, beta tau, w)
            C = np.vstack([np.eye(3, 6), beta * np.eye(3, 6), np.eye(3, 6, k=3)])
            best = C @ lstsq(C.T @ pair.N @ C, C.T @ pair.g)[0]
            total += pair.r2 + float(best @ pair.N @ best - 2.0 * best @ pair.g)
        return total

    least = minimize_scalar(left, bounds=(0.5 * BETA, 2.0 * BETA), method="bounded").x
    assert abs(least - BETA) < 0.02
    # between the steps of the search a parabola stands in for the cost
    assert abs(offset - least) < 0.01
    curvature = (left(least + sigma) + left(least - sigma) - 2.0 * left(least)) / 2.0
    assert curvature == pytest.approx(1.0, rel=0.2)


def test_features_without_relief_have_no_common_offset() -> None:
    scene = _Scene(np.random.default_rng(5), np.zeros(3))
    scene.d = np.full(len(scene.d), 0.4)
    assert common_offset([scene.system()] * 10) is None


def test_the_level_at_the_neutral_disparity_does_not_hang_on_the_offset() -> None:
    rng = np.random.default_rng(2)
    systems = [_Scene(rng, np.zeros(3)).system() for _ in range(10)]
    centre = neutral_disparity(systems, BETA)

    def length(beta: float) -> float:
        return float(np.sqrt(sum(np.sum(solve_motion(s, beta)[0] ** 2) for s in systems)))

    level = length(BETA) * (centre + BETA)
    for wrong in (0.6 * BETA, 1.5 * BETA):
        assert abs(length(wrong) * (centre + wrong) / level - 1.0) < 0.01
        assert abs(length(wrong) / length(BETA) - 1.0) > 0.02


@pytest.mark.parametrize(("shape", "scatter"), [(0.0, 0.1), (0.15, 0.0), (0.15, 0.2), (0.3, 0.1)])
def test_errors_of_shape_are_told_from_noise(shape: float, scatter: float) -> None:
    rng = np.random.default_rng(4)
    pairs = []
    for _ in range(25):
        scene = _Scene(rng, np.zeros(3), shape, scatter)
        tau, w, _ = solve_motion(scene.system(), BETA)
        left = residuals(scene.first, scene.second, scene.d, scene.R, tau, BETA, w)
        pairs.append((left, scene.part))
    found = shape_error(pairs)
    assert found is not None
    if shape == 0.0:
        assert found < 0.08
    else:
        assert 0.6 * shape < found < 1.3 * shape


def test_without_parallax_nothing_is_said_of_shape() -> None:
    rng = np.random.default_rng(5)
    scene = _Scene(rng, np.zeros(3))
    seen = scene.first @ scene.R.T
    second = seen / seen[:, 2:] + np.column_stack(
        [PIXEL * rng.normal(size=(120, 2)), np.zeros(120)]
    )
    left = residuals(scene.first, second, scene.d, scene.R, np.full(3, 1e-6), BETA, np.zeros(3))
    assert shape_error([(left, scene.part)] * 20) is None
