# SPDX-License-Identifier: Apache-2.0
"""Camera motion between keyframes from features and running disparity, up to the unknown (a, b).

With inverse depth q = a (d + beta), a feature at x1 in the keyframe is seen now at
x2 ~ R x1 + (d + beta) tau, where tau = a t. For a known rotation this is linear in tau and
beta tau; beta is common to all pairs of keyframes and found by a search over one number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

_TUKEY = 4.685
_SEARCH = np.geomspace(0.02, 5.0, 32)


@dataclass(frozen=True)
class PairSystem:
    """Normal equations of one pair of keyframes in (tau, beta tau, w), robustly weighted.

    w is a small rotation: R = R_gyro exp(w).

    Attributes:
        N: float64 [9, 9].
        g: float64 [9].
        r2: weighted sum of squares at zero.
        n: features that agree.
        floor: disparity below which none of the features lies.
        centre: median disparity of the features.
        spread: 5 to 95 % range of their disparity.
    """

    N: np.ndarray
    g: np.ndarray
    r2: float
    n: int
    floor: float
    centre: float
    spread: float


def pair_system(
    first: np.ndarray,
    second: np.ndarray,
    disparity: np.ndarray,
    R: np.ndarray,
    sigma: float,
    sigma_rotation: float,
) -> PairSystem | None:
    """Set up one pair.

    Args:
        first, second: float64 [n, 3], rays (z = 1) in the keyframe and now.
        disparity: float64 [n], in the keyframe.
        R: rotation key -> now.
        sigma: standard deviation of a ray's x or y.
        sigma_rotation: that of R [rad].

    Returns:
        The system, or None when too few features agree with any motion.
    """
    turned = first @ R.T
    A = turned[:, :2] - second[:, :2] * turned[:, 2:]
    P = np.zeros((len(first), 2, 3))  # maps a vector v to v_xy - x2 v_z
    P[:, 0, 0] = P[:, 1, 1] = 1.0
    P[:, :, 2] = -second[:, :2]
    cross = np.zeros((len(first), 3, 3))  # w -> w x x1
    cross[:, 0, 1], cross[:, 0, 2] = first[:, 2], -first[:, 1]
    cross[:, 1, 0], cross[:, 1, 2] = -first[:, 2], first[:, 0]
    cross[:, 2, 0], cross[:, 2, 1] = first[:, 1], -first[:, 0]
    H = np.concatenate([P * disparity[:, None, None], P, P @ R @ cross], axis=2)
    prior = np.zeros((9, 9))
    prior[6:, 6:] = np.eye(3) / sigma_rotation**2
    weight = np.full(len(first), 1.0 / sigma**2)
    scale = sigma
    x = np.zeros(9)
    for _ in range(5):
        N = np.einsum("nia,n,nib->ab", H, weight, H) + prior
        g = -np.einsum("nia,n,ni->a", H, weight, A)
        x = np.linalg.lstsq(N, g, rcond=1e-12)[0]
        error = np.linalg.norm(A + H @ x, axis=1)
        scale = max(float(np.median(error)) / 1.1774, 0.3 * sigma)
        weight = np.square(np.maximum(0.0, 1.0 - np.square(error / (_TUKEY * scale)))) / scale**2
    agree = weight > 0.0
    if int(agree.sum()) < 12:
        return None
    N = np.einsum("nia,n,nib->ab", H, weight, H) + prior
    g = -np.einsum("nia,n,ni->a", H, weight, A)
    r2 = float(np.einsum("ni,n,ni->", A, weight, A))
    low, middle, high = np.quantile(disparity[agree], (0.05, 0.5, 0.95))
    return PairSystem(N, g, r2, int(agree.sum()), float(low), float(middle), float(high - low))


def common_offset(pairs: list[PairSystem]) -> tuple[float, float] | None:
    """beta of all pairs and its standard deviation; None when the features have no relief."""
    spread = float(np.median([pair.spread for pair in pairs]))
    floor = min(pair.floor for pair in pairs)
    if spread <= 0.0:
        return None
    offsets = spread * _SEARCH - floor
    cost = np.array([sum(_cost(pair, beta) for pair in pairs) for beta in offsets])
    k = int(np.argmin(cost))
    if k in (0, len(offsets) - 1):
        return None
    # parabola through the three lowest points; its curvature is twice the information
    x = offsets[k - 1 : k + 2] - offsets[k]
    c2, c1, _ = np.polyfit(x, cost[k - 1 : k + 2], 2)
    if c2 <= 0.0:
        return None
    return float(offsets[k] - 0.5 * c1 / c2), math.sqrt(1.0 / c2)


def solve_motion(pair: PairSystem, beta: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """tau [3], the rotation correction w [3] and the covariance of tau [3, 3], given beta."""
    C = _reduction(beta)
    N = C.T @ pair.N @ C
    N = N + 1e-9 * np.trace(N) * np.eye(6)
    x = np.linalg.solve(N, C.T @ pair.g)
    return x[:3], x[3:], np.linalg.inv(N)[:3, :3]


def free_rotation(pair: PairSystem) -> np.ndarray:
    """The rotation correction w [3] with neither translation nor beta known."""
    return np.linalg.lstsq(pair.N, pair.g, rcond=1e-12)[0][6:]


def _cost(pair: PairSystem, beta: float) -> float:
    C = _reduction(beta)
    g = C.T @ pair.g
    return pair.r2 - float(g @ np.linalg.lstsq(C.T @ pair.N @ C, g, rcond=1e-12)[0])


def _reduction(beta: float) -> np.ndarray:
    """(tau, w) -> (tau, beta tau, w)."""
    C = np.zeros((9, 6))
    C[:3, :3], C[3:6, :3], C[6:, 3:] = np.eye(3), beta * np.eye(3), np.eye(3)
    return C
