# SPDX-License-Identifier: Apache-2.0
"""IMU to scale: the motion that vision sees up to scale meets the motion that the IMU feels.

For keyframes 1, 2, 3 with velocities eliminated (Martinelli 2014; VINS-Mono, Qin et al. 2018)

    a [(p3 - p2) / t23 - (p2 - p1) / t12]
        = a [R2 alpha23 / t23 - R1 alpha12 / t12 + R1 beta12 + lever arm + g (t12 + t23) / 2].

The left side is vision's, noisy; the bracket on the right is the IMU's, clean. Regressing the
noisy side on the clean one gives a itself; the other way round the scale collapses silently to
zero. |g| is enforced, the accelerometer's bias has a prior. Without acceleration a is not
observable, and the answer is that word, not a number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from video_depth_ros.metric.config import InertialConfig
from video_depth_ros.metric.poses import rotation
from video_depth_ros.metric.preintegration import Preintegrated

_VISUAL_SIGMA_FLOOR = 1e-6
_ITERATIONS = 8
_FEWEST = 3  # pairs of pairs that vision saw
_LASTING = 2.0  # s that a network's errors of shape last


@dataclass(frozen=True)
class VisualStep:
    """What vision says of one pair of keyframes.

    Attributes:
        displacement: float64 [3], a times the camera's motion, in the camera at the first [-].
        covariance: float64 [3, 3] of it.
        rotation_error: float64 [3], small rotation w with R_true = R_gyro exp(w), camera frame.
        seen: whether vision says anything; where it does not, the IMU alone carries the attitude
            on to the next pair.
        stretch: relative standard deviation of its length from the disparity's errors of shape,
            alike in neighbouring pairs.
    """

    displacement: np.ndarray
    covariance: np.ndarray
    rotation_error: np.ndarray
    seen: bool = True
    stretch: float = 0.0


UNSEEN = VisualStep(np.zeros(3), np.zeros((3, 3)), np.zeros(3), seen=False)


@dataclass(frozen=True)
class InertialScale:
    """Result of an alignment.

    Attributes:
        a: scale [1/m per unit of disparity].
        sigma: its standard deviation.
        ratio: scale by regressing vision on inertia over the inverse of that of inertia on vision.
        gravity: |g| found freely [m/s^2].
        observable: whether all gates are passed.
    """

    a: float
    sigma: float
    ratio: float
    gravity: float
    observable: bool


UNOBSERVABLE = InertialScale(math.nan, math.inf, math.inf, math.nan, False)


def align(
    steps: list[VisualStep],
    inertial: list[Preintegrated],
    T_imu_camera: np.ndarray,
    config: InertialConfig,
) -> InertialScale:
    """Scale from consecutive pairs of keyframes, the end of each the start of the next.

    Args:
        steps, inertial: as many as there are pairs. Less than three neighbouring pairs of them
            seen is unobservable.
        T_imu_camera: float64 [4, 4].
        config: gravity, noise and gates.
    """
    both = np.array([one.seen and two.seen for one, two in pairwise(steps)], dtype=bool)
    if both.sum() < _FEWEST:
        return UNOBSERVABLE
    window = _window(steps, inertial, T_imu_camera, config)
    free = _free(window)
    if free is None:
        return UNOBSERVABLE
    a, gravity_vector, ratio = free
    gravity = float(np.linalg.norm(gravity_vector))
    if not (a > 0.0 and abs(gravity - config.gravity) <= 3.0 * config.gravity):
        return InertialScale(a, math.inf, ratio, gravity, False)
    a, sigma, gravity_error = _constrained(window, a, gravity_vector, config)
    observable = (
        a > 0.0
        and sigma <= config.max_sigma * a
        and ratio <= config.max_ratio
        and gravity_error <= config.max_gravity_error
    )
    return InertialScale(a, sigma, ratio, gravity, observable)


def gyro_bias(
    steps: list[VisualStep], inertial: list[Preintegrated], R_imu_camera: np.ndarray
) -> np.ndarray:
    """Bias of the gyroscope [rad/s], IMU frame: what its rotations lack against vision's.

    At least one step must be seen.
    """
    seen = [(s, p) for s, p in zip(steps, inertial, strict=True) if s.seen]
    turned = sum((R_imu_camera @ step.rotation_error for step, _ in seen), np.zeros(3))
    used = sum((part.gyro_bias * part.seconds for _, part in seen), np.zeros(3))
    return (used + turned) / sum(part.seconds for _, part in seen)


@dataclass(frozen=True)
class _Window:
    """A window's equations, V = a (M + J bias + half g), for K triples of keyframes.

    Attributes:
        V, M: float64 [3K], changes of velocity: vision's, up to scale, and the IMU's.
        J: float64 [3K, 3], derivative of M by the accelerometer's bias.
        half: float64 [K], (t12 + t23) / 2 [s].
        visual, felt: float64 [3K, 3K], covariances of V and of M.
        velocity: float64 [K + 1, 3], vision's, up to scale; seen: bool [K + 1].
        alike: float64 [K + 1, K + 1], covariance of the pairs' relative errors of scale.
        rows: bool [3K], triples that vision saw.
    """

    V: np.ndarray
    M: np.ndarray
    J: np.ndarray
    half: np.ndarray
    visual: np.ndarray
    felt: np.ndarray
    velocity: np.ndarray
    seen: np.ndarray
    alike: np.ndarray
    rows: np.ndarray

    def stretched(self, velocity: np.ndarray) -> np.ndarray:
        """Covariance of V when every pair has its own error of scale: it harms along the velocity.

        The velocities must be those of the model. With measured ones a pair that came out short
        would count for more, and the scale would come out small.
        """
        K = len(self.half)
        E = np.zeros((3 * K, K + 1))
        for k in range(K):
            E[3 * k : 3 * k + 3, k] = -velocity[k]
            E[3 * k : 3 * k + 3, k + 1] = velocity[k + 1]
        return E @ self.alike @ E.T

    def modelled(self, change: np.ndarray) -> np.ndarray:
        """Velocities [K + 1, 3] with the given changes [3K]; their mean is vision's."""
        path = np.concatenate([np.zeros((1, 3)), np.cumsum(change.reshape(-1, 3), axis=0)])
        return path + (self.velocity - path)[self.seen].mean(axis=0)


