# SPDX-License-Identifier: Apache-2.0
"""Triangulation over a metric baseline, on exact features and on rendered images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from video_depth_ros.camera import Camera
from video_depth_ros.frames import ScaleState
from video_depth_ros.metric import MetricScaler, ScaleConfig, Verdict
from video_depth_ros.metric.config import OdometryConfig
from video_depth_ros.metric.odometry import triangulate
from video_depth_ros.metric.poses import PoseHistory, inverse, rotation
from video_depth_ros.metric.tracks import Tracks
from video_depth_ros.settings import replace_flat
from video_depth_ros.simulation.path import T_LINK_OPTICAL
from video_depth_ros.simulation.recording import Simulation, SimulationConfig

CAMERA = Camera(640, 480, 500.0, 500.0, 319.5, 239.5)


def _features(
    seed: int, T_now_key: np.ndarray, pixel: float
) -> tuple[Tracks, np.ndarray, np.ndarray]:
    """Features at 2 to 15 m with noise: tracks, disparity in the keyframe, inverse depth now."""
    rng = np.random.default_rng(seed)
    uv = rng.uniform((40, 40), (600, 440), (300, 2))
    z = np.exp(rng.uniform(np.log(2.0), np.log(15.0), 300))
    points = np.column_stack([CAMERA.normalised(uv), np.ones(300)]) * z[:, None]
    moved = points @ T_now_key[:3, :3].T + T_now_key[:3, 3]
    now, seen = CAMERA.project(moved)
    key, now = uv[seen], now[seen] + rng.normal(0.0, pixel, (300, 2))[seen]
    return Tracks(0, key, now), 2.0 / z[seen] - 0.1, 1.0 / moved[seen, 2]


def _motion(forward: float, side: float) -> np.ndarray:
    T = np.eye(4)
    T[:3, :3] = rotation(np.array([0.01, -0.03, 0.005]))
    T[:3, 3] = [-side, 0.01, -forward]
    return T


@settings(deadline=None, max_examples=20)
@given(
    forward=st.floats(0.0, 1.0),
    side=st.floats(0.2, 0.5),
    seed=st.integers(0, 1000),
)
def test_exact_features_give_exact_depth(forward: float, side: float, seed: int) -> None:
    T = _motion(forward, side)
    tracks, disparity, truth = _features(seed, T, 0.0)
    anchors, parallax = triangulate(CAMERA, tracks, disparity, T, OdometryConfig())
    assert parallax > 0.0
    order = {tuple(uv): q for uv, q in zip(tracks.now, truth, strict=True)}
    expected = np.array([order[tuple(uv)] for uv in anchors.uv])
    assert len(anchors) > 150
    np.testing.assert_allclose(anchors.inverse_depth, expected, rtol=1e-3)


def test_sigma_is_that_of_the_error_and_movers_are_left_out() -> None:
    T = _motion(0.3, 0.3)
    ratios = []
    for seed in range(10):
        tracks, disparity, truth = _features(seed, T, 0.4)
        tracks.now[:30, 1] += 6.0  # thirty features move on their own
        anchors, _ = triangulate(CAMERA, tracks, disparity, T, OdometryConfig())
        index = {tuple(uv): k for k, uv in enumerate(tracks.now)}
        which = np.array([index[tuple(uv)] for uv in anchors.uv])
        assert np.mean(which < 30) < 0.05
        good = which >= 30
        error = anchors.inverse_depth[good] - truth[which[good]]
        ratios.append(error / anchors.sigma[good])
    spread = np.concatenate(ratios)
    assert 0.7 < np.quantile(np.abs(spread), 0.68) < 1.4


def test_a_wrong_rotation_is_corrected() -> None:
    T = _motion(0.4, 0.2)
    tracks, disparity, truth = _features(1, T, 0.2)
    wrong = T.copy()
    wrong[:3, :3] = T[:3, :3] @ rotation(np.array([0.004, -0.005, 0.003]))
    anchors, _ = triangulate(CAMERA, tracks, disparity, wrong, OdometryConfig())
    index = {tuple(uv): k for k, uv in enumerate(tracks.now)}
    which = np.array([index[tuple(uv)] for uv in anchors.uv])
    assert abs(np.median(anchors.inverse_depth / truth[which]) - 1.0) < 0.02


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


@dataclass(frozen=True)
class Drive:
    """A robot's drive along a corridor."""

    rgb: np.ndarray
    depth: np.ndarray
    poses: np.ndarray
    times: np.ndarray
    camera: Camera


@pytest.fixture(scope="module")
def drive() -> Drive:
    """Twelve rendered frames."""
    config = SimulationConfig(
        world="corridor", seed=1, seconds=2.0, rate=6.0, width=240, height=180, clean=True
    )
    simulation = Simulation.of(config)
    times = np.asarray(simulation.image_times())
    poses = simulation.rig.camera_poses(simulation.path, times)
    rgb, depth = [], []
    for pose, t in zip(poses, times, strict=True):
        linear, z = simulation.world.render_linear(simulation.camera, pose, float(t), 1)
        rgb.append((255.0 * np.clip(linear, 0.0, 1.0) ** 0.45).astype(np.uint8))
        depth.append(z)
    return Drive(np.array(rgb), np.array(depth), poses, times, simulation.camera)


def _run(drive: Drive, poses: np.ndarray, T_camera_base: np.ndarray) -> tuple:
    scaler = MetricScaler(replace_flat(ScaleConfig(), {"sources": ("odometry",)}))
    scale = None
    for k, t in enumerate(drive.times):
        scaler.add_odometry(poses[k], round(t * 1e9), T_camera_base)
    for k, t in enumerate(drive.times):
        with np.errstate(divide="ignore"):
            d = torch.from_numpy((1.0 / drive.depth[k] / 0.8 - 0.05).astype(np.float32))
        scale = scaler.update(d, torch.from_numpy(drive.rgb[k]), drive.camera, round(t * 1e9), 0)
    assert scale is not None
    return scale, scaler.report(round(drive.times[-1] * 1e9)), d


def test_a_drive_gives_the_scale(drive: Drive) -> None:
    T_camera_base = inverse(T_LINK_OPTICAL)
    scale, report, d = _run(drive, drive.poses @ T_camera_base, T_camera_base)
    assert scale.state is ScaleState.METRIC, report
    q = float(d.median())
    assert (scale.a * q + scale.b) / (0.8 * (q + 0.05)) == pytest.approx(1.0, abs=0.04)
    assert report.sources["odometry"].verdicts[Verdict.ACCEPTED] >= 2


def test_a_robot_that_stands_gives_none(drive: Drive) -> None:
    still = np.repeat(drive.poses[:1], len(drive.poses), axis=0)
    standing = Drive(
        np.repeat(drive.rgb[:1], len(drive.rgb), axis=0),
        np.repeat(drive.depth[:1], len(drive.depth), axis=0),
        still, drive.times * 10.0, drive.camera,
    )  # fmt: skip
    scale, report, _ = _run(standing, still, np.eye(4))
    assert scale.state is ScaleState.UNSCALED
    assert Verdict.ACCEPTED not in report.sources["odometry"].verdicts
