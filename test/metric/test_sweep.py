# SPDX-License-Identifier: Apache-2.0
"""Scans swept by a moving sensor, brought to one time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from video_depth_ros.metric import MetricScaler, PointTimes, ScaleConfig
from video_depth_ros.metric.poses import PoseHistory, inverse, rotation
from video_depth_ros.metric.sweep import Sweep, sweep_of
from video_depth_ros.settings import replace_flat

from .scenes import HEIGHT, WIDTH, Scene, make_scene

STAMP = 5_000_000_000
FRAME = STAMP + 40_000_000
MOUNTING = make_scene().T_camera_lidar


def _pose(t: float, speed: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """T_odom_base after t seconds."""
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = rotation(turn * t), speed * t
    return T


def _motion(speed: np.ndarray, turn: np.ndarray) -> Callable[[int, int], np.ndarray | None]:
    """T_camera(second)_camera(first) of an exact odometry at 200 Hz; base and LiDAR coincide."""
    history = PoseHistory()
    for k in range(-40, 61):
        history.add(STAMP + k * 5_000_000, _pose(k * 0.005, speed, turn))

    def motion(first_ns: int, second_ns: int) -> np.ndarray | None:
        first, second = history.at(first_ns), history.at(second_ns)
        if first is None or second is None:
            return None
        return MOUNTING @ inverse(second) @ first @ inverse(MOUNTING)

    return motion


def _swept(
    still: np.ndarray, offset_s: np.ndarray, speed: np.ndarray, turn: np.ndarray
) -> np.ndarray:
    """Points at rest, known in the LiDAR at the frame's time, as the moving LiDAR measures
    them."""
    at_frame = _pose((FRAME - STAMP) * 1e-9, speed, turn)
    world = still @ at_frame[:3, :3].T + at_frame[:3, 3]
    poses = [inverse(_pose(t, speed, turn)) for t in offset_s]
    return np.array([T[:3, :3] @ p + T[:3, 3] for T, p in zip(poses, world, strict=True)])


vectors = st.tuples(*[st.floats(-1.0, 1.0)] * 3).map(np.array)


@settings(deadline=None, max_examples=25)
@given(
    speed=vectors.map(lambda v: 5.0 * v),
    turn=vectors.map(lambda v: 1.5 * v),
    centred=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_a_swept_scan_is_the_still_one(
    speed: np.ndarray, turn: np.ndarray, centred: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    still = rng.uniform(-20.0, 20.0, (200, 3))
    offset_s = np.linspace(-0.05, 0.05, 200) + (0.0 if centred else 0.05)
    points = _swept(still, offset_s, speed, turn)
    sweep = sweep_of(offset_s, MOUNTING, STAMP, FRAME, _motion(speed, turn))
    assert isinstance(sweep, Sweep)
    expected = still @ MOUNTING[:3, :3].T + MOUNTING[:3, 3]
    moved = sweep.moved(points, np.arange(200))
    distance = np.linalg.norm(expected, axis=1)
    assert (np.linalg.norm(moved - expected, axis=1) < 2e-4 * distance + 5e-4).all()
    # no point is farther from where the middle pose puts it than the bounds say
    middle = points @ sweep.middle[:3, :3].T + sweep.middle[:3, 3]
    far = np.linalg.norm(moved - middle, axis=1)
    assert (far <= sweep.reach + sweep.turn * np.linalg.norm(middle, axis=1) + 1e-6).all()


def test_times_out_of_the_scan() -> None:
    motion = _motion(np.zeros(3), np.zeros(3))
    offset_s = np.linspace(0.0, 0.1, 100)
    few = offset_s.copy()
    few[::20] = 1e6
    sweep = sweep_of(few, MOUNTING, STAMP, FRAME, motion)
    assert isinstance(sweep, Sweep) and len(sweep.known(np.arange(100))) == 95
    for absurd in (offset_s * 1e9, offset_s - 1e6, np.full(100, np.nan)):
        assert sweep_of(absurd, MOUNTING, STAMP, FRAME, motion) is PointTimes.ABSURD
    late = STAMP + 1_000_000_000
    assert sweep_of(offset_s, MOUNTING, late, FRAME, motion) is PointTimes.NO_POSES


SPEED, TURN = np.array([3.0, 0.0, 0.0]), np.array([0.0, 0.0, 1.2])


def _drive(scene: Scene, offset_s: np.ndarray | None, odometry: bool, **values: object) -> tuple:
    """One scan of 100 ms, swept at 3 m/s and 1.2 rad/s; the account of the LiDAR."""
    values = {"local.enabled": False, "sources": ("lidar",), **values}
    scaler = MetricScaler(replace_flat(ScaleConfig(), values))
    if odometry:
        for k in range(-40, 61):
            pose = _pose(k * 0.005, SPEED, TURN)
            scaler.add_odometry(pose, STAMP + k * 5_000_000, MOUNTING)
    true = np.random.default_rng(1).permutation(np.linspace(-0.05, 0.05, 4000))
    points = _swept(scene.scan(4000, noise=0.0).astype(np.float64), true, SPEED, TURN)
    scaler.add_points(points, STAMP, MOUNTING, true if offset_s is None else offset_s)
    scale = scaler.update(scene.tensor, scene.rgb, scene.camera, FRAME, 0)
    return scaler.report(FRAME).sources["lidar"], scale


def test_the_scaler_deskews_and_says_so() -> None:
    account, _ = _drive(make_scene(seed=2), None, odometry=True)
    assert account.point_times is PointTimes.PER_POINT
    assert account.residual < 0.01
    assert account.anchors > 1000


@pytest.mark.parametrize(
    ("offset_s", "odometry", "values", "word"),
    [
        (None, False, {}, PointTimes.NO_POSES),
        (None, True, {"lidar.deskew": False}, PointTimes.SWITCHED_OFF),
        (np.full(4000, 3e8), True, {}, PointTimes.ABSURD),
    ],
    ids=lambda value: getattr(value, "value", None),
)
def test_points_are_simultaneous_where_they_must(
    offset_s: np.ndarray | None, odometry: bool, values: dict, word: PointTimes
) -> None:
    account, _ = _drive(make_scene(seed=2), offset_s, odometry, **values)
    assert account.point_times is word
    assert not account.residual < 0.02  # NaN: nothing was fitted


def test_times_of_points_must_be_as_many(scene: Scene) -> None:
    assert scene.disparity.shape == (HEIGHT, WIDTH)
    scaler = MetricScaler(ScaleConfig())
    scaler.add_points(scene.scan(10), 0, scene.T_camera_lidar)
    scaler.update(scene.tensor, scene.rgb, scene.camera, 0, 0)
    assert scaler.report(0).sources["lidar"].point_times is PointTimes.NOT_GIVEN
    with pytest.raises(Exception, match="times of points"):
        scaler.add_points(scene.scan(10), 0, scene.T_camera_lidar, np.zeros(9))
