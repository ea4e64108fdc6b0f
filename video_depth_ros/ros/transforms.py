# SPDX-License-Identifier: Apache-2.0
"""TF through tf2_ros and tf_transformations, where they are installed."""

from __future__ import annotations

import importlib
import logging
import time
from functools import cache
from typing import Any

import numpy as np
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.time import Time

from video_depth_ros.errors import InputError
from video_depth_ros.poses import transform

_LOG = logging.getLogger(__name__)
PATIENCE = 5.0  # s; discovery of a latched /tf_static takes one, on a busy machine three


class TfSource:
    """TF by tf2_ros: ``/tf_static``, and ``/tf`` only for a robot that needs it.

    Sensors are mounted rigidly, as a rule, and what moves comes hundreds of times a second: Python
    pays for every message. So ``/tf`` is heard from when ``/tf_static`` alone has left a question
    open for ``PATIENCE`` seconds (a LiDAR or a camera that pans). At a stamp for which ``/tf`` has
    no data the newest transform is taken: a scan often comes before the matching one.

    Args:
        node: that listens.
        tf2_ros, tf2_msgs: the modules.
    """

    def __init__(self, node: Any, tf2_ros: Any, tf2_msgs: Any) -> None:
        self._tf2_ros = tf2_ros
        self._node = node
        self._kind = tf2_msgs.TFMessage
        self._buffer = tf2_ros.Buffer(node=node)
        # that of tf2_ros' own listener, which cannot be had for /tf_static alone
        static = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._subscriptions = [
            node.create_subscription(self._kind, "/tf_static", self._take_static, static)
        ]
        # frames whose question is open -> time.monotonic() since when
        self._open: dict[tuple[str, str], float] = {}
        # subscriptions are made where the node's callbacks run; questions come from a worker
        self._wanted = node.create_guard_condition(self._hear_moving)

    def lookup(self, target: str, source: str, stamp_ns: int) -> np.ndarray:
        """See :class:`TransformSource`. A leading slash (ROS 1) is passed over."""
        target, source = target.lstrip("/"), source.lstrip("/")
        try:
            try:
                found = self._buffer.lookup_transform(target, source, Time(nanoseconds=stamp_ns))
            except self._tf2_ros.ExtrapolationException:
                found = self._buffer.lookup_transform(target, source, Time())
        except self._tf2_ros.TransformException as error:
            self._left_open(target, source)
            raise InputError(
                "transform",
                f"no transform from {source!r} to {target!r}: {type(error).__name__}: {error}",
            ) from error
        self._open.pop((target, source), None)
        return transform_matrix(found.transform)

    def clear(self) -> None:
        """Forget what moved: time has moved back. What is static stays."""
        self._buffer.clear()

    def _left_open(self, target: str, source: str) -> None:
        now = time.monotonic()
        since = self._open.setdefault((target, source), now)
        if len(self._subscriptions) == 1 and now - since >= PATIENCE:
            self._wanted.trigger()

    def _hear_moving(self) -> None:
        if len(self._subscriptions) == 1:
            self._node.get_logger().info("/tf_static does not place every sensor: hearing /tf too")
            self._subscriptions.append(
                self._node.create_subscription(self._kind, "/tf", self._take_moving, 100)
            )

    def _take_static(self, message: Any) -> None:
        for edge in message.transforms:
            self._buffer.set_transform_static(edge, "tf_static")

    def _take_moving(self, message: Any) -> None:
        for edge in message.transforms:
            self._buffer.set_transform(edge, "tf")


def transform_matrix(message: Any) -> np.ndarray:
    """T [4, 4] of a ``geometry_msgs/Transform``, by tf_transformations where it can be used."""
    t, q = message.translation, message.rotation
    tf_transformations = _tf_transformations()
    if tf_transformations is None:
        return transform(np.array([t.x, t.y, t.z]), np.array([q.x, q.y, q.z, q.w]))
    T = np.array(tf_transformations.quaternion_matrix([q.x, q.y, q.z, q.w]), dtype=np.float64)
    T[:3, 3] = (t.x, t.y, t.z)
    return T


@cache
def _tf_transformations() -> Any:
    """The module, or None where it is missing or does not run with this NumPy."""
    try:
        module = importlib.import_module("tf_transformations")
        module.quaternion_matrix([0.0, 0.0, 0.0, 1.0])
    except Exception as error:  # an old transforms3d dies of new NumPy, by an AttributeError
        if not (isinstance(error, ModuleNotFoundError) and error.name == "tf_transformations"):
            _LOG.warning(
                "tf_transformations is not used, it fails: %s: %s; upgrade it and transforms3d",
                type(error).__name__,
                error,
            )
        return None
    return module


def tf_source(node: Any) -> TfSource | None:
    """TF for a node, or None where tf2_ros is not installed."""
    try:
        tf2_ros = importlib.import_module("tf2_ros")
        tf2_msgs = importlib.import_module("tf2_msgs.msg")
    except ImportError:
        return None
    return TfSource(node, tf2_ros, tf2_msgs)
