# SPDX-License-Identifier: Apache-2.0
"""Camera motion between keyframes from features and running disparity, up to the unknown (a, b).

With inverse depth q = a (d + beta), a feature at x1 in the keyframe is seen now at
x2 ~ R x1 + (d + beta) tau, where tau = a t. For a known rotation this is linear in tau and
beta tau; beta is common to all pairs of keyframes and found by a search over one number.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np

from video_depth_ros.metric.poses import rotation

_TUKEY = 4.685
_SEARCH = np.geomspace(0.02, 5.0, 32)
_TOLD = 0.5  # largest relative noise of an inverse depth from which an error of shape is told
_LEAST_SHAPE = 0.05  # relative error of shape that every network has
_RANK = 1e-12  # of the largest eigenvalue: below it a direction is not told at all
_FEWEST_SEEN, _FEWEST_PARTS = 4, 10  # features in a part, parts of all pairs


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
        x = np.linalg.lstsq(N, g, rcond=_RANK)[0]
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
    cost = _costs(pairs, offsets)
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


def unknown_motion(pair: PairSystem) -> np.ndarray:
    """(tau, tau', w) [9] of x2 ~ R exp(w) x1 + d tau + tau': motion without a common offset."""
    return np.linalg.lstsq(pair.N, pair.g, rcond=_RANK)[0]


def common_rate(
    pairs: list[PairSystem],
    seconds: list[float],
    taken: list[np.ndarray],
    beta: float | None = None,
) -> np.ndarray:
    """The gyro's bias as vision sees it [rad/s], in the camera's frame.

    Pair k was turned too far by w_k = (rate - taken_k) seconds_k. Each pair's translation is
    eliminated (Schur complement), with beta where it is known.

    Args:
        pairs: with a rotation from the gyro each.
        seconds: their durations.
        taken: [3] each, rates taken off the gyro before.
        beta: the offset, or None.
    """
    left, right = np.zeros((3, 3)), np.zeros(3)
    for pair, duration, before in zip(pairs, seconds, taken, strict=True):
        N, g = pair.N, pair.g
        if beta is not None:
            C = _reduction(beta)
            N, g = C.T @ N @ C, C.T @ g
        moved, turned = slice(0, len(g) - 3), slice(len(g) - 3, len(g))
        both = np.column_stack([N[moved, turned], g[moved]])
        gone = np.linalg.lstsq(N[moved, moved], both, rcond=1e-10)[0]
        S = N[turned, turned] - N[turned, moved] @ gone[:, :3]
        left += duration**2 * S
        right += duration * (g[turned] - N[turned, moved] @ gone[:, 3] + duration * S @ before)
    return np.linalg.solve(left, right)


def steadied(pair: PairSystem, w: np.ndarray, sigma: float) -> PairSystem:
    """The pair, its rotation correction known to be ``w`` with deviation ``sigma`` [rad].

    A camera of a narrow view can hardly tell a turn from a step aside; the gyro can.
    """
    N, g = pair.N.copy(), pair.g.copy()
    N[6:, 6:] += np.eye(3) / sigma**2
    g[6:] += w / sigma**2
    return dataclasses.replace(pair, N=N, g=g, r2=pair.r2 + float(w @ w) / sigma**2)


def neutral_disparity(pairs: list[PairSystem], beta: float) -> float:
    """The disparity whose level a (d + beta) does not depend on an error of beta.

    The flow there is what the motion was found from: |tau| (d + beta) stays while beta varies, so
    d + beta = -|tau| / (d|tau| / d beta), over all pairs.
    """
    typical = float(np.median([pair.centre for pair in pairs])) + beta
    step = 0.05 * typical
    less, more = (
        math.sqrt(sum(float(np.sum(solve_motion(p, beta + s)[0] ** 2)) for p in pairs))
        for s in (-step, step)
    )
    slope = (more - less) / (2.0 * step)
    low, high = 0.5 * typical, 3.0 * typical
    level = -0.5 * (less + more) / slope if slope < 0.0 else high
    return min(max(level, low), high) - beta


@dataclass(frozen=True)
class Residuals:
    """What the motion leaves of the features of one pair.

    Attributes:
        relative: float64 [n], relative errors of the inverse depth, along the features' parallax.
        noise: float64 [n], their standard deviations from the features' noise, which shows across
            the parallax, where no error of disparity does.
    """

    relative: np.ndarray
    noise: np.ndarray


def residuals(
    first: np.ndarray,
    second: np.ndarray,
    disparity: np.ndarray,
    R: np.ndarray,
    tau: np.ndarray,
    beta: float,
    w: np.ndarray,
) -> Residuals:
    """Residuals of one pair; arguments as for :func:`pair_system` and of :func:`solve_motion`."""
    q = disparity + beta
    moved = first @ (R @ rotation(w)).T + q[:, None] * tau
    error = moved[:, :2] / moved[:, 2:] - second[:, :2]
    parallax = (tau[:2] - second[:, :2] * tau[2]) * (q / moved[:, 2])[:, None]
    size = np.maximum(np.linalg.norm(parallax, axis=1), 1e-12)
    along = np.sum(error * parallax, axis=1) / size
    across = (error[:, 0] * parallax[:, 1] - error[:, 1] * parallax[:, 0]) / size
    noise = 1.4826 * float(np.median(np.abs(across)))
    return Residuals(along / size, noise / size)


def shape_error(pairs: list[tuple[Residuals, np.ndarray]]) -> float | None:
    """Relative standard deviation of the disparity's errors that are alike over parts of the view.

    The median residual of a part of the view, squared, less what it owes to the scatter within
    that part (variance of a median: pi / 2 of a mean's), on average over parts and pairs, those
    with little scatter counting most. Errors from feature to feature, as at edges, are scatter:
    they do not lengthen the motion.

    Args:
        pairs: residuals, and the part of the view that each feature lies in, int [n].

    Returns:
        The deviation, at least 5 %, or None when too few parts have features with a parallax
        above the noise.
    """
    found = []
    for pair, part in pairs:
        told = pair.noise < _TOLD
        for one in np.unique(part[told]):
            here = pair.relative[told & (part == one)]
            if len(here) >= _FEWEST_SEEN:
                middle = _median(here)
                scatter = 1.4826 * _median(np.abs(here - middle))
                found.append((middle**2, 0.5 * math.pi * scatter**2 / len(here)))
    if len(found) < _FEWEST_PARTS:
        return None
    square, variance = np.array(found).T
    weight = 1.0 / (variance + _LEAST_SHAPE**2) ** 2
    excess = float(weight @ (square - variance) / weight.sum())
    return max(math.sqrt(max(excess, 0.0)), _LEAST_SHAPE)


def _median(values: np.ndarray) -> float:
    """Of a dozen values: np.median takes eight times as long, and a window has hundreds."""
    ordered = np.sort(values)
    return 0.5 * float(ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2])


def _costs(pairs: list[PairSystem], offsets: np.ndarray) -> np.ndarray:
    """Weighted squares that the best motions leave of all pairs, for every offset: float64 [n].

    All small systems are solved in one call: one by one they cost more time than the network.
    """
    N = np.stack([pair.N for pair in pairs])
    g = np.stack([pair.g for pair in pairs])
    C = np.stack([_reduction(beta) for beta in offsets])
    values, vectors = np.linalg.eigh(C.swapaxes(1, 2)[:, None] @ N @ C[:, None])
    along = ((g @ C)[:, :, None, :] @ vectors)[:, :, 0, :]
    told = values > _RANK * values[..., -1:]
    explained = np.divide(along**2, values, out=np.zeros_like(along), where=told)
    return sum(pair.r2 for pair in pairs) - explained.sum(axis=(1, 2))


def _reduction(beta: float) -> np.ndarray:
    """(tau, w) -> (tau, beta tau, w)."""
    C = np.zeros((9, 6))
    C[:3, :3], C[3:6, :3], C[6:, 3:] = np.eye(3), beta * np.eye(3), np.eye(3)
    return C
