# SPDX-License-Identifier: Apache-2.0
"""Wheel odometry (or, off the ground, any 6-DoF odometry): true motion, measured with drift."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .builder import rotation_zyx
from .path import Path
from .rig import Rig


@dataclass(frozen=True)
class Odometry:
    """Errors of a calibrated differential drive (Borenstein and Feng 1996 give the order).

    Attributes:
        rate: samples per second.
        scale: standard deviation of the constant scale error of distances and turns.
        distance: noise, metres per square root of metre travelled.
        turn: noise, radians per square root of radian turned.
        slip: heading noise, radians per square root of metre travelled.
    """

    rate: float = 50.0
    scale: float = 0.01
    distance: float = 0.01
    turn: float = 0.01
    slip: float = 0.003


@dataclass(frozen=True)
class OdometryTrack:
    """What the odometry reports at T times, starting at the origin of ``odom``.

    Attributes:
        poses: T_odom_base, float64 [T, 4, 4].
        linear, angular: twist in base_link's axes, float64 [T, 3] in m/s and rad/s.
        covariance: of the pose, float64 [T, 6, 6] (x, y, z, roll, pitch, yaw; REP-103 axes).
    """

    poses: np.ndarray
    linear: np.ndarray
    angular: np.ndarray
    covariance: np.ndarray


def measure(
    path: Path, rig: Rig, odometry: Odometry, times: np.ndarray, rng: np.random.Generator
) -> OdometryTrack:
    """Integrate noisy increments of the base's true motion between ``times`` [T]."""
    truth = rig.base_poses(path, times)
    if rig.planar:
        truth = _flattened(truth)
    scale = 1.0 + odometry.scale * rng.standard_normal(2)
    n = len(times)
    poses, linear, angular = np.tile(np.eye(4), (n, 1, 1)), np.zeros((n, 3)), np.zeros((n, 3))
    covariance = np.zeros((n, 6, 6))
    spread = np.full(6, 1e-8)
    covariance[0] = np.diag(spread)
    travelled = turned = 0.0
    for k in range(1, n):
        step = np.linalg.inv(truth[k - 1]) @ truth[k]
        shift, angle = step[:3, 3], _rotation_vector(step[:3, :3])
        far, wide = float(np.linalg.norm(shift)), float(np.linalg.norm(angle))
        free = np.array([0.0, 0.0, 1.0]) if rig.planar else np.ones(3)
        blur = np.array([1.0, 0.2, 0.0]) if rig.planar else np.ones(3)
        shift = scale[0] * shift + odometry.distance * np.sqrt(far) * blur * rng.standard_normal(3)
        sigma = odometry.turn * np.sqrt(wide) + odometry.slip * np.sqrt(far)
        angle = scale[1] * angle + sigma * free * rng.standard_normal(3)
        motion = np.eye(4)
        motion[:3, :3], motion[:3, 3] = _rotation(angle), shift
        poses[k] = poses[k - 1] @ motion
        dt = times[k] - times[k - 1]
        linear[k], angular[k] = shift / dt, angle / dt
        travelled, turned = travelled + far, turned + wide
        heading = (
            odometry.turn**2 * turned + odometry.slip**2 * travelled
            + (odometry.scale * turned) ** 2 + 1e-8
        )  # fmt: skip
        along = odometry.distance**2 * travelled + (odometry.scale * travelled) ** 2
        spread = np.full(6, along + heading * travelled**2 + 1e-8)
        spread[3:] = heading
        if rig.planar:
            spread[2:5] = 1e-6
        covariance[k] = np.diag(spread)
    if n > 1:
        linear[0], angular[0] = linear[1], angular[1]
    return OdometryTrack(poses, linear, angular, covariance)


def _flattened(poses: np.ndarray) -> np.ndarray:
    """x, y and yaw only."""
    flat = np.tile(np.eye(4), (len(poses), 1, 1))
    flat[:, :2, 3] = poses[:, :2, 3]
    flat[:, :3, :3] = [rotation_zyx(np.arctan2(T[1, 0], T[0, 0])) for T in poses]
    return flat


def _rotation(v: np.ndarray) -> np.ndarray:
    """Rodrigues' formula."""
    angle = float(np.linalg.norm(v))
    K = np.array([[0, -v[2], v[1]], [v[2], 0, -v[0]], [-v[1], v[0], 0]])
    if angle < 1e-9:
        return np.asarray(np.eye(3) + K)
    K = K / angle
    return np.asarray(np.eye(3) + np.sin(angle) * K + (1 - np.cos(angle)) * K @ K)


def _rotation_vector(R: np.ndarray) -> np.ndarray:
    """Inverse of ``_rotation`` for the small turns between samples (well below pi)."""
    w = 0.5 * np.array([R[2, 1] - R[1, 2], R[0, 2] - R[2, 0], R[1, 0] - R[0, 1]])
    sine = float(np.linalg.norm(w))
    if sine < 1e-12:
        return w
    return w * np.arctan2(sine, 0.5 * (np.trace(R) - 1.0)) / sine
