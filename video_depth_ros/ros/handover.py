# SPDX-License-Identifier: Apache-2.0
"""From the executor's callbacks to the worker: bounded, newest wins, evenly decimated.

Callbacks only hand messages over. When the network is slower than the camera, images are left
out evenly instead of in bursts between two runs of the network: of the images that arrive, the
share that the network can take is accepted, and spacings differ by at most one camera period.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

_MARGIN = 1.05  # capacity is planned this much below the measured throughput
_COSTS = 12  # images over which the cost of one is told, or three groups where that is more
_WARM_UP = 5  # first images, at least, whose cost is not typical
_LONGEST_PERIOD = 1.0  # s; what arrives later than this after the one before is a pause as well
_MEASUREMENTS = {"camera_info": 4, "points": 20, "sparse_depth": 20, "odom": 2000, "imu": 8000}


class Counters:
    """Named event counts, from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}

    def add(self, name: str, number: int = 1) -> None:
        """Count one more."""
        with self._lock:
            self._counts[name] = self._counts.get(name, 0) + number

    def snapshot(self) -> dict[str, int]:
        """All counts so far, by name."""
        with self._lock:
            return dict(sorted(self._counts.items()))


class Decimator:
    """Chooses which arriving images are used; even in time, adapting to cost and arrival rate.

    Args:
        max_rate: most images per second; 0 is no limit.
        group: images of which the last one runs the network.
    """

    def __init__(self, max_rate: float = 0.0, group: int = 1) -> None:
        self.max_rate = max_rate
        self._group = group
        self._period: float | None = None
        self._last: float | None = None
        self._open_group: list[float] = []
        self._costs: deque[float] = deque(maxlen=max(3, _COSTS // group))  # of whole groups
        self._credit = 1.0
        # the first image is a group of its own, and the first whole group compiles and allocates
        self._warm_up = max(_WARM_UP, 1 + group)

    @property
    def share(self) -> float:
        """The share of arriving images that is used now, 0 to 1."""
        if self._period is None:
            return 1.0
        # the median: one long stall (a compilation, a busy device) is no throughput
        known = len(self._costs) >= max(2, 4 // self._group)
        cost = _MARGIN * statistics.median_low(self._costs) / self._group if known else 0.0
        if self.max_rate > 0.0:
            cost = max(cost, 1.0 / self.max_rate)
        return 1.0 if cost <= self._period else self._period / cost

    def accept(self, now: float) -> bool:
        """Whether the image that arrives ``now`` [s] is used."""
        if self._last is not None and now > self._last:
            # a pause is no rate, but a camera that has become slow must not stay decimated
            interval = min(now - self._last, _LONGEST_PERIOD)
            old = interval if self._period is None else self._period
            self._period = old + 0.1 * (interval - old)
        self._last = now
        self._credit += self.share
        if self._credit < 1.0:
            return False
        self._credit -= 1.0
        return True

    def spent(self, seconds: float) -> None:
        """Time that the worker spent on one image that reached the network's group."""
        if self._warm_up:
            self._warm_up -= 1
            return
        self._open_group.append(seconds)
        if len(self._open_group) == self._group:
            self._costs.append(sum(self._open_group))
            self._open_group.clear()


@dataclass
class Batch:
    """What the worker does next, in this order."""

    commands: list[Callable[[], None]] = field(default_factory=list)
    measurements: list[tuple[str, Any]] = field(default_factory=list)
    frame: Any = None
    arrival: float = 0.0  # time.monotonic() of the frame
    # largest interval [ns] between images as the camera sent them, since the frame taken before:
    # what the node itself left out is no gap of the camera
    camera_gap_ns: int = 0


@dataclass
class _Waiting:
    message: Any
    arrival: float
    camera_gap_ns: int


class Handover:
    """The queues between callbacks and worker.

    Args:
        counters: drops are counted here: ``decimated``, ``overload``, ``inactive`` and
            ``<measurement>_overload``.
        group: images of which the last one runs the network.
    """

    def __init__(self, counters: Counters, group: int = 1) -> None:
        self._counters = counters
        self._changed = threading.Condition()
        self._commands: list[Callable[[], None]] = []
        self._measurements: dict[str, deque[Any]] = {name: deque() for name in _MEASUREMENTS}
        self._frames: deque[_Waiting] = deque()
        self._newest_ns: int | None = None  # stamp of the image that came last
        self._gap_ns = 0
        self._closed = False
        self.open = False  # whether images and measurements are taken
        self.capacity = 1 if group == 1 else group + 1  # images that may wait
        self.decimator = Decimator(group=group)

    def offer_frame(self, message: Any, stamp_ns: int) -> None:
        """An image has come, with this stamp."""
        now = time.monotonic()
        with self._changed:
            if not self.open:
                self._counters.add("inactive")
                return
            if self._newest_ns is not None:
                self._gap_ns = max(self._gap_ns, stamp_ns - self._newest_ns)
            self._newest_ns = stamp_ns
            if not self.decimator.accept(now):
                self._counters.add("decimated")
                return
            self._frames.append(_Waiting(message, now, self._gap_ns))
            self._gap_ns = 0
            while len(self._frames) > self.capacity:
                pushed_out = self._frames.popleft()
                oldest = self._frames[0]
                oldest.camera_gap_ns = max(oldest.camera_gap_ns, pushed_out.camera_gap_ns)
                self._counters.add("overload")
            self._changed.notify()

    def offer(self, kind: str, message: Any) -> None:
        """Anything but an image has come: camera_info, points, sparse_depth, odom or imu."""
        with self._changed:
            if not self.open and kind != "camera_info":
                return
            queue = self._measurements[kind]
            queue.append(message)
            if len(queue) > _MEASUREMENTS[kind]:
                queue.popleft()
                if kind != "camera_info":  # the newest says it all
                    self._counters.add(f"{kind}_overload")

    def command(self, action: Callable[[], None]) -> None:
        """Have the worker call ``action`` before anything that comes later."""
        with self._changed:
            self._commands.append(action)
            self._changed.notify()

    def clear(self) -> None:
        """Drop everything that waits, but for camera_info, which does not age."""
        with self._changed:
            self._frames.clear()
            self._newest_ns, self._gap_ns = None, 0
            for kind, queue in self._measurements.items():
                if kind != "camera_info":
                    queue.clear()

    def close(self) -> None:
        """End the worker's loop; what it was to do holds nothing alive any more."""
        with self._changed:
            self._closed = True
            self._commands.clear()
            self._changed.notify()

    def take(self, timeout: float) -> Batch | None:
        """The next work; an empty batch after ``timeout`` seconds, None when closed.

        Measurements are handed out with the image or command that they precede.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._commands or self._frames, timeout)
            if self._closed:
                return None
            batch = Batch(commands=self._commands)
            self._commands = []
            for kind, queue in self._measurements.items():
                batch.measurements += [(kind, message) for message in queue]
                queue.clear()
            if self._frames:
                frame = self._frames.popleft()
                batch.frame, batch.arrival = frame.message, frame.arrival
                batch.camera_gap_ns = frame.camera_gap_ns
            return batch
