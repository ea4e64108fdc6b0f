# SPDX-License-Identifier: Apache-2.0
"""Where a robust fit starts: two-point hypotheses that compete by a truncated residual.

A least-squares start breaks at 20 % structured outliers.
"""

from __future__ import annotations

import numpy as np

from video_depth_ros.alignment.robust import (
    NORMAL_QUANTILE,
    QUANTILE,
    RESOLUTION,
    robust_spread,
    tukey,
)
from video_depth_ros.alignment.verdicts import FitLimits

_HYPOTHESES = 96
_CANDIDATES = 8  # hypotheses that are refined before they are compared
_SCORED = 512  # pixels on which hypotheses are scored


def best_start(
    x: np.ndarray, y: np.ndarray, scale: float, shift: float, limits: FitLimits
) -> tuple[float, float]:
    """The best two-point hypothesis.

    The noise is taken from the hypothesis with the least low quantile of |residual|, then the
    hypotheses compete by the sum of |residual|, each pixel counting at most 2.5 sigmas (MSAC, Torr
    & Zisserman 2000). The median alone (LMedS) breaks where half of the pixels are wrong, which is
    what 30 % in either version amount to.
    """
    rng = np.random.default_rng(0)  # deterministic
    step = max(1, x.size // _SCORED)
    x, y = x[::step], y[::step]
    order = np.argsort(x, kind="stable")
    # one point from the lower, one from the upper third of x: the slope is well determined
    third = max(1, x.size // 3)
    low = order[rng.integers(0, third, _HYPOTHESES)]
    high = order[rng.integers(x.size - third, x.size, _HYPOTHESES)]
    run = x[high] - x[low]
    with np.errstate(divide="ignore", invalid="ignore"):
        scales = (y[high] - y[low]) / run
        # far beyond what is believed in the end, there is no need to look
        good = (scales > 0.5 * limits.scale_low * scale) & (
            scales < 2.0 * limits.scale_high * scale
        )
    scales = np.concatenate(([scale], scales[good]))
    shifts = np.concatenate(([shift], y[low][good] - scales[1:] * x[low][good]))
    residual = np.abs(y[None, ::2] - scales[:, None] * x[None, ::2] - shifts[:, None])
    k = int(QUANTILE * residual.shape[1])
    sigma = float(np.partition(residual, k, axis=1)[:, k].min()) / NORMAL_QUANTILE
    sigma = max(sigma, RESOLUTION * robust_spread(y))
    score = np.minimum(residual, 2.5 * sigma).sum(axis=1)
    # Two noisy points give a slope that is some percent off, which is enough to lose the few
    # pixels with relief to the many on a plane: the best candidates are refined with wide weights
    # before they are compared.
    best = np.argsort(score, kind="stable")[:_CANDIDATES]
    best = np.append(best, 0)
    refined = _least_squares(x, y, scales[best], shifts[best], sigma)
    residual = np.abs(y[None] - refined[0][:, None] * x[None] - refined[1][:, None])
    score = np.minimum(residual, 2.5 * sigma).sum(axis=1)
    winner = int(np.argmin(score))
    # Structured outliers can make a wrong map look as good as the right one: where the expected
    # map explains the pixels about as well, it is taken.
    if score[-1] <= 1.1 * score[winner]:
        winner = -1
    return float(refined[0][winner]), float(refined[1][winner])


def _least_squares(
    x: np.ndarray, y: np.ndarray, scales: np.ndarray, shifts: np.ndarray, sigma: float
) -> tuple[np.ndarray, np.ndarray]:
    """Re-weighted symmetric regressions from many starts at once, weights narrowing."""
    for width in (3.0, 2.0, 1.0):
        weight = tukey(y[None] - scales[:, None] * x[None] - shifts[:, None], width * sigma)
        total = weight.sum(axis=1) + 1e-12
        mean_x, mean_y = weight @ x / total, weight @ y / total
        xx = weight @ (x * x) / total - mean_x**2
        yy = weight @ (y * y) / total - mean_y**2
        good = (xx > 1e-12) & (yy > 0.0)
        # both sides are about equally noisy, and no window is inverted
        scales = np.where(good, np.sqrt(np.where(good, yy / np.maximum(xx, 1e-300), 1.0)), scales)
        shifts = np.where(good, mean_y - scales * mean_x, shifts)
    return scales, shifts
