# SPDX-License-Identifier: Apache-2.0
"""Errors of depth maps against truth, per frame, and their mean over a video.

The measures are those of Eigen, Puhrsch and Fergus, "Depth Map Prediction from a Single Image
using a Multi-Scale Deep Network" (NeurIPS 2014), with z the truth and p the prediction in metres:

    abs_rel  = mean |p - z| / z             sq_rel   = mean (p - z)^2 / z
    rmse     = sqrt(mean (p - z)^2)         rmse_log = sqrt(mean (ln p - ln z)^2)
    log10    = mean |log10 p - log10 z|     deltaN   = share of max(p/z, z/p) < 1.25^N

A frame's value is over its valid pixels, a video's value the mean over its frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import cv2
import numpy as np

from video_depth_ros.errors import ConfigError, InputError

# Smaller is better for errors, larger for these.
SHARES = ("delta1", "delta2", "delta3", "coverage", "boundary_precision", "boundary_recall")
HIGHER_IS_BETTER = frozenset((*SHARES, "boundary_f1"))


@dataclass(frozen=True)
class DepthRange:
    """Depths that count as truth and to which predictions are clipped [m]."""

    low: float = 1e-3
    high: float = 80.0

    def __post_init__(self) -> None:
        """Refuse what is no range of depths.

        Raises:
            ConfigError: not 0 < low < high.
        """
        if not 0.0 < self.low < self.high:
            raise ConfigError(
                f"depth range [m]: expected 0 < low < high, got {self.low:g} to {self.high:g}"
            )

    def valid(self, truth: np.ndarray) -> np.ndarray:
        """bool [H, W]: truth is finite and within the range (NaN and 0 are "unknown")."""
        with np.errstate(invalid="ignore"):
            return np.isfinite(truth) & (truth > self.low) & (truth < self.high)


def depth_errors(predicted: np.ndarray, truth: np.ndarray, valid: np.ndarray) -> dict[str, float]:
    """The eight measures over the valid pixels of one frame; empty when there are none.

    Args:
        predicted, truth: float [H, W] in metres, positive where ``valid``.
        valid: bool [H, W].

    Raises:
        InputError: ``size`` when the shapes differ, ``depth`` when a valid pixel is not positive
            and finite.
    """
    require_same_shape(predicted, truth, valid)
    p = predicted[valid].astype(np.float64)
    z = truth[valid].astype(np.float64)
    if not len(z):
        return {}
    if not (np.isfinite(p).all() and (p > 0).all() and (z > 0).all()):
        raise InputError(
            "depth",
            "expected positive finite depth in every valid pixel; leave unknown pixels (NaN) out "
            "of the mask and clip predictions to the depth range",
        )
    error = p - z
    log_error = np.log(p) - np.log(z)
    ratio = np.exp(np.abs(log_error))
    return {
        "abs_rel": float(np.mean(np.abs(error) / z)),
        "sq_rel": float(np.mean(error**2 / z)),
        "rmse": float(np.sqrt(np.mean(error**2))),
        "rmse_log": float(np.sqrt(np.mean(log_error**2))),
        "log10": float(np.mean(np.abs(log_error)) / np.log(10.0)),
        "delta1": float(np.mean(ratio < 1.25)),
        "delta2": float(np.mean(ratio < 1.25**2)),
        "delta3": float(np.mean(ratio < 1.25**3)),
    }


@dataclass
class MeanOfFrames:
    """Running mean of named values over frames, each name over the frames that have it."""

    _sums: dict[str, float] = field(default_factory=dict)
    _counts: dict[str, int] = field(default_factory=dict)

    def add(self, values: Mapping[str, float]) -> None:
        """Take one frame's values; NaN means "not defined for this frame"."""
        for name, value in values.items():
            if not np.isnan(value):
                self._sums[name] = self._sums.get(name, 0.0) + value
                self._counts[name] = self._counts.get(name, 0) + 1

    def mean(self) -> dict[str, float]:
        """The mean of every name that occurred, in order of first occurrence."""
        return {name: self._sums[name] / self._counts[name] for name in self._sums}


def mean_of_videos(videos: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Mean over videos, each counting the same however long it is."""
    total = MeanOfFrames()
    for video in videos:
        total.add(video)
    return total.mean()


def resize_to(values: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Bilinear resampling of a map [h, w] to ``shape`` with pixel areas aligned (DVD's way back
    to the image's size); NaN spreads to the pixels it touches."""
    if values.shape == shape:
        return values
    return cv2.resize(values, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)


def require_same_shape(*arrays: np.ndarray) -> None:
    """Raise InputError ``size`` unless all arrays have one shape."""
    shapes = {array.shape for array in arrays}
    if len(shapes) > 1:
        raise InputError(
            "size",
            f"expected maps of one size, got {' and '.join(map(str, sorted(shapes)))}; resize the "
            "prediction to the truth first",
        )
