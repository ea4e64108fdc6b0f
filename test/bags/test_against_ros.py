# SPDX-License-Identifier: Apache-2.0
"""ROS's own serialisation as the oracle: rclpy reads what we write, and we read what it writes."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

from video_depth_ros.bags import messages as m
from video_depth_ros.camera import Camera
from video_depth_ros.point_cloud import pack_cloud, read_points
from video_depth_ros.poses import T_BODY_OPTICAL

serialization = pytest.importorskip("rclpy.serialization", reason="rclpy is not installed")

STAMP = 1_700_000_000_123_456_789
CAMERA = Camera(64, 48, 50.0, 51.0, 31.2, 24.7, "plumb_bob", (-0.3, 0.1, 1e-3, -2e-3, 0.02))
PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
POINTS = np.random.default_rng(1).normal(size=(6, 3)).astype(np.float32)

MESSAGES = {
    m.IMAGE: m.image(STAMP, "camera", PIXELS),
    m.COMPRESSED_IMAGE: m.compressed_image(STAMP, "camera", b"\xff\xd8\xff", "jpeg"),
    m.CAMERA_INFO: m.camera_info(STAMP, "camera", CAMERA),
    m.POINT_CLOUD: m.cloud(STAMP, "lidar", POINTS, np.arange(6)),
    m.IMU: m.imu(STAMP, "imu", np.array([0.1, 0.2, 0.3]), np.array([0, 0, 9.81])),
    m.ODOMETRY: m.odometry(STAMP, "odom", "base_link", T_BODY_OPTICAL, covariance=np.eye(6)),
    m.POSE_STAMPED: m.pose(STAMP, "world", T_BODY_OPTICAL),
    m.TF_MESSAGE: m.transforms(STAMP, [("base_link", "camera", T_BODY_OPTICAL)]),
}


def ros_class(kind: str):
    package, _, name = kind.split("/")
    return getattr(pytest.importorskip(f"{package}.msg", reason=f"{package} is missing"), name)


@pytest.mark.parametrize("kind", MESSAGES)
def test_rclpy_reads_our_bytes_and_writes_the_same(kind):
    """Compared after decoding: what rclpy leaves in the padding between fields is arbitrary."""
    data = m.serialise(MESSAGES[kind], kind)
    message = serialization.deserialize_message(data, ros_class(kind))
    again = bytes(serialization.serialize_message(message))
    ours = m.typestore().deserialize_cdr(again, kind)
    assert m.serialise(ours, kind) == data


def test_our_readers_take_rclpys_messages():
    def as_ros(kind):
        data = m.serialise(MESSAGES[kind], kind)
        return serialization.deserialize_message(data, ros_class(kind))

    assert m.camera_of(as_ros(m.CAMERA_INFO)) == CAMERA
    assert m.stamp_of(as_ros(m.IMU)) == STAMP
    np.testing.assert_array_equal(m.pose_of(as_ros(m.ODOMETRY)), T_BODY_OPTICAL)
    np.testing.assert_array_equal(m.vector_of(as_ros(m.IMU).linear_acceleration), [0, 0, 9.81])
    np.testing.assert_array_equal(m.pose_of(as_ros(m.POSE_STAMPED)), T_BODY_OPTICAL)


def test_sensor_msgs_py_reads_our_clouds():
    pytest.importorskip("sensor_msgs_py", reason="sensor_msgs_py comes with a ROS installation")
    point_cloud2 = importlib.import_module("sensor_msgs_py.point_cloud2")
    data = m.serialise(MESSAGES[m.POINT_CLOUD], m.POINT_CLOUD)
    message = serialization.deserialize_message(data, ros_class(m.POINT_CLOUD))
    read = point_cloud2.read_points(message, ("x", "y", "z"))
    np.testing.assert_array_equal(np.stack([read["x"], read["y"], read["z"]], axis=1), POINTS)


def test_organised_cloud_through_ros():
    points = POINTS.reshape(2, 3, 3)
    packed, _ = pack_cloud(points, np.zeros((2, 3, 3), np.uint8))
    data = m.serialise(m.organised_cloud(STAMP, "camera", packed), m.POINT_CLOUD)
    message = serialization.deserialize_message(data, ros_class(m.POINT_CLOUD))
    read = read_points(
        message.data,
        message.fields,
        message.height,
        message.width,
        message.point_step,
        message.row_step,
        message.is_bigendian,
    )
    np.testing.assert_array_equal(read, POINTS)
