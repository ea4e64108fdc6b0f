# SPDX-License-Identifier: Apache-2.0
"""The affine-invariant protocol of DVD and the metric one, frame by frame.

Affine-invariant: one scale s and shift t per video, by least squares in disparity over all valid
pixels of all frames, min sum (s d + t - 1/z)^2; the aligned disparity is clipped from below at
1e-3, inverted, and clipped to the data set's depth range; errors per frame, then averaged. (DVD,
and before it Depth Anything and Video Depth Anything.) DVD leaves pixels with d <= 0 out of the
fit; here every finite prediction counts, because a running disparity has no distinguished zero:
what is measured then does not change when the prediction is scaled or shifted.

Metric: nothing is aligned; metres against metres.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from video_depth_ros.errors import InputError
from video_depth_ros.evaluation.metrics import (
    DepthRange,
    MeanOfFrames,
    depth_errors,
    require_same_shape,
    resize_to,
)

MIN_DISPARITY = 1e-3  # [1/m] before inversion


@dataclass
class AffineFit:
    """Least squares of truth disparity on predicted disparity, in one pass and constant memory.

    Keeps means and centred sums (Chan, Golub, LeVeque 1979), so that large offsets of the
    prediction cost no precision.
    """

    count: int = 0
    _mean_x: float = 0.0
    _mean_y: float = 0.0
    _sxx: float = 0.0
    _sxy: float = 0.0

    def add(self, disparity: np.ndarray, truth: np.ndarray, valid: np.ndarray) -> None:
        """Take the valid pixels of one frame.

        Args:
            disparity: float [H, W], predicted, any affine frame.
            truth: float [H, W], depth in metres.
            valid: bool [H, W].
        """
        require_same_shape(disparity, truth, valid)
        x = disparity[valid].astype(np.float64)
        y = 1.0 / truth[valid].astype(np.float64)
        if not len(x):
            return
        mean_x, mean_y = x.mean(), y.mean()
        dx = x - mean_x
        self._merge(len(x), mean_x, mean_y, float(dx @ dx), float(dx @ (y - mean_y)))

    def _merge(self, n: int, mean_x: float, mean_y: float, sxx: float, sxy: float) -> None:
        total = self.count + n
        step_x, step_y = mean_x - self._mean_x, mean_y - self._mean_y
        weight = self.count * n / total
        self._sxx += sxx + weight * step_x * step_x
        self._sxy += sxy + weight * step_x * step_y
        self._mean_x += step_x * n / total
        self._mean_y += step_y * n / total
        self.count = total

    def solve(self) -> tuple[float, float]:
        """(scale, shift) with 1/z = scale * d + shift.

        A constant prediction has no scale: the answer is scale 0 and the mean disparity.

        Raises:
            InputError: ``truth`` when no valid pixel was given.
        """
        if not self.count:
            raise InputError(
                "truth",
                "no pixel has both a prediction and a true depth within the protocol's range; "
                "check the unit of the depth and --protocol",
            )
        # below this the spread is rounding of the mean, not signal
        noise = self.count * (1e-7 * abs(self._mean_x)) ** 2
        scale = self._sxy / self._sxx if self._sxx > noise else 0.0
        return float(scale), float(self._mean_y - scale * self._mean_x)


def affine_depth(
    disparity: np.ndarray, scale: float, shift: float, depth_range: DepthRange
) -> np.ndarray:
    """Depth in metres of an aligned disparity map, clipped as the protocol says; NaN stays."""
    aligned = np.maximum(scale * disparity.astype(np.float64) + shift, MIN_DISPARITY)
    return np.clip(1.0 / aligned, depth_range.low, depth_range.high)


def affine_metrics(
    disparities: Iterable[np.ndarray],
    truths: Iterable[np.ndarray | None],
    depth_range: DepthRange | None = None,
) -> dict[str, float]:
    """The affine-invariant protocol on stored maps of one video.

    Args:
        disparities: float [h, w] each, near = large, one affine frame for all; NaN unknown.
        truths: float [H, W] each, metres, NaN or 0 unknown; None for a frame without truth.
        depth_range: truth outside does not count; default 1e-3 to 80 m.

    Returns:
        The eight measures, and ``scale`` and ``shift`` of the fit.

    Raises:
        InputError: ``truth`` when nothing can be compared, ``size`` for lists of unequal length.
    """
    depth_range = depth_range or DepthRange()
    pairs = _pairs(disparities, truths)
    fit = AffineFit()
    masks = []
    for disparity, truth in pairs:
        masks.append(depth_range.valid(truth) & np.isfinite(disparity))
        fit.add(disparity, truth, masks[-1])
    scale, shift = fit.solve()
    mean = MeanOfFrames()
    for (disparity, truth), valid in zip(pairs, masks, strict=True):
        mean.add(depth_errors(affine_depth(disparity, scale, shift, depth_range), truth, valid))
    return {**mean.mean(), "scale": scale, "shift": shift}


def metric_frame(
    depth: np.ndarray, truth: np.ndarray, depth_range: DepthRange
) -> dict[str, float]:
    """The eight measures of one frame of metric depth, and ``coverage``: the share of pixels with
    truth that have an estimate at all (errors are over these). Empty when there is no truth."""
    known = depth_range.valid(truth)
    if not known.any():
        return {}
    valid = known & np.isfinite(depth)
    clipped = np.clip(depth, depth_range.low, depth_range.high)
    return {
        **depth_errors(clipped, truth, valid),
        "coverage": float(valid.sum() / known.sum()),
    }


def metric_metrics(
    depths: Iterable[np.ndarray],
    truths: Iterable[np.ndarray | None],
    depth_range: DepthRange | None = None,
) -> dict[str, float]:
    """The metric protocol (no alignment) on stored maps of one video.

    Args and raises as :func:`affine_metrics`, with depths in metres, NaN unknown.
    """
    depth_range = depth_range or DepthRange()
    mean = MeanOfFrames()
    for depth, truth in _pairs(depths, truths):
        mean.add(metric_frame(depth, truth, depth_range))
    result = mean.mean()
    if "abs_rel" not in result:
        raise InputError(
            "truth", "no pixel has both a metric estimate and a true depth within the range"
        )
    return result


def _pairs(
    predictions: Iterable[np.ndarray], truths: Iterable[np.ndarray | None]
) -> list[tuple[np.ndarray, np.ndarray]]:
    predicted, known = list(predictions), list(truths)
    if len(predicted) != len(known):
        raise InputError(
            "size",
            f"expected one truth (or None) per prediction, got {len(predicted)} predictions and "
            f"{len(known)} truths",
        )
    return [
        (resize_to(np.asarray(p), (t.shape[0], t.shape[1])), t)
        for p, t in zip(predicted, known, strict=True)
        if t is not None
    ]
