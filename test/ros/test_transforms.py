# SPDX-License-Identifier: Apache-2.0
"""Where sensors sit: parameters before TF, and every way of not knowing has a name."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import numpy as np
import pytest
from geometry_msgs.msg import Transform
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from video_depth_ros.errors import ConfigError, InputError
from video_depth_ros.mounting import Transforms, pose_matrix
from video_depth_ros.node_config import ExtrinsicsConfig
from video_depth_ros.ros import transforms
from video_depth_ros.ros.transforms import transform_matrix

finite = st.floats(-10.0, 10.0)


@settings(max_examples=40, deadline=None)
@given(t=st.tuples(finite, finite, finite), seed=st.integers(0, 2**31))
def test_poses_agree_with_scipy(t: tuple[float, float, float], seed: int) -> None:
    rotation = Rotation.random(random_state=seed)
    q = rotation.as_quat()
    given_pose = pose_matrix((*t, *q), "extrinsics.points")
    message = Transform()
    message.translation.x, message.translation.y, message.translation.z = t
    message.rotation.x, message.rotation.y, message.rotation.z, message.rotation.w = map(float, q)
    for T in (given_pose, transform_matrix(message)):
        assert T is not None
        np.testing.assert_allclose(T[:3, :3], rotation.as_matrix(), atol=1e-9)
        np.testing.assert_allclose(T[:3, 3], t, atol=1e-12)


@pytest.mark.parametrize(
    "numbers", [(0.0,) * 6, (1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0), (0, 0, 0, 0, 0, 0, float("nan"))]
)
def test_a_pose_that_is_none_is_refused(numbers: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match=r"extrinsics\.imu"):
        pose_matrix(numbers, "extrinsics.imu")


def test_without_parameter_and_tf_the_error_names_frames_and_parameter() -> None:
    transforms = Transforms(ExtrinsicsConfig(), None)
    with pytest.raises(InputError, match=r"'lidar' to 'camera'.*extrinsics\.points") as error:
        transforms.camera_from("points", "camera", "lidar", 0)
    assert error.value.reason == "transform"
    np.testing.assert_array_equal(
        transforms.camera_from("points", "camera", "camera", 0), np.eye(4)
    )


class KnownFrames:
    """A TF that knows one edge."""

    def lookup(self, target: str, source: str, stamp_ns: int) -> np.ndarray:
        if (target, source) != ("camera", "lidar"):
            raise InputError("transform", f"no transform from {source!r} to {target!r}")
        T = np.eye(4)
        T[0, 3] = stamp_ns
        return T


def test_a_parameter_wins_over_tf_and_tf_is_asked_at_the_measurements_time() -> None:
    config = ExtrinsicsConfig(imu=(1.0, 2.0, 3.0, 0.0, 0.0, 0.0, 1.0))
    transforms = Transforms(config, KnownFrames())
    assert transforms.camera_from("points", "camera", "lidar", 7)[0, 3] == 7
    np.testing.assert_array_equal(
        transforms.camera_from("imu", "camera", "lidar", 7)[:3, 3], [1.0, 2.0, 3.0]
    )
    with pytest.raises(InputError, match=r"/tf_static or set extrinsics\.base"):
        transforms.camera_from("base", "camera", "base_link", 7)


def test_tf2_ros_finds_a_transform_where_it_is_installed() -> None:
    tf2_ros = pytest.importorskip("tf2_ros", reason="comes with ROS only")
    import rclpy
    from geometry_msgs.msg import TransformStamped

    from video_depth_ros.ros.transforms import TfSource

    context = rclpy.context.Context()
    rclpy.init(context=context)
    node = rclpy.create_node("frames", context=context)
    try:
        source = TfSource(node, tf2_ros)
        edge = TransformStamped(child_frame_id="lidar")
        edge.header.frame_id = "camera"
        edge.transform.translation.z = 0.5
        edge.transform.rotation.w = 1.0
        source._buffer.set_transform_static(edge, "test")
        assert source.lookup("camera", "lidar", 5)[2, 3] == 0.5
        with pytest.raises(InputError, match="radar"):
            source.lookup("camera", "radar", 5)
    finally:
        node.destroy_node()
        rclpy.try_shutdown(context=context)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import numpy\nnumpy.gone_from_numpy", "gone_from_numpy"),
        ("import no_such_module_of_old", "no_such_module_of_old"),
        ("def quaternion_matrix(q):\n    raise TypeError('too old')", "too old"),
    ],
)
def test_a_broken_tf_transformations_is_said_once_and_done_without(
    source: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "tf_transformations.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tf_transformations", raising=False)
    transforms._tf_transformations.cache_clear()
    message = Transform()
    message.rotation.x, message.rotation.w, message.translation.y = 0.6, 0.8, 2.0
    try:
        for _ in range(3):
            T = transform_matrix(message)
    finally:
        sys.modules.pop("tf_transformations", None)
        transforms._tf_transformations.cache_clear()
    np.testing.assert_allclose(T[1], [0.0, 0.28, -0.96, 2.0], atol=1e-12)
    assert [said in record.message for record in caplog.records] == [True]


def test_tf_transformations_is_used_where_it_is_installed() -> None:
    tf_transformations = pytest.importorskip("tf_transformations", reason="comes with ROS only")
    assert isinstance(tf_transformations, types.ModuleType)
    message = Transform()
    message.rotation.x, message.rotation.w = 0.6, 0.8
    np.testing.assert_allclose(
        transform_matrix(message), tf_transformations.quaternion_matrix([0.6, 0.0, 0.0, 0.8])
    )
