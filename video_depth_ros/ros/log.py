# SPDX-License-Identifier: Apache-2.0
"""The core's log lines in ROS's log."""

from __future__ import annotations

import logging
from typing import Any


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
