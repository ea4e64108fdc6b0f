# SPDX-License-Identifier: Apache-2.0
"""Known camera motion: what the newest published frame looks like from the next one.

Where odometry or TF gives the motion and the metric scale is known, the last aligned disparity can
be carried into the new view and the new window fitted to it on static pixels: one more constraint,
over a longer baseline than the overlap (the point of GemDepth, arXiv 2605.10525, with measured
poses instead of predicted ones). What moves on its own disagrees and counts as an outlier.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from video_depth_ros.camera import Camera


@dataclass(frozen=True)
class CameraMotion:
    """Metric motion from the newest published frame to the newest frame of the group to align.

    Attributes:
        camera: the camera model at the disparity's size [h, w].
        T_new_old: float64 [4, 4], maps points in the old optical frame to the new one, metres.
        a, b: metric scale of the running frame, 1/Z = a * X + b.
    """

    camera: Camera
    T_new_old: np.ndarray
    a: float
    b: float


def predict_samples(
    samples: np.ndarray, usable: np.ndarray, stride: int, motion: CameraMotion
) -> tuple[np.ndarray, np.ndarray]:
    """Samples of the old view (every ``stride``-th pixel) carried into the new view.

    Each visible sample falls into the nearest sample of the new view; of several the nearest
    surface is kept.

    Returns:
        Disparity in the running frame [gh, gw] and where it is known.
    """
    rows, columns = samples.shape
    inverse = motion.a * samples + motion.b
    good = usable & np.isfinite(inverse) & (inverse > 1e-6)
    rays = motion.camera.rays()[::stride, ::stride][good]
    points = rays / inverse[good][:, None]
    points = points @ motion.T_new_old[:3, :3].T + motion.T_new_old[:3, 3]
    uv, inside = motion.camera.project(points)
    near = 1.0 / points[inside, 2]
    place = np.rint(uv[inside] / stride).astype(np.int64)
    fits = (place[:, 0] < columns) & (place[:, 1] < rows)
    near, place = near[fits], place[fits]
    values = np.full(rows * columns, -np.inf)
    np.maximum.at(values, place[:, 1] * columns + place[:, 0], (near - motion.b) / motion.a)
    values = values.reshape(rows, columns)
    known = np.isfinite(values)
    return np.where(known, values, 0.0), known
