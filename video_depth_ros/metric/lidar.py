# SPDX-License-Identifier: Apache-2.0
"""Point clouds and sparse depth images to anchors.

Most outliers come from the LiDAR seeing past an edge that hides the same place from the camera,
and from the network blurring that edge. Both are recognised without knowing the scale: an
occluded point is farther than its neighbour on a pixel the network sees no farther.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from video_depth_ros.camera import Camera
from video_depth_ros.metric.anchors import Anchors, View
from video_depth_ros.metric.config import LidarConfig
from video_depth_ros.metric.reasons import Verdict
from video_depth_ros.metric.sweep import Sweep

_FIRST_CUT = 9_000  # points of one scan that are looked at
_CORNERS = 1.5  # a turn moves what lies in a corner of the image farther
_WIDEST = math.radians(80.0)  # half a field of view that a tangent still bounds


def points_to_anchors(
    points: np.ndarray,
    T_camera_sensor: np.ndarray,
    view: View,
    config: LidarConfig,
    sweep: Sweep | None = None,
) -> Anchors | Verdict:
    """Anchors of a cloud in a frame.

    Args:
        points: float [N, 3], metres, in the sensor's frame; non-finite ones are passed over.
        T_camera_sensor: float64 [4, 4], from the sensor to the camera's optical frame (at the
            stamp of the frame, when motion is compensated).
        view: the frame; its camera must be known.
        sweep: the motion within the scan, in place of ``T_camera_sensor``.

    Returns:
        The anchors, or the reason why there are none.
    """
    camera = view.camera
    if camera is None:
        return Verdict.NO_CAMERA
    if not len(points):
        return Verdict.NO_POINTS
    seen = _in_front(points, T_camera_sensor, camera, config.min_range, sweep)
    if seen is None:
        return Verdict.NO_POINTS
    uv, valid = camera.project(seen)
    return _select(uv[valid], seen[valid, 2], view, config)


def depth_to_anchors(
    depth: np.ndarray, camera: Camera, view: View, config: LidarConfig
) -> Anchors | Verdict:
    """Anchors of a depth image [H, W] in metres (NaN or 0 unknown) in the same optical frame."""
    v, u = np.nonzero(np.isfinite(depth) & (depth > config.min_range))
    if not u.size:
        return Verdict.NO_POINTS
    if u.size > _FIRST_CUT:
        which = np.random.default_rng(0).random(u.size) < _FIRST_CUT / u.size
        u, v = u[which], v[which]
    z = depth[v, u].astype(np.float64)
    uv = np.stack([u, v], axis=1).astype(np.float64)
    height, width = view.disparity.shape
    if view.camera is None or _same_view(camera, view.camera):
        uv = (uv + 0.5) * (width / camera.width, height / camera.height) - 0.5
    else:
        xy = camera.normalised(uv)
        uv, valid = view.camera.project(np.column_stack([xy * z[:, None], z]))
        uv, z = uv[valid], z[valid]
    return _select(uv, z, view, config)


def _same_view(a: Camera, b: Camera) -> bool:
    """Whether two models differ by nothing but the image size."""
    return a.resized(b.width, b.height) == b


def _in_front(
    points: np.ndarray, T: np.ndarray, camera: Camera, min_range: float, sweep: Sweep | None
) -> np.ndarray | None:
    """Points that can lie in the image, in the optical frame; None when none is finite."""
    turn, reach = (0.0, 0.0) if sweep is None else (_CORNERS * sweep.turn, sweep.reach)
    T = T if sweep is None else sweep.middle
    nearest = max(min_range, 1e-3)
    dtype = np.float32 if points.dtype == np.float32 else np.float64
    with np.errstate(invalid="ignore", over="ignore"):
        x, y, z = T[:3, :3].astype(dtype) @ points.T + T[:3, 3:].astype(dtype)
    if not np.isfinite(z).any():
        return None
    right = math.atan(max(camera.cx, camera.width - camera.cx) / camera.fx + 0.01) + turn
    down = math.atan(max(camera.cy, camera.height - camera.cy) / camera.fy + 0.01) + turn
    with np.errstate(invalid="ignore"):
        if camera.distorted or max(right, down) > _WIDEST:
            seen = (z > nearest) & (z < 1e6) if sweep is None else np.abs(z) < 1e6
        else:  # a cheap cut before the exact projection in float64
            seen = (z > nearest - reach) & (z < 1e6)
            seen &= np.abs(x) < (z + reach) * math.tan(right) + reach
            seen &= np.abs(y) < (z + reach) * math.tan(down) + reach
    which = np.flatnonzero(seen)
    if sweep is not None:
        which = sweep.known(which)
    if which.size > _FIRST_CUT:  # at random: scans are ordered by ring or by column
        which = which[np.random.default_rng(0).random(which.size) < _FIRST_CUT / which.size]
    if sweep is None:
        return np.stack([x[which], y[which], z[which]], axis=1).astype(np.float64)
    moved = sweep.moved(points, which)
    return moved[moved[:, 2] > nearest]


def _select(uv: np.ndarray, z: np.ndarray, view: View, config: LidarConfig) -> Anchors | Verdict:
    """Reject occluded, edge and clipped points, thin out the rest."""
    if not z.size:
        return Verdict.OUT_OF_VIEW
    d, step = view.sample(uv)
    low, high = view.limits
    spread = float(view.quantiles[2] - view.quantiles[0])
    with np.errstate(invalid="ignore"):
        keep = (d > low) & (d < high) & (step <= max(config.max_edge * spread, 1e-9))
    if config.occlusion_margin > 0.0:
        keep &= ~_occluded(uv, z, d, config)
    keep &= np.isfinite(d)
    which = np.flatnonzero(keep)
    if not which.size:
        return Verdict.TOO_FEW
    which = which[_thin(uv[which], z[which], config)]
    q = 1.0 / z[which]
    return Anchors(uv[which], q, config.sigma * q * q)


def _occluded(uv: np.ndarray, z: np.ndarray, d: np.ndarray, config: LidarConfig) -> np.ndarray:
    """Points behind a nearer one of the 3x3 cells around, on a pixel the network sees as near."""
    known = np.isfinite(d)
    if not known.any():
        return np.zeros(z.size, dtype=bool)
    cells = (np.maximum(uv, 0.0) / config.occlusion_cell).astype(np.intp)
    columns, rows = cells.max(axis=0) + 1
    at = cells[:, 1] * columns + cells[:, 0]
    nearest = np.full((rows, columns), -np.inf, dtype=np.float32)  # inverse depth
    q = (1.0 / z).astype(np.float32)
    np.maximum.at(nearest.reshape(-1), at, q)
    around = cv2.dilate(nearest, np.ones((3, 3), np.uint8)).reshape(-1)[at]
    # the disparity of that nearest point: the largest of the cells around would be another's
    highest = np.full((rows, columns), -np.inf, dtype=np.float32)
    peak = known & (q >= nearest.reshape(-1)[at])
    highest.reshape(-1)[at[peak]] = d[peak]
    front = cv2.dilate(highest, np.ones((3, 3), np.uint8)).reshape(-1)[at]
    low_q, high_q = np.quantile(q, (0.05, 0.95))
    low_d, high_d = np.quantile(d[known], (0.05, 0.95))
    expected = (around - q) * (high_d - low_d) / max(high_q - low_q, 1e-9)
    with np.errstate(invalid="ignore"):
        behind = around > q * (1.0 + config.occlusion_margin)
        return behind & (front - d < 0.25 * expected)


def _thin(uv: np.ndarray, z: np.ndarray, config: LidarConfig) -> np.ndarray:
    """Indices of at most ``bin_points`` per cell and depth octave, ``max_points`` in all."""
    n = z.size
    mixed = np.random.default_rng(0).permutation(n)
    cells = (np.maximum(uv[mixed], 0.0) / config.bin_cell).astype(np.int32)
    octave = np.clip(np.log2(z[mixed]), -1.0, 6.0).astype(np.int32) + 1
    key = (cells[:, 1] * (cells[:, 0].max() + 1) + cells[:, 0]) * 8 + octave
    if key.max() < 2**15:
        key = key.astype(np.int16)  # sorted by radix, many times faster
    order = np.argsort(key, kind="stable")
    ordered = key[order]
    first = np.concatenate(([True], ordered[1:] != ordered[:-1]))
    start = np.maximum.accumulate(np.where(first, np.arange(n), 0))
    rank = np.arange(n) - start
    kept = order[rank < config.bin_points]
    if kept.size > config.max_points:  # every bin gives up its later points first
        kept = kept[np.argsort(rank[rank < config.bin_points], kind="stable")]
        kept = kept[: config.max_points]
    return np.sort(mixed[kept])
