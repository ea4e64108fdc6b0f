# SPDX-License-Identifier: Apache-2.0
"""The IMU's scale from images on: a camera swings before a slanted, textured wall."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from video_depth_ros.camera import Camera
from video_depth_ros.metric.anchors import View
from video_depth_ros.metric.config import InertialConfig
from video_depth_ros.metric.fit import ScaleFit
from video_depth_ros.metric.inertial_source import InertialSource
from video_depth_ros.metric.poses import rotation
from video_depth_ros.metric.reasons import Verdict

CAMERA = Camera(192, 144, 140.0, 140.0, 95.5, 71.5)
WIDE = Camera(480, 400, 140.0, 140.0, 239.5, 199.5)  # of the wall's picture from the start
WALL = np.array([0.05, 0.25, 0.45])  # n . X = 1 [1/m] in the first camera's frame
A, B = 0.5, 0.1  # 1/Z = A d + B
GRAVITY = np.array([0.0, 9.81, 0.0])  # the first camera looks ahead: y is down
T_CAMERA_IMU = np.eye(4)
T_CAMERA_IMU[:3, :3] = rotation(np.array([0.4, -0.3, 0.2]))
T_CAMERA_IMU[:3, 3] = [0.05, -0.1, 0.02]
BIAS_RATE, BIAS_FORCE = np.array([0.004, -0.003, 0.002]), np.array([0.05, -0.03, 0.04])
FRAME_NS, SAMPLE_NS = 66_666_667, 5_000_000


def _texture() -> np.ndarray:
    rng = np.random.default_rng(3)
    field = sum(
        blur * cv2.GaussianBlur(rng.normal(size=(WIDE.height, WIDE.width)), (0, 0), blur)
        for blur in (1.2, 2.5, 5.0)
    )
    return np.clip(128.0 + 40.0 * field / np.std(field), 0, 255).astype(np.uint8)


TEXTURE = _texture()


class Robot:
    """A camera with an IMU that moves along ``place`` [m], turning by ``turn`` [rad], both [3] of
    the time in seconds."""

    def __init__(
        self, place: Callable[[float], np.ndarray], turn: Callable[[float], np.ndarray]
    ) -> None:
        self._place, self._turn = place, turn

    def pose(self, t: float) -> np.ndarray:
        T = np.eye(4)
        T[:3, :3], T[:3, 3] = rotation(self._turn(t)), self._place(t)
        return T

    def image(self, t: float) -> tuple[np.ndarray, np.ndarray]:
        """The image and its disparity."""
        R, p = self.pose(t)[:3, :3], self.pose(t)[:3, 3]
        H = CAMERA.matrix @ R.T @ (np.eye(3) - np.outer(p, WALL)) @ np.linalg.inv(WIDE.matrix)
        picture = cv2.warpPerspective(TEXTURE, H, (CAMERA.width, CAMERA.height))
        q = CAMERA.rays() @ (R.T @ WALL) / (1.0 - WALL @ p)
        return picture, ((q - B) / A).astype(np.float32)

    def sample(self, t: float, h: float = 1e-3) -> tuple[np.ndarray, np.ndarray]:
        """Angular velocity and specific force in the IMU's frame, by central differences."""
        before, now, after = (self.pose(t + k * h) @ T_CAMERA_IMU for k in (-1, 0, 1))
        R = now[:3, :3]
        swing = (after[:3, 3] - 2.0 * now[:3, 3] + before[:3, 3]) / h**2
        spin = R.T @ (after[:3, :3] - before[:3, :3]) / (2.0 * h)
        rate = np.array([spin[2, 1], spin[0, 2], spin[1, 0]])
        return rate, R.T @ (swing - GRAVITY)

    def drive(
        self,
        source: InertialSource,
        seconds: float,
        see: Callable[[int, np.ndarray], np.ndarray] = lambda index, image: image,
    ) -> list[ScaleFit | Verdict]:
        """Everything that the source says."""
        rng = np.random.default_rng(1)
        said: list[ScaleFit | Verdict] = []
        given = 0
        for index in range(int(seconds * 1e9 / FRAME_NS)):
            stamp = index * FRAME_NS
            while given <= stamp + SAMPLE_NS:
                rate, force = self.sample(given * 1e-9)
                rate = rate + BIAS_RATE + rng.normal(0.0, 1e-3, 3)
                force = force + BIAS_FORCE + rng.normal(0.0, 0.03, 3)
                source.add(rate, force, given, T_CAMERA_IMU)
                given += SAMPLE_NS
            picture, disparity = self.image(stamp * 1e-9)
            answer = source.measure(see(index, picture), View(stamp, disparity, CAMERA), CAMERA)
            if answer is not None:
                said.append(answer)
        return said


