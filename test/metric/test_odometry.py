# SPDX-License-Identifier: Apache-2.0
"""Triangulation over a metric baseline, on exact features and on rendered images."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from video_depth_ros.camera import Camera
from video_depth_ros.frames import ScaleState
from video_depth_ros.metric import MetricScaler, ScaleConfig, Verdict
from video_depth_ros.metric.anchors import Anchors, View
from video_depth_ros.metric.config import OdometryConfig
from video_depth_ros.metric.flow import predicted
from video_depth_ros.metric.odometry import (
    OdometrySource,
    off_edges,
    resistant_line,
    triangulated,
)
from video_depth_ros.metric.poses import PoseHistory, inverse, rotation
from video_depth_ros.metric.tracks import Tracks, homogeneous, with_rays
from video_depth_ros.metric.two_view import Motion, triangulate
from video_depth_ros.settings import replace_flat
from video_depth_ros.simulation.path import T_LINK_OPTICAL

from .drives import Rendered, render_corridor

CAMERA = Camera(640, 480, 500.0, 500.0, 319.5, 239.5)
CONFIG = OdometryConfig()


def _features(
    seed: int, T_now_key: np.ndarray, pixel: float
) -> tuple[Tracks, View, np.ndarray, np.ndarray]:
    """Features of a smooth scene at 2 to 15 m: tracks with noise, the keyframe, the inverse depth
    of each then and now."""
    rng = np.random.default_rng(seed)
    cells = rng.uniform(np.log(1 / 15.0), np.log(0.5), (5, 6)).astype(np.float32)
    q = np.exp(cv2.resize(cells, (640, 480), interpolation=cv2.INTER_LINEAR))
    key = View(0, 2.0 * q - 0.1, CAMERA)
    uv = rng.uniform((40, 40), (600, 440), (300, 2))
    inverse_depth = 0.5 * (key.sample(uv)[0].astype(np.float64) + 0.1)
    points = np.column_stack([CAMERA.normalised(uv), np.ones(300)]) / inverse_depth[:, None]
    moved = points @ T_now_key[:3, :3].T + T_now_key[:3, 3]
    now, seen = CAMERA.project(moved)
    noisy = now[seen] + rng.normal(0.0, pixel, (300, 2))[seen]
    return Tracks(0, uv[seen], noisy), key, inverse_depth[seen], 1.0 / moved[seen, 2]


def _motion(forward: float, side: float) -> np.ndarray:
    T = np.eye(4)
    T[:3, :3] = rotation(np.array([0.01, -0.03, 0.005]))
    T[:3, 3] = [-side, 0.01, -forward]
    return T


def _disturbed(T: np.ndarray, w: np.ndarray, e: np.ndarray) -> np.ndarray:
    wrong = T.copy()
    wrong[:3, :3] = T[:3, :3] @ rotation(w)
    wrong[:3, 3] += e
    return wrong


def _truth(anchors: Anchors, tracks: Tracks, inverse_depth: np.ndarray) -> np.ndarray:
    """Of each anchor, by its pixel."""
    where = {tuple(uv): k for k, uv in enumerate(tracks.now)}
    return inverse_depth[[where[tuple(uv)] for uv in anchors.uv]]


@settings(deadline=None, max_examples=20)
@given(
    forward=st.floats(0.0, 1.0),
    side=st.floats(0.2, 0.5),
    seed=st.integers(0, 1000),
)
def test_exact_features_give_exact_depth(forward: float, side: float, seed: int) -> None:
    T = _motion(forward, side)
    tracks, key, _, truth = _features(seed, T, 0.0)
    seen = triangulated(CAMERA, tracks, key, T, CONFIG)
    assert seen.parallax > 0.0
    assert len(seen.anchors) > 150
    expected = _truth(seen.anchors, tracks, truth)
    np.testing.assert_allclose(seen.anchors.inverse_depth, expected, rtol=1e-3)
    assert seen.disagreement < 0.05


def test_a_lens_that_zooms_has_each_frames_own_camera() -> None:
    T = _motion(0.3, 0.3)
    tracks, key, _, truth = _features(0, T, 0.0)
    zoomed = Camera(640, 480, 525.0, 525.0, 319.5, 239.5)
    ideal = CAMERA.normalised(tracks.now)
    now = ideal * (zoomed.fx, zoomed.fy) + (zoomed.cx, zoomed.cy)
    seen = triangulated(zoomed, Tracks(0, tracks.key, now), key, T, CONFIG)
    expected = _truth(seen.anchors, Tracks(0, tracks.key, now), truth)
    np.testing.assert_allclose(seen.anchors.inverse_depth, expected, rtol=1e-3)
    # the flow of an unmoved camera is the zoom alone
    flow = predicted(zoomed, key.disparity, np.eye(3), np.zeros(9), CAMERA)
    np.testing.assert_allclose(
        flow[0, 0], zoomed.project(CAMERA.rays()[0, 0][None])[0][0], atol=1e-3
    )


def test_an_odometer_may_be_exact() -> None:
    T = _motion(0.3, 0.3)
    tracks, key, _, truth = _features(0, T, 0.3)
    exact = replace_flat(
        CONFIG,
        {"sigma_position": 0.0, "sigma_distance": 0.0, "sigma_rotation": 1e-6, "sigma_turn": 0.0},
    )
    seen = triangulated(CAMERA, tracks, key, T, exact)
    expected = _truth(seen.anchors, tracks, truth)
    assert np.median(np.abs(seen.anchors.inverse_depth / expected - 1.0)) < 0.02


def test_features_without_a_viewing_ray_are_left_out() -> None:
    """Beyond the fold of a lens nothing can be triangulated, and NaN would spoil the rest."""
    lens = Camera(640, 480, 500.0, 500.0, 319.5, 239.5, "plumb_bob", (-0.4, 0.0, 0.0, 0.0))
    uv = np.array([[320.0, 240.0], [630.0, 470.0], [330.0, 250.0]])
    tracks = with_rays(lens, Tracks(0, uv, uv[::-1].copy()))
    np.testing.assert_array_equal(tracks.key, uv[[0, 2]])
    np.testing.assert_array_equal(tracks.now, uv[[2, 0]])
    assert with_rays(CAMERA, Tracks(0, uv, uv)).key is uv
    flow = predicted(lens, np.full((480, 640), 0.5), np.eye(3), np.zeros(9))
    assert (flow[470, 630] == -1.0).all()
    np.testing.assert_allclose(flow[240, 320], [320.0, 240.0], atol=1e-3)


def test_sigma_is_that_of_the_error_and_movers_are_left_out() -> None:
    T = _motion(0.3, 0.3)
    ratios = []
    for seed in range(10):
        tracks, key, _, truth = _features(seed, T, 0.4)
        tracks.now[:30, 1] += 6.0  # thirty features move on their own
        anchors = triangulated(CAMERA, tracks, key, T, CONFIG).anchors
        which = _truth(anchors, tracks, np.arange(len(tracks.now)))
        assert np.mean(which < 30) < 0.05
        good = which >= 30
        error = anchors.inverse_depth[good] - truth[which[good]]
        ratios.append(error / anchors.sigma[good])
    spread = np.concatenate(ratios)
    assert 0.7 < np.quantile(np.abs(spread), 0.68) < 1.4


def test_a_wrong_motion_is_corrected_where_epipolar_lines_show_it() -> None:
    T = _motion(0.5, 0.05)
    tracks, key, _, truth = _features(1, T, 0.2)
    wrong = _disturbed(T, np.array([0.008, -0.01, 0.006]), np.array([0.01, -0.01, 0.0]))
    anchors = triangulated(CAMERA, tracks, key, wrong, CONFIG).anchors
    assert abs(np.median(anchors.inverse_depth / _truth(anchors, tracks, truth)) - 1.0) < 0.01
    as_told = triangulate(
        homogeneous(CAMERA, tracks.key),
        homogeneous(CAMERA, tracks.now),
        Motion(wrong[:3, :3], wrong[:3, 3], np.eye(6), 1e-3),
    )
    assert abs(np.median(as_told.now / truth) - 1.0) > 0.05  # it had to be


@pytest.mark.parametrize("degrees", [0.0, 20.0])
def test_a_wrong_mounting_needs_a_correction_that_no_odometer_needs(degrees: float) -> None:
    """Twenty degrees about any axis; a tenth of a metre forward is enough to tell."""
    corrections = []
    for axis in np.eye(3):
        W = np.eye(4)
        W[:3, :3] = rotation(np.radians(degrees) * axis)
        for seed in range(5):
            T = _motion(0.1, 0.1)
            tracks, key, _, _ = _features(seed, T, 0.3)
            told = W @ T @ inverse(W)
            corrections.append(triangulated(CAMERA, tracks, key, told, CONFIG).motion.correction)
    limit = CONFIG.max_correction
    assert min(corrections) > limit if degrees else max(corrections) < limit


@pytest.mark.parametrize("forward, side", [(0.5, 0.03), (0.01, 0.06), (0.3, 0.3)])
def test_the_common_error_is_honest(forward: float, side: float) -> None:
    """Level of all anchors against the stated deviation, over an odometer's random errors."""
    T, ratios, stated = _motion(forward, side), [], []
    turn = np.linalg.norm([0.01, -0.03, 0.005])
    sigma_rotation = np.hypot(CONFIG.sigma_rotation, CONFIG.sigma_turn * np.sqrt(turn))
    way = np.linalg.norm(T[:3, 3])
    sigma_position = np.hypot(CONFIG.sigma_position, CONFIG.sigma_distance * np.sqrt(way))
    for seed in range(40):
        rng = np.random.default_rng((seed, 1))
        tracks, key, _, truth = _features(seed, T, 0.3)
        wrong = _disturbed(
            T, sigma_rotation * rng.normal(size=3), sigma_position * rng.normal(size=3)
        )
        wrong[:3, 3] *= 1.0 + CONFIG.sigma_scale * rng.normal()
        anchors = triangulated(CAMERA, tracks, key, wrong, CONFIG).anchors
        error = np.median(anchors.inverse_depth / _truth(anchors, tracks, truth)) - 1.0
        ratios.append(error / anchors.common)
        stated.append(anchors.common)
    assert 0.45 < np.sqrt(np.mean(np.square(ratios))) < 1.25
    assert np.mean(np.abs(ratios) < 2.0) > 0.9
    # a turn cannot be told from a shift of all depths when moving sideways: it must be stated
    assert (np.median(stated) > 0.06) == (forward < 0.1)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000))
