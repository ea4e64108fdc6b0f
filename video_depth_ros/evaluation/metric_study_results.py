# SPDX-License-Identifier: Apache-2.0
"""What one source of scale made of one drive, judged against the drive's true depth.

The scale is judged against the best affine map that the truth allows. In every metric frame
``1/Z = a* d + b*`` is fitted to the frame's truth, least sum of ``|log((a* d + b*) Z)|``, which
leaves a median error of zero; the scale error is the median over the view of published depth over
best depth, minus one. What no affine map can repair, the network's own error, is thus not counted
as an error of scale; it is in AbsRel, beside which the best map's AbsRel stands.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from video_depth_ros.evaluation.metric_study_sigma import SigmaCurve
from video_depth_ros.frames import DepthEstimate

NEAREST, FARTHEST = 0.1, 80.0  # truth that counts [m]
_PIXELS = 6000  # of a frame's truth, at most
_FEWEST = 30  # pixels with truth, below which a frame is not judged
_FALSE, _SIGMAS = 0.1, 3.0  # a METRIC scale is false when it is off by more than both allow


@dataclass
class DriveResult:
    """What one source made of one drive; lists have one entry per METRIC frame with truth.

    Attributes:
        drive, source, local: which run.
        frames: depth estimates, metric or not; metric_frames: those that are.
        seconds: from the first image to the first METRIC one, NaN if there was none.
        errors: signed scale error.
        stated: stated relative standard deviation of the scale, at the view's median disparity.
        abs_rel, delta1: of published depth where it is known.
        bound: AbsRel of the best affine map at the same pixels.
        coverage: share of the truth that has depth.
        sigma: how often depth errors stay within their stated deviations.
        verdicts: the source's measurements by outcome.
    """

    drive: str
    source: str
    local: bool
    moved: float = math.nan
    excitation: float = math.nan
    frames: int = 0
    metric_frames: int = 0
    seconds: float = math.nan
    errors: list[float] = field(default_factory=list)
    stated: list[float] = field(default_factory=list)
    abs_rel: list[float] = field(default_factory=list)
    delta1: list[float] = field(default_factory=list)
    bound: list[float] = field(default_factory=list)
    coverage: list[float] = field(default_factory=list)
    sigma: SigmaCurve = field(default_factory=SigmaCurve)
    verdicts: dict[str, int] = field(default_factory=dict)

    @property
    def metric(self) -> bool:
        """Whether depth became metric at all."""
        return self.metric_frames > 0

    @property
    def error(self) -> float:
        """Median size of the scale error, NaN where never metric or never judged."""
        return float(np.median(np.abs(self.errors))) if self.errors else math.nan

    @property
    def false_frames(self) -> int:
        """METRIC frames whose scale is off by over 10 % and over three stated deviations."""
        pairs = zip(self.errors, self.stated, strict=True)
        return sum(abs(error) > max(_FALSE, _SIGMAS * stated) for error, stated in pairs)

    def row(self) -> dict[str, Any]:
        """Plain numbers for JSON."""
        return {
            "drive": self.drive,
            "source": self.source,
            "local": self.local,
            "moved": self.moved,
            "excitation": self.excitation,
            "frames": self.frames,
            "metric_frames": self.metric_frames,
            "seconds_to_metric": self.seconds,
            "scale_error": self.error,
            "stated_sigma": _mean(self.stated, np.median),
            "false_frames": self.false_frames,
            "abs_rel": _mean(self.abs_rel),
            "delta1": _mean(self.delta1),
            "bound_abs_rel": _mean(self.bound),
            "coverage": _mean(self.coverage),
            "within_1_sigma": self.sigma.share(1.0),
            "verdicts": self.verdicts,
        }


def best_affine(disparity: np.ndarray, inverse_depth: np.ndarray) -> tuple[float, float]:
    """(a, b) with the least sum of |log((a d + b) / q)|, by reweighted least squares.

    Args:
        disparity: float [N].
        inverse_depth: float [N] > 0, true q [1/m].

    Returns:
        a >= 0 and b, with a d + b > 0 nearly everywhere.
    """
    d, q = disparity.astype(np.float64), inverse_depth.astype(np.float64)
    a, b = 0.0, float(np.median(q))
    for _ in range(40):
        fitted = np.maximum(a * d + b, 1.0 / FARTHEST)
        residual = np.log(fitted / q)
        # linear in (a, b) about the fitted map: log changes by change / fitted
        target = fitted * (1.0 - np.clip(residual, -1.0, 1.0))
        weight = 1.0 / (fitted**2 * np.maximum(np.abs(residual), 1e-3))
        total = weight.sum()
        centre, level = (weight * d).sum() / total, (weight * target).sum() / total
        spread = (weight * (d - centre) ** 2).sum()
        slope = (weight * (d - centre) * (target - level)).sum() / max(float(spread), 1e-12)
        before, a = a, max(float(slope), 0.0)
        b = float(level - a * centre)
        if abs(a - before) <= 1e-5 * a:
            break
    return a, b


def judge(estimate: DepthEstimate, truth: np.ndarray, result: DriveResult) -> None:
    """Take one METRIC frame into the account; truth float [H, W] of any size, NaN unknown."""
    assert estimate.depth is not None and estimate.sigma is not None
    height, width = estimate.depth.shape
    rows, columns = np.nonzero((truth > NEAREST) & (truth < FARTHEST))
    step = max(1, rows.size // _PIXELS)
    rows, columns = rows[::step], columns[::step]
    z = truth[rows, columns].astype(np.float64)
    at_row = ((rows + 0.5) * height / truth.shape[0]).astype(np.intp)
    at_column = ((columns + 0.5) * width / truth.shape[1]).astype(np.intp)
    d, depth, sigma = (
        tensor.float().cpu().numpy()[at_row, at_column].astype(np.float64)
        for tensor in (estimate.disparity, estimate.depth, estimate.sigma)
    )
    seen = np.isfinite(d)
    if seen.sum() < _FEWEST:
        return
    scale = estimate.scale
    a, b = best_affine(d[seen], 1.0 / z[seen])
    ours, best = scale.a * d + scale.b, a * d + b
    both = seen & (ours > 1.0 / FARTHEST) & (best > 1.0 / FARTHEST)
    if not both.any():
        return
    result.errors.append(float(np.median(best[both] / ours[both])) - 1.0)
    middle = float(np.median(d[both]))
    C = scale.covariance
    variance = (C[0, 0] * middle + 2.0 * C[0, 1]) * middle + C[1, 1]
    result.stated.append(math.sqrt(max(float(variance), 0.0)) / abs(scale.a * middle + scale.b))
    known = np.isfinite(depth)
    result.coverage.append(float(known.mean()))
    if not known.any():
        return
    ratio = depth[known] / z[known]
    result.abs_rel.append(float(np.mean(np.abs(ratio - 1.0))))
    result.delta1.append(float(np.mean(np.maximum(ratio, 1.0 / ratio) < 1.25)))
    bounded = 1.0 / np.maximum(best[known], 1.0 / FARTHEST)
    result.bound.append(float(np.mean(np.abs(bounded / z[known] - 1.0))))
    result.sigma.add(np.abs(depth[known] - z[known]), sigma[known])


def _mean(values: list[float], function: Any = np.mean) -> float:
    return float(function(values)) if values else math.nan
