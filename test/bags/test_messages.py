# SPDX-License-Identifier: Apache-2.0
"""Messages: what goes in comes out, through bytes, and camera models survive the trip."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation

from video_depth_ros.bags import messages as m
from video_depth_ros.bags.contents import motion_of
from video_depth_ros.camera import Camera
from video_depth_ros.decoding import decode_depth, decode_image
from video_depth_ros.errors import InputError
from video_depth_ros.point_cloud import pack_cloud, read_points
from video_depth_ros.poses import inverse, quaternion, transform

from .samples import model_of

STAMP = 1_403_715_285_262_142_976
CAMERA = Camera(64, 48, 50.0, 51.0, 31.2, 24.7)
ROTATIONS = arrays(np.float64, 4, elements=st.floats(-1, 1)).filter(
    lambda q: np.linalg.norm(q) > 0.1
)


def through_bytes(message, kind):
    return m.typestore().deserialize_cdr(m.serialise(message, kind), kind)


def image_fields(message):
    return (
        message.data,
        message.encoding,
        message.height,
        message.width,
        message.step,
        message.is_bigendian,
    )


def test_colour_and_grey_images_come_back_exactly():
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    message = through_bytes(m.image(STAMP, "camera", rgb[:, ::-1]), m.IMAGE)
    assert (m.stamp_of(message), message.header.frame_id) == (STAMP, "camera")
    assert np.array_equal(decode_image(*image_fields(message)), rgb[:, ::-1])
    grey = rgb[..., 0]
    message = through_bytes(m.image(STAMP, "camera", grey), m.IMAGE)
    assert message.encoding == "mono8"
    assert np.array_equal(decode_image(*image_fields(message))[..., 1], grey)


def test_depth_image_keeps_metres_and_nan():
    depth = np.array([[1.5, np.nan, 80.0], [0.25, 3.0, np.nan]], np.float32)
    message = through_bytes(m.image(STAMP, "camera", depth), m.IMAGE)
    assert message.encoding == "32FC1"
    np.testing.assert_array_equal(decode_depth(*image_fields(message)), depth)


def test_an_array_without_an_encoding_is_refused():
    with pytest.raises(InputError, match="float64"):
        m.image(STAMP, "camera", np.zeros((2, 2)))


@pytest.mark.parametrize(
    "camera",
    [
        CAMERA,
        Camera(64, 48, 50.0, 51.0, 31.2, 24.7, "plumb_bob", (-0.3, 0.1, 1e-3, -2e-3, 0.02)),
        Camera(64, 48, 50.0, 51.0, 31.2, 24.7, "equidistant", (0.1, 0.01, -0.002, 1e-4)),
        Camera(64, 48, 50.0, 51.0, 31.2, 24.7, "rational_polynomial", (0.1,) * 8),
    ],
    ids=lambda c: c.distortion_model,
)
def test_camera_model_round_trip(camera):
    assert m.camera_of(through_bytes(m.camera_info(STAMP, "c", camera), m.CAMERA_INFO)) == camera


def test_uncalibrated_camera_is_none():
    info = m.camera_info(STAMP, "c", CAMERA)
    info.k[:] = 0.0
    assert m.camera_of(info) is None


def test_region_and_binning_see_the_same_rays():
    """A pixel of the binned region looks along the ray of the pixels it was made from."""
    info = m.camera_info(STAMP, "c", CAMERA)
    info.roi.x_offset, info.roi.y_offset, info.roi.width, info.roi.height = 8, 4, 41, 20
    info.binning_x, info.binning_y = 2, 4
    camera = model_of(info)
    assert (camera.width, camera.height) == (20, 5)
    u, v = 3, 2  # made of full-resolution columns 14, 15 and rows 12 .. 15
    expected = CAMERA.normalised(np.array([[14.5, 13.5]]))
    np.testing.assert_allclose(camera.normalised(np.array([[u, v]])), expected, atol=1e-12)


def test_rectified_images_use_the_projection_matrix():
    distorted = Camera(64, 48, 50.0, 51.0, 31.2, 24.7, "plumb_bob", (-0.3, 0.1, 0.0, 0.0, 0.0))
    info = m.camera_info(STAMP, "c", distorted)
    info.p[0], info.p[5], info.p[2], info.p[6] = 40.0, 41.0, 30.0, 20.0
    camera = model_of(info, rectified=True)
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (40.0, 41.0, 30.0, 20.0)
    assert not camera.distorted


def test_extra_zero_coefficients_are_dropped_and_odd_models_named():
    info = m.camera_info(STAMP, "c", CAMERA)
    info.distortion_model, info.d = "rational_polynomial", np.array([0.1] * 8 + [0.0] * 6)
    assert len(model_of(info).distortion) == 8
    info.distortion_model = "ds"
    with pytest.raises(InputError, match="'ds'"):
        m.camera_of(info)


def test_cloud_round_trip():
    points = np.random.default_rng(1).normal(size=(9, 3)).astype(np.float32)
    message = through_bytes(m.cloud(STAMP, "lidar", points, np.arange(9)), m.POINT_CLOUD)
    assert message.is_dense and [f.name for f in message.fields] == ["x", "y", "z", "intensity"]
    read = read_points(
        message.data,
        message.fields,
        message.height,
        message.width,
        message.point_step,
        message.row_step,
        message.is_bigendian,
    )
    np.testing.assert_array_equal(read, points)


def test_organised_cloud_keeps_its_shape_and_gaps():
    points = np.random.default_rng(2).normal(size=(4, 6, 3)).astype(np.float32)
    points[1, 2] = np.nan
    data, _ = pack_cloud(points, np.full((4, 6, 3), 7, np.uint8))
    message = through_bytes(m.organised_cloud(STAMP, "camera", data), m.POINT_CLOUD)
    assert (message.height, message.width, message.point_step) == (4, 6, 16)
    assert not message.is_dense
    xyz = np.asarray(message.data).reshape(4, 6, 16)[..., :12].copy().view("<f4")
    np.testing.assert_array_equal(xyz, points)


def test_imu_states_that_it_knows_no_orientation():
    message = through_bytes(
        m.imu(STAMP, "imu", np.array([0.1, 0.2, 0.3]), np.array([0.0, 0.0, 9.81])), m.IMU
    )
    assert message.orientation_covariance[0] == -1.0
    np.testing.assert_array_equal(m.vector_of(message.angular_velocity), [0.1, 0.2, 0.3])
    np.testing.assert_array_equal(m.vector_of(message.linear_acceleration), [0.0, 0.0, 9.81])


@settings(max_examples=100, deadline=None)
@given(ROTATIONS, arrays(np.float64, 3, elements=st.floats(-100, 100)))
def test_poses_agree_with_scipy_and_survive_messages(q, t):
    T = transform(t, q)
    np.testing.assert_allclose(T[:3, :3], Rotation.from_quat(q).as_matrix(), atol=1e-12)
    np.testing.assert_allclose(transform(t, quaternion(T)), T, atol=1e-9)
    np.testing.assert_allclose(inverse(T) @ T, np.eye(4), atol=1e-9)
    message = through_bytes(m.odometry(STAMP, "odom", "base_link", T), m.ODOMETRY)
    np.testing.assert_allclose(m.pose_of(message), T, atol=1e-9)
    static = through_bytes(m.transforms(STAMP, [("a", "b", T)]), m.TF_MESSAGE)
    ((parent, child, back),) = m.transforms_of(static)
    assert (parent, child) == ("a", "b")
    assert back is not None
    np.testing.assert_allclose(back, T, atol=1e-9)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_half_turns_have_stable_quaternions(axis):
    R = Rotation.from_rotvec(np.pi * np.eye(3)[axis]).as_matrix()
    assert abs(abs(quaternion(R)[axis]) - 1.0) < 1e-12


def test_a_pose_that_is_not_one_is_refused():
    with pytest.raises(InputError, match="finite pose"):
        transform(np.zeros(3), np.zeros(4))
    with pytest.raises(InputError, match="finite pose"):
        transform(np.array([np.nan, 0, 0]), np.array([0, 0, 0, 1.0]))


@pytest.mark.parametrize("part", ["angular_velocity", "linear_acceleration"])
def test_a_motion_that_is_not_measured_is_no_motion(part):
    message = m.imu(1, "imu", np.array([0.0, 0.1, 0.0]), np.array([0.0, 0.0, 9.8]))
    rate, force = motion_of(message)
    assert (rate[1], force[2]) == (0.1, 9.8)
    getattr(message, f"{part}_covariance")[0] = -1.0
    motion_of(message)  # some drivers write that beside true data
    vector = getattr(message, part)
    vector.x = vector.y = vector.z = 0.0
    getattr(message, f"{part}_covariance")[0] = 0.0
    motion_of(message)  # zeros of a sensor that stands still
    getattr(message, f"{part}_covariance")[0] = -1.0
    with pytest.raises(InputError, match=f"{part} is zero and its covariance") as caught:
        motion_of(message)
    assert caught.value.reason == "not_reported"