def test_the_jacobian_is_the_derivative(seed: int) -> None:
    T = _motion(0.3, 0.2)
    tracks, _, _, _ = _features(seed, T, 0.3)
    first, second = homogeneous(CAMERA, tracks.key), homogeneous(CAMERA, tracks.now)
    at = triangulate(first, second, Motion(T[:3, :3], T[:3, 3], np.eye(6), 1e-3))
    exact = triangulate(
        first, _projected(first, at.key, T), Motion(T[:3, :3], T[:3, 3], np.eye(6), 1e-3)
    )
    for k in range(6):
        x = np.zeros(6)
        x[k] = 1e-6
        changed = _disturbed(T, x[:3], x[3:])
        moved = triangulate(
            first,
            _projected(first, at.key, T),
            Motion(changed[:3, :3], changed[:3, 3], np.eye(6), 1e-3),
        )
        slope = (moved.now - exact.now) / 1e-6
        np.testing.assert_allclose(slope, exact.jacobian[:, k], rtol=1e-3, atol=1e-3)


def _projected(first: np.ndarray, inverse_depth: np.ndarray, T: np.ndarray) -> np.ndarray:
    moved = first @ T[:3, :3].T + inverse_depth[:, None] * T[:3, 3]
    return moved / moved[:, 2:]


