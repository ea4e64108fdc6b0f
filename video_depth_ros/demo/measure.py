# SPDX-License-Identifier: Apache-2.0
"""Accuracy and timing of a live run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from video_depth_ros.demo.matching import MatchedFrame, depth_at
from video_depth_ros.evaluation.affine import AffineFit, affine_depth, metric_frame
from video_depth_ros.evaluation.metrics import (
    DepthRange,
    MeanOfFrames,
    depth_errors,
    resize_to,
)

RANGE = DepthRange()


@dataclass
class Accuracy:
    """Two passes over the frames of a run: :meth:`fit` for all, then :meth:`measure` for all.

    ``abs_rel`` and ``delta1`` are of the published metric depth as it is; the ``_affine`` ones
    are of the disparity after one scale and shift for the whole run (DVD's protocol), which
    measures the shape alone. ``scale_error`` is the median over frames of
    median(depth / truth) - 1.
    """

    _fit: AffineFit = field(default_factory=AffineFit)
    _affine: MeanOfFrames = field(default_factory=MeanOfFrames)
    _metric: MeanOfFrames = field(default_factory=MeanOfFrames)
    _ratios: list[float] = field(default_factory=list)

    def fit(self, frame: MatchedFrame) -> None:
        """First pass."""
        if frame.truth is not None:
            disparity = resize_to(frame.disparity, frame.truth.shape)
            valid = RANGE.valid(frame.truth) & np.isfinite(disparity)
            self._fit.add(disparity, frame.truth, valid)

    def measure(self, frame: MatchedFrame) -> np.ndarray | None:
        """Second pass; returns |depth - truth| / truth [H, W] (NaN without truth), or None.

        The error shown is that of the metric depth, or of the aligned disparity while there is
        no metric scale.
        """
        if frame.truth is None or not self._fit.count:
            return None
        truth = frame.truth
        disparity = resize_to(frame.disparity, truth.shape)
        known = RANGE.valid(truth)
        shown = affine_depth(disparity, *self._fit.solve(), RANGE)
        self._affine.add(depth_errors(shown, truth, known & np.isfinite(disparity)))
        if frame.depth is not None:
            shown = depth_at(frame.depth, *truth.shape)
            self._metric.add(metric_frame(shown, truth, RANGE))
            both = known & np.isfinite(shown)
            if both.any():
                self._ratios.append(float(np.median(shown[both] / truth[both])))
        return np.where(known, np.abs(shown - truth) / np.where(known, truth, 1.0), np.nan)

    def result(self) -> dict[str, float | None]:
        """The summary's keys; None where there was no truth, or no metric depth."""
        metric, affine = self._metric.mean(), self._affine.mean()
        return {
            "abs_rel": metric.get("abs_rel"),
            "delta1": metric.get("delta1"),
            "abs_rel_affine": affine.get("abs_rel"),
            "delta1_affine": affine.get("delta1"),
            "scale_error": float(np.median(self._ratios)) - 1.0 if self._ratios else None,
        }


def timing(
    departures: Mapping[int, float], arrivals: Mapping[int, float]
) -> dict[str, float | None]:
    """Rate of the outputs and latency from sending an image to receiving its disparity.

    Args:
        departures, arrivals: header stamp [ns] -> monotonic time [s].
    """
    latency = [
        1e3 * (t - departures[stamp]) for stamp, t in arrivals.items() if stamp in departures
    ]
    times = sorted(arrivals.values())
    span = times[-1] - times[0] if len(times) > 1 else 0.0
    return {
        "fps": (len(times) - 1) / span if span > 0 else None,
        "latency_ms_p50": _percentile(latency, 50),
        "latency_ms_p95": _percentile(latency, 95),
    }


def _percentile(values: Iterable[float], share: float) -> float | None:
    listed = list(values)
    return float(np.percentile(listed, share)) if listed else None