def _window(
    steps: list[VisualStep],
    inertial: list[Preintegrated],
    T_imu_camera: np.ndarray,
    config: InertialConfig,
) -> _Window:
    R_ic, lever = T_imu_camera[:3, :3], T_imu_camera[:3, 3]
    bias = gyro_bias(steps, inertial, R_ic)
    R = [np.eye(3)]
    for part in inertial:
        R.append(R[-1] @ part.R @ rotation((part.gyro_bias - bias) * part.seconds))
    K = len(steps) - 1
    V, M, J, half = np.zeros(3 * K), np.zeros(3 * K), np.zeros((3 * K, 3)), np.zeros(K)
    visual, felt = np.zeros((3 * K, 3 * K)), np.zeros((3 * K, 3 * K))
    velocity = np.array(
        [
            R[k] @ R_ic @ step.displacement / part.seconds
            for k, (step, part) in enumerate(zip(steps, inertial, strict=True))
        ]
    )
    for k in range(K):
        one, two = inertial[k], inertial[k + 1]
        at = slice(3 * k, 3 * k + 3)
        V[at] = velocity[k + 1] - velocity[k]
        arm = (R[k + 2] - R[k + 1]) @ lever / two.seconds - (R[k + 1] - R[k]) @ lever / one.seconds
        M[at] = (
            R[k + 1] @ two.alpha / two.seconds - R[k] @ (one.alpha / one.seconds - one.beta) + arm
        )
        J[at] = R[k + 1] @ two.J_alpha / two.seconds - R[k] @ (
            one.J_alpha / one.seconds - one.J_beta
        )
        half[k] = 0.5 * (one.seconds + two.seconds)
        felt[at, at] = np.eye(3) * config.sigma_accelerometer**2 * half[k]
    for k, (step, part) in enumerate(zip(steps, inertial, strict=True)):
        turn = R[k] @ R_ic / part.seconds
        own = turn @ step.covariance @ turn.T + np.eye(3) * _VISUAL_SIGMA_FLOOR**2
        # pair k is the end of triple k - 1 and the beginning of triple k
        before, after = slice(3 * k - 3, 3 * k), slice(3 * k, 3 * k + 3)
        if k > 0:
            visual[before, before] += own
        if k < K:
            visual[after, after] += own
        if 0 < k < K:
            visual[before, after] -= own
            visual[after, before] -= own
    times = np.cumsum([part.seconds for part in inertial])
    stretch = np.array([step.stretch for step in steps])
    alike = np.exp(-np.abs(times[:, None] - times) / _LASTING) * np.outer(stretch, stretch)
    seen = np.array([step.seen for step in steps], dtype=bool)
    rows = np.repeat(seen[:-1] & seen[1:], 3)
    return _Window(V, M, J, half, visual, felt, velocity, seen, alike, rows)


