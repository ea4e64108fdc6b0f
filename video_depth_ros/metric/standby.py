# SPDX-License-Identifier: Apache-2.0
"""Odometry and IMU rest while a LiDAR or a depth sensor gives the scale.

To follow features for both costs as much as the small network itself, and beside a scan's anchors
what they add to the scale is little. They check it now and then, and take over in time when the
sensor falls silent.
"""

from __future__ import annotations

from video_depth_ros.frames import ScaleState
from video_depth_ros.metric.config import ScaleConfig
from video_depth_ros.metric.reasons import Verdict

_GIVES_DEPTH = ("lidar", "sparse_depth")
_SILENT = 0.5  # share of stale_after without an accepted scan, then the others get to work


class Standby:
    """Whose turn it is.

    A source of motion that rests gets its turn when ``scale.standby`` seconds are over; the turn
    ends with what it measures, or with its word why it cannot. One that contradicts goes on.
    """

    def __init__(self, config: ScaleConfig) -> None:
        self.config = config
        self._accepted_ns: int | None = None  # newest scan that gave slope and level
        self._rests_since_ns: dict[str, int] = {}

    def restart(self) -> None:
        """The disparity's affine frame began anew: everybody to work."""
        self._accepted_ns = None
        self._rests_since_ns.clear()

    def told(self, source: str, verdict: Verdict, stamp_ns: int) -> None:
        """What became of a measurement of the frame at ``stamp_ns``."""
        if source not in _GIVES_DEPTH:
            if verdict is not Verdict.GATED:
                self._rests_since_ns[source] = stamp_ns
        elif verdict is Verdict.ACCEPTED:
            self._accepted_ns = max(stamp_ns, self._accepted_ns or stamp_ns)

    def rests(self, source: str, state: ScaleState, stamp_ns: int) -> bool:
        """Whether a source of motion need not look at the frame at ``stamp_ns``.

        Args:
            source: odometry or imu.
            state: of the scale, before this frame.
            stamp_ns: of the frame.
        """
        silent = self._accepted_ns is None or (
            (stamp_ns - self._accepted_ns) * 1e-9 > _SILENT * self.config.stale_after
        )
        if silent or state is not ScaleState.METRIC:
            return False
        since = self._rests_since_ns.setdefault(source, stamp_ns)
        return (stamp_ns - since) * 1e-9 < self.config.standby