def test_errors_of_shape_do_not_bend_the_anchors_but_are_counted() -> None:
    T = _motion(0.4, 0.2)
    tracks, key, _, _ = _features(2, T, 0.2)
    plain = triangulated(CAMERA, tracks, key, T, CONFIG)
    v = np.linspace(-1.0, 1.0, 480)[:, None]
    bent = View(0, (key.disparity + 0.1) * np.exp(0.5 * np.sin(5.0 * v)) - 0.1, CAMERA)
    seen = triangulated(CAMERA, tracks, bent, T, CONFIG)
    np.testing.assert_array_equal(seen.anchors.inverse_depth, plain.anchors.inverse_depth)
    assert plain.disagreement < 0.1 and 0.15 < seen.disagreement < 0.8


def test_features_on_edges_are_left_out() -> None:
    d = np.full((480, 640), 0.1, np.float32)
    d[:, 320:] = 0.4
    u = np.concatenate([np.full(20, 318.0), np.linspace(40.0, 250.0, 60)])
    uv = np.column_stack([u, np.linspace(50.0, 400.0, 80)])
    anchors = Anchors(uv, np.full(80, 0.1), np.full(80, 1e-3), 0.02)
    left = off_edges(anchors, View(0, d, CAMERA), 1.0, 30)
    assert len(left) == 60 and left.uv[:, 0].max() <= 250.0 and left.common == 0.02
    np.testing.assert_allclose(left.sigma, 1e-3)
    unknown = View(0, np.full_like(d, np.nan), CAMERA)
    assert len(off_edges(anchors, unknown, 1.0, 30)) == 80
    kept = off_edges(anchors, View(0, d, CAMERA), 1.0, 70)  # too few others
    assert len(kept) >= 70 and kept.sigma.max() == pytest.approx(0.15, rel=1e-3)


