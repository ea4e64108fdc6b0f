# SPDX-License-Identifier: Apache-2.0
"""Logging: each reason at most once per period, and the core's log lines in ROS's log."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any


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


class RosHandler(logging.Handler):
    """Passes the records of Python's ``logging``, which the core uses, to a node's logger."""

    def __init__(self, logger: Any) -> None:
        super().__init__()
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        """Log one record at its level. One call site per level: rclpy insists on that."""
        text = self.format(record)
        if record.levelno >= logging.ERROR:
            self._logger.error(text)
        elif record.levelno >= logging.WARNING:
            self._logger.warning(text)
        elif record.levelno >= logging.INFO:
            self._logger.info(text)
        else:
            self._logger.debug(text)
