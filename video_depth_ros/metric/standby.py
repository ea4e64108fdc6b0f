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
from video_depth_ros.metric.reasons import USABLE, Verdict

_GIVES_DEPTH = ("lidar", "sparse_depth")
_SILENT = 0.5  # share of stale_after without a good scan, then the others get to work
_RIGHT = 1.0  # misalignment below which a sensor looks where its extrinsics say
_MEASURED = USABLE | {Verdict.REINITIALISED}
_LONGEST = 5.0  # s of a turn in which nothing was measured: as long as a keyframe is kept


class Standby:
    """Whose turn it is.

    A source of motion that rests gets its turn when ``scale.standby`` seconds are over; the turn
    ends with a measurement, or after five seconds with the word why there is none. One that
    contradicts goes on. A sensor is relied on while scan after scan its mounting is seen to be
    right, and not for ``scale.standby`` after it has been taken to be wrong.
    """

    def __init__(self, config: ScaleConfig) -> None:
        self.config = config
        self._good_ns: dict[str, int] = {}  # newest scan to rely on, by sensor
        self._misaligned_ns: dict[str, int] = {}
        self._rests_since_ns: dict[str, int] = {}
        self._works_since_ns: dict[str, int] = {}

    def restart(self) -> None:
        """The disparity's affine frame began anew: everybody to work until a scan is accepted.
        Turns and doubts go on, which are not of that frame."""
        self._good_ns.clear()

    def reset(self) -> None:
        """Forget everything: time may start over."""
        for noted in (self._good_ns, self._misaligned_ns, self._rests_since_ns):
            noted.clear()
        self._works_since_ns.clear()

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
            since = self._works_since_ns.get(source, stamp_ns)
            over = (stamp_ns - since) * 1e-9 >= _LONGEST and verdict is not Verdict.GATED
            if over or verdict in _MEASURED:
                self._rests_since_ns[source] = stamp_ns
                self._works_since_ns.pop(source, None)
        elif verdict is Verdict.MISALIGNED:
            self._misaligned_ns[source] = stamp_ns
            self._good_ns.pop(source, None)
        elif (
            verdict is Verdict.ACCEPTED
            and misalignment < _RIGHT
            and not self._within(self._misaligned_ns.get(source), stamp_ns, self.config.standby)
        ):
            self._good_ns[source] = stamp_ns

    def rests(self, source: str, state: ScaleState, stamp_ns: int) -> bool:
        """Whether a source of motion need not look at the frame at ``stamp_ns``.

        Args:
            source: odometry or imu.
            state: of the scale, before this frame.
            stamp_ns: of the frame.
        """
        lately = _SILENT * self.config.stale_after
        given = any(self._within(good, stamp_ns, lately) for good in self._good_ns.values())
        rests = state is ScaleState.METRIC and given
        if rests:
            since = self._rests_since_ns.setdefault(source, stamp_ns)
            rests = self._within(since, stamp_ns, self.config.standby)
        if rests:
            self._works_since_ns.pop(source, None)
        else:
            self._works_since_ns.setdefault(source, stamp_ns)
        return rests

    @staticmethod
    def _within(since_ns: int | None, stamp_ns: int, seconds: float) -> bool:
        """Whether it is no longer ago than that; a scan may be of a frame after this one."""
        return since_ns is not None and (stamp_ns - since_ns) * 1e-9 < seconds
