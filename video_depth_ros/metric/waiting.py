# SPDX-License-Identifier: Apache-2.0
"""Measurements that wait for the frame of their stamp."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from video_depth_ros.metric.anchors import Anchors, View
from video_depth_ros.metric.reasons import Verdict

_VIEWS = 16  # frames kept for measurements that arrive late
_PENDING = 80  # measurements of a source kept until their frame comes
_HALF_PERIOD = 0.05  # assumed half frame period before two frames were seen [s]
# No frame is so long on its way [s]; what is ahead of the newest by more has another clock. GPS
# time is 18 s ahead of UTC, PTP's TAI 37 s.
LONGEST = 15.0


@dataclass(frozen=True)
class Measurement:
    """A stamped measurement that becomes anchors once its frame is known."""

    source: str
    stamp_ns: int
    anchors: Callable[[View], Anchors | Verdict]


@dataclass(frozen=True)
class _Pending:
    """A measurement, the seconds that it was ahead of the newest frame when it came (0 without
    one), and the number of frames shown before it."""

    measurement: Measurement
    ahead: float
    shown: int


class WaitingRoom:
    """The newest frames, and the measurements that none of them has answered yet.

    Args:
        too_early: called with the source of a measurement that is given up because its stamp is
            ahead of the frames', and with the seconds.
    """

    def __init__(self, too_early: Callable[[str, float], None]) -> None:
        self._too_early = too_early
        self._views: deque[View] = deque(maxlen=_VIEWS)
        self._pending: deque[_Pending] = deque()
        self._shown = 0

    def __len__(self) -> int:
        return len(self._pending)

    def put(self, measurement: Measurement) -> None:
        """Wait; the oldest of its source gives way when there are too many: a fast source must
        not push a slow one out."""
        self._pending.append(_Pending(measurement, self._ahead(measurement.stamp_ns), self._shown))
        own = [
            k for k, p in enumerate(self._pending) if p.measurement.source == measurement.source
        ]
        if len(own) > _PENDING:
            oldest = self._pending[own[0]]
            del self._pending[own[0]]
            # frames were shown since, and its own was not among them; while none comes, as when
            # nobody subscribes, that says nothing of its clock
            if oldest.shown < self._shown:
                ahead = max(oldest.ahead, self._ahead(oldest.measurement.stamp_ns))
                self._too_early(oldest.measurement.source, ahead)

    def show(self, view: View) -> list[tuple[Measurement, View]]:
        """Take a new frame; returns every measurement whose nearest frame is now known."""
        self._views.append(view)
        self._shown += 1
        waiting, ready = list(self._pending), []
        self._pending.clear()
        for pending in waiting:
            nearest = self._view_of(pending.measurement.stamp_ns)
            ahead = self._ahead(pending.measurement.stamp_ns)
            if nearest is not None:
                ready.append((pending.measurement, nearest))
            elif ahead > LONGEST:
                self._too_early(pending.measurement.source, ahead)
            else:
                self._pending.append(pending)
        return ready

    def forget_views(self) -> None:
        """The disparity's affine frame began anew; measurements may still find a frame."""
        self._views.clear()

    def forget_measurements(self) -> None:
        """Time began anew."""
        self._pending.clear()

    def _ahead(self, stamp_ns: int) -> float:
        """Seconds to a stamp from the newest frame's; 0 before the first."""
        return (stamp_ns - self._views[-1].stamp_ns) * 1e-9 if self._views else 0.0

    def _view_of(self, stamp_ns: int) -> View | None:
        """The nearest frame; None when a nearer one is still to come."""
        newest = self._views[-1]
        half = int(_HALF_PERIOD * 1e9)
        if len(self._views) > 1:
            half = (newest.stamp_ns - self._views[-2].stamp_ns) // 2
        if stamp_ns > newest.stamp_ns + half:
            return None
        return min(self._views, key=lambda view: abs(view.stamp_ns - stamp_ns))