@settings(deadline=None, max_examples=30)
@given(
    slope=st.floats(0.1, 5.0), shift=st.floats(-1.0, 1.0), seed=st.integers(0, 1000),
    share=st.floats(0.0, 0.14),
)  # fmt: skip
def test_the_resistant_line_stands_wrong_points(
    slope: float, shift: float, seed: int, share: float
) -> None:
    rng = np.random.default_rng(seed)
    x = rng.uniform(0.0, 1.0, 90)
    y = slope * x + shift
    y[rng.choice(90, int(share * 90), replace=False)] += 50.0
    found = resistant_line(x, y)
    assert found[0] == pytest.approx(slope, abs=0.35 * slope)
    assert found[0] * 0.5 + found[1] == pytest.approx(0.5 * slope + shift, abs=0.15 * slope)


def test_poses_between_and_beyond() -> None:
    history = PoseHistory()
    for k in range(3):
        T = np.eye(4)
        T[:3, :3], T[0, 3] = rotation(np.array([0.0, 0.0, 0.1 * k])), 0.2 * k
        history.add(k * 100_000_000, T)
    half = history.at(150_000_000)
    assert half is not None
    np.testing.assert_allclose(half[:3, :3], rotation(np.array([0.0, 0.0, 0.15])), atol=1e-12)
    assert half[0, 3] == pytest.approx(0.3)
    ahead = history.at(240_000_000)
    assert ahead is not None and ahead[0, 3] == pytest.approx(0.48)
    assert history.at(300_000_000) is None and history.at(-1) is None
    history.add(10, np.eye(4))
    assert len(history) == 1


@pytest.fixture(scope="module")
def drive() -> Rendered:
    """Twelve rendered frames."""
    return render_corridor(2.0)


def _run(
    drive: Rendered, poses: np.ndarray, T_camera_base: np.ndarray, later: np.ndarray | None = None
) -> tuple:
    """Drive with a mounting, and another one from the sixth frame on."""
    scaler = MetricScaler(replace_flat(ScaleConfig(), {"sources": ("odometry",)}))
    scale = None
    for k, t in enumerate(drive.times):
        mounting = T_camera_base if later is None or k < 6 else later
        scaler.add_odometry(poses[k], round(t * 1e9), mounting)
        with np.errstate(divide="ignore"):
            d = torch.from_numpy((1.0 / drive.depth[k] / 0.8 - 0.05).astype(np.float32))
        scale = scaler.update(d, torch.from_numpy(drive.rgb[k]), drive.camera, round(t * 1e9), 0)
    assert scale is not None
    return scale, scaler.report(round(drive.times[-1] * 1e9)), d


def test_a_drive_gives_the_scale(drive: Rendered) -> None:
    T_camera_base = inverse(T_LINK_OPTICAL)
    scale, report, d = _run(drive, drive.poses @ T_camera_base, T_camera_base)
    assert scale.state is ScaleState.METRIC, report
    q = float(d.median())
    assert (scale.a * q + scale.b) / (0.8 * (q + 0.05)) == pytest.approx(1.0, abs=0.04)
    assert report.sources["odometry"].verdicts[Verdict.ACCEPTED] >= 2


@pytest.mark.parametrize("axis", [(0.0, 1.0, 0.0), (1.0, 0.0, 0.0)])
def test_a_wrong_mounting_is_named(drive: Rendered, axis: tuple[float, float, float]) -> None:
    T_camera_base = inverse(T_LINK_OPTICAL)
    wrong = np.eye(4)
    wrong[:3, :3] = rotation(np.radians(20.0) * np.array(axis))
    scale, report, _ = _run(drive, drive.poses @ T_camera_base, wrong @ T_camera_base)
    assert scale.state is ScaleState.UNSCALED
    odometry = report.sources["odometry"]
    assert odometry.verdicts[Verdict.CONTRADICTED] >= 1 and "odometry: contr" in report.last_reject


