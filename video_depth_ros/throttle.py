# SPDX-License-Identifier: Apache-2.0
"""Each reason at most once per period: a fault that lasts must not fill the log."""

from __future__ import annotations

import threading
import time


class Throttle:
    """Lets each key through once per ``period`` seconds, from any thread."""

    def __init__(self, period: float = 5.0) -> None:
        self._period = period
        self._lock = threading.Lock()
        self._last: dict[str, float] = {}

    def passes(self, key: str) -> bool:
        """Whether ``key`` may be logged now."""
        now = time.monotonic()
        with self._lock:
            last = self._last.get(key)
            if last is not None and now - last < self._period:
                return False
            self._last[key] = now
            return True

    def reset(self) -> None:
        """Let every key through again."""
        with self._lock:
            self._last.clear()
