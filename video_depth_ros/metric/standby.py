# SPDX-License-Identifier: Apache-2.0
"""Odometry and IMU rest while a LiDAR or a depth sensor gives the scale.

To follow features for both costs as much as the small network itself, and beside a scan's anchors
what they add to the scale is little. They check it now and then, and take over in time when the
sensor falls silent.
"""

from __future__ import annotations

import math

from video_depth_ros.frames import ScaleState
from video_depth_ros.metric.config import ScaleConfig
from video_depth_ros.metric.reasons import Verdict

_GIVES_DEPTH = ("lidar", "sparse_depth")
_SILENT = 0.5  # share of stale_after without a good scan, then the others get to work
_RIGHT = 1.0  # misalignment below which a sensor looks where its extrinsics say


class Standby:
    """Whose turn it is.

    A source of motion that rests gets its turn when ``scale.standby`` seconds are over; the turn
    ends with what it measures, or with its word why it cannot. One that contradicts goes on.
    A sensor is relied on while scan after scan its mounting is seen to be right, and not for that
    long after it has been taken to be wrong.
    """

    def __init__(self, config: ScaleConfig) -> None:
        self.config = config
        self._good_ns: int | None = None  # newest scan to rely on
        self._misaligned_ns: int | None = None
        self._rests_since_ns: dict[str, int] = {}

    def restart(self) -> None:
        """The disparity's affine frame began anew: everybody to work."""
        self._good_ns = None
        self._misaligned_ns = None
        self._rests_since_ns.clear()

    def told(
        self, source: str, verdict: Verdict, stamp_ns: int, misalignment: float = math.nan
    ) -> None:
        """What became of a measurement of the frame at ``stamp_ns``.

        Args:
            source: any.
            verdict: the outcome.
            stamp_ns: of the frame.
            misalignment: of a sensor that gives depth, NaN where nothing tells it.
        """
        if source not in _GIVES_DEPTH:
            if verdict is not Verdict.GATED:
                self._rests_since_ns[source] = stamp_ns
        elif verdict is Verdict.MISALIGNED:
            self._misaligned_ns, self._good_ns = stamp_ns, None
        elif verdict is Verdict.ACCEPTED and misalignment < _RIGHT and not self._doubted(stamp_ns):
            self._good_ns = max(stamp_ns, self._good_ns or stamp_ns)

    def rests(self, source: str, state: ScaleState, stamp_ns: int) -> bool:
        """Whether a source of motion need not look at the frame at ``stamp_ns``.

        Args:
            source: odometry or imu.
            state: of the scale, before this frame.
            stamp_ns: of the frame.
        """
        silent = self._good_ns is None or (
            (stamp_ns - self._good_ns) * 1e-9 > _SILENT * self.config.stale_after
        )
        if silent or state is not ScaleState.METRIC:
            return False
        since = self._rests_since_ns.setdefault(source, stamp_ns)
        return (stamp_ns - since) * 1e-9 < self.config.standby

    def _doubted(self, stamp_ns: int) -> bool:
        """Whether a sensor has been misaligned lately."""
        wrong = self._misaligned_ns
        return wrong is not None and (stamp_ns - wrong) * 1e-9 < self.config.standby
