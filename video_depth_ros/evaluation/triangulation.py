# SPDX-License-Identifier: Apache-2.0
"""Sparse true depth for recordings that have true poses but no depth, such as EuRoC's.

Corners are tracked from frame to frame (Lucas and Kanade, forward and back), and each track is
triangulated from all its views with the true poses (linear method, Hartley and Sturm 1997, in
normalised coordinates). A track counts when its rays open by at least 1.5 degrees and the point
falls on all its views to within a pixel or so: that leaves out what moves. The error of depth is a
few per cent at the smallest angle, well below that of the networks measured, but not zero.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice

import cv2
import numpy as np

from video_depth_ros.bags.formats.base import SequenceFrame
from video_depth_ros.camera import Camera
from video_depth_ros.errors import RecordingError
from video_depth_ros.evaluation.videos import Sequence

_CORNERS = 500  # kept alive
_SPACING = 12  # px between new corners
_LONGEST = 30  # views of a track
_RETURN = 0.5  # px by which a point may miss its start when tracked back
_MEDIAN_ERROR, _LARGEST_ERROR = 1.0, 3.0  # px of reprojection
_ANGLE = np.cos(np.deg2rad(1.5))


@dataclass
class Track:
    """One corner: the frames that see it and where."""

    frames: list[int] = field(default_factory=list)
    pixels: list[np.ndarray] = field(default_factory=list)


class Triangulated:
    """A sequence with sparse depth of its own making in place of none."""

    def __init__(self, sequence: Sequence, max_frames: int | None = None) -> None:
        self._sequence = sequence
        self._max_frames = max_frames
        known = sequence.frame_count
        self.frame_count = min(known, max_frames) if max_frames else known

    @property
    def camera(self) -> Camera | None:
        """Model of the images."""
        return self._sequence.camera

    def frames(self) -> Iterator[SequenceFrame]:
        """The frames; depth is known at the pixels of triangulated corners.

        Raises:
            RecordingError: no camera model or no poses.
        """
        for index, frame in enumerate(self._source()):
            depth = np.full(frame.rgb.shape[:2], np.nan, np.float32)
            if index in self._points:
                pixels, values = self._points[index]
                depth[pixels[:, 1], pixels[:, 0]] = values
            yield replace(frame, depth=depth)

    def _source(self) -> Iterator[SequenceFrame]:
        return islice(self._sequence.frames(), self._max_frames)

    @cached_property
    def _points(self) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """Pixels int [N, 2] and depths [N] by frame."""
        camera = self.camera
        if camera is None:
            raise RecordingError("triangulation needs the camera model; give --intrinsics")
        poses: dict[int, np.ndarray] = {}
        found: dict[int, list[tuple[np.ndarray, float]]] = {}
        for track in _tracked(self._source(), poses):
            seen = [i for i, frame in enumerate(track.frames) if frame in poses]
            T = np.array([poses[track.frames[i]] for i in seen])
            pixels = np.array([track.pixels[i] for i in seen])
            depths = triangulate(camera, pixels, T) if len(seen) > 1 else None
            if depths is not None:
                for i, z in zip(seen, depths, strict=True):
                    pixel = np.rint(track.pixels[i]).astype(np.int64)
                    found.setdefault(track.frames[i], []).append((pixel, float(z)))
        if not poses:
            raise RecordingError("triangulation needs true poses; this recording has none")
        return {
            index: (np.array([p for p, _ in entries]), np.array([z for _, z in entries]))
            for index, entries in found.items()
        }


def triangulate(
    camera: Camera, pixels: np.ndarray, T_world_camera: np.ndarray
) -> np.ndarray | None:
    """Depth of one point in each of its views; None when the views do not determine it.

    Args:
        camera: of all views.
        pixels: float [N, 2], N >= 2.
        T_world_camera: float [N, 4, 4].

    Returns:
        float64 [N] in metres.
    """
    xy = camera.normalised(pixels)
    if not np.isfinite(xy).all():  # past the fold of the lens: no ray
        return None
    rays = np.concatenate([xy, np.ones((len(xy), 1))], axis=1)
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    directions = np.einsum("nij,nj->ni", T_world_camera[:, :3, :3], rays)
    if (directions @ directions[0]).min() > _ANGLE:
        return None
    # about the first camera: coordinates far from the world's origin would cost precision
    P = np.linalg.inv(T_world_camera) @ T_world_camera[0]
    rows = xy[:, :, None] * P[:, None, 2] - P[:, :2]
    X = np.linalg.svd(rows.reshape(-1, 4))[2][-1]
    if abs(X[3]) < 1e-9:
        return None
    seen = P[:, :3] @ (X / X[3])
    if (seen[:, 2] <= 0).any():
        return None
    error = np.linalg.norm((seen[:, :2] / seen[:, 2:] - xy) * (camera.fx, camera.fy), axis=1)
    if np.median(error) > _MEDIAN_ERROR or error.max() > _LARGEST_ERROR:
        return None
    return np.asarray(seen[:, 2])


def _tracked(frames: Iterator[SequenceFrame], poses: dict[int, np.ndarray]) -> Iterator[Track]:
    """Finished tracks; poses of the frames are noted on the way."""
    active: list[Track] = []
    before: np.ndarray | None = None
    for index, frame in enumerate(frames):
        if frame.T_world_camera is not None:
            poses[index] = frame.T_world_camera
        grey = cv2.cvtColor(frame.rgb, cv2.COLOR_RGB2GRAY)
        if before is not None and before.shape != grey.shape:
            yield from active
            active = []
        elif before is not None and active:
            points, good = _follow(before, grey, np.array([t.pixels[-1] for t in active]))
            still: list[Track] = []
            for track, point, kept in zip(active, points, good, strict=True):
                if not kept:
                    yield track
                    continue
                track.frames.append(index)
                track.pixels.append(point)
                if len(track.frames) >= _LONGEST:
                    yield track
                    track = Track([index], [point])
                still.append(track)
            active = still
        if len(active) < _CORNERS // 2:
            active += [Track([index], [p]) for p in _new_corners(grey, active)]
        before = grey
    yield from active


def _follow(
    before: np.ndarray, after: np.ndarray, points: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Where points float [N, 2] went, and which of them can be trusted."""
    start = points.astype(np.float32)[:, None]
    end, found, _ = cv2.calcOpticalFlowPyrLK(before, after, start, None)
    back, returned, _ = cv2.calcOpticalFlowPyrLK(after, before, end, None)
    end, back = end[:, 0], back[:, 0]
    height, width = after.shape
    good = (found[:, 0] > 0) & (returned[:, 0] > 0)
    good &= np.linalg.norm(back - start[:, 0], axis=1) < _RETURN
    good &= (end[:, 0] >= 0) & (end[:, 0] <= width - 1)
    good &= (end[:, 1] >= 0) & (end[:, 1] <= height - 1)
    return end.astype(np.float64), good


def _new_corners(grey: np.ndarray, active: list[Track]) -> np.ndarray:
    mask = np.full(grey.shape, 255, np.uint8)
    for track in active:
        u, v = np.rint(track.pixels[-1]).astype(int).tolist()
        cv2.circle(mask, (u, v), _SPACING, 0, -1)
    corners = cv2.goodFeaturesToTrack(grey, _CORNERS - len(active), 0.01, _SPACING, mask=mask)
    return np.empty((0, 2)) if corners is None else corners[:, 0].astype(np.float64)
