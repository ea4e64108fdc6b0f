# SPDX-License-Identifier: Apache-2.0
"""Measurements that wait for the frame of their stamp."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from video_depth_ros.metric.anchors import Anchors, View
from video_depth_ros.metric.reasons import Verdict

_VIEWS = 16  # frames kept for measurements that arrive late
_PENDING = 80  # measurements kept until their frame comes
_HALF_PERIOD = 0.05  # assumed half frame period before two frames were seen [s]


@dataclass(frozen=True)
class Measurement:
    """A stamped measurement that becomes anchors once its frame is known."""

    source: str
    stamp_ns: int
    anchors: Callable[[View], Anchors | Verdict]


class WaitingRoom:
    """The newest frames, and the measurements that none of them has answered yet."""

    def __init__(self) -> None:
        self._views: deque[View] = deque(maxlen=_VIEWS)
        self._pending: deque[Measurement] = deque(maxlen=_PENDING)

    def __len__(self) -> int:
        return len(self._pending)

    def put(self, measurement: Measurement) -> None:
        """Wait; the oldest gives way when there are too many."""
        self._pending.append(measurement)

    def show(self, view: View) -> list[tuple[Measurement, View]]:
        """Take a new frame; returns every measurement whose nearest frame is now known."""
        self._views.append(view)
        waiting, ready = list(self._pending), []
        self._pending.clear()
        for measurement in waiting:
            nearest = self._view_of(measurement.stamp_ns)
            if nearest is None:
                self._pending.append(measurement)
            else:
                ready.append((measurement, nearest))
        return ready

    def forget_views(self) -> None:
        """The disparity's affine frame began anew; measurements may still find a frame."""
        self._views.clear()

    def forget_measurements(self) -> None:
        """Time began anew."""
        self._pending.clear()

    def _view_of(self, stamp_ns: int) -> View | None:
        """The nearest frame; None when a nearer one is still to come."""
        newest = self._views[-1]
        half = int(_HALF_PERIOD * 1e9)
        if len(self._views) > 1:
            half = (newest.stamp_ns - self._views[-2].stamp_ns) // 2
        if stamp_ns > newest.stamp_ns + half:
            return None
        return min(self._views, key=lambda view: abs(view.stamp_ns - stamp_ns))
