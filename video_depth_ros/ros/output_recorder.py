# SPDX-License-Identifier: Apache-2.0
"""Recording what a node publishes into a bag, with the moment each message arrived."""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy

from video_depth_ros.bags.writer import BagWriter


def header_stamp_ns(data: bytes) -> int:
    """Stamp of a serialised message whose first field is a std_msgs/Header.

    CDR: four bytes of encapsulation (the second tells the byte order), then sec and nanosec.
    """
    order = "<" if data[1] & 1 else ">"
    sec, nanosec = struct.unpack_from(f"{order}iI", data, 4)
    return int(sec) * 1_000_000_000 + int(nanosec)


class OutputRecorder:
    """Subscribes topics raw and writes every message as it came.

    Attributes:
        arrivals: topic -> {header stamp [ns]: monotonic arrival time [s]}.
    """

    def __init__(self, node: Node, writer: BagWriter, topics: Mapping[str, type]) -> None:
        """``topics``: name -> message class; each class must begin with a Header."""
        self.arrivals: dict[str, dict[int, float]] = {topic: {} for topic in topics}
        self._node = node
        self._writer = writer
        self._changed = threading.Condition()
        profile = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)
        for topic, kind in topics.items():
            package = kind.__module__.split(".")[0]
            writer.add_topic(topic, f"{package}/msg/{kind.__name__}")
            node.create_subscription(kind, topic, self._taker(topic), profile, raw=True)

    def count(self, topic: str) -> int:
        """Messages taken from ``topic`` so far."""
        with self._changed:
            return len(self.arrivals[topic])

    def publishers(self, topic: str) -> int:
        """Publishers known of ``topic``."""
        return self._node.count_publishers(topic)

    def wait_quiet(self, topic: str, last_stamp_ns: int, quiet: float) -> None:
        """Until the message with ``last_stamp_ns`` came, or nothing came for ``quiet`` seconds."""
        with self._changed:
            arrived = self.arrivals[topic]
            before = -1
            while last_stamp_ns not in arrived and len(arrived) > before:
                before = len(arrived)
                deadline = time.monotonic() + quiet
                while len(arrived) == before and (left := deadline - time.monotonic()) > 0:
                    self._changed.wait(left)

    def _taker(self, topic: str) -> Callable[[Any], None]:
        def take(data: bytes) -> None:
            now = time.monotonic()
            stamp_ns = header_stamp_ns(data)
            self._writer.write_raw(topic, stamp_ns, data)
            with self._changed:
                self.arrivals[topic][stamp_ns] = now
                self._changed.notify_all()

        return take
