# SPDX-License-Identifier: Apache-2.0
"""Visual-inertial alignment: a scale under acceleration, "unobservable" without."""

from __future__ import annotations

import numpy as np
import pytest

from video_depth_ros.metric.config import InertialConfig
from video_depth_ros.metric.inertial import UNSEEN, InertialScale, VisualStep, align, gyro_bias
from video_depth_ros.metric.poses import rotation, rotation_vector
from video_depth_ros.metric.preintegration import InertialHistory, Preintegrated

CONFIG = InertialConfig()
SCALE = 2.7  # metres per visual unit: a = 1 / SCALE
GRAVITY = np.array([0.0, 0.0, -9.81])
T_IMU_CAMERA = np.eye(4)
T_IMU_CAMERA[:3, :3] = rotation(np.array([1.2, -1.2, 1.2]))
T_IMU_CAMERA[:3, 3] = [0.05, -0.02, 0.03]


def _motion(
    seed: int,
    peak: float,
    speed: float,
    noise: float = 2e-3,
    pairs: int = 20,
    dt: float = 0.2,
    turn: float = 0.1,
    T_imu_camera: np.ndarray = T_IMU_CAMERA,
) -> tuple[list[VisualStep], list[Preintegrated], np.ndarray]:
    """A body that swings with ``peak`` m/s^2 at 0.5 Hz on top of a constant velocity.

    It turns to and fro by about ``turn`` rad. IMU at 200 Hz with a 0.05 m/s^2 and a 5 mrad/s bias
    and white noise; vision with ``noise`` (in visual units) on every position. Returns also the
    gyro's bias.
    """
    rng = np.random.default_rng(seed)
    omega = np.pi
    phase, direction = rng.uniform(0.0, 2 * np.pi, 3), rng.normal(size=3)
    swing = np.sqrt(3.0) * peak / omega**2 * direction / np.linalg.norm(direction)
    velocity = speed * rng.normal(size=3)
    axis = turn * rng.normal(size=3) * (peak > 0.0 or speed > 0.0)
    accel_bias, bias = rng.normal(0.0, 0.05, 3), rng.normal(0.0, 0.005, 3)

    def position(t: float) -> np.ndarray:
        return swing * np.sin(omega * t + phase) + velocity * t

    def attitude(t: float) -> np.ndarray:
        return rotation(axis * np.sin(t))

    history = InertialHistory()
    for k in range(int(pairs * dt * 200) + 4):
        t = k / 200
        acceleration = -(omega**2) * swing * np.sin(omega * t + phase)
        gyro = axis * np.cos(t) + bias + rng.normal(0.0, 2e-3, 3)
        force = attitude(t).T @ (acceleration - GRAVITY) + accel_bias + rng.normal(0.0, 0.03, 3)
        history.add(round(t * 1e9), gyro, force)
    times = np.arange(pairs + 1) * dt
    R_ic, lever = T_imu_camera[:3, :3], T_imu_camera[:3, 3]
    camera = [(position(t) + attitude(t) @ lever) / SCALE for t in times]
    camera = [p + rng.normal(0.0, noise, 3) for p in camera]
    steps, felt = [], []
    for k in range(pairs):
        part = history.integrate(round(times[k] * 1e9), round(times[k + 1] * 1e9), np.zeros(3))
        assert part is not None
        R = attitude(times[k])
        true = R.T @ attitude(times[k + 1])
        w = R_ic.T @ (rotation_vector(part.R @ true.T) + rng.normal(0.0, 3e-4, 3))
        step = R_ic.T @ R.T @ (camera[k + 1] - camera[k])
        steps.append(VisualStep(step, np.eye(3) * noise**2, w))
        felt.append(part)
    return steps, felt, bias


def _align(seed: int, peak: float, speed: float) -> InertialScale:
    steps, felt, _ = _motion(seed, peak, speed)
    return align(steps, felt, T_IMU_CAMERA, CONFIG)


@pytest.mark.parametrize(("peak", "limit"), [(0.4, 0.05), (0.8, 0.03), (1.2, 0.02), (2.5, 0.01)])
def test_acceleration_gives_the_scale(peak: float, limit: float) -> None:
    found = [_align(seed, peak, 0.3) for seed in range(8)]
    assert sum(scale.observable for scale in found) >= 7
    errors = [abs(scale.a * SCALE - 1.0) for scale in found]
    assert np.median(errors) < limit
    assert all(abs(s.a - 1.0 / SCALE) < 3.5 * s.sigma for s in found)


def test_a_camera_on_a_long_lever_arm_that_turns() -> None:
    """0.8 m from the IMU, turning by half a radian: the lever's part in the camera's motion."""
    mast = T_IMU_CAMERA.copy()
    mast[:3, 3] = [0.6, -0.2, 0.5]
    errors = []
    for seed in range(8):
        steps, felt, _ = _motion(seed, 0.8, 0.3, turn=0.5, T_imu_camera=mast)
        scale = align(steps, felt, mast, CONFIG)
        assert scale.observable
        errors.append(abs(scale.a * SCALE - 1.0))
    assert np.median(errors) < 0.03


def test_standstill_and_constant_velocity_are_unobservable() -> None:
    """A hundred runs; a scale out of noise is the failure of the textbook regression."""
    for seed in range(50):
        for speed in (0.0, 0.5):
            pairs = 30 if seed % 10 == 0 else 12
            steps, felt, _ = _motion(seed, 0.0, speed, pairs=pairs)
            assert not align(steps, felt, T_IMU_CAMERA, CONFIG).observable


