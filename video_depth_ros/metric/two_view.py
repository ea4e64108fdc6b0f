# SPDX-License-Identifier: Apache-2.0
"""A motion corrected by what two views show, and features triangulated over it.

A feature at x1 in the keyframe (rays with z = 1) is seen now at x2 ~ R x1 + q t, q its inverse
depth in the keyframe. In x and y, A + q B = 0 with A = P R x1, B = P t, P v = v_xy - x2 v_z. Along
B this is q; across B it is the epipolar constraint, which no depth enters. R exp(w) and t + e are
its least-squares solution with the odometer's deviations of w and e as priors: bundle adjustment
of two views whose points are eliminated (Triggs et al., Bundle Adjustment - A Modern Synthesis,
2000). The shape that a network sees has no part in it, so that its errors cannot bend the motion.

The covariance of (w, e) tells what the views leave open: everything along t, and, when moving
sideways, the turn that looks like a shift of all inverse depths.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from video_depth_ros.metric.poses import rotation

_TUKEY = 4.685
_ITERATIONS = 8
_ALIKE = 2.0  # on the variance: neighbouring features' errors are alike
_LEAST_NOISE = 0.3  # share of the features' expected noise that is believed at least
_LEAST_DEVIATION = 1e-6  # of an odometer's motion, rad or m: an exact one may say 0
_NEAREST = 0.05  # ratio of the depths now and in the keyframe at which a point is behind


@dataclass(frozen=True)
class Motion:
    """T_now_key = [R t] and the covariance of its small corrections (w, e), float64 [6, 6].

    Attributes:
        R, t: float64 [3, 3] and [3], metres; true R is R exp(w), true t is t + e.
        covariance: of (w [rad], e [m]).
        noise: standard deviation of the features across their epipolar lines, as rays.
        correction: of the odometer's motion, in its own deviations, squared and summed: at most
            chi-square of six degrees of freedom where it is as good as it says.
    """

    R: np.ndarray
    t: np.ndarray
    covariance: np.ndarray
    noise: float
    correction: float = 0.0


@dataclass(frozen=True)
class Points:
    """Features triangulated over a motion, N of them.

    Attributes:
        key, now: float64 [N], inverse depth in the keyframe and in the newest frame [1/m].
        jacobian: float64 [N, 6], of ``now`` by the motion's (w, e).
        sigma: float64 [N], deviation of ``now`` from the feature's own noise.
        error: float64 [N], reprojection error, as a ray.
        parallax: float64 [N], rad.
        front: bool [N], before both cameras.
    """

    key: np.ndarray
    now: np.ndarray
    jacobian: np.ndarray
    sigma: np.ndarray
    error: np.ndarray
    parallax: np.ndarray
    front: np.ndarray


def correct(
    first: np.ndarray,
    second: np.ndarray,
    T_now_key: np.ndarray,
    sigma: float,
    sigma_rotation: float,
    sigma_translation: float,
) -> Motion:
    """The motion that the features' epipolar lines and the odometer tell together.

    Args:
        first, second: float64 [N, 3], rays with z = 1 in the keyframe and now.
        T_now_key: float64 [4, 4], the odometer's.
        sigma: expected standard deviation of a ray's x or y.
        sigma_rotation, sigma_translation: of the odometer's motion, per axis [rad], [m].
    """
    R, t = T_now_key[:3, :3], T_now_key[:3, 3]
    deviations = np.maximum([sigma_rotation, sigma_translation], _LEAST_DEVIATION)
    prior = np.repeat(deviations**-2.0, 3)
    x, noise, information = np.zeros(6), sigma, np.diag(prior)
    for _ in range(_ITERATIONS):
        turned = first @ R.T
        A, B = _project(turned, second), t[:2] - second[:, :2] * t[2]
        size = np.maximum(np.linalg.norm(B, axis=1), 1e-12)
        across = np.column_stack([-B[:, 1], B[:, 0]]) / size[:, None]
        q = np.maximum(-(A * B).sum(axis=1) / size**2, 0.0)
        z = np.maximum(turned[:, 2] + q * t[2], _NEAREST)
        # across' P as row vectors; a ray's error grows when its point comes nearer
        rows = np.column_stack([across, -(across * second[:, :2]).sum(axis=1)]) / z[:, None]
        J = np.column_stack([np.cross(first, rows @ R), rows * q[:, None]])
        residual = (across * A).sum(axis=1) / z
        noise = max(1.4826 * float(np.median(np.abs(residual))), _LEAST_NOISE * sigma)
        weight = np.square(np.maximum(0.0, 1.0 - np.square(residual / (_TUKEY * noise))))
        weight /= _ALIKE * noise**2
        information = (J * weight[:, None]).T @ J + np.diag(prior)
        step = -np.linalg.solve(information, J.T @ (weight * residual) + prior * x)
        x = x + step
        R, t = R @ rotation(step[:3]), t + step[3:]
        if np.linalg.norm(step[:3]) < 1e-6:
            break
    return Motion(R, t, np.linalg.inv(information), noise, float(prior @ np.square(x)))


def triangulate(first: np.ndarray, second: np.ndarray, motion: Motion) -> Points:
    """Inverse depths over a motion, and how they change with it.

    Args:
        first, second: float64 [N, 3], rays with z = 1 in the keyframe and now.
        motion: key -> now.
    """
    R, t = motion.R, motion.t
    turned = first @ R.T
    A, B = _project(turned, second), t[:2] - second[:, :2] * t[2]
    size = np.maximum(np.linalg.norm(B, axis=1), 1e-12)
    key = -(A * B).sum(axis=1) / size**2
    z = turned[:, 2] + key * t[2]  # depth now over depth in the keyframe
    along = B / size[:, None] ** 2
    rows = np.column_stack([along, -(along * second[:, :2]).sum(axis=1)])
    # d(R exp(w) x1) = R (w x x1), so that a row r of it is (x1 x R' r) w
    d_key = -np.column_stack([np.cross(first, rows @ R), rows * key[:, None]])
    d_z = np.zeros((len(first), 6))
    d_z[:, :3], d_z[:, 5] = np.cross(first, R[2]), key
    d_z += t[2] * d_key
    with np.errstate(all="ignore"):
        now = key / z
        return Points(
            key=key,
            now=now,
            jacobian=(d_key - now[:, None] * d_z) / z[:, None],
            sigma=motion.noise * np.abs(z) / size * np.abs(turned[:, 2]) / z**2,
            error=np.linalg.norm(A + key[:, None] * B, axis=1) / np.abs(z),
            parallax=np.abs(key) * size,
            front=(key > 0.0) & (z > _NEAREST),
        )


def common_error(
    inverse_depth: np.ndarray, sigma: np.ndarray, jacobian: np.ndarray, covariance: np.ndarray
) -> float:
    """The relative deviation that a motion's error gives all inverse depths together.

    An error of the motion moves the points' level (their weighted mean) and stretches their relief
    (the slope of a line through the errors over the inverse depths). Both are linear in (w, e);
    the larger deviation counts.

    Args:
        inverse_depth, sigma: float64 [N].
        jacobian: float64 [N, 6], of the inverse depth by the motion's (w, e).
        covariance: float64 [6, 6], of (w, e).
    """
    weight = 1.0 / (sigma**2 + (0.05 * inverse_depth) ** 2)
    weight /= weight.sum()
    level = weight @ inverse_depth
    away = weight * (inverse_depth - level)
    responses = weight @ jacobian / level, away @ jacobian / max(away @ inverse_depth, 1e-18)
    return float(np.sqrt(max(r @ covariance @ r for r in responses)))


def _project(vectors: np.ndarray, second: np.ndarray) -> np.ndarray:
    """P v of every feature, float64 [N, 2]."""
    return vectors[:, :2] - second[:, :2] * vectors[:, 2:]
