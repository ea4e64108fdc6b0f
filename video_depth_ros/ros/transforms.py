# SPDX-License-Identifier: Apache-2.0
"""TF through tf2_ros and tf_transformations, where they are installed."""

from __future__ import annotations

import importlib
import logging
from functools import cache
from typing import Any

import numpy as np

from video_depth_ros.errors import InputError
from video_depth_ros.poses import transform

_LOG = logging.getLogger(__name__)


class TfSource:
    """TF by tf2_ros. At a stamp for which TF has no data the newest transform is taken: sensors
    are mounted rigidly, and a LiDAR's scan often comes before the matching /tf."""

    def __init__(self, node: Any, tf2_ros: Any) -> None:
        self._tf2_ros = tf2_ros
        self._buffer = tf2_ros.Buffer(node=node)
        self._listener = tf2_ros.TransformListener(self._buffer, node, spin_thread=False)

    def lookup(self, target: str, source: str, stamp_ns: int) -> np.ndarray:
        """See :class:`TransformSource`."""
        from rclpy.time import Time

        try:
            try:
                found = self._buffer.lookup_transform(target, source, Time(nanoseconds=stamp_ns))
            except self._tf2_ros.ExtrapolationException:
                found = self._buffer.lookup_transform(target, source, Time())
        except self._tf2_ros.TransformException as error:
            raise InputError(
                "transform",
                f"no transform from {source!r} to {target!r}: {type(error).__name__}: {error}",
            ) from error
        return transform_matrix(found.transform)

    def clear(self) -> None:
        """Forget everything: time has moved back."""
        self._buffer.clear()


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
    except ImportError:
        return None
    return TfSource(node, tf2_ros)
