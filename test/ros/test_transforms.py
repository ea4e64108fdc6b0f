# SPDX-License-Identifier: Apache-2.0
"""Where sensors sit: parameters before TF, and every way of not knowing has a name."""

from __future__ import annotations

import sys
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import rclpy
from geometry_msgs.msg import Transform, TransformStamped
from hypothesis import given, settings
from hypothesis import strategies as st
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
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


class Frames:
    """Two nodes of a robot with tf2_ros: one that asks, and one that publishes the edges."""

    def __init__(self, domain: int) -> None:
        self.tf2_ros = pytest.importorskip("tf2_ros", reason="comes with ROS only")
        self.context = Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.asking = rclpy.create_node("asking", context=self.context)
        self.telling = rclpy.create_node("telling", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.asking)
        source = transforms.tf_source(self.asking)
        assert source is not None
        self.source = source
        self.static = self.tf2_ros.StaticTransformBroadcaster(self.telling)
        self.moving = self.tf2_ros.TransformBroadcaster(self.telling)

    def close(self) -> None:
        self.executor.shutdown()
        self.asking.destroy_node()
        self.telling.destroy_node()
        rclpy.try_shutdown(context=self.context)

    def place(self, frame: str, z: float, seconds: int = 0) -> TransformStamped:
        edge = TransformStamped(child_frame_id=frame)
        edge.header.frame_id = "camera"
        edge.header.stamp.sec = seconds
        edge.transform.translation.z = z
        edge.transform.rotation.w = 1.0
        return edge

    def found(
        self, frame: str, stamp_ns: int = 5, again: Callable[[], None] | None = None
    ) -> float:
        """z of a frame, as soon as it is known."""
        deadline = time.monotonic() + 20.0
        while True:
            try:
                return float(self.source.lookup("camera", frame, stamp_ns)[2, 3])
            except InputError:
                if time.monotonic() > deadline:
                    raise
            if again is not None:
                again()
            self.executor.spin_once(timeout_sec=0.05)

    def hears_moving(self) -> bool:
        return any(s.topic_name == "/tf" for s in self.asking.subscriptions)


@pytest.fixture()
def frames(ros_environment: int) -> Iterator[Frames]:
    frames = Frames(ros_environment)
    yield frames
    frames.close()


def test_what_tf_static_places_is_found_without_hearing_tf(frames: Frames) -> None:
    frames.static.sendTransform([frames.place("lidar", 0.5), frames.place("imu", 0.25)])
    assert frames.found("lidar") == 0.5
    assert frames.found("/imu", stamp_ns=10**18) == 0.25  # a slash of ROS 1; at any time
    frames.source.clear()  # time has moved back: what is static stays
    assert frames.found("lidar") == 0.5
    assert not frames.hears_moving()


def test_what_only_tf_places_is_found_a_little_later(
    frames: Frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transforms, "PATIENCE", 0.2)
    frames.static.sendTransform(frames.place("lidar", 0.5))
    assert frames.found("lidar") == 0.5

    def pan() -> None:
        frames.moving.sendTransform([frames.place("mast", float(s), s) for s in (10, 12)])

    # between two transforms: interpolated; after the last one: the newest
    assert frames.found("mast", 11 * 10**9, again=pan) == pytest.approx(11.0)
    assert frames.found("mast", 13 * 10**9) == 12.0
    assert frames.hears_moving()
    with pytest.raises(InputError, match="radar"):
        frames.source.lookup("camera", "radar", 5)
    frames.source.clear()
    assert frames.found("lidar") == 0.5
    with pytest.raises(InputError, match="mast"):
        frames.source.lookup("camera", "mast", 11 * 10**9)


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
