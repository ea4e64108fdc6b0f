# SPDX-License-Identifier: Apache-2.0
"""Playing a recording over DDS at its own pace, with /clock, as `ros2 bag play --clock` does."""

from __future__ import annotations

import importlib
import logging
import time
from collections.abc import Callable
from typing import Any

from builtin_interfaces.msg import Time
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock

from video_depth_ros.bags.reader import Recording
from video_depth_ros.ros.output_recorder import header_stamp_ns

_LOG = logging.getLogger(__name__)
LATCHED = ("/tf_static",)
# That of `ros2 bag play --clock`. With every message, an IMU's 200 a second would double what
# the callbacks of all listeners cost.
CLOCK_PERIOD_NS = 25_000_000


class BagPlayer:
    """Publishes the messages of a recording.

    Attributes:
        departures: header stamp [ns] of every image sent -> monotonic time [s].
    """

    def __init__(self, node: Node, recording: Recording, image_topic: str) -> None:
        self._node = node
        self._recording = recording
        self._image_topic = image_topic
        self.departures: dict[int, float] = {}
        self._clock = node.create_publisher(Clock, "/clock", 10)
        self._publishers: dict[str, Publisher] = {}
        for name, topic in recording.topics.items():
            message = _message_class(topic.kind)
            if message is None:
                _LOG.info("%s is not played: no Python class for %s here", name, topic.kind)
            elif name != "/clock":
                self._publishers[name] = node.create_publisher(message, name, _profile(name))

    def listeners(self) -> int:
        """Subscriptions matched with the image topic."""
        return int(self._publishers[self._image_topic].get_subscription_count())

    def play(self, rate: float = 1.0, tick: Callable[[int], None] | None = None) -> None:
        """Send everything, ``rate`` times as fast as it was recorded.

        ``tick`` is called with the number of images sent so far.
        """
        start = time.monotonic()
        first_ns: int | None = None
        clock_ns: int | None = None
        for received in self._recording.messages(list(self._publishers)):
            time_ns = received.time_ns
            first_ns = time_ns if first_ns is None else first_ns
            due = start + (time_ns - first_ns) * 1e-9 / rate
            time.sleep(max(0.0, due - time.monotonic()))
            if clock_ns is None or time_ns >= clock_ns + CLOCK_PERIOD_NS:
                clock = Time(sec=time_ns // 10**9, nanosec=time_ns % 10**9)
                self._clock.publish(Clock(clock=clock))
                clock_ns = time_ns
            if received.topic == self._image_topic:
                self.departures[header_stamp_ns(received.data)] = time.monotonic()
                if tick is not None:
                    tick(len(self.departures))
            self._publishers[received.topic].publish(received.data)


def _message_class(kind: str) -> Any | None:
    """The Python class of ``package/msg/Name``, or None where that package is not installed."""
    package, _, name = kind.split("/")
    try:
        return getattr(importlib.import_module(f"{package}.msg"), name)
    except (ImportError, AttributeError):
        return None


def _profile(topic: str) -> QoSProfile:
    latched = topic in LATCHED
    return QoSProfile(
        depth=1 if latched else 10,
        reliability=ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )
