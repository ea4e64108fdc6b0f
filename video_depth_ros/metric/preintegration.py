# SPDX-License-Identifier: Apache-2.0
"""Inertial samples and their preintegration between two times (Forster et al. 2015)."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from video_depth_ros.metric.poses import rotation

_LENGTH = 4096  # 20 s at 200 Hz
_HOLD_NS = 20_000_000  # the newest sample is held for this long
_GAP_NS = 100_000_000  # samples farther apart leave motion unseen


@dataclass(frozen=True)
class Preintegrated:
    """Motion between two times as the IMU felt it, in its frame at the first one.

    Attributes:
        seconds: duration.
        R: float64 [3, 3], rotation from the IMU at the end to the IMU at the start.
        alpha, beta: float64 [3], double and single integral of the specific force [m], [m/s].
        J_alpha, J_beta: float64 [3, 3], their derivatives by the accelerometer's bias.
        gyro_bias: float64 [3], bias that was taken off [rad/s].
    """

    seconds: float
    R: np.ndarray
    alpha: np.ndarray
    beta: np.ndarray
    J_alpha: np.ndarray
    J_beta: np.ndarray
    gyro_bias: np.ndarray


class InertialHistory:
    """Bounded history of samples."""

    def __init__(self) -> None:
        self._samples: deque[tuple[int, np.ndarray]] = deque(maxlen=_LENGTH)

    def __len__(self) -> int:
        return len(self._samples)

    def clear(self) -> None:
        """Forget all samples."""
        self._samples.clear()

    @property
    def newest_ns(self) -> int | None:
        """Stamp of the newest sample, None without any."""
        return self._samples[-1][0] if self._samples else None

    def add(self, stamp_ns: int, gyro: np.ndarray, force: np.ndarray) -> None:
        """Append a sample; one older than the newest means time jumped, and starts anew."""
        if self._samples and stamp_ns <= self._samples[-1][0]:
            if stamp_ns == self._samples[-1][0]:
                return
            self.clear()
        self._samples.append((stamp_ns, np.concatenate([gyro, force])))

    def integrate(self, start_ns: int, end_ns: int, gyro_bias: np.ndarray) -> Preintegrated | None:
        """Midpoint integration; None where samples are missing."""
        stamps, values = self._between(start_ns, end_ns)
        if stamps is None or values is None:
            return None
        R, alpha, beta = np.eye(3), np.zeros(3), np.zeros(3)
        J_alpha, J_beta = np.zeros((3, 3)), np.zeros((3, 3))
        steps, middles = np.diff(stamps) * 1e-9, 0.5 * (values[1:] + values[:-1])
        for dt, sample in zip(steps, middles, strict=True):
            turn = (sample[:3] - gyro_bias) * dt
            middle = R @ rotation(0.5 * turn)
            force = middle @ sample[3:]
            alpha = alpha + beta * dt + 0.5 * force * dt * dt
            J_alpha = J_alpha + J_beta * dt - 0.5 * middle * dt * dt
            beta = beta + force * dt
            J_beta = J_beta - middle * dt
            R = R @ rotation(turn)
        seconds = (end_ns - start_ns) * 1e-9
        return Preintegrated(seconds, R, alpha, beta, J_alpha, J_beta, gyro_bias)

    def _between(
        self, start_ns: int, end_ns: int
    ) -> tuple[np.ndarray, np.ndarray] | tuple[None, None]:
        """Stamps and samples of a span, interpolated at its ends."""
        if not self._samples or end_ns <= start_ns:
            return None, None
        first, last = self._samples[0][0], self._samples[-1][0]
        if first > start_ns or last + _HOLD_NS < end_ns:
            return None, None
        stamps = np.array([stamp for stamp, _ in self._samples], dtype=np.int64)
        low = max(int(np.searchsorted(stamps, start_ns, side="right")) - 1, 0)
        high = min(int(np.searchsorted(stamps, end_ns, side="left")) + 1, len(stamps))
        stamps = stamps[low:high]
        values = np.stack([self._samples[k][1] for k in range(low, high)])
        if np.diff(stamps, append=max(end_ns, int(stamps[-1]))).max() > _GAP_NS:
            return None, None
        inside = (stamps > start_ns) & (stamps < end_ns)
        knots = np.concatenate([[start_ns], stamps[inside], [end_ns]])
        seconds, at = (stamps - start_ns) * 1e-9, (knots - start_ns) * 1e-9
        samples = np.stack([np.interp(at, seconds, column) for column in values.T], axis=1)
        return knots, samples
