# SPDX-License-Identifier: Apache-2.0
"""How depth behaves over time: flicker, consistency with the camera's motion, drift of scale.

p is predicted depth, z true depth, both in metres, of consecutive frames 0 and 1. T_b_a maps
points in frame a to frame b.

relative_temporal_difference (DVD): root mean square over the pixels of
    (p1 - p0) / p0 - (z1 - z0) / z0.
temporal_alignment_error, TAE (Video Depth Anything, CVPR 2025): the predicted depth of a frame is
    moved into its neighbour by the true poses and compared there, mean |z' - p| / p, both ways.
flicker: mean |ln(p1/z1)(x') - ln(p0/z0)(x)| over pairs of pixels that see the same static point.
    It is zero for any error that stays with the scene, however large.
static_flicker: for a camera that stands still, without truth, see :class:`StaticFlicker`.
scale_drift, scale_spread: of the median ratio z/p over the stream, see :class:`ScaleDrift`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from video_depth_ros.camera import Camera
from video_depth_ros.evaluation.metrics import require_same_shape

SAME_POINT = 0.05  # relative depth difference up to which two pixels see the same point
_MAX_POINTS = 20_000  # pixel pairs per pair of frames
_UNCHANGED = 2.0  # grey levels, after smoothing
_STILL = 0.8  # share of unchanged pixels from which the camera is taken to stand still


@dataclass(frozen=True)
class Correspondence:
    """Pixels of frame 0 and of frame 1 that see the same static points.

    Attributes:
        first, second: flat pixel indices int64 [N] into frames 0 and 1.
    """

    first: np.ndarray
    second: np.ndarray


def relative_temporal_difference(
    p0: np.ndarray, p1: np.ndarray, z0: np.ndarray, z1: np.ndarray, valid: np.ndarray
) -> float:
    """Root mean square difference of the relative changes of depth; NaN without valid pixels.

    Args:
        p0, p1, z0, z1: float [H, W], depth in metres.
        valid: bool [H, W], all four known.
    """
    require_same_shape(p0, p1, z0, z1, valid)
    if not valid.any():
        return float("nan")
    predicted = p1[valid] / p0[valid]
    true = z1[valid] / z0[valid]
    return float(np.sqrt(np.mean((predicted - true).astype(np.float64) ** 2)))


def correspond_by_pose(
    camera: Camera, z0: np.ndarray, z1: np.ndarray, T_1_0: np.ndarray, valid: np.ndarray
) -> Correspondence:
    """Pixel pairs by reprojection of the true depth.

    A pair counts when the depth seen in frame 1 is that of the moved point within 5 %: that
    leaves out what is occluded and what moves.

    Args:
        camera: of both frames.
        z0, z1: true depth [H, W], NaN or 0 unknown.
        T_1_0: float [4, 4].
        valid: bool [H, W], pixels of frame 0 to start from.
    """
    first = _thinned(np.flatnonzero(valid & np.isfinite(z0) & (z0 > 0)))
    second, depth, inside = _move(camera, z0, first, T_1_0)
    seen = z1.reshape(-1)[second]
    with np.errstate(invalid="ignore"):
        same = inside & (np.abs(seen - depth) < SAME_POINT * depth)
    return Correspondence(first[same], second[same])


def correspond_in_place(z0: np.ndarray, z1: np.ndarray, valid: np.ndarray) -> Correspondence:
    """Without poses: the same pixel, where the true depth changes by less than 5 %."""
    with np.errstate(invalid="ignore"):
        same = valid & (np.abs(z1 - z0) < SAME_POINT * z0)
    index = _thinned(np.flatnonzero(same))
    return Correspondence(index, index)


def flicker(
    p0: np.ndarray, p1: np.ndarray, z0: np.ndarray, z1: np.ndarray, pairs: Correspondence
) -> float:
    """Mean change of the logarithmic error along scene points; NaN without any."""
    error0 = np.log(p0.reshape(-1)[pairs.first]) - np.log(z0.reshape(-1)[pairs.first])
    error1 = np.log(p1.reshape(-1)[pairs.second]) - np.log(z1.reshape(-1)[pairs.second])
    change = np.abs(error1 - error0)
    change = change[np.isfinite(change)]
    return float(change.mean()) if len(change) else float("nan")


def temporal_alignment_error(
    camera: Camera, p0: np.ndarray, p1: np.ndarray, T_1_0: np.ndarray, pairs: Correspondence
) -> float:
    """TAE of one pair of frames over the given scene points, both ways; NaN without any."""
    T_0_1 = np.linalg.inv(T_1_0)
    ways = (_moved_error(camera, p0, p1, T_1_0, pairs.first),
            _moved_error(camera, p1, p0, T_0_1, pairs.second))  # fmt: skip
    errors = [way for way in ways if not np.isnan(way)]
    return float(np.mean(errors)) if errors else float("nan")


@dataclass
class ScaleDrift:
    """The scale by which the truth exceeds the prediction, s_t = median z/p, over a stream.

    ``scale_drift`` is |mean ln s of the last quarter - mean ln s of the first quarter|,
    ``scale_spread`` the standard deviation of ln s. Both are zero for a prediction that is wrong
    by one constant factor.
    """

    log_scales: list[float] = field(default_factory=list)

    def add(self, predicted: np.ndarray, truth: np.ndarray, valid: np.ndarray) -> float:
        """Take one frame; returns its ln s, NaN without valid pixels."""
        require_same_shape(predicted, truth, valid)
        value = float("nan")
        if valid.any():
            value = float(np.log(np.median(truth[valid] / predicted[valid])))
            self.log_scales.append(value)
        return value

    def result(self) -> dict[str, float]:
        """Empty for fewer than four frames."""
        scales = np.array(self.log_scales)
        quarter = len(scales) // 4
        if not quarter:
            return {}
        drift = abs(scales[-quarter:].mean() - scales[:quarter].mean())
        return {"scale_drift": float(drift), "scale_spread": float(scales.std())}


@dataclass
class StaticFlicker:
    """Flicker of disparity seen by a camera that stands still, without any truth.

    The mean |d1 - d0| over the pixels whose smoothed grey value changes by at most two levels,
    divided by the mean 2-98 % spread of the disparity: it does not depend on scale and shift. A
    pair of frames counts when more than 80 % of its pixels are unchanged; a video without such
    pairs (the camera moves) has no value. A camera that creeps past plain walls passes for still.
    """

    _changes: list[float] = field(default_factory=list)
    _spreads: list[float] = field(default_factory=list)
    _last: tuple[np.ndarray, np.ndarray] | None = None

    def add(self, disparity: np.ndarray, rgb: np.ndarray) -> None:
        """Take the next frame: disparity [h, w] and its image uint8 [H, W, 3]."""
        height, width = disparity.shape
        grey = cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2GRAY)
        grey = cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA)
        grey = cv2.GaussianBlur(grey.astype(np.float32), (5, 5), 0)
        if self._last is not None and self._last[0].shape == disparity.shape:
            before, grey_before = self._last
            unchanged = np.abs(grey - grey_before) <= _UNCHANGED
            unchanged &= np.isfinite(disparity) & np.isfinite(before)
            if unchanged.mean() > _STILL:
                low, high = np.quantile(disparity[np.isfinite(disparity)], (0.02, 0.98))
                self._spreads.append(float(high - low))
                self._changes.append(float(np.abs(disparity - before)[unchanged].mean()))
        self._last = (disparity, grey)

    def result(self) -> dict[str, float]:
        """``static_flicker``, or empty."""
        if not self._changes or not np.mean(self._spreads) > 0:
            return {}
        return {"static_flicker": float(np.mean(self._changes) / np.mean(self._spreads))}


def _moved_error(
    camera: Camera, source: np.ndarray, target: np.ndarray, T: np.ndarray, index: np.ndarray
) -> float:
    index = index[np.isfinite(source.reshape(-1)[index])]
    landed, depth, inside = _move(camera, source, index, T)
    seen = target.reshape(-1)[landed]
    usable = inside & np.isfinite(seen)
    if not usable.any():
        return float("nan")
    return float(np.mean(np.abs(depth[usable] - seen[usable]) / seen[usable]))


def _move(
    camera: Camera, depth: np.ndarray, index: np.ndarray, T: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where pixels land in the other frame: flat index, depth there, inside the image."""
    points = camera.rays().reshape(-1, 3)[index] * depth.reshape(-1)[index, None]
    moved = points @ T[:3, :3].T + T[:3, 3]
    uv, inside = camera.project(moved)
    uv = np.where(inside[:, None], uv, 0.0)
    columns = np.clip(np.rint(uv[:, 0]), 0, camera.width - 1).astype(np.int64)
    lines = np.clip(np.rint(uv[:, 1]), 0, camera.height - 1).astype(np.int64)
    return lines * camera.width + columns, moved[:, 2], inside


def _thinned(index: np.ndarray) -> np.ndarray:
    return index[:: max(1, -(-len(index) // _MAX_POINTS))]
