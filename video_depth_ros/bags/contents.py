# SPDX-License-Identifier: Apache-2.0
"""What image and cloud messages hold, as arrays.

Only attribute names are used, so messages read from a bag and rclpy's own are taken alike.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from video_depth_ros.bags.messages import vector_of
from video_depth_ros.decoding import (
    decode_compressed,
    decode_compressed_depth,
    decode_depth,
    decode_image,
)
from video_depth_ros.errors import InputError
from video_depth_ros.point_cloud import Cloud, read_cloud


def rgb_of(message: Any) -> np.ndarray:
    """uint8 RGB [H, W, 3] of an Image or a CompressedImage.

    Raises:
        InputError: see :func:`~video_depth_ros.decoding.decode_image`.
    """
    if hasattr(message, "format"):
        return decode_compressed(message.data, message.format)
    return decode_image(*_layout(message))


def depth_of(message: Any) -> np.ndarray:
    """float32 [H, W] in metres, NaN unknown, of a depth image: an Image of 16UC1 or 32FC1, or a
    CompressedImage of either.

    Raises:
        InputError: see :func:`~video_depth_ros.decoding.decode_depth` and
            :func:`~video_depth_ros.decoding.decode_compressed_depth`.
    """
    if hasattr(message, "format"):
        return decode_compressed_depth(message.data, message.format)
    return decode_depth(*_layout(message))


def motion_of(message: Any) -> tuple[np.ndarray, np.ndarray]:
    """Angular velocity [rad/s] and specific force [m/s^2] of an Imu, float64 [3] each.

    Raises:
        InputError: ``not_reported``, when the sensor has none of the two: sensor_msgs/Imu says so
            by -1 as the covariance's first element. Some drivers write that beside true data, so
            only zeros are taken at that word.
    """
    rate, force = vector_of(message.angular_velocity), vector_of(message.linear_acceleration)
    for name, vector in (("angular_velocity", rate), ("linear_acceleration", force)):
        if getattr(message, f"{name}_covariance")[0] == -1.0 and not vector.any():
            raise InputError(
                "not_reported",
                f"the IMU's {name} is zero and its covariance[0] -1, which says that it is not "
                "measured; both angular velocity and linear acceleration are needed. Take an IMU "
                "topic that has them, or leave imu out of scale.sources",
            )
    return rate, force


def registered_depth_of(message: Any, image_frame: str) -> np.ndarray:
    """:func:`depth_of` a depth image whose pixels are those of the images.

    Args:
        message: the depth image; one without a frame_id counts as registered.
        image_frame: frame_id of the images; empty when they have none.

    Raises:
        InputError: ``frame`` when it was taken in another frame; or as :func:`depth_of`.
    """
    frame = str(message.header.frame_id)
    if frame and image_frame and frame.lstrip("/") != image_frame.lstrip("/"):
        raise InputError(
            "frame",
            f"sparse depth has frame_id {frame!r}, the images have {image_frame!r}: it is not "
            "registered to them; take the registered topic, which depth cameras call "
            "aligned_depth_to_color or depth_registered",
        )
    return depth_of(message)


def points_of(message: Any) -> np.ndarray:
    """Finite points float [N, 3] of a PointCloud2, in the cloud's own frame.

    Raises:
        InputError: see :func:`~video_depth_ros.point_cloud.read_cloud`.
    """
    return cloud_of(message, None).points


def cloud_of(message: Any, stamp_ns: int | None) -> Cloud:
    """Finite points of a PointCloud2 and, given its stamp, the time of each.

    Raises:
        InputError: see :func:`~video_depth_ros.point_cloud.read_cloud`.
    """
    return read_cloud(
        message.data,
        message.fields,
        message.height,
        message.width,
        message.point_step,
        message.row_step,
        message.is_bigendian,
        stamp_ns,
    )


def _layout(message: Any) -> tuple[Any, ...]:
    return (
        message.data,
        message.encoding,
        message.height,
        message.width,
        message.step,
        message.is_bigendian,
    )
