# SPDX-License-Identifier: Apache-2.0
"""Affine fits ref = scale * cur + shift between two versions of the same pixels.

``fit_affine`` is the robust one: the start is the best of two-point hypotheses by the median
residual (a least-squares start breaks at 20 % structured outliers), refined by iteratively
re-weighted regression with Tukey's biweight. The slope is the symmetric one: both sides are noisy,
and the ordinary least-squares slope is too small by the share of noise in the variance of ``cur``.
A chain of windows would shrink by that share at every link.

``fit_dvd`` is the formula of the DVD reference (arXiv 2603.12250, its inference script).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

import numpy as np

_TUKEY = 4.685  # 95 % efficiency on Gaussian noise
_HYPOTHESES = 64
_SCORED = 512  # pixels on which hypotheses are scored
_QUANTILE = 0.35  # of |residual|; lower than the median: up to half of all pixels may be wrong
_NORMAL_QUANTILE = 0.45376  # |N(0, 1)| at that quantile
_ITERATIONS = 10


class FitVerdict(Enum):
    """What came of aligning a window."""

    START = "start"  # nothing to align to: first window of a segment
    ACCEPTED = "accepted"
    CLIPPED = "clipped"  # scale was out of range and clipped, shift solved for the clipped scale
    FLAT = "flat"  # the view has no relief: scale held, shift from the level
    TOO_FEW = "too_few"  # not enough usable pixels: held
    OUTLIERS = "outliers"  # too few pixels agree: held
    INVERTED = "inverted"  # near and far exchanged: a new segment starts
    UNRELATED = "unrelated"  # the windows do not show the same scene: a new segment starts
    SCENE_CUT = "scene_cut"  # two consecutive frames of the window differ: a new segment starts
    LOST = "lost"  # held for too long: a new segment starts


# The fit itself is good enough to be used.
USABLE = frozenset({FitVerdict.ACCEPTED, FitVerdict.CLIPPED})


@dataclass(frozen=True)
class AffineFit:
    """ref = scale * cur + shift.

    Attributes:
        scale, shift: the map.
        covariance: float64 [2, 2] of (scale, shift).
        inlier_share: share of the n pixels within three robust standard deviations.
        n: pixels used.
        residual: robust standard deviation of the residual, units of ref.
        explained: 1 - (residual / robust standard deviation of ref)^2, robust R^2.
        verdict: see :class:`FitVerdict`.
    """

    scale: float
    shift: float
    covariance: np.ndarray
    inlier_share: float
    n: int
    residual: float
    explained: float
    verdict: FitVerdict


@dataclass(frozen=True)
class FitLimits:
    """When a robust fit is believed; the meaning of each is in AlignmentConfig."""

    min_pixels: int = 64
    min_inliers: float = 0.35
    min_explained: float = 0.5
    flat_spread: float = 0.01
    max_scale_sigma: float = 0.05
    scale_low: float = 0.0
    scale_high: float = math.inf


def fit_affine(
    cur: np.ndarray,
    ref: np.ndarray,
    weights: np.ndarray | None = None,
    prior: tuple[float, float] = (1.0, 0.0),
    limits: FitLimits | None = None,
    noise_ratio: float = 1.0,
) -> AffineFit:
    """Robust fit of ref = scale * cur + shift.

    Args:
        cur, ref: float [n], two versions of the same pixels, finite.
        weights: float [n] >= 0, or None for equal ones.
        prior: the expected (scale, shift): one more hypothesis, preferred among equally good ones,
            and what a held fit returns.
        limits: when the fit is believed.
        noise_ratio: variance of the noise in ref over that in scale * cur; 1: both alike.

    Returns:
        The fit; its verdict is one of ACCEPTED, CLIPPED, FLAT, TOO_FEW, OUTLIERS, INVERTED,
        UNRELATED. With the last four, scale and shift are the prior's.
    """
    limits = limits or FitLimits()
    n = int(cur.size)
    if n < limits.min_pixels:
        return _held(prior, n, FitVerdict.TOO_FEW)
    # A canonical order: hypotheses are drawn by rank, so the order of the pixels does not matter.
    order = np.lexsort((ref, cur))
    x, y = cur[order].astype(np.float64), ref[order].astype(np.float64)
    w = np.ones(n) if weights is None else weights[order].astype(np.float64)
    x0, y0 = float(np.median(x)), float(np.median(y))
    x, y = x - x0, y - y0
    spread_x, spread_y = _spread(x), _spread(y)
    if spread_x < max(limits.flat_spread, 1e-12) or spread_y < 1e-12:
        return _level(prior, x, y, x0, y0)
    start = _start(x, y, prior[0], prior[1] + prior[0] * x0 - y0)
    fit = _refine(x, y, w, start, noise_ratio)
    if fit is None:
        return _held(prior, n, FitVerdict.UNRELATED)
    scale, shift, sigma, weight = fit
    residual = np.abs(y - scale * x - shift)
    share = float(np.mean(residual <= 3.0 * max(sigma, 1e-9 * spread_y)))
    explained = 1.0 - min(1.0, (sigma / spread_y) ** 2)
    covariance = _covariance(x, weight, sigma, x0)
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
        shift = _location(y - scale * x, w)
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
    if variance == 0.0:
        return 1.0, 0.0
    scale = float(np.mean((x - mean_x) * (y - mean_y))) / variance
    return float(np.clip(scale, low, high)), float(mean_y - scale * mean_x)


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
    if share < limits.min_inliers:
        return FitVerdict.OUTLIERS
    if scale <= 0.0:
        return FitVerdict.INVERTED
    if math.sqrt(covariance[0, 0]) > limits.max_scale_sigma * scale:
        return FitVerdict.FLAT
    if not limits.scale_low <= scale / prior[0] <= limits.scale_high:
        return FitVerdict.CLIPPED
    return FitVerdict.ACCEPTED


def _start(x: np.ndarray, y: np.ndarray, scale: float, shift: float) -> tuple[float, float]:
    """The two-point hypothesis with the least median |residual| (LMedS, Rousseeuw 1984)."""
    rng = np.random.default_rng(0)  # deterministic; by rank of x, so of no pixel order
    n = x.size
    # one point from the lower, one from the upper third of x: the slope is well determined
    low = rng.integers(0, max(1, n // 3), _HYPOTHESES)
    high = rng.integers(n - max(1, n // 3), n, _HYPOTHESES)
    run = x[high] - x[low]
    good = run > 1e-12
    scales = (y[high] - y[low])[good] / run[good]
    shifts = y[low][good] - scales * x[low][good]
    scales = np.concatenate(([scale], scales))
    shifts = np.concatenate(([shift], shifts))
    step = max(1, n // _SCORED)
    residual = np.abs(y[None, ::step] - scales[:, None] * x[None, ::step] - shifts[:, None])
    middle = residual.shape[1] // 2
    score = np.partition(residual, middle, axis=1)[:, middle]
    best = int(np.argmin(score))
    # Structured outliers can make a wrong map look as good as the right one: where the expected
    # map explains the pixels about as well, it is taken.
    if score[0] <= 1.5 * score[best]:
        best = 0
    return float(scales[best]), float(shifts[best])


def _refine(
    x: np.ndarray, y: np.ndarray, w: np.ndarray, start: tuple[float, float], ratio: float
) -> tuple[float, float, float, np.ndarray] | None:
    """Tukey-weighted symmetric regression from ``start``: scale, shift, sigma, weights."""
    scale, shift = start
    floor = 1e-9 * _spread(y)
    weight = w
    for _ in range(_ITERATIONS):
        residual = y - scale * x - shift
        sigma = max(_sigma(residual), floor)
        weight = w * np.square(np.maximum(0.0, 1.0 - np.square(residual / (_TUKEY * sigma))))
        total = float(weight.sum())
        if total <= 0.0:
            return None
        mean_x, mean_y = float(weight @ x) / total, float(weight @ y) / total
        dx, dy = x - mean_x, y - mean_y
        xx, yy = float(weight @ (dx * dx)) / total, float(weight @ (dy * dy)) / total
        xy = float((weight * dx) @ dy) / total
        if xx <= 0.0 or xy == 0.0:
            return None
        previous = scale
        scale = _symmetric_slope(xx, yy, xy, ratio)
        shift = mean_y - scale * mean_x
        if abs(scale - previous) <= 1e-7 * abs(scale):
            break
    return scale, shift, _sigma(y - scale * x - shift), weight


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


def _covariance(x: np.ndarray, w: np.ndarray, sigma: float, x0: float) -> np.ndarray:
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


def _level(
    prior: tuple[float, float], x: np.ndarray, y: np.ndarray, x0: float, y0: float
) -> AffineFit:
    """Scale held at the prior, shift from the level of the pixels."""
    scale = prior[0]
    rest = y - scale * x
    level = _location(rest, np.ones(rest.size))
    sigma = _sigma(rest - level)
    # only scale * x0 + shift is known
    wide = 1.0
    covariance = wide * np.array([[1.0, -x0], [-x0, x0 * x0 + sigma**2 / rest.size]])
    share = float(np.mean(np.abs(rest - level) <= 3.0 * max(sigma, 1e-12)))
    return AffineFit(
        scale, level + y0 - scale * x0, covariance, share, rest.size, sigma, 0.0, FitVerdict.FLAT
    )


def _held(prior: tuple[float, float], n: int, verdict: FitVerdict) -> AffineFit:
    return AffineFit(prior[0], prior[1], np.eye(2), 0.0, n, 0.0, 0.0, verdict)


def _location(values: np.ndarray, w: np.ndarray) -> float:
    """Tukey-weighted mean from the median."""
    centre = float(np.median(values))
    for _ in range(3):
        sigma = max(_sigma(values - centre), 1e-12)
        weight = w * np.square(
            np.maximum(0.0, 1.0 - np.square((values - centre) / (_TUKEY * sigma)))
        )
        total = float(weight.sum())
        if total <= 0.0:
            break
        centre = float(weight @ values) / total
    return centre


def _sigma(residual: np.ndarray) -> float:
    """Robust standard deviation about zero."""
    k = min(residual.size - 1, int(_QUANTILE * residual.size))
    return float(np.partition(np.abs(residual), k)[k]) / _NORMAL_QUANTILE


def _spread(centred: np.ndarray) -> float:
    """Standard deviation about the median, 10-90 % range over that of a Gaussian.

    The range is used, not a middle quantile: a scene may be half one plane.
    """
    low, high = np.quantile(centred, (0.1, 0.9))
    return float(high - low) / 2.5631
