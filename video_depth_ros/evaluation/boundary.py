# SPDX-License-Identifier: Apache-2.0
"""Precision, recall and F1 of depth boundaries.

``BoundaryMeter`` is DVD's measure (``boundary_metrics`` in its metric.py). Predicted edge: the
depth of a 4-neighbour is more than 1.05 times this pixel's (the test of Depth Pro, ICLR 2025), and
of the neighbours along the row or column none has a larger ratio in the same direction.
Reference edge: the Sobel magnitude of the grey image, scaled to 0..1 per frame, above 0.15;
outside the image is black, so that a bright rim is an edge. Both count where the truth is valid.
An edge is matched when one of the other kind lies within one pixel, diagonals included; the counts
are those of the whole video. The reference has no notion of depth: texture counts as edge, so
recall has a low ceiling and the figure compares methods on the same videos.

``depth_boundary_f1`` is ours: against the truth's own edges, where truth is dense.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

RATIO = 1.05
SOBEL = 0.15
DENSE = 0.5  # share of known pixels from which truth has edges worth the name
_NEIGHBOURHOOD = np.ones((3, 3), np.uint8)
_GREY = np.array([0.299, 0.587, 0.114])
_TINY = 1e-6
_Marks = tuple[np.ndarray, np.ndarray]  # of each step, whether its left or its right pixel is one


@dataclass
class EdgeCounts:
    """Edges of two kinds, and how many of each lie within a pixel of the other kind."""

    predicted: int = 0
    predicted_matched: int = 0
    reference: int = 0
    reference_matched: int = 0

    def add(self, predicted: np.ndarray, reference: np.ndarray) -> None:
        """Take the edges of one frame, bool [H, W] each."""
        self.predicted += int(predicted.sum())
        self.predicted_matched += int(predicted[_grown(reference)].sum())
        self.reference += int(reference.sum())
        self.reference_matched += int(reference[_grown(predicted)].sum())

    def result(self) -> dict[str, float]:
        """``precision``, ``recall`` and ``f1``.

        No predicted edges: precision is not defined (NaN), F1 is 0. No reference edges: empty.
        """
        if not self.reference:
            return {}
        if not self.predicted:
            return {"precision": float("nan"), "recall": 0.0, "f1": 0.0}
        precision = self.predicted_matched / self.predicted
        recall = self.reference_matched / self.reference
        total = precision + recall
        f1 = 2.0 * precision * recall / total if total else 0.0
        return {"precision": precision, "recall": recall, "f1": f1}


class BoundaryMeter:
    """DVD's boundary measure over the frames of a video."""

    def __init__(self) -> None:
        self._counts = EdgeCounts()

    def add(self, predicted: np.ndarray, rgb: np.ndarray, valid: np.ndarray) -> None:
        """Take one frame.

        Args:
            predicted: depth [H, W] in metres; NaN makes no edge.
            rgb: uint8 [H, W, 3].
            valid: bool [H, W], where the truth counts.
        """
        self._counts.add(directed_edges(predicted) & valid, image_edges(rgb) & valid)

    def result(self) -> dict[str, float]:
        """``boundary_precision``, ``boundary_recall``, ``boundary_f1``, where they are defined."""
        found = self._counts.result()
        return {f"boundary_{name}": v for name, v in found.items() if not np.isnan(v)}


def depth_boundary_f1(predicted: np.ndarray, truth: np.ndarray) -> float | None:
    """F1 of the predicted edges against those of the truth, one frame.

    Args:
        predicted, truth: depth [H, W] in metres; truth NaN or 0 unknown.

    Returns:
        None where too little of the truth is known or it has no edge.
    """
    known = np.isfinite(truth) & (truth > 0)
    if known.mean() <= DENSE:
        return None
    judged = ~_grown(~known)  # edges next to unknown truth can be neither right nor wrong
    counts = EdgeCounts()
    counts.add(thin_edges(predicted) & judged, thin_edges(np.where(known, truth, np.nan)) & judged)
    return counts.result().get("f1")


def thin_edges(depth: np.ndarray) -> np.ndarray:
    """bool [H, W], edges of a depth map in metres, on the nearer side: of steps side by side only
    the largest, whatever their directions. NaN makes none."""
    return _edges(depth, _largest)


def directed_edges(depth: np.ndarray) -> np.ndarray:
    """The same by DVD's suppression: each direction by itself, of equal steps all."""
    return _edges(depth, _largest_in_direction)


def image_edges(rgb: np.ndarray) -> np.ndarray:
    """bool [H, W], edges of an image uint8 [H, W, 3]."""
    grey = rgb @ _GREY / 255.0
    dx, dy = (
        cv2.Sobel(grey, cv2.CV_64F, *axes, ksize=3, borderType=cv2.BORDER_CONSTANT)
        for axes in ((1, 0), (0, 1))
    )
    magnitude = np.sqrt(dx**2 + dy**2 + _TINY)
    least = magnitude.min()
    return np.asarray((magnitude - least) / (magnitude.max() - least + _TINY) > SOBEL)


def _edges(depth: np.ndarray, along_rows: Callable[[np.ndarray], _Marks]) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        log_depth = np.log(depth.astype(np.float64))
    edges = np.zeros(depth.shape, dtype=bool)
    for values, marked in ((log_depth, edges), (log_depth.T, edges.T)):
        step = np.nan_to_num(np.diff(values, axis=1), nan=0.0, posinf=0.0, neginf=0.0)
        rising, falling = along_rows(step)
        marked[:, :-1] |= rising
        marked[:, 1:] |= falling
    return edges


def _largest(step: np.ndarray) -> _Marks:
    size = np.abs(step)
    before, after = _neighbours(size)
    # >= on one side and > on the other: of equal neighbours exactly one remains
    peak = (size > np.log(RATIO)) & (size >= before) & (size > after)
    return peak & (step > 0), peak & (step < 0)


def _largest_in_direction(step: np.ndarray) -> _Marks:
    def peak(rise: np.ndarray) -> np.ndarray:
        before, after = _neighbours(rise)
        return (rise > np.log(RATIO)) & (rise >= before) & (rise >= after)

    return peak(step), peak(-step)


def _neighbours(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The values before and after each along its row, 0 beyond."""
    return (
        np.pad(values, ((0, 0), (1, 0)))[:, :-1],
        np.pad(values, ((0, 0), (0, 1)))[:, 1:],
    )


def _grown(mask: np.ndarray) -> np.ndarray:
    return cv2.dilate(mask.astype(np.uint8), _NEIGHBOURHOOD).astype(bool)