def test_little_acceleration_is_not_enough() -> None:
    assert not any(_align(seed, 0.08, 0.3).observable for seed in range(10))


def test_errors_of_shape_leave_the_scale_right_and_its_deviation_honest() -> None:
    """Every pair's length is off by 5 %, alike for two seconds, on a body that moves on.

    Sixty draws. Weighting by what was measured in place of what the model says would make the
    scale come out small; without the errors' covariance the stated deviation would be too small.
    """
    rng = np.random.default_rng(0)
    found: dict[float, list[tuple[float, float]]] = {0.0: [], 0.05: []}
    for seed in range(6):
        exact, felt, _ = _motion(seed, 1.2, 0.6, noise=0.0)
        times = np.cumsum([part.seconds for part in felt])
        alike = np.linalg.cholesky(np.exp(-np.abs(times[:, None] - times) / 2.0))
        for _ in range(10):
            lengths = 1.0 + 0.05 * alike @ rng.normal(size=len(exact))
            noise = 1e-3 * rng.normal(size=(len(exact) + 1, 3))
            for stretch, results in found.items():
                steps = [
                    VisualStep(
                        length * step.displacement + after - before,
                        np.eye(3) * 1e-6,
                        step.rotation_error,
                        stretch=stretch,
                    )
                    for length, step, before, after in zip(
                        lengths, exact, noise, noise[1:], strict=False
                    )
                ]
                scale = align(steps, felt, T_IMU_CAMERA, CONFIG)
                results.append((scale.a * SCALE - 1.0, scale.sigma * SCALE))
    error, sigma = np.array(found[0.05]).T
    assert np.mean(np.abs(error) < sigma) > 0.6
    assert np.mean(np.abs(error) < 2.0 * sigma) > 0.9
    assert abs(np.median(error)) < 0.5 * np.median(sigma)
    plain, _ = np.array(found[0.0]).T
    assert np.median(np.abs(error)) < 1.05 * np.median(np.abs(plain))


def test_moments_without_features_leave_the_rest_usable() -> None:
    """Every fifth pair of keyframes blurred: the IMU carries the attitude over it."""
    for seed in range(4):
        steps, felt, bias = _motion(seed, 1.2, 0.3, pairs=30)
        whole = align(steps, felt, T_IMU_CAMERA, CONFIG)
        steps[2::5] = [UNSEEN] * len(steps[2::5])
        found = align(steps, felt, T_IMU_CAMERA, CONFIG)
        assert found.observable and whole.sigma < found.sigma
        assert abs(found.a * SCALE - 1.0) < 3.5 * found.sigma * SCALE
        found_bias = gyro_bias(steps, felt, T_IMU_CAMERA[:3, :3])
        np.testing.assert_allclose(found_bias, bias, atol=1e-3)
    blind = [UNSEEN if k % 2 else step for k, step in enumerate(steps)]
    assert not align(blind, felt, T_IMU_CAMERA, CONFIG).observable


def test_the_gyro_bias_is_found() -> None:
    steps, felt, bias = _motion(1, 0.8, 0.3)
    np.testing.assert_allclose(gyro_bias(steps, felt, T_IMU_CAMERA[:3, :3]), bias, atol=1e-3)


def test_preintegration_tells_what_a_bias_of_the_accelerometer_does() -> None:
    rng = np.random.default_rng(5)
    samples = [(round(k * 5e6), rng.normal(0, 1, 3), rng.normal(0, 3, 3)) for k in range(60)]

    def integrated(bias: np.ndarray) -> Preintegrated:
        history = InertialHistory()
        for stamp, gyro, force in samples:
            history.add(stamp, gyro, force - bias)
        part = history.integrate(12_000_000, 251_000_000, np.array([0.01, 0.02, -0.03]))
        assert part is not None
        return part

    exact, bias = integrated(np.zeros(3)), np.array([0.3, -0.2, 0.5])
    assert exact.seconds == pytest.approx(0.239)
    moved = integrated(bias)
    np.testing.assert_allclose(moved.alpha, exact.alpha + exact.J_alpha @ bias, atol=1e-12)
    np.testing.assert_allclose(moved.beta, exact.beta + exact.J_beta @ bias, atol=1e-12)


def test_preintegration_of_a_turning_fall() -> None:
    """Constant turn rate and constant specific force in the world: closed form."""
    rate = np.array([0.0, 0.0, 1.0])
    history = InertialHistory()
    for k in range(401):
        t = k / 400
        history.add(round(t * 1e9), rate, rotation(-rate * t) @ np.array([1.0, 0.0, 2.0]))
    part = history.integrate(0, 1_000_000_000, np.zeros(3))
    assert part is not None
    np.testing.assert_allclose(part.R, rotation(rate), atol=1e-9)
    np.testing.assert_allclose(part.beta, [1.0, 0.0, 2.0], atol=1e-5)
    np.testing.assert_allclose(part.alpha, [0.5, 0.0, 1.0], atol=1e-5)
    assert history.integrate(0, 1_500_000_000, np.zeros(3)) is None  # not yet there
    history.add(2_000_000_000, rate, rate)
    assert history.integrate(500_000_000, 1_900_000_000, np.zeros(3)) is None  # a gap
    history.add(10, rate, rate)  # time jumped back
    assert len(history) == 1
