# SPDX-License-Identifier: Apache-2.0
"""Re-weighted regression with errors in both variables, from a start that is nearly right.

The slope is the symmetric one: both sides are noisy, and the ordinary least-squares slope is too
small by the share of noise in the variance of ``x``. A chain of windows would shrink by that share
at every link.
"""

from __future__ import annotations

import math

import numpy as np

from video_depth_ros.alignment.robust import RESOLUTION, robust_sigma, robust_spread, tukey

_COARSE = 2048  # pixels of which the spread is estimated
_ITERATIONS = 7
_POLISH = 4  # steps on all pixels


def refine(
    x: np.ndarray, y: np.ndarray, w: np.ndarray, start: tuple[float, float], ratio: float
) -> tuple[float, float, float] | None:
    """Tukey-weighted symmetric regression from ``start``: scale, shift, sigma."""
    scale, shift = start
    floor = RESOLUTION * robust_spread(y)
    for _ in range(_ITERATIONS):
        sigma = max(robust_sigma(y - scale * x - shift), floor)
        new = _step(x, y, w, (scale, shift, sigma), ratio)
        if new is None:
            return None
        moved = abs(new[0] - scale)
        scale, shift = new
        if moved <= 1e-6 * abs(scale):
            break
    return scale, shift, robust_sigma(y - scale * x - shift)


def polish(
    x: np.ndarray, y: np.ndarray, w: np.ndarray, fit: tuple[float, float, float], ratio: float
) -> tuple[float, float, float] | None:
    """A few more steps on all pixels, with the noise known from the coarse fit."""
    sigma = max(fit[2], RESOLUTION * robust_spread(y[:: max(1, y.size // _COARSE)]))
    scale, shift = fit[:2]
    for _ in range(_POLISH):
        new = _step(x, y, w, (scale, shift, sigma), ratio)
        if new is None:
            return None
        scale, shift = new
    return scale, shift, fit[2]


def _step(
    x: np.ndarray, y: np.ndarray, w: np.ndarray, fit: tuple[float, float, float], ratio: float
) -> tuple[float, float] | None:
    """One re-weighted symmetric regression."""
    weight = w * tukey(y - fit[0] * x - fit[1], fit[2])
    total = float(weight.sum())
    if total <= 0.0:
        return None
    mean_x, mean_y = float(weight @ x) / total, float(weight @ y) / total
    dx, dy = x - mean_x, y - mean_y
    wx = weight * dx
    xx, xy = float(wx @ dx) / total, float(wx @ dy) / total
    yy = float((weight * dy) @ dy) / total
    if xx <= 0.0 or xy == 0.0:
        return None
    scale = _symmetric_slope(xx, yy, xy, ratio)
    return scale, mean_y - scale * mean_x


def _symmetric_slope(xx: float, yy: float, xy: float, ratio: float) -> float:
    """Slope s for noise of variance v in x and ratio * s^2 * v in y.

    With V the variance of the signal, xx = V + v, yy = s^2 (V + ratio v), xy = s V; eliminating V
    and v leaves ratio xx s^2 + (1 - ratio) xy s - yy = 0. ratio = 1 is the geometric-mean slope,
    a large ratio ordinary least squares.
    """
    sign = math.copysign(1.0, xy)
    half = (1.0 - ratio) * abs(xy)
    if ratio <= 0.0:
        return sign * yy / abs(xy)
    root = math.sqrt(half * half + 4.0 * ratio * xx * yy)
    return sign * (root - half) / (2.0 * ratio * xx)


def affine_covariance(x: np.ndarray, w: np.ndarray, sigma: float, x0: float) -> np.ndarray:
    """Covariance of (scale, shift) for un-centred x, sigma^2 (sum w phi phi^T)^-1."""
    total = float(w.sum())
    mean = float(w @ x) / total
    variance = max(float(w @ np.square(x - mean)), 1e-30)
    scale_variance = sigma**2 / variance
    mean += x0
    return np.array(
        [
            [scale_variance, -mean * scale_variance],
            [-mean * scale_variance, sigma**2 / total + mean**2 * scale_variance],
        ]
    )
