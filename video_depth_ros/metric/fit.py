# SPDX-License-Identifier: Apache-2.0
"""Robust fit of metric inverse depth to disparity, q = a d + b, over the anchors of one frame.

The start is the two-point hypothesis with the least median residual (LMedS, Rousseeuw 1984): a
least-squares start breaks at 20 % structured outliers. Tukey's biweight refines it. The result is
given about the anchors' centre, where level and slope are independent: with all anchors at one
depth the level is still a good measurement and the slope is none.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from video_depth_ros.metric.config import FitConfig
from video_depth_ros.metric.parts import PARTS
from video_depth_ros.metric.reasons import Verdict

_TUKEY = 4.685  # 95 % efficiency on Gaussian noise
_MAD = 1.4826  # standard deviation of a Gaussian over its median absolute deviation
_HYPOTHESES = 150
_SCORED = 300
_ITERATIONS = 10
_INLIER = 2.5
# parts of the view below which a small residual says nothing of the slope elsewhere: a network's
# errors are alike within a part
_NARROW = 1.25
# A map that explains less than this share of the measured relief is a line through outliers that
# all read one distance.
_MIN_RELIEF = 0.1
_SURE = 0.8  # share of inliers beyond which the rest are strays
# The expected map is taken when its score is within this factor of the best.
_PREFER_PRIOR = 1.5


@dataclass(frozen=True)
class ScaleFit:
    """q = level + slope * (d - centre), from one source in one frame.

    Attributes:
        verdict: ACCEPTED: level and slope; LEVEL_ONLY: level alone; otherwise nothing is known.
        slope, level, centre: the map; a = slope, b = level - slope * centre.
        sigma_level, sigma_slope: standard deviations, inflated; independent of each other.
        common: relative standard deviation common to level and slope.
        n: anchors given.
        inlier_share: share of them that agree.
        residual: median |relative residual of inverse depth|.
        roughness: relative standard deviation of the disparity's own errors: the residual less
            the sensor's noise; NaN where unknown.
        inliers: bool [n].
    """

    verdict: Verdict
    slope: float = math.nan
    level: float = math.nan
    centre: float = math.nan
    sigma_level: float = math.nan
    sigma_slope: float = math.nan
    common: float = 0.0
    n: int = 0
    inlier_share: float = 0.0
    residual: float = math.nan
    roughness: float = math.nan
    inliers: np.ndarray | None = None

    @property
    def shift(self) -> float:
        """b [1/m]."""
        return self.level - self.slope * self.centre


def fit_scale(
    disparity: np.ndarray,
    inverse_depth: np.ndarray,
    sigma: np.ndarray,
    config: FitConfig,
    prior: tuple[float, float] | None = None,
    common: float = 0.0,
    parts: float = PARTS,
) -> ScaleFit:
    """Fit the anchors of one frame.

    Args:
        disparity, inverse_depth, sigma: float [n], finite; sigma is that of the inverse depth.
        config: acceptance rules.
        prior: expected (a, b): one more hypothesis, preferred among about equally good ones, and
            the slope assumed where only the level can be seen.
        common: relative standard deviation common to all anchors.
        parts: of the view that the anchors speak for. A network's errors are alike within a
            part, so that however many anchors average out no better than over so many.

    Returns:
        The fit; see :class:`ScaleFit` for what each verdict leaves usable.
    """
    n = int(disparity.size)
    if n < (1 if prior is not None else config.min_points):
        return ScaleFit(Verdict.TOO_FEW, n=n)
    order = np.lexsort((inverse_depth, disparity))  # the order of the anchors must not matter
    d, q = disparity[order].astype(np.float64), inverse_depth[order].astype(np.float64)
    middle = float(np.median(d))
    d = d - middle
    spread_d, spread_q = _range(d, 0.05), _range(q, 0.05)
    typical_slope = spread_q / spread_d if spread_d > 0.0 else 0.0
    fixed = sigma[order] ** 2 + (config.disparity_error * typical_slope * spread_d) ** 2
    noise = np.sqrt(fixed + (config.relative_error * q) ** 2)
    sensor = float(np.median(sigma / np.abs(inverse_depth)))  # relative noise
    centred_prior = None if prior is None else (prior[0], prior[1] + prior[0] * middle)
    start = None
    if n >= config.min_points and spread_d > 0.0:
        start = _lmeds(d, q, noise, centred_prior)
    if start is None:
        if centred_prior is None:
            return ScaleFit(Verdict.OUTLIERS, n=n)
        return _level(d, q, noise, order, middle, centred_prior[0], config, common, parts, sensor)
    fit = _tukey(d, q, fixed, config.relative_error, start)
    if fit is None:
        return ScaleFit(Verdict.OUTLIERS, n=n)
    slope, shift, weight, scale, noise = fit
    residual = q - slope * d - shift
    inliers = np.abs(residual) <= _INLIER * max(scale, 1.0) * noise
    share = float(inliers.mean())
    relative = float(np.median(np.abs(residual) / np.abs(q)))
    if share < config.min_inliers:
        return ScaleFit(Verdict.OUTLIERS, n=n, inlier_share=share, residual=relative)
    if relative > config.max_residual:
        return ScaleFit(
            Verdict.UNRELATED, n=n, inlier_share=share, residual=relative,
            roughness=_roughness(relative, sensor),
        )  # fmt: skip
    total = float(weight.sum())
    centre = float(weight @ d) / total
    relief = float(weight @ np.square(d - centre))
    level = shift + slope * centre
    inflation = config.inflation * scale**2
    sigma_level = math.hypot(math.sqrt(inflation / total), config.floor * level)
    sigma_slope = math.hypot(math.sqrt(inflation / max(relief, 1e-30)), config.floor * slope)
    low, high = np.sort(slope * np.quantile(d[inliers], (0.05, 0.95)) + shift)
    flat = low > 0.0 and high < config.min_spread * low
    if flat or parts < _NARROW or sigma_slope > config.max_slope_sigma * abs(slope):
        assumed = max(slope, 0.0) if centred_prior is None else centred_prior[0]
        return _level(d, q, noise, order, middle, assumed, config, common, parts, sensor)
    if slope <= 0.0:
        return ScaleFit(Verdict.INVERTED, n=n, inlier_share=share, residual=relative)
    back = np.empty(n, dtype=bool)
    back[order] = inliers
    # where hardly more than half agree, the other half may be right
    doubt = 1.0 / max(2.0 * share - 1.0, 0.05) if share < _SURE else 1.0
    alike = _MAD * relative / math.sqrt(parts)
    sigma_level = math.hypot(doubt * sigma_level, alike * level)
    sigma_slope = math.hypot(doubt * sigma_slope, alike * slope)
    return ScaleFit(
        Verdict.ACCEPTED, slope, level, centre + middle, sigma_level, sigma_slope, common,
        n, share, relative, _roughness(relative, sensor), back,
    )  # fmt: skip


def _roughness(residual: float, sensor: float) -> float:
    """What of a median relative residual is not the sensor's noise, as a standard deviation."""
    return math.sqrt(max((_MAD * residual) ** 2 - sensor**2, 0.0))


