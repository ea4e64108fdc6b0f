# SPDX-License-Identifier: Apache-2.0
"""Messages of rclpy to the core's arrays and back; oracles are ROS's own where installed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

from video_depth_ros.bags.camera_source import CameraSource
from video_depth_ros.bags.messages import camera_of
from video_depth_ros.camera import Camera
from video_depth_ros.errors import InputError
from video_depth_ros.ros import conversions

HEADER = conversions.header_of(1_700_000_000_000_000_001, "optical")
CAMERA = Camera(8, 6, 7.0, 7.5, 3.5, 2.5)


@given(stamp_ns=st.integers(0, 2**31 * 10**9 - 1))
@settings(deadline=None)
def test_stamps_keep_every_nanosecond(stamp_ns: int) -> None:
    message = Image(header=conversions.header_of(stamp_ns, ""))
    assert conversions.stamp_of(message) == stamp_ns


def test_a_depth_image_survives_the_wire_in_both_encodings() -> None:
    depth = np.array([[0.5, np.nan, 65.534], [1.2345, 80.0, np.inf]], np.float32)
    for encoding, expected in (
        ("32FC1", [[0.5, np.nan, 65.534], [1.2345, 80.0, np.nan]]),
        ("16UC1", [[0.5, np.nan, 65.534], [1.234, np.nan, np.nan]]),
    ):
        message = conversions.depth_message(HEADER, depth, encoding)
        received = deserialize_message(serialize_message(message), Image)
        assert received == message
        np.testing.assert_allclose(conversions.depth_of(received), expected, atol=6e-4)


def test_a_cloud_survives_the_wire_and_is_organised() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(0, 3, (6, 8, 3)).astype(np.float32)
    points[2, 3] = np.nan
    rgb = rng.integers(0, 256, (6, 8, 3), np.uint8)
    message = conversions.cloud_message(HEADER, points, rgb)
    received = deserialize_message(serialize_message(message), PointCloud2)
    assert (received.height, received.width, received.is_dense) == (6, 8, False)
    flat = points.reshape(-1, 3)
    np.testing.assert_array_equal(
        conversions.points_of(received), flat[np.isfinite(flat).all(axis=1)]
    )
    point_cloud2 = pytest.importorskip("sensor_msgs_py.point_cloud2", reason="comes with ROS only")
    theirs = point_cloud2.read_points(received, reshape_organized_cloud=True)
    for axis, name in enumerate("xyz"):
        np.testing.assert_array_equal(theirs[name].reshape(6, 8), points[..., axis])
    bits = theirs["rgb"].reshape(6, 8).view(np.uint32)
    np.testing.assert_array_equal(bits >> 16 & 255, rgb[..., 0])


def test_pixels_beyond_the_fold_of_the_lens_have_no_point_in_the_cloud() -> None:
    lens = Camera(64, 48, 30.0, 30.0, 31.5, 23.5, "plumb_bob", (-0.4, 0.0, 0.0, 0.0))
    points = lens.back_project(np.full((48, 64), 2.0)).astype(np.float32)
    message = conversions.cloud_message(HEADER, points, np.zeros((48, 64, 3), np.uint8))
    assert not message.is_dense
    packed = np.frombuffer(message.data, np.float32).reshape(48, 64, 4)
    assert np.isnan(packed[0, 0, :3]).all() and np.isfinite(packed[24, 32, :3]).all()
    assert len(conversions.points_of(message)) == np.isfinite(lens.rays()[..., 0]).sum()


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "mono8", "bgra8", "mono16"])
def test_decoding_agrees_with_cv_bridge(encoding: str) -> None:
    bridge = pytest.importorskip("cv_bridge", reason="comes with ROS only").CvBridge()
    rng = np.random.default_rng(1)
    channels = {"mono8": 1, "mono16": 1, "bgra8": 4}.get(encoding, 3)
    kind = np.uint16 if encoding.endswith("16") else np.uint8
    pixels = rng.integers(0, np.iinfo(kind).max, (6, 8, channels)).astype(kind)
    message = conversions.image_message(HEADER, pixels.squeeze(), encoding)
    theirs = bridge.imgmsg_to_cv2(message, "rgb8").astype(int)
    assert np.abs(conversions.rgb_of(message).astype(int) - theirs).max() <= 1


def test_camera_info_carries_the_model() -> None:
    lens = Camera(8, 6, 7.0, 7.5, 3.5, 2.5, "plumb_bob", (0.1, -0.02, 0.001, 0.002, 0.003))
    fisheye = Camera(8, 6, 5.0, 5.5, 3.5, 2.5, "equidistant", (-0.01, 0.02, -0.01, 0.002))
    assert conversions.camera_info_message(HEADER, CAMERA).distortion_model == "plumb_bob"
    for camera in (CAMERA, lens, fisheye):
        message = conversions.camera_info_message(HEADER, camera)
        received = deserialize_message(serialize_message(message), CameraInfo)
        assert camera_of(received) == camera
        assert camera_of(received, rectified=True) == camera.undistorted()


def test_the_camera_source_keeps_the_last_good_model() -> None:
    source = CameraSource()
    assert source.camera_for(6, 8) is None
    good = conversions.camera_info_message(HEADER, CAMERA)
    source.update(good)
    assert source.camera_for(6, 8) == CAMERA
    assert source.camera_for(12, 16) == CAMERA.resized(16, 12)
    assert source.resized_from == (8, 6)
    broken = conversions.camera_info_message(HEADER, CAMERA)
    broken.k[0] = -1.0
    with pytest.raises(InputError, match="focal"):
        source.update(broken)
    source.update(broken)  # said once, not at every message
    assert source.camera_for(6, 8) == CAMERA
    with pytest.raises(InputError, match="uncalibrated"):
        source.update(CameraInfo(width=8, height=6))
    with pytest.raises(InputError, match="another shape"):
        source.camera_for(6, 12)
    source.update(good)
    assert not source.problem


def test_a_model_that_does_not_fit_is_a_problem_until_an_image_fits_again() -> None:
    source = CameraSource()
    source.update(conversions.camera_info_message(HEADER, CAMERA))
    assert source.camera_for(6, 8) == CAMERA
    with pytest.raises(InputError, match="sparse depth images have 12x6 px"):
        source.model_at(6, 12, "sparse depth images")
    assert not source.problem  # the images are well
    with pytest.raises(InputError, match="the images have 12x6 px"):
        source.camera_for(6, 12)
    assert "the images have 12x6 px" in source.problem
    assert source.camera_for(12, 16) == CAMERA.resized(16, 12)
    assert not source.problem


def test_an_encoding_that_nobody_decodes_is_named() -> None:
    message = Image(width=2, height=2, step=16, encoding="32SC2", data=bytes(32))
    with pytest.raises(InputError, match="32SC2"):
        conversions.rgb_of(message)
