# SPDX-License-Identifier: Apache-2.0
"""ROS messages to the core's arrays and back; the one place that knows how messages hold bytes.

Large arrays reach a message as ``array.array("B")``: any other type makes rclpy check the message
byte by byte, which costs a thousand times more (0.8 s for a cloud of a megapixel).
"""

from __future__ import annotations

import array
import importlib
from functools import cache
from typing import Any

import cv2
import numpy as np
from builtin_interfaces.msg import Time
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2, PointField
from std_msgs.msg import Header

from video_depth_ros.bags import contents
from video_depth_ros.bags.contents import cloud_of as cloud_of
from video_depth_ros.bags.contents import depth_of as depth_of
from video_depth_ros.bags.contents import points_of as points_of
from video_depth_ros.bags.depth_messages import millimetres
from video_depth_ros.bags.messages import stamp_of as stamp_of
from video_depth_ros.camera import Camera
from video_depth_ros.errors import InputError
from video_depth_ros.point_cloud import CLOUD_POINT_STEP, pack_cloud

NANOSECONDS = 1_000_000_000


def time_of(stamp_ns: int) -> Time:
    """Nanoseconds as a message; the exact inverse of :func:`stamp_of`."""
    seconds, nanoseconds = divmod(stamp_ns, NANOSECONDS)
    return Time(sec=seconds, nanosec=nanoseconds)


def header_of(stamp_ns: int, frame_id: str) -> Header:
    """A header."""
    return Header(stamp=time_of(stamp_ns), frame_id=frame_id)


def rgb_of(message: Image | CompressedImage) -> np.ndarray:
    """The image as uint8 RGB [H, W, 3].

    An encoding that we do not decode ourselves goes through cv_bridge where it is installed.

    Raises:
        InputError: see :func:`~video_depth_ros.decoding.decode_image`.
    """
    try:
        return contents.rgb_of(message)
    except InputError as error:
        if error.reason == "encoding":
            return _by_cv_bridge(message, error)
        raise


def _by_cv_bridge(message: Image, refusal: InputError) -> np.ndarray:
    bridge = _cv_bridge()
    if bridge is None:
        raise refusal
    try:
        return np.asarray(bridge.imgmsg_to_cv2(message, "rgb8"))
    except Exception as error:  # cv_bridge raises its own and OpenCV's
        raise InputError("encoding", f"{refusal}; cv_bridge: {error}") from error


@cache
def _cv_bridge() -> Any:
    """A CvBridge, or None where cv_bridge is missing or built for another NumPy."""
    try:
        return importlib.import_module("cv_bridge").CvBridge()
    except Exception:  # apt's cv_bridge dies of NumPy 2 in several ways
        return None


def image_message(header: Header, pixels: np.ndarray, encoding: str) -> Image:
    """An image message from [H, W] or [H, W, C] pixels that already have the encoding's type."""
    little = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("<"))
    message = Image(header=header, encoding=encoding)
    message.height, message.width = little.shape[:2]
    message.step = little.strides[0]
    message.data = _byte_array(little)
    return message


def depth_message(header: Header, depth: np.ndarray, encoding: str) -> Image:
    """Depth float32 [H, W] in metres as 32FC1, or as 16UC1 millimetres (REP-118)."""
    values = millimetres(depth) if encoding == "16UC1" else depth
    return image_message(header, values, encoding)


def camera_info_message(header: Header, camera: Camera) -> CameraInfo:
    """A monocular camera's info: R = I, P = [K 0]."""
    k = camera.matrix
    message = CameraInfo(header=header, height=camera.height, width=camera.width)
    model = camera.distortion_model
    message.distortion_model = "plumb_bob" if model == "none" else model
    message.d = list(camera.distortion) or [0.0] * 5
    message.k = k.reshape(-1)
    message.r = np.eye(3).reshape(-1)
    message.p = np.hstack([k, np.zeros((3, 1))]).reshape(-1)
    return message


def cloud_message(header: Header, points: np.ndarray, rgb: np.ndarray) -> PointCloud2:
    """Organised cloud from points float32 [H, W, 3] (NaN unknown) and rgb uint8 [H, W, 3]."""
    packed, fields = pack_cloud(points, rgb)
    message = PointCloud2(header=header)
    message.height, message.width = packed.shape[:2]
    message.fields = [
        PointField(name=f.name, offset=f.offset, datatype=f.datatype, count=f.count)
        for f in fields
    ]
    message.point_step = CLOUD_POINT_STEP
    message.row_step = CLOUD_POINT_STEP * message.width
    message.is_bigendian = False
    message.is_dense = bool(np.isfinite(points[..., 2]).all())
    message.data = _byte_array(packed)
    return message


def _byte_array(contiguous: np.ndarray) -> array.array:
    data = array.array("B")
    data.frombytes(contiguous.reshape(-1).view(np.uint8).data)
    return data


def colour_of(disparity: np.ndarray, low: float, high: float) -> np.ndarray:
    """Disparity [H, W] as RGB: ``low`` (far) is dark, ``high`` (near) is bright, NaN is black."""
    span = max(high - low, 1e-9)
    level = np.clip((np.nan_to_num(disparity, nan=low) - low) * (255.0 / span), 0, 255)
    colour = cv2.applyColorMap(level.astype(np.uint8), cv2.COLORMAP_INFERNO)
    colour[np.isnan(disparity)] = 0
    return cv2.cvtColor(colour, cv2.COLOR_BGR2RGB)
