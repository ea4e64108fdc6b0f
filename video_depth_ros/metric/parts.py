# SPDX-License-Identifier: Apache-2.0
"""Parts of the view, within which a network's errors are alike, and between which they are not."""

from __future__ import annotations

import numpy as np

PARTS = 10.0  # as many of a whole view are independent of each other
_ROWS, _COLUMNS = 3, 4


def part_of(uv: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """The part that each pixel lies in, int [n]; beyond the edge the nearest one.

    Args:
        uv: float [n, 2], pixels.
        size: (height, width) of the view.
    """
    cell = np.clip(uv * (_COLUMNS / size[1], _ROWS / size[0]), 0.0, (_COLUMNS - 1, _ROWS - 1))
    column, row = cell.astype(np.intp).T
    return np.asarray(row * _COLUMNS + column)


def covered_parts(uv: np.ndarray, size: tuple[int, ...]) -> float:
    """How many parts of a view anchors speak for, 1 to 12: 1 / sum of the squared shares.

    Args:
        uv: float [n, 2], pixels.
        size: (height, width) of the view.
    """
    if not len(uv):
        return 1.0
    share = np.bincount(part_of(uv, size)) / len(uv)
    return float(1.0 / np.square(share).sum())
