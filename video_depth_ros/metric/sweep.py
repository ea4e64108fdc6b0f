# SPDX-License-Identifier: Apache-2.0
"""Points measured one after another by a moving sensor, brought to one time.

A LiDAR's turn takes a tenth of a second: at 1 rad/s its first and last points are 6 degrees
apart. Each point is moved by the poses at its own time; between poses a hundredth of a second
apart the motion is taken as linear, which at 3 rad/s is right to 0.1 mrad.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from video_depth_ros.metric.poses import rotation_vector
from video_depth_ros.metric.reasons import PointTimes

_STEP = 0.01  # between poses [s]
_LONGEST = 0.5  # no point of a scan is this far from the scan's stamp [s]
_MIN_SHARE = 0.9  # of the points whose times must make sense


@dataclass(frozen=True)
class Sweep:
    """How the points of one scan come into the camera at the frame's time.

    Attributes:
        offset_s: float [N], seconds from the scan's stamp; those out of range are of no use.
        start: seconds from the stamp to the first pose; step: between poses.
        T_camera_sensor: float64 [K, 4, 4], sensor at each pose's time to the camera at the
            frame's.
        turn: largest rotation between the poses and their middle one [rad].
        reach: largest displacement between them [m].
    """

    offset_s: np.ndarray
    start: float
    step: float
    T_camera_sensor: np.ndarray
    turn: float
    reach: float

    @property
    def middle(self) -> np.ndarray:
        """The transform half-way through, float64 [4, 4]."""
        return np.asarray(self.T_camera_sensor[len(self.T_camera_sensor) // 2])

    def known(self, which: np.ndarray) -> np.ndarray:
        """Those of the indices [n] whose points' times make sense."""
        return which[_sensible(self.offset_s[which])]

    def moved(self, points: np.ndarray, which: np.ndarray) -> np.ndarray:
        """Points [N, 3] at indices [n] in the camera at the frame's time, float64 [n, 3]."""
        at = (self.offset_s[which] - self.start) / self.step
        low = np.clip(at.astype(np.intp), 0, len(self.T_camera_sensor) - 2)
        share = np.clip(at - low, 0.0, 1.0)[:, None]
        T = self.T_camera_sensor[:, :3].reshape(-1, 12)
        T = T[low] + share * np.diff(T, axis=0)[low]
        x, y, z = points[which].astype(np.float64).T
        rows = [T[:, 4 * k] * x + T[:, 4 * k + 1] * y + T[:, 4 * k + 2] * z for k in range(3)]
        return np.stack(rows, axis=1) + T[:, 3::4]


def sweep_of(
    offset_s: np.ndarray,
    T_camera_sensor: np.ndarray,
    stamp_ns: int,
    frame_ns: int,
    motion: Callable[[int, int], np.ndarray | None],
) -> Sweep | PointTimes:
    """The sweep of a scan.

    Args:
        offset_s: float [N > 0], seconds from the scan's stamp to each point.
        T_camera_sensor: float64 [4, 4], the mounting.
        stamp_ns: stamp of the scan; frame_ns: that of the frame.
        motion: T_camera(second)_camera(first), or None where no poses are.

    Returns:
        The sweep, or why the points have to be taken as simultaneous.
    """
    sensible = _sensible(offset_s)
    if sensible.mean() < _MIN_SHARE:
        return PointTimes.ABSURD
    inside = offset_s if sensible.all() else offset_s[sensible]
    first, last = float(inside.min()), float(inside.max())
    intervals = max(1, math.ceil((last - first) / _STEP))
    step = max((last - first) / intervals, 1e-6)
    knots = []
    for k in range(intervals + 1):
        T = motion(stamp_ns + round((first + k * step) * 1e9), frame_ns)
        if T is None:
            return PointTimes.NO_POSES
        knots.append(T @ T_camera_sensor)
    transforms = np.stack(knots)
    middle = transforms[len(transforms) // 2]
    # the motion of the camera's axes, which the directions of points follow
    turns = transforms[:, :3, :3] @ middle[:3, :3].T
    shifts = transforms[:, :3, 3] - np.einsum("kij,j->ki", turns, middle[:3, 3])
    turn = max(float(np.linalg.norm(rotation_vector(R))) for R in turns)
    reach = float(np.linalg.norm(shifts, axis=1).max())
    return Sweep(offset_s, first, step, transforms, turn, reach)


def _sensible(offset_s: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return np.asarray(np.abs(offset_s) <= _LONGEST)
