# SPDX-License-Identifier: Apache-2.0
"""Affine fits ref = scale * cur + shift between two versions of the same pixels.

``fit_affine`` is the robust one: the start is the best of two-point hypotheses (``start.py``),
refined by symmetric regression with Tukey's biweight (``regression.py``), and judged
(``verdicts.py``).

``fit_dvd`` is the formula of the DVD reference (arXiv 2603.12250, its inference script).
"""

from __future__ import annotations

import math

import numpy as np

from video_depth_ros.alignment.regression import affine_covariance, polish, refine
from video_depth_ros.alignment.robust import (
    RESOLUTION,
    location,
    robust_sigma,
    robust_spread,
    tukey,
)
from video_depth_ros.alignment.start import best_start
from video_depth_ros.alignment.verdicts import AffineFit, FitLimits, FitVerdict

_COARSE = 2048  # most pixels used to start and to estimate the noise


def fit_affine(
    cur: np.ndarray,
    ref: np.ndarray,
    weights: np.ndarray | None = None,
    prior: tuple[float, float] = (1.0, 0.0),
    limits: FitLimits | None = None,
    noise_ratio: float = 1.0,
    cur_range: tuple[float, float] = (-math.inf, math.inf),
    ref_range: tuple[float, float] = (-math.inf, math.inf),
) -> AffineFit:
    """Robust fit of ref = scale * cur + shift.

    Args:
        cur, ref: float [n], two versions of the same pixels, finite.
        weights: float [n] >= 0, or None for equal ones.
        prior: the expected (scale, shift): one more hypothesis, preferred among equally good ones,
            and what a held fit returns.
        limits: when the fit is believed.
        noise_ratio: variance of the noise in ref over that in scale * cur; 1: both alike.
        cur_range, ref_range: values outside were cut off in cur or ref (clipped, masked). Near the
            cut only one side of the noise is left, so pixels within three sigmas of it are left
            out, by the best guess of their true value: that choice does not favour either side.

    Returns:
        The fit; its verdict is one of ACCEPTED, CLIPPED, FLAT, TOO_FEW, OUTLIERS, INVERTED,
        UNRELATED. With the last four, scale and shift are the prior's.
    """
    limits = limits or FitLimits()
    n = int(cur.size)
    if n < limits.min_pixels:
        return _held(prior, n, FitVerdict.TOO_FEW)
    x, y = cur.astype(np.float64), ref.astype(np.float64)
    w = np.ones(n) if weights is None else weights.astype(np.float64)
    if n <= _COARSE:  # a canonical order, so that the order of the pixels does not matter
        order = np.lexsort((y, x))
        x, y, w = x[order], y[order], w[order]
    coarse = slice(None, None, -(-n // _COARSE))  # few enough for what is done many times
    x0, y0 = float(np.median(x[coarse])), float(np.median(y[coarse]))
    x, y = x - x0, y - y0
    spread_x, spread_y = robust_spread(x[coarse]), robust_spread(y[coarse])
    if spread_x < max(limits.flat_spread, 1e-12) or spread_y < 1e-12:
        return _level(prior, x[coarse], y[coarse], x0, y0)
    start = best_start(x[coarse], y[coarse], prior[0], prior[1] + prior[0] * x0 - y0, limits)
    fit = refine(x[coarse], y[coarse], w[coarse], start, noise_ratio)
    if fit is None:
        return _held(prior, n, FitVerdict.UNRELATED)
    share = _share(x[coarse], y[coarse], fit, spread_y)
    ends = (
        (cur_range[0] - x0, cur_range[1] - x0),
        (ref_range[0] - y0, ref_range[1] - y0),
    )
    inside = _inside(x, y, fit, noise_ratio, *ends)
    enough = np.count_nonzero(inside) >= limits.min_pixels
    if enough and robust_spread(x[inside][coarse]) > 0.5 * spread_x:
        x, y, w = x[inside], y[inside], w[inside]
    # sigma stays that of all pixels: among those left, more than half may be wrong
    fit = polish(x, y, w, fit, noise_ratio) or fit
    scale, shift, sigma = fit
    sigma = max(sigma, RESOLUTION * spread_y)
    residual = y - scale * x - shift
    explained = 1.0 - min(1.0, (sigma / spread_y) ** 2)
    weight = w * tukey(residual, sigma)
    if not weight.sum() > 0.0:  # nearly noiseless pixels, and none of those left agrees
        return _held(prior, n, FitVerdict.OUTLIERS)
    covariance = affine_covariance(x, weight, sigma, x0)
    verdict = _judge(scale, covariance, share, explained, prior, limits)
    if verdict in (FitVerdict.OUTLIERS, FitVerdict.INVERTED, FitVerdict.UNRELATED):
        held = _held(prior, n, verdict)
        return AffineFit(
            held.scale, held.shift, held.covariance, share, n, sigma, explained, verdict
        )
    if verdict is FitVerdict.FLAT:
        return _level(prior, x, y, x0, y0)
    if verdict is FitVerdict.CLIPPED:
        scale = float(np.clip(scale, limits.scale_low * prior[0], limits.scale_high * prior[0]))
        shift = location(y - scale * x, w)
    return AffineFit(
        scale, shift + y0 - scale * x0, covariance, share, n, sigma, explained, verdict
    )


def fit_dvd(
    cur: np.ndarray, ref: np.ndarray, low: float = 0.7, high: float = 1.5
) -> tuple[float, float]:
    """(scale, shift) of the DVD reference: least squares over all pixels, scale clipped last.

    As there, the shift is not solved anew after the clip and a constant ``cur`` gives (1, 0);
    unlike there, the sums are centred and in float64.
    """
    x, y = cur.astype(np.float64).ravel(), ref.astype(np.float64).ravel()
    mean_x, mean_y = x.mean(), y.mean()
    variance = float(np.mean((x - mean_x) ** 2))
    if variance <= 1e-24 * (1.0 + mean_x**2):  # constant, but for rounding
        return 1.0, 0.0
    scale = float(np.mean((x - mean_x) * (y - mean_y))) / variance
    return float(np.clip(scale, low, high)), float(mean_y - scale * mean_x)


def _share(x: np.ndarray, y: np.ndarray, fit: tuple[float, float, float], spread: float) -> float:
    """Share of the pixels within three sigmas of the fit."""
    residual = np.abs(y - fit[0] * x - fit[1])
    return float(np.mean(residual <= 3.0 * max(fit[2], RESOLUTION * spread)))


def _inside(
    x: np.ndarray,
    y: np.ndarray,
    fit: tuple[float, float, float],
    ratio: float,
    cur_range: tuple[float, float],
    ref_range: tuple[float, float],
) -> np.ndarray:
    """Pixels whose true value is three sigmas off the ends of both ranges: bool [n].

    The best guess of a true value weighs both versions by their noise; its error is then
    uncorrelated with the residual, so choosing by it does not bias the fit.
    """
    scale, shift, sigma = fit
    if scale <= 0.0:
        return np.ones(x.size, dtype=bool)
    guess = (ratio * (scale * x + shift) + y) / (1.0 + ratio)
    low = max(ref_range[0], scale * cur_range[0] + shift) + 3.0 * sigma
    high = min(ref_range[1], scale * cur_range[1] + shift) - 3.0 * sigma
    return (guess >= low) & (guess <= high)


def _judge(
    scale: float,
    covariance: np.ndarray,
    share: float,
    explained: float,
    prior: tuple[float, float],
    limits: FitLimits,
) -> FitVerdict:
    if explained < limits.min_explained:
        return FitVerdict.UNRELATED
    if scale <= 0.0:
        return FitVerdict.INVERTED
    if share < limits.min_inliers:
        return FitVerdict.OUTLIERS
    if math.sqrt(covariance[0, 0]) > limits.max_scale_sigma * scale:
        return FitVerdict.FLAT
    if not limits.scale_low <= scale / prior[0] <= limits.scale_high:
        return FitVerdict.CLIPPED
    return FitVerdict.ACCEPTED


def _level(
    prior: tuple[float, float], x: np.ndarray, y: np.ndarray, x0: float, y0: float
) -> AffineFit:
    """Scale held at the prior, shift from the level of the pixels."""
    scale = prior[0]
    rest = y - scale * x
    level = location(rest, np.ones(rest.size))
    sigma = robust_sigma(rest - level)
    # only scale * x0 + shift is known
    wide = 1.0
    covariance = wide * np.array([[1.0, -x0], [-x0, x0 * x0 + sigma**2 / rest.size]])
    share = float(np.mean(np.abs(rest - level) <= 3.0 * max(sigma, 1e-12)))
    return AffineFit(
        scale, level + y0 - scale * x0, covariance, share, rest.size, sigma, 0.0, FitVerdict.FLAT
    )


def _held(prior: tuple[float, float], n: int, verdict: FitVerdict) -> AffineFit:
    return AffineFit(prior[0], prior[1], np.eye(2), 0.0, n, 0.0, 0.0, verdict)
