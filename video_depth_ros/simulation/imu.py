# SPDX-License-Identifier: Apache-2.0
"""An inertial sensor on the path: angular rate and specific force with data-sheet errors.

REP-145: the accelerometer reports specific force, so at rest it reads +9.81 m/s^2 upward. The
error model (white noise, bias random walk) is that of Kalibr's IMU noise model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .path import Path
from .rig import Rig

GRAVITY = 9.80665


@dataclass(frozen=True)
class Imu:
    """Continuous-time noise; the defaults are the ADIS16448's as calibrated for EuRoC.

    Attributes:
        rate: samples per second.
        gyro_noise: [rad/s/sqrt(Hz)]; gyro_walk: [rad/s^2/sqrt(Hz)].
        accel_noise: [m/s^2/sqrt(Hz)]; accel_walk: [m/s^3/sqrt(Hz)].
        gyro_bias, accel_bias: standard deviation of the biases at the start.
    """

    rate: float = 200.0
    gyro_noise: float = 1.7e-4
    gyro_walk: float = 2.0e-5
    accel_noise: float = 2.0e-3
    accel_walk: float = 3.0e-3
    gyro_bias: float = 5e-3
    accel_bias: float = 5e-2


def ideal(path: Path, rig: Rig, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Error-free angular rate [rad/s] and specific force [m/s^2] in the IMU frame, [T, 3] each.

    With lever arm r from camera_link: a = a_link + R (alpha x r + w x (w x r)).
    """
    T = rig.T_link_imu
    rotation = path.poses(times)[:, :3, :3]
    rate, turn = path.angular_rate(times), path.angular_acceleration(times)
    arm = T[:3, 3]
    swing = np.cross(turn, arm) + np.cross(rate, np.cross(rate, arm))
    up = np.array([0.0, 0.0, GRAVITY])
    force = np.einsum("tji,tj->ti", rotation, path.acceleration(times) + up) + swing
    return rate @ T[:3, :3], force @ T[:3, :3]


def measure(
    path: Path, rig: Rig, imu: Imu, times: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """What the sensor reports at ``times`` (spaced 1/rate): rate and force, float64 [T, 3]."""
    rate, force = ideal(path, rig, times)
    out = []
    for truth, white, walk, bias in (
        (rate, imu.gyro_noise, imu.gyro_walk, imu.gyro_bias),
        (force, imu.accel_noise, imu.accel_walk, imu.accel_bias),
    ):
        steps = rng.standard_normal(truth.shape) * walk / np.sqrt(imu.rate)
        drift = rng.standard_normal(3) * bias + np.cumsum(steps, axis=0)
        noise = rng.standard_normal(truth.shape) * white * np.sqrt(imu.rate)
        out.append(truth + drift + noise)
    return out[0], out[1]