def _swing(t: float) -> np.ndarray:
    return np.array([0.3 * np.sin(3.1 * t), 0.1 * np.sin(2.3 * t), 0.15 * np.cos(2.7 * t) - 0.15])


def _nod(t: float) -> np.ndarray:
    return np.array(
        [0.05 * np.sin(1.7 * t), 0.08 * np.sin(2.1 * t), 0.04 * np.cos(1.3 * t) - 0.04]
    )


def _still(t: float) -> np.ndarray:
    return np.zeros(3)


def _fits(said: list[ScaleFit | Verdict]) -> list[ScaleFit]:
    return [answer for answer in said if isinstance(answer, ScaleFit)]


def _is_right(fit: ScaleFit) -> bool:
    """Whether the map is that of the wall, over its disparities."""
    d = np.array([0.3, 0.6, 0.9])
    return np.allclose(fit.level + fit.slope * (d - fit.centre), A * d + B, rtol=0.05)


def test_a_swing_gives_the_map_again_and_again() -> None:
    said = Robot(_swing, _nod).drive(InertialSource(InertialConfig()), 8.0)
    fits = _fits(said)
    assert len(fits) >= 3 and all(_is_right(fit) for fit in fits)
    for fit in fits:
        assert fit.verdict is Verdict.ACCEPTED
        assert abs(fit.level / (A * fit.centre + B) - 1.0) < 3.0 * fit.common
        assert abs(fit.slope / A - 1.0) < 3.0 * fit.sigma_slope / fit.slope
        assert 0.005 < fit.common < 0.1


def test_who_stands_still_or_glides_has_no_scale() -> None:
    for place in (_still, lambda t: np.array([0.3 * t, 0.0, 0.05 * t])):
        said = Robot(place, _still).drive(InertialSource(InertialConfig(keyframes=12)), 4.0)
        assert said and set(said) == {Verdict.UNOBSERVABLE}


def test_a_moment_without_features_costs_itself_and_many_cost_the_window() -> None:
    black = np.zeros((CAMERA.height, CAMERA.width), np.uint8)

    def covered(first: int, last: int) -> Callable[[int, np.ndarray], np.ndarray]:
        return lambda index, image: black if first <= index < last else image

    config = InertialConfig(keyframes=20)
    short = Robot(_swing, _nod).drive(InertialSource(config), 6.0, covered(12, 14))
    assert short.count(Verdict.FEW_TRACKS) in (1, 2)
    assert _fits(short) and all(_is_right(fit) for fit in _fits(short))
    source = InertialSource(config)
    long = Robot(_swing, _nod).drive(source, 1.6, covered(9, 24))
    assert long.count(Verdict.FEW_TRACKS) >= 3 and not _fits(long)
    assert not source._pairs


def test_without_samples_there_is_nothing_to_align() -> None:
    config = InertialConfig()
    source = InertialSource(config)
    robot = Robot(_swing, _nod)
    said = []
    for index in range(60):
        picture, disparity = robot.image(index * FRAME_NS * 1e-9)
        view = View(index * FRAME_NS, disparity, CAMERA)
        said.append(source.measure(picture, view, CAMERA))
    # keyframes that lie too far apart for a pair break the window, and are told
    assert set(said) == {None, Verdict.FEW_TRACKS}


def test_what_is_cleared_starts_anew_with_the_samples_kept() -> None:
    robot, source = Robot(_swing, _nod), InertialSource(InertialConfig())
    robot.drive(source, 1.5)
    assert len(source._pairs) > 3
    kept = len(source.samples)
    source.clear()
    assert not source._pairs and len(source.samples) == kept
    picture, disparity = robot.image(1.6)
    assert source.measure(picture, View(1_600_000_000, disparity, CAMERA), CAMERA) is None
    assert not source._pairs  # the first keyframe of a new window


def test_the_gyros_bias_is_learned() -> None:
    source = InertialSource(InertialConfig())
    Robot(_swing, _nod).drive(source, 8.0)
    np.testing.assert_allclose(source._bias, BIAS_RATE, atol=2e-3)
