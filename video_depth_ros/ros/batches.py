# SPDX-License-Identifier: Apache-2.0
"""Messages of fast topics are taken in batches.

To wake up for a message costs an executor of rclpy several times as much as to take it: it builds
its wait set anew each time. An IMU sends hundreds a second.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from rclpy.callback_groups import CallbackGroup
from rclpy.exceptions import InvalidHandle
from rclpy.subscription import Subscription

_MOST = 1000  # at a time, so that a flood cannot hold the executor


class Sleeper(CallbackGroup):
    """A group for one subscription, which is left out of the executor's wait set for a while after
    each batch, with its events: on Fast DDS these alone would wake it for every message.

    Something else, a timer, has to wake the executor in time.

    Args:
        group: the group it would be in otherwise, with whose callbacks it does not run at a time.
        seconds: from one batch to the next.
    """

    def __init__(self, group: CallbackGroup, seconds: float) -> None:
        super().__init__()
        self._group = group
        self._seconds = seconds
        self._until = 0.0

    def sleep(self) -> None:
        """Begin to sleep, or go on."""
        self._until = time.monotonic() + self._seconds

    def add_entity(self, entity: Any) -> None:
        """Take in a subscription, or one of its events."""
        super().add_entity(entity)
        self._group.add_entity(entity)

    def can_execute(self, entity: Any) -> bool:
        """Whether an executor may wait for this, and call it."""
        return time.monotonic() >= self._until and self._group.can_execute(entity)

    def beginning_execution(self, entity: Any) -> bool:
        """Whether a callback may begin."""
        return self._group.beginning_execution(entity)

    def ending_execution(self, entity: Any) -> None:
        """A callback has ended."""
        self._group.ending_execution(entity)


def take_all(subscription: Subscription) -> Iterator[Any]:
    """The messages that wait for a subscription, oldest first; none once it is destroyed."""
    try:
        with subscription.handle:
            for _ in range(_MOST):
                taken = subscription.handle.take_message(subscription.msg_type, False)
                if taken is None:
                    return
                yield taken[0]
    except InvalidHandle:
        return
