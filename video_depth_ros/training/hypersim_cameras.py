# SPDX-License-Identifier: Apache-2.0
"""Hypersim's cameras: every scene has its own focal length, some a tilted or shifted lens.

``metadata_camera_parameters.csv`` of the data set's repository (Roberts et al., ICCV 2021) gives
M_cam_from_uv per scene: the ray (x right, y up, z backward) of the image point (u, v, 1), where u
is -1 at the left edge and 1 at the right, v is -1 at the bottom and 1 at the top.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from video_depth_ros.errors import RecordingError

METADATA = "metadata_camera_parameters.csv"
_SCENE = "scene_name"
_COLUMNS = [f"M_cam_from_uv_{row}{column}" for row in range(3) for column in range(3)]


def read_cameras(path: Path) -> dict[str, np.ndarray]:
    """M_cam_from_uv float64 [3, 3] by the scene's name.

    Raises:
        RecordingError: the file cannot be read, or lacks a column or a number.
    """
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            return {
                row[_SCENE]: np.array([float(row[name]) for name in _COLUMNS]).reshape(3, 3)
                for row in csv.DictReader(lines)
            }
    except (OSError, KeyError, TypeError, ValueError, csv.Error) as error:
        raise RecordingError(
            f"expected Hypersim's cameras ({_SCENE}, {_COLUMNS[0]} ... {_COLUMNS[-1]}) in {path}, "
            f"got {type(error).__name__}: {error}; fetch the file again"
        ) from error


def axis_over_ray(M: np.ndarray, height: int, width: int) -> np.ndarray:
    """Depth along the optical axis over distance along the ray, float64 [H, W], at the pixels'
    centres."""
    u = (np.arange(width) + 0.5) / width * 2.0 - 1.0
    v = 1.0 - (np.arange(height) + 0.5) / height * 2.0
    x, y, z = (row[0] * u + row[1] * v[:, None] + row[2] for row in M)
    return np.asarray(-z / np.sqrt(x * x + y * y + z * z))
