# SPDX-License-Identifier: Apache-2.0
"""A bounded history of metric poses, interpolated in time."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque

import cv2
import numpy as np

_LENGTH = 4096  # 20 s of odometry at 200 Hz
# Constant velocity is assumed this far past the newest pose, and taken from as long before it:
# the two newest poses may lie a millisecond apart (stamped on arrival, in bursts), and what their
# stamps and positions are wrong by would be many times as large at the end.
_EXTRAPOLATE_NS = 50_000_000
_GAP_NS = 500_000_000  # poses farther apart are not interpolated between
_SMALL = 1e-4  # rotation at which the sine is the angle, to 2e-9 of it [rad]


def inverse(T: np.ndarray) -> np.ndarray:
    """Inverse of a rigid transform [4, 4]."""
    R = T[:3, :3].T
    result = np.eye(4)
    result[:3, :3] = R
    result[:3, 3] = -R @ T[:3, 3]
    return result


def rotation(vector: np.ndarray) -> np.ndarray:
    """Rotation matrix of a rotation vector [3]."""
    return cv2.Rodrigues(np.asarray(vector, dtype=np.float64))[0]


def rotation_vector(R: np.ndarray) -> np.ndarray:
    """Rotation vector [3] of a rotation matrix."""
    R = np.asarray(R, dtype=np.float64)
    sine = 0.5 * np.array([R[2, 1] - R[1, 2], R[0, 2] - R[2, 0], R[1, 0] - R[0, 1]])
    if np.trace(R) > 1.0 and float(np.linalg.norm(sine)) < _SMALL:
        return sine  # OpenCV makes it zero
    return cv2.Rodrigues(R)[0].reshape(3)


class PoseHistory:
    """Poses T_odom_base by stamp."""

    def __init__(self) -> None:
        self._stamps: deque[int] = deque(maxlen=_LENGTH)
        self._poses: deque[np.ndarray] = deque(maxlen=_LENGTH)

    def __len__(self) -> int:
        return len(self._stamps)

    def clear(self) -> None:
        """Forget all poses."""
        self._stamps.clear()
        self._poses.clear()

    @property
    def newest_ns(self) -> int | None:
        """Stamp of the newest pose, None without any."""
        return self._stamps[-1] if self._stamps else None

    def add(self, stamp_ns: int, T_odom_base: np.ndarray) -> None:
        """Append a pose; one older than the newest means time jumped, and starts anew."""
        if self._stamps and stamp_ns <= self._stamps[-1]:
            if stamp_ns == self._stamps[-1]:
                return
            self.clear()
        self._stamps.append(stamp_ns)
        self._poses.append(T_odom_base)

    def at(self, stamp_ns: int) -> np.ndarray | None:
        """Pose at a time, float64 [4, 4], or None where the history does not reach.

        Translation linear, rotation by the shortest arc, between the two poses around; up to 50 ms
        past the newest at the velocity of the last 50 ms.
        """
        stamps = self._stamps
        if len(stamps) < 2 or stamp_ns < stamps[0]:
            return None
        last = max(bisect_left(stamps, stamp_ns), 1)
        first = last - 1
        if last == len(stamps):  # past the newest
            last -= 1
            first = bisect_right(stamps, stamps[last] - _EXTRAPOLATE_NS) - 1
            if first < 0 or stamp_ns > stamps[last] + _EXTRAPOLATE_NS:
                return None
        before, after = stamps[first], stamps[last]
        if after - before > _GAP_NS:
            return None
        share = (stamp_ns - before) / (after - before)
        T0, T1 = self._poses[first], self._poses[last]
        T = np.eye(4)
        turn = rotation_vector(T0[:3, :3].T @ T1[:3, :3])
        T[:3, :3] = T0[:3, :3] @ rotation(share * turn)
        T[:3, 3] = T0[:3, 3] + share * (T1[:3, 3] - T0[:3, 3])
        return T
