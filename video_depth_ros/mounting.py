# SPDX-License-Identifier: Apache-2.0
"""Where sensors sit, seen from the camera's optical frame: from parameters or from TF.

A pose given as a parameter wins. Otherwise TF is asked through tf2_ros where that is installed.
Neither gives: the measurement cannot be used, and the error names both frames and the parameter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from video_depth_ros.errors import ConfigError, InputError
from video_depth_ros.node_config import ExtrinsicsConfig
from video_depth_ros.poses import transform


class TransformSource(Protocol):
    """Something that knows the frames of a robot."""

    def lookup(self, target: str, source: str, stamp_ns: int) -> np.ndarray:
        """T_target_source, float64 [4, 4], at a time.

        Raises:
            InputError: ``transform`` when it is not known.
        """


def pose_matrix(numbers: Sequence[float], name: str) -> np.ndarray | None:
    """T [4, 4] from x y z qx qy qz qw, or None when all are zero.

    Raises:
        ConfigError: not seven finite numbers, or a quaternion that is not of unit length.
    """
    if len(numbers) != 7:
        raise ConfigError(f"parameter {name}: expected 7 numbers, got {len(numbers)}")
    values = np.asarray(numbers, dtype=np.float64)
    if not values.any():
        return None
    norm = float(np.linalg.norm(values[3:]))
    if not np.isfinite(values).all() or abs(norm - 1.0) > 1e-2:
        raise ConfigError(
            f"parameter {name}: expected x y z and a unit quaternion qx qy qz qw, got "
            f"{list(numbers)} whose quaternion has length {norm:.3g}"
        )
    return transform(values[:3], values[3:])


class Transforms:
    """T_camera_sensor of the node's sensors.

    Args:
        config: poses given as parameters.
        tf: TF, or None where tf2_ros is not installed.

    Raises:
        ConfigError: a pose parameter that is not one.
    """

    def __init__(self, config: ExtrinsicsConfig, tf: TransformSource | None) -> None:
        self._given = {
            "points": pose_matrix(config.points, "extrinsics.points"),
            "imu": pose_matrix(config.imu, "extrinsics.imu"),
            "base": pose_matrix(config.base, "extrinsics.base"),
        }
        self._tf = tf

    def is_given(self, sensor: str) -> bool:
        """Whether the pose of ``points``, ``imu`` or ``base`` is a parameter."""
        return self._given[sensor] is not None

    def camera_from(self, sensor: str, camera: str, frame: str, stamp_ns: int) -> np.ndarray:
        """T_camera_sensor, float64 [4, 4].

        Args:
            sensor: points, imu or base.
            camera: frame_id of the images.
            frame: frame_id of the sensor's messages.
            stamp_ns: time of the measurement.

        Raises:
            InputError: ``transform``, naming both frames and what to do.
        """
        given = self._given[sensor]
        if given is not None:
            return given
        if camera == frame and camera:
            return np.eye(4)
        if self._tf is None:
            raise InputError(
                "transform",
                f"no transform from {frame!r} to {camera!r}: tf2_ros is not installed; set the "
                f"parameter extrinsics.{sensor}",
            )
        try:
            return self._tf.lookup(camera, frame, stamp_ns)
        except InputError as error:
            raise InputError(
                "transform", f"{error}; publish it on /tf_static or set extrinsics.{sensor}"
            ) from error
