# SPDX-License-Identifier: Apache-2.0
"""What callers keep beside the frames they push, until the estimates come."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Pending(Generic[T]):
    """Values by the stamp of their frame.

    Several frames have one stamp where time moved back while the first was still waiting for its
    group; the pipeline gives their estimates in the order of the frames.

    Args:
        most: stamps kept; the oldest are forgotten, for a frame that failed has no estimate.
    """

    def __init__(self, most: int = 256) -> None:
        self._most = most
        self._values: dict[int, deque[T]] = {}

    def put(self, stamp_ns: int, value: T) -> None:
        """Keep a value for a frame that is about to be pushed."""
        self._values.setdefault(stamp_ns, deque()).append(value)
        if len(self._values) > self._most:
            del self._values[next(iter(self._values))]

    def take_back(self, stamp_ns: int) -> None:
        """The frame was refused: forget the value put last."""
        self._values[stamp_ns].pop()
        self._tidy(stamp_ns)

    def pop(self, stamp_ns: int) -> T:
        """The value of the frame whose estimate has come.

        Raises:
            KeyError: no frame of this stamp waits.
        """
        value = self._values[stamp_ns].popleft()
        self._tidy(stamp_ns)
        return value

    def clear(self) -> None:
        """Forget all: no estimates will come."""
        self._values.clear()

    def _tidy(self, stamp_ns: int) -> None:
        if not self._values[stamp_ns]:
            del self._values[stamp_ns]
