# SPDX-License-Identifier: Apache-2.0
"""Affine fits ref = scale * cur + shift between two versions of the same pixels.

``fit_affine`` is the robust one: the start is the best of two-point hypotheses by a truncated
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

from video_depth_ros.alignment.config import AlignmentConfig

_TUKEY = 4.685  # 95 % efficiency on Gaussian noise
_RESOLUTION = 1e-6  # noise of float32, relative to the spread
_COARSE = 2048  # most pixels used to start and to estimate the noise
_POLISH = 4  # steps on all pixels
_HYPOTHESES = 96
_CANDIDATES = 8  # hypotheses that are refined before they are compared
_SCORED = 512  # pixels on which hypotheses are scored
_QUANTILE = 0.35  # of |residual|; lower than the median: up to half of all pixels may be wrong
_NORMAL_QUANTILE = 0.45376  # |N(0, 1)| at that quantile
_ITERATIONS = 7


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

    @classmethod
    def of(cls, config: AlignmentConfig) -> FitLimits:
        """The limits of any two windows; the range of the scale is only for neighbours."""
        return cls(
            min_pixels=config.min_pixels,
            min_inliers=config.min_inliers,
            min_explained=config.min_explained,
            flat_spread=config.flat_spread,
            max_scale_sigma=config.max_scale_sigma,
        )


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
    spread_x, spread_y = _spread(x[coarse]), _spread(y[coarse])
    if spread_x < max(limits.flat_spread, 1e-12) or spread_y < 1e-12:
        return _level(prior, x[coarse], y[coarse], x0, y0)
    start = _start(x[coarse], y[coarse], prior[0], prior[1] + prior[0] * x0 - y0, limits)
    fit = _refine(x[coarse], y[coarse], w[coarse], start, noise_ratio)
    if fit is None:
        return _held(prior, n, FitVerdict.UNRELATED)
    share = _share(x[coarse], y[coarse], fit, spread_y)
    ends = (
        (cur_range[0] - x0, cur_range[1] - x0),
        (ref_range[0] - y0, ref_range[1] - y0),
    )
    inside = _inside(x, y, fit, noise_ratio, *ends)
    enough = np.count_nonzero(inside) >= limits.min_pixels
    if enough and _spread(x[inside][coarse]) > 0.5 * spread_x:
        x, y, w = x[inside], y[inside], w[inside]
    # sigma stays that of all pixels: among those left, more than half may be wrong
    fit = _polish(x, y, w, fit, noise_ratio) or fit
    scale, shift, sigma = fit
    sigma = max(sigma, _RESOLUTION * spread_y)
    residual = y - scale * x - shift
    explained = 1.0 - min(1.0, (sigma / spread_y) ** 2)
    covariance = _covariance(x, w * _tukey(residual, sigma), sigma, x0)
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
    if variance <= 1e-24 * (1.0 + mean_x**2):  # constant, but for rounding
        return 1.0, 0.0
    scale = float(np.mean((x - mean_x) * (y - mean_y))) / variance
    return float(np.clip(scale, low, high)), float(mean_y - scale * mean_x)


def _share(x: np.ndarray, y: np.ndarray, fit: tuple[float, float, float], spread: float) -> float:
    """Share of the pixels within three sigmas of the fit."""
    residual = np.abs(y - fit[0] * x - fit[1])
    return float(np.mean(residual <= 3.0 * max(fit[2], _RESOLUTION * spread)))


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


def _start(
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
    k = int(_QUANTILE * residual.shape[1])
    sigma = float(np.partition(residual, k, axis=1)[:, k].min()) / _NORMAL_QUANTILE
    sigma = max(sigma, _RESOLUTION * _spread(y))
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
        weight = _tukey(y[None] - scales[:, None] * x[None] - shifts[:, None], width * sigma)
        total = weight.sum(axis=1) + 1e-12
        mean_x, mean_y = weight @ x / total, weight @ y / total
        xx = weight @ (x * x) / total - mean_x**2
        yy = weight @ (y * y) / total - mean_y**2
        good = (xx > 1e-12) & (yy > 0.0)
        # both sides are about equally noisy, and no window is inverted
        scales = np.where(good, np.sqrt(np.where(good, yy / np.maximum(xx, 1e-300), 1.0)), scales)
        shifts = np.where(good, mean_y - scales * mean_x, shifts)
    return scales, shifts


def _refine(
    x: np.ndarray, y: np.ndarray, w: np.ndarray, start: tuple[float, float], ratio: float
) -> tuple[float, float, float] | None:
    """Tukey-weighted symmetric regression from ``start``: scale, shift, sigma."""
    scale, shift = start
    floor = _RESOLUTION * _spread(y)
    for _ in range(_ITERATIONS):
        sigma = max(_sigma(y - scale * x - shift), floor)
        new = _step(x, y, w, (scale, shift, sigma), ratio)
        if new is None:
            return None
        moved = abs(new[0] - scale)
        scale, shift = new
        if moved <= 1e-6 * abs(scale):
            break
    return scale, shift, _sigma(y - scale * x - shift)


def _polish(
    x: np.ndarray, y: np.ndarray, w: np.ndarray, fit: tuple[float, float, float], ratio: float
) -> tuple[float, float, float] | None:
    """A few more steps on all pixels, with the noise known from the coarse fit."""
    sigma = max(fit[2], _RESOLUTION * _spread(y[:: max(1, y.size // _COARSE)]))
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
    weight = w * _tukey(y - fit[0] * x - fit[1], fit[2])
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


def _tukey(residual: np.ndarray, sigma: float) -> np.ndarray:
    """Tukey's biweight."""
    rest = 1.0 - np.square(residual / (_TUKEY * sigma))
    return np.square(np.maximum(rest, 0.0))


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
        weight = w * _tukey(values - centre, sigma)
        total = float(weight.sum())
        if total <= 0.0:
            break
        centre = float(weight @ values) / total
    return centre


def _sigma(residual: np.ndarray) -> float:
    """Robust standard deviation about zero.

    A low quantile of all residuals, which half of them being wrong inflates up to twofold, then
    the median of those within three times that.
    """
    size = np.abs(residual)
    k = min(size.size - 1, int(_QUANTILE * size.size))
    first = float(np.partition(size, k)[k]) / _NORMAL_QUANTILE
    inside = size[size <= 3.0 * first]
    middle = inside.size // 2
    return 1.4826 * float(np.partition(inside, middle)[middle]) if inside.size else first


def _spread(centred: np.ndarray) -> float:
    """Standard deviation about the median, 10-90 % range over that of a Gaussian.

    The range is used, not a middle quantile: a scene may be half one plane.
    """
    low, high = int(0.1 * (centred.size - 1)), int(0.9 * (centred.size - 1))
    ordered = np.partition(centred, (low, high))
    return float(ordered[high] - ordered[low]) / 2.5631
