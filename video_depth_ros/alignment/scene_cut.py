# SPDX-License-Identifier: Apache-2.0
"""Whether the camera's picture was cut: two consecutive frames of one window are unrelated."""

from __future__ import annotations

import math

import numpy as np

from video_depth_ros.alignment.config import AlignmentConfig


def is_scene_cut(grid: np.ndarray, overlap: int, config: AlignmentConfig) -> bool:
    """Whether two consecutive frames of the window, the later one new, are unrelated.

    Little correlation alone is not enough: a near object entering half of the view has that
    effect too, but leaves the other half as it was.

    Args:
        grid: samples of a window [T, gh, gw].
        overlap: of its rows, how many are not new.
    """
    for row in range(max(1, overlap), grid.shape[0]):
        earlier, later = grid[row - 1, ::2, ::2], grid[row, ::2, ::2]
        good = np.isfinite(earlier) & np.isfinite(later)
        if np.count_nonzero(good) < config.min_pixels:
            continue
        earlier, later = earlier[good], later[good]
        a, b = earlier - earlier.mean(), later - later.mean()
        spread_a, spread_b = math.sqrt(a @ a / a.size), math.sqrt(b @ b / b.size)
        if min(spread_a, spread_b) < config.flat_spread:
            continue  # a flat view correlates with nothing
        if a @ b / a.size >= config.cut_correlation * spread_a * spread_b:
            continue
        stayed = np.mean(np.abs(later - earlier) < 0.25 * spread_a)
        if stayed < config.cut_stayed:
            return True
    return False