def test_what_a_contradicted_odometer_gave_is_forgotten(drive: Rendered) -> None:
    right = inverse(T_LINK_OPTICAL)
    first = Rendered(drive.rgb[:6], drive.depth[:6], drive.poses, drive.times[:6], drive.camera)
    assert _run(first, drive.poses @ right, right)[0].state is ScaleState.METRIC
    wrong = np.eye(4)
    wrong[:3, :3] = rotation(np.array([0.0, np.radians(20.0), 0.0]))
    scale, report, _ = _run(drive, drive.poses @ right, right, wrong @ right)
    assert report.sources["odometry"].last is Verdict.CONTRADICTED
    assert scale.state is ScaleState.UNSCALED


def test_corrections_are_judged_one_by_one_and_on_average() -> None:
    def verdicts(*corrections: float) -> list[bool]:
        source = OdometrySource(CONFIG)
        motions = [Motion(np.eye(3), np.zeros(3), np.eye(6), 0.0, c) for c in corrections]
        return [source._judged(motion) is Verdict.CONTRADICTED for motion in motions]

    assert verdicts(1.0, 3.0, 11.0, 2.0, 8.0, 1.0) == [False] * 6
    assert verdicts(1.0, 900.0, 1.0, 1.0) == [False, True, False, False]
    assert verdicts(10.0, 10.0, 10.0, 10.0)[-2:] == [True, True]
    assert verdicts(*[900.0] * 9, *[1.0] * 5)[-2:] == [False, False]
    off = OdometrySource(replace_flat(CONFIG, {"max_correction": 0.0}))
    assert off._judged(Motion(np.eye(3), np.zeros(3), np.eye(6), 0.0, 900.0)) is None


@pytest.mark.parametrize("frame", [1, 3])
def test_a_jump_of_the_odometer_gives_no_wrong_depth(drive: Rendered, frame: int) -> None:
    """Along the way, where no epipolar line shows it."""
    T_camera_base = inverse(T_LINK_OPTICAL)
    poses = drive.poses.copy()
    way = poses[frame, :3, 3] - poses[frame - 1, :3, 3]
    poses[frame:, :3, 3] += 0.5 * way / np.linalg.norm(way)
    for seen in range(frame, len(poses)):
        part = Rendered(
            drive.rgb[:seen], drive.depth[:seen], poses, drive.times[:seen], drive.camera
        )
        scale, _, d = _run(part, poses @ T_camera_base, T_camera_base)
        if scale.state is ScaleState.METRIC:
            q = float(d.median())
            assert (scale.a * q + scale.b) / (0.8 * (q + 0.05)) == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("ahead", [18.0, 37.0, -3.0])
def test_a_clock_that_is_off_is_named_and_its_poses_are_not_used(
    drive: Rendered, ahead: float
) -> None:
    """GPS time, TAI, and an odometer that is late."""
    T_camera_base = inverse(T_LINK_OPTICAL)
    scaler = MetricScaler(replace_flat(ScaleConfig(), {"sources": ("odometry", "imu")}))
    for k, t in enumerate(drive.times):
        stamp_ns = round((t + ahead) * 1e9)
        scaler.add_odometry(drive.poses[k] @ T_camera_base, stamp_ns, T_camera_base)
        scaler.add_imu(np.zeros(3), np.array([0.0, 0.0, 9.81]), stamp_ns, np.eye(4))
        d = torch.from_numpy((1.0 / drive.depth[k]).astype(np.float32))
        scale = scaler.update(d, torch.from_numpy(drive.rgb[k]), drive.camera, round(t * 1e9), 0)
        assert scale.state is ScaleState.UNSCALED
    for source in ("odometry", "imu"):
        account = scaler.report(0).sources[source]
        assert set(account.verdicts) == {Verdict.TIME_OFFSET}
        assert account.ahead * ahead > 0.0
    assert scaler._odometry.motion(0, round(drive.times[1] * 1e9)) is None


def test_a_robot_that_stands_gives_none(drive: Rendered) -> None:
    still = np.repeat(drive.poses[:1], len(drive.poses), axis=0)
    standing = Rendered(
        np.repeat(drive.rgb[:1], len(drive.rgb), axis=0),
        np.repeat(drive.depth[:1], len(drive.depth), axis=0),
        still, drive.times * 10.0, drive.camera,
    )  # fmt: skip
    scale, report, _ = _run(standing, still, np.eye(4))
    assert scale.state is ScaleState.UNSCALED
    assert Verdict.ACCEPTED not in report.sources["odometry"].verdicts
