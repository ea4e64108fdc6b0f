# SPDX-License-Identifier: Apache-2.0
"""Corner features followed from a keyframe to the newest frame (Lucas and Kanade, pyramidal)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from video_depth_ros.camera import Camera

_WINDOW = (15, 15)
_LEVELS = 4
_FORWARD_BACKWARD = 0.7  # px


@dataclass(frozen=True)
class Tracks:
    """Features seen in a keyframe and in the newest frame.

    Attributes:
        key_ns: stamp of the keyframe.
        key: float64 [N, 2], pixels there.
        now: float64 [N, 2], pixels in the newest frame.
    """

    key_ns: int
    key: np.ndarray
    now: np.ndarray


class FeatureTracker:
    """Owner of the keyframe and of the features that survive since."""

    def __init__(self, features: int) -> None:
        self.features = features
        self._image: np.ndarray | None = None
        self._tracks: Tracks | None = None
        self._detected = 0

    @property
    def tracks(self) -> Tracks | None:
        """Features since the keyframe; None before the first."""
        return self._tracks

    @property
    def survival(self) -> float:
        """Share of the keyframe's features that are still followed."""
        if self._tracks is None or not self._detected:
            return 0.0
        return len(self._tracks.key) / self._detected

    def clear(self) -> None:
        """Forget keyframe and features."""
        self._image, self._tracks, self._detected = None, None, 0

    def follow(self, image: np.ndarray) -> None:
        """Follow all features into the next frame, uint8 [h, w]."""
        image = evened(image)
        previous, tracks = self._image, self._tracks
        self._image = image
        if previous is None or tracks is None or not len(tracks.now):
            return
        if previous.shape != image.shape:
            self.clear()
            self._image = image
            return
        start = tracks.now.astype(np.float32)[:, None]
        there, found = _flow(previous, image, start)
        back, returned = _flow(image, previous, there)
        error = np.abs(back - start).max(axis=(1, 2))
        now = there[:, 0].astype(np.float64)
        height, width = image.shape
        keep = (found[:, 0] > 0) & (returned[:, 0] > 0) & (error < _FORWARD_BACKWARD)
        keep &= (now >= 1).all(axis=1) & (now[:, 0] < width - 2) & (now[:, 1] < height - 2)
        self._tracks = Tracks(tracks.key_ns, tracks.key[keep], now[keep])

    def start_keyframe(self, stamp_ns: int) -> None:
        """Make the newest frame the keyframe and look for features anew."""
        assert self._image is not None, "follow() must have been given a frame"
        spacing = max(4, int(0.6 * np.sqrt(self._image.size / self.features)))
        corners = cv2.goodFeaturesToTrack(self._image, self.features, 0.01, spacing)
        found = np.zeros((0, 2)) if corners is None else corners.reshape(-1, 2).astype(np.float64)
        self._tracks = Tracks(stamp_ns, found, found.copy())
        self._detected = len(found)


def _flow(first: Any, second: Any, start: Any) -> tuple[Any, Any]:
    there, found, _ = cv2.calcOpticalFlowPyrLK(
        first, second, start, None, winSize=_WINDOW, maxLevel=_LEVELS
    )
    return there, found


def evened(image: np.ndarray) -> np.ndarray:
    """The image at a fixed mean and contrast: automatic exposure breaks Lucas-Kanade."""
    mean, deviation = cv2.meanStdDev(image)
    gain = min(48.0 / max(float(deviation[0, 0]), 1.0), 8.0)
    levels = np.clip((np.arange(256) - mean[0, 0]) * gain + 128.0, 0, 255).astype(np.uint8)
    return cv2.LUT(image, levels)


def in_view(camera: Camera, uv: np.ndarray) -> np.ndarray:
    """Whether pixels [N, 2] have a viewing ray, bool [N]; beyond the fold of a lens none has."""
    return np.isfinite(camera.normalised(uv)).all(axis=1)


def with_rays(camera: Camera, tracks: Tracks, key_camera: Camera | None = None) -> Tracks:
    """The features that have a viewing ray in both frames; ``key_camera`` is the keyframe's model,
    None where it is the same."""
    seen = in_view(key_camera or camera, tracks.key) & in_view(camera, tracks.now)
    return tracks if seen.all() else Tracks(tracks.key_ns, tracks.key[seen], tracks.now[seen])


def homogeneous(camera: Camera, uv: np.ndarray) -> np.ndarray:
    """Viewing rays with z = 1, float64 [N, 3]; see :func:`in_view`."""
    return np.column_stack([camera.normalised(uv), np.ones(len(uv))])