def _free(window: _Window) -> tuple[float, np.ndarray, float] | None:
    """a and gravity without constraint, and the ratio of the two regressions."""
    rows = window.rows
    V, M = window.V[rows], window.M[rows]
    covariance = window.visual + window.stretched(window.velocity)
    W = np.linalg.inv(covariance[np.ix_(rows, rows)])
    G = np.kron(window.half[:, None], np.eye(3))[rows]
    forth = np.column_stack([M, G])
    back = np.column_stack([V, -G])
    try:
        x = np.linalg.solve(forth.T @ W @ forth, forth.T @ W @ V)
        y = np.linalg.solve(back.T @ W @ back, back.T @ W @ M)
    except np.linalg.LinAlgError:
        return None
    a, inverse_a = float(x[0]), float(y[0])
    if a <= 0.0 or inverse_a <= 0.0:
        return None
    return a, x[1:] / a, 1.0 / (a * inverse_a)


def _constrained(
    window: _Window, a: float, gravity_vector: np.ndarray, config: InertialConfig
) -> tuple[float, float, float]:
    """Gauss-Newton in a, the direction of gravity and the bias.

    Returns:
        a, its standard deviation, and how far the specific force is from |g| unless the bias
        makes up for it [m/s^2].
    """
    rows, half, J = window.rows, window.half, window.J
    up = gravity_vector / np.linalg.norm(gravity_vector)
    bias = np.zeros(3)
    H = np.zeros((window.V.size, 6))
    left = np.eye(6)
    chi2 = 1.0
    for _ in range(_ITERATIONS):
        basis = np.linalg.svd(up[None])[2][1:].T  # tangent plane, [3, 2]
        inside = window.M + np.kron(half, config.gravity * up) + J @ bias
        covariance = window.visual + a * a * window.felt
        covariance += window.stretched(window.modelled(a * inside))
        W = np.linalg.inv(covariance[np.ix_(rows, rows)])
        H[:, 0] = inside
        H[:, 1:3] = a * config.gravity * np.kron(half[:, None], basis)
        H[:, 3:] = a * J
        error = (window.V - a * inside)[rows]
        chi2 = max(1.0, float(error @ W @ error) / max(error.size - 6, 1))
        prior = np.diag([0.0, 0.0, 0.0, *[1.0 / config.sigma_bias**2] * 3])
        left = H[rows].T @ W @ H[rows] / chi2 + prior
        right = H[rows].T @ W @ error / chi2 - prior @ np.concatenate([np.zeros(3), bias])
        try:
            step = np.linalg.solve(left, right)
        except np.linalg.LinAlgError:
            return a, math.inf, math.inf
        a = max(a + float(step[0]), 0.2 * a)
        up = up + basis @ step[1:3]
        up /= np.linalg.norm(up)
        bias = bias + step[3:]
        if abs(step[0]) < 1e-7 * a:
            break
    sigma = math.sqrt(max(float(np.linalg.inv(left)[0, 0]), 0.0))
    return a, sigma, float(np.linalg.norm(bias))
