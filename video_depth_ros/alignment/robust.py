# SPDX-License-Identifier: Apache-2.0
"""Robust statistics of residuals: location, spread, and weights of Tukey's biweight."""

from __future__ import annotations

import numpy as np

_TUKEY = 4.685  # 95 % efficiency on Gaussian noise
RESOLUTION = 1e-6  # noise of float32, relative to the spread
QUANTILE = 0.35  # of |residual|; lower than the median: up to half of all pixels may be wrong
NORMAL_QUANTILE = 0.45376  # |N(0, 1)| at that quantile


def tukey(residual: np.ndarray, sigma: float) -> np.ndarray:
    """Tukey's biweight."""
    rest = 1.0 - np.square(residual / (_TUKEY * sigma))
    return np.square(np.maximum(rest, 0.0))


def location(values: np.ndarray, w: np.ndarray) -> float:
    """Tukey-weighted mean from the median."""
    centre = float(np.median(values))
    for _ in range(3):
        sigma = max(robust_sigma(values - centre), 1e-12)
        weight = w * tukey(values - centre, sigma)
        total = float(weight.sum())
        if total <= 0.0:
            break
        centre = float(weight @ values) / total
    return centre


def robust_sigma(residual: np.ndarray) -> float:
    """Robust standard deviation about zero.

    A low quantile of all residuals, which half of them being wrong inflates up to twofold, then
    the median of those within three times that.
    """
    size = np.abs(residual)
    k = min(size.size - 1, int(QUANTILE * size.size))
    first = float(np.partition(size, k)[k]) / NORMAL_QUANTILE
    inside = size[size <= 3.0 * first]
    middle = inside.size // 2
    return 1.4826 * float(np.partition(inside, middle)[middle]) if inside.size else first


def robust_spread(centred: np.ndarray) -> float:
    """Standard deviation about the median, 10-90 % range over that of a Gaussian.

    The range is used, not a middle quantile: a scene may be half one plane.
    """
    low, high = int(0.1 * (centred.size - 1)), int(0.9 * (centred.size - 1))
    ordered = np.partition(centred, (low, high))
    return float(ordered[high] - ordered[low]) / 2.5631
