# SPDX-License-Identifier: Apache-2.0
"""Pictures of the report: some frames of every video, kept as small JPEG files."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

_WIDTH = 300  # px of one picture


@dataclass(frozen=True)
class Picture:
    """One frame for the report.

    Attributes:
        index: in the video.
        shown: what the strip shows, from the left.
        jpeg: the strip.
    """

    index: int
    shown: str
    jpeg: bytes

    @staticmethod
    def of(
        index: int, rgb: np.ndarray, disparity: np.ndarray, truth: np.ndarray | None
    ) -> Picture:
        """The strip of one frame; arguments as for :func:`strip`."""
        if truth is not None and not np.isfinite(truth).any():
            truth = None
        shown = "image, prediction" + (", truth, error" if truth is not None else "")
        return Picture(index, shown, strip(rgb, disparity, truth))


def strip(rgb: np.ndarray, disparity: np.ndarray, truth: np.ndarray | None) -> bytes:
    """Image, prediction, truth and relative error side by side (JPEG).

    Prediction and truth share one colour scale of disparity; the error is white at 0 and red at
    25 % and more. Without truth only image and prediction.

    Args:
        rgb: uint8 [H, W, 3].
        disparity: float [H, W], predicted, in 1/m where there is truth.
        truth: depth float [H, W] in metres, NaN unknown but somewhere known; or None.
    """
    height, width = rgb.shape[:2]
    size = (_WIDTH, max(1, round(_WIDTH * height / width)))
    tiles = [cv2.resize(rgb[..., ::-1], size, interpolation=cv2.INTER_AREA)]
    disparity = cv2.resize(disparity.astype(np.float32), size)
    known = disparity[np.isfinite(disparity)]
    low, high = np.quantile(known, (0.02, 0.98)) if len(known) else (0.0, 1.0)
    if truth is not None:
        true = 1.0 / _at_size(truth, size)
        low, high = np.nanquantile(true, (0.02, 0.98))
        error = np.abs(true / disparity - 1.0)
        tiles += [_coloured(disparity, low, high), _coloured(true, low, high), _reddened(error)]
    else:
        tiles.append(_coloured(disparity, low, high))
    encoded, data = cv2.imencode(".jpg", cv2.hconcat(tiles), [cv2.IMWRITE_JPEG_QUALITY, 82])
    assert encoded
    return data.tobytes()


def _at_size(truth: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The nearest true depth in every block: sparse truth must not vanish between samples."""
    width, height = size
    if truth.shape[0] < height or truth.shape[1] < width:  # enlarged: no block may stay empty
        return cv2.resize(truth, size, interpolation=cv2.INTER_NEAREST_EXACT)
    rows = np.arange(truth.shape[0]) * height // truth.shape[0]
    columns = np.arange(truth.shape[1]) * width // truth.shape[1]
    index = rows[:, None] * width + columns[None]
    known = np.isfinite(truth)
    small = np.full(height * width, np.inf, np.float32)
    np.minimum.at(small, index[known], truth[known].astype(np.float32))
    small[np.isinf(small)] = np.nan
    return small.reshape(height, width)


def _coloured(disparity: np.ndarray, low: float, high: float) -> np.ndarray:
    level = (disparity - low) / max(float(high - low), 1e-9)
    bytes_ = (np.clip(np.nan_to_num(level), 0.0, 1.0) * 255).astype(np.uint8)
    image = cv2.applyColorMap(bytes_, cv2.COLORMAP_TURBO)
    image[~np.isfinite(disparity)] = 0
    return image


def _reddened(error: np.ndarray) -> np.ndarray:
    level = 255.0 * (1.0 - np.clip(np.nan_to_num(error) / 0.25, 0.0, 1.0))
    image = np.stack([level, level, np.full_like(level, 255.0)], axis=-1).astype(np.uint8)
    image[~np.isfinite(error)] = 0
    return image