def _lmeds(
    d: np.ndarray, q: np.ndarray, noise: np.ndarray, prior: tuple[float, float] | None
) -> tuple[float, float] | None:
    """Best of random two-point maps by the median normalised residual; d is sorted."""
    rng = np.random.default_rng(0)
    n = d.size
    first, second = rng.integers(0, n, (2, 2 * _HYPOTHESES))
    run, rise = d[second] - d[first], q[second] - q[first]
    far = np.abs(run) > 0.1 * _range(d, 0.05)
    slopes = rise[far] / run[far]
    shifts = q[first][far] - slopes * d[first][far]
    relief = _range(q, 0.15)
    rising = slopes * _range(d, 0.15) >= _MIN_RELIEF * relief
    if not rising.any():  # inverted: let the fit say so
        rising = np.ones(slopes.size, dtype=bool)
    slopes, shifts = slopes[rising][:_HYPOTHESES], shifts[rising][:_HYPOTHESES]
    if prior is not None:
        slopes, shifts = np.append(slopes, prior[0]), np.append(shifts, prior[1])
    if not slopes.size:
        return None
    pick = slice(None, None, max(1, n // _SCORED))
    residual = np.abs(q[None, pick] - slopes[:, None] * d[None, pick] - shifts[:, None])
    residual /= noise[None, pick]
    middle = residual.shape[1] // 2
    score = np.partition(residual, middle, axis=1)[:, middle]
    best = int(np.argmin(score))
    if prior is not None and score[-1] <= _PREFER_PRIOR * score[best]:
        best = slopes.size - 1
    return float(slopes[best]), float(shifts[best])


def _tukey(
    d: np.ndarray, q: np.ndarray, fixed: np.ndarray, relative: float, start: tuple[float, float]
) -> tuple[float, float, np.ndarray, float, np.ndarray] | None:
    """Iteratively re-weighted least squares: slope, shift, weights [m^2], noise's scale, noise.

    The weight's relative noise follows the fitted value: by the measured one, an outlier that
    reads too far would pass for a precise measurement. Whether a residual is an outlier is judged
    by the smaller of the two, or a wrong far reading would hide in the noise of a near one.
    """
    slope, shift = start
    weight, scale, noise = np.zeros_like(d), 1.0, np.ones_like(d)
    for _ in range(_ITERATIONS):
        fitted = slope * d + shift
        positive = np.maximum(fitted, 0.0)
        noise = np.sqrt(fixed + np.square(relative * np.minimum(positive, q)))
        normal = (q - fitted) / noise
        scale = max(_MAD * float(np.median(np.abs(normal))), 1e-6)
        weight = np.maximum(0.0, 1.0 - np.square(normal / (_TUKEY * scale)))
        weight = np.square(weight) / (fixed + np.square(relative * positive))
        total = float(weight.sum())
        if total <= 0.0:
            return None
        mean_d, mean_q = float(weight @ d) / total, float(weight @ q) / total
        relief = float(weight @ np.square(d - mean_d))
        if relief <= 0.0:
            return None
        previous = slope
        slope = float((weight * (d - mean_d)) @ (q - mean_q)) / relief
        shift = mean_q - slope * mean_d
        if abs(slope - previous) <= 1e-4 * abs(slope):
            break
    return slope, shift, weight, scale, noise


def _level(
    d: np.ndarray,
    q: np.ndarray,
    noise: np.ndarray,
    order: np.ndarray,
    middle: float,
    slope: float,
    config: FitConfig,
    common: float,
    parts: float,
    sensor: float,
) -> ScaleFit:
    """The level at the anchors' median disparity, for an assumed slope."""
    rest = q - slope * d
    level = float(np.median(rest))
    scale = max(_MAD * float(np.median(np.abs(rest - level) / noise)), 1.0)
    inliers = np.abs(rest - level) <= _INLIER * scale * noise
    share = float(inliers.mean())
    weight = inliers / noise**2
    total = float(weight.sum())
    if total <= 0.0 or share < config.min_inliers:
        return ScaleFit(Verdict.OUTLIERS, n=d.size, inlier_share=share)
    level = float(weight @ rest) / total
    centre = float(weight @ d) / total
    level += slope * centre
    residual = float(np.median(np.abs(rest - level + slope * centre) / np.abs(q)))
    sigma = math.hypot(
        scale * math.sqrt(config.inflation / total),
        max(config.floor, config.relative_error, _MAD * residual / math.sqrt(parts)) * level,
    )
    back = np.empty(d.size, dtype=bool)
    back[order] = inliers
    if residual > config.max_residual:
        return ScaleFit(Verdict.UNRELATED, n=d.size, inlier_share=share, residual=residual)
    return ScaleFit(
        Verdict.LEVEL_ONLY, slope, level, centre + middle, sigma, math.inf, common,
        d.size, share, residual, _roughness(residual, sensor), back,
    )  # fmt: skip


def _range(values: np.ndarray, tail: float) -> float:
    low, high = np.quantile(values, (tail, 1.0 - tail))
    return float(high - low)
