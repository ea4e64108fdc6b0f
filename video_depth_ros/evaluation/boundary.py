# SPDX-License-Identifier: Apache-2.0
"""Precision, recall and F1 of depth boundaries, by DVD's definition.

Predicted edge: the depths of two 4-neighbours have a ratio above 1.05, and that ratio is a local
maximum along its own row or column (non-maximum suppression in one dimension); the nearer pixel
is marked. (The ratio test is that of Depth Pro, ICLR 2025.) Reference edge: the Sobel magnitude
of the grey image, scaled to 0..1 per frame, above 0.15. An edge is matched when one of the other
kind lies within one pixel, diagonals included. The reference has no notion of depth: texture
counts as edge, so recall has a low ceiling and the figure compares methods on the same videos.

``depth_boundary_f1`` asks the same of the truth's own edges, where truth is dense.
"""

from __future__ import annotations

import cv2
import numpy as np

RATIO = 1.05
SOBEL = 0.15
DENSE = 0.5  # share of known pixels from which truth has edges worth the name
_NEIGHBOURHOOD = np.ones((3, 3), np.uint8)


def depth_edges(depth: np.ndarray) -> np.ndarray:
    """bool [H, W], edges of a depth map in metres; NaN makes none."""
    with np.errstate(invalid="ignore", divide="ignore"):
        log_depth = np.log(depth.astype(np.float64))
    edges = _edges_along_rows(log_depth)
    edges |= _edges_along_rows(log_depth.T).T
    return edges


def image_edges(rgb: np.ndarray) -> np.ndarray:
    """bool [H, W], edges of an image uint8 [H, W, 3]."""
    grey = cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2GRAY).astype(np.float32)
    dx = cv2.Sobel(grey, cv2.CV_32F, 1, 0, ksize=3, borderType=cv2.BORDER_REPLICATE)
    dy = cv2.Sobel(grey, cv2.CV_32F, 0, 1, ksize=3, borderType=cv2.BORDER_REPLICATE)
    magnitude = np.hypot(dx, dy)
    span = float(magnitude.max() - magnitude.min())
    if span == 0.0:
        return np.zeros(grey.shape, dtype=bool)
    return (magnitude - magnitude.min()) / span > SOBEL


def match_edges(predicted: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """``precision``, ``recall`` and ``f1`` of edge maps bool [H, W].

    No predicted edges: precision is not defined (NaN), F1 is 0. No reference edges: empty.
    """
    if not reference.any():
        return {}
    if not predicted.any():
        return {"precision": float("nan"), "recall": 0.0, "f1": 0.0}
    precision = float(predicted[_grown(reference)].sum() / predicted.sum())
    recall = float(reference[_grown(predicted)].sum() / reference.sum())
    total = precision + recall
    return {
        "precision": precision,
        "recall": recall,
        "f1": 2.0 * precision * recall / total if total else 0.0,
    }


def boundary_metrics(
    predicted: np.ndarray, rgb: np.ndarray, truth: np.ndarray | None = None
) -> dict[str, float]:
    """Boundary measures of one frame.

    Args:
        predicted: depth [H, W] in metres.
        rgb: uint8 [H, W, 3].
        truth: depth [H, W] in metres or None.
    """
    edges = depth_edges(predicted)
    matched = match_edges(edges, image_edges(rgb))
    result = {f"boundary_{name}": value for name, value in matched.items()}
    if truth is not None:
        known = np.isfinite(truth) & (truth > 0)
        if known.mean() > DENSE:
            # edges next to unknown truth can be neither right nor wrong
            judged = ~_grown(~known)
            own = match_edges(edges & judged, depth_edges(np.where(known, truth, np.nan)) & judged)
            if own:
                result["depth_boundary_f1"] = own["f1"]
    return result


def _edges_along_rows(log_depth: np.ndarray) -> np.ndarray:
    step = np.diff(log_depth, axis=1)
    size = np.nan_to_num(np.abs(step), nan=0.0, posinf=0.0)
    before = np.pad(size, ((0, 0), (1, 0)))[:, :-1]
    after = np.pad(size, ((0, 0), (0, 1)))[:, 1:]
    # >= on one side and > on the other: of equal neighbours exactly one remains
    peak = (size > np.log(RATIO)) & (size >= before) & (size > after)
    edges = np.zeros(log_depth.shape, dtype=bool)
    edges[:, :-1] |= peak & (step > 0)
    edges[:, 1:] |= peak & (step < 0)
    return edges


def _grown(mask: np.ndarray) -> np.ndarray:
    return cv2.dilate(mask.astype(np.uint8), _NEIGHBOURHOOD).astype(bool)
