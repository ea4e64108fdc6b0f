# SPDX-License-Identifier: Apache-2.0
"""The other side of the DDS connection: a small robot that publishes sensors and hears depth."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.srv import SetParametersAtomically
from rclpy.client import Client
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2, PointField

from video_depth_ros.camera import Camera
from video_depth_ros.point_cloud import FLOAT32
from video_depth_ros.ros import conversions
from video_depth_ros.ros.node_process import NodeProcess, Question

FRAME = "camera_optical_frame"
CAMERA = Camera(64, 48, 60.0, 60.0, 31.5, 23.5)
PERIOD_NS = 100_000_000  # of the stamps
START_NS = 1_700_000_000_123_456_789  # stamps must come back to the nanosecond
OUTPUTS: dict[str, Any] = {
    "depth/image": Image,
    "depth/sigma": Image,
    "depth/camera_info": CameraInfo,
    "depth/points": PointCloud2,
    "depth/disparity": Image,
    "depth/image_color": Image,
}
# 1/Z = SCALE * brightness + SHIFT [1/m]
SCALE, SHIFT = 0.4, 0.05
# x forward, y left, z up to optical, and 20 cm above the camera
T_CAMERA_LIDAR = np.array(
    [[0.0, -1.0, 0.0, 0.0], [0.0, 0.0, -1.0, -0.2], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
)
LIDAR_POSE = (0.0, -0.2, 0.0, 0.5, -0.5, 0.5, 0.5)  # the same as x y z qx qy qz qw


def scene(height: int = 48, width: int = 64) -> np.ndarray:
    """Brightness uint8 [H, W]: a floor that comes nearer, with a bright box in front."""
    v, u = np.mgrid[0:height, 0:width]
    grey = 40.0 + 120.0 * v / height + 30.0 * np.sin(u * 6.0 / width)
    box = (np.abs(u - 0.3 * width) < 0.12 * width) & (np.abs(v - 0.5 * height) < 0.2 * height)
    grey[box] = 210.0
    return grey.astype(np.uint8)


def true_depth(grey: np.ndarray) -> np.ndarray:
    """Metres that the LiDAR measures where the image has this brightness."""
    return 1.0 / (SCALE * grey.astype(np.float64) / 255.0 + SHIFT)


def lidar_points(grey: np.ndarray) -> np.ndarray:
    """Every third pixel's point in the LiDAR's frame, float64 [N, 3]."""
    points = CAMERA.back_project(true_depth(grey))[1::3, 1::3].reshape(-1, 3)
    R, t = T_CAMERA_LIDAR[:3, :3], T_CAMERA_LIDAR[:3, 3]
    return (points - t) @ R


@contextlib.contextmanager
def own_domain() -> Iterator[int]:
    """A ROS domain that nobody else on this machine uses while it is held."""
    start = os.getpid()
    for offset in range(100):
        domain = 1 + (start + offset) % 100  # domains up to 101 keep clear of ephemeral ports
        path = Path(tempfile.gettempdir()) / f"ros_domain_{domain}.lock"
        with path.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                continue
            yield domain
            return
    raise RuntimeError("all ROS domains from 1 to 100 are in use")


class Robot:
    """Publishers of the sensors, subscribers of the outputs, and the node under test."""

    def __init__(self, domain: int) -> None:
        self._context = Context()
        rclpy.init(context=self._context, domain_id=domain)
        self.node = Node("robot", context=self._context, use_global_arguments=False)
        self.client = Node("client", context=self._context, use_global_arguments=False)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self.received: dict[str, list[Any]] = defaultdict(list)
        self._subscriptions: dict[str, Subscription] = {}
        self.diagnostics: dict[str, Any] = {}
        self.image = self.node.create_publisher(Image, "image", 10)
        self.info = self.node.create_publisher(CameraInfo, "camera_info", 10)
        self.points = self.node.create_publisher(PointCloud2, "points", 10)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self.stamp_ns = START_NS
        self._published = 0  # images since the node was configured

    def close(self) -> None:
        self._executor.shutdown()
        self.node.destroy_node()
        self.client.destroy_node()
        rclpy.try_shutdown(context=self._context)

    @contextlib.contextmanager
    def spinning(self, node: Node) -> Iterator[None]:
        """``node`` is spun by :meth:`wait` too."""
        self._executor.add_node(node)
        try:
            yield
        finally:
            self._executor.remove_node(node)

    def listen(self, *topics: str) -> None:
        """Subscribe outputs."""
        for topic in topics:
            append = self.received[topic].append
            self._subscriptions[topic] = self.node.create_subscription(
                OUTPUTS[topic], topic, append, QoSProfile(depth=50)
            )

    def stop_listening(self, topic: str) -> None:
        """End the subscription of an output, and wait until the node knows."""
        self.node.destroy_subscription(self._subscriptions.pop(topic))
        self.wait(lambda: self.value("output", f"{topic}.subscribers") == "0")

    def start(self, **parameters: Any) -> NodeProcess:
        """The node under test with the brightness regressor; dots are spelt ``__`` here."""
        values: dict[str, Any] = {
            "regressor.name": "brightness",
            "diagnostics.period": 0.05,
            "extrinsics.points": LIDAR_POSE,
        }
        values.update({name.replace("__", "."): value for name, value in parameters.items()})
        process = NodeProcess(self.client, values)
        process.wait_ready()
        return process

    def activate(self, process: NodeProcess, *, configure: bool = True) -> None:
        """Configure and activate, and wait until both sides have found each other."""
        process.require(*(["configure"] if configure else []), "activate")
        self._published = 0
        self.wait(lambda: self.state() == "active" and self.count("images") == 0)
        self.wait_matched()

    def wait_matched(self) -> None:
        self.wait(lambda: self.image.get_subscription_count() > 0)
        self.wait(lambda: self.points.get_subscription_count() > 0)
        self.wait(lambda: self.info.get_subscription_count() > 0)
        topics = list(self.received)
        self.wait(lambda: all(self.node.count_publishers(topic) for topic in topics))
        self.wait(
            lambda: all(int(self.value("output", f"{topic}.subscribers") or 0) for topic in topics)
        )

    def wait(self, done: Callable[[], Any], timeout: float = 30.0, what: str = "") -> None:
        """Spin until something is true."""
        deadline = time.monotonic() + timeout
        while not done():
            if time.monotonic() > deadline:
                counts = {topic: len(messages) for topic, messages in self.received.items()}
                states = {name: s.message for name, s in self.diagnostics.items()}
                values = {
                    k.key: k.value for p in ("input", "scale") for k in self.status(p).values
                }
                raise AssertionError(f"waited in vain {what}: {counts} {states} {values}")
            self._executor.spin_once(timeout_sec=0.02)

    def wait_for(self, topic: str, stamp_ns: int) -> None:
        """Until the output with this stamp has come."""
        self.wait(lambda: stamp_ns in self.stamps(topic), what=f"for {stamp_ns} on {topic}")

    def status(self, part: str) -> Any:
        """Newest diagnostic status of one part of the node."""
        for name, status in self.diagnostics.items():
            if name.endswith(f": {part}"):
                return status
        return DiagnosticArray().status or _Nothing()

    def value(self, part: str, key: str) -> str | None:
        """One value of a diagnostic status."""
        return {pair.key: pair.value for pair in self.status(part).values}.get(key)

    def state(self) -> str:
        """Lifecycle state as the diagnostics tell it."""
        message = str(self.status("output").message)
        return message if message in ("unconfigured", "inactive") else "active"

    def count(self, key: str) -> int:
        """A counter of the node's inputs."""
        return int(self.value("input", key) or 0)

    def wait_count(self, key: str, number: int) -> None:
        """Until a counter of the node's inputs has reached a number."""
        self.wait(lambda: self.count(key) >= number, what=f"for {key}")
        assert self.count(key) == number

    def send(self, message: Any) -> None:
        """Publish an image and wait until the node has taken it off the wire."""
        self.image.publish(message)
        self._published += 1
        self.wait(lambda: self.count("images") >= self._published, what="for an image to arrive")

    def frame(self, grey: np.ndarray | None = None) -> Image:
        """The next rgb8 image of the scene."""
        grey = scene() if grey is None else grey
        header = conversions.header_of(self.next_stamp(), FRAME)
        return conversions.image_message(header, np.repeat(grey[..., None], 3, axis=2), "rgb8")

    def next_stamp(self) -> int:
        self.stamp_ns += PERIOD_NS
        return self.stamp_ns

    def compressed(self, grey: np.ndarray) -> CompressedImage:
        """The next image as image_transport sends it, in PNG to be exact."""
        message = CompressedImage(format="rgb8; png compressed bgr8")
        message.header = conversions.header_of(self.next_stamp(), FRAME)
        message.data.frombytes(cv2.imencode(".png", np.repeat(grey[..., None], 3, axis=2))[1])
        return message

    def send_info(self, camera: Camera = CAMERA, frame_id: str = FRAME) -> None:
        header = conversions.header_of(self.stamp_ns, frame_id)
        self.info.publish(conversions.camera_info_message(header, camera))

    def send_points(self, points: np.ndarray) -> None:
        """A cloud as LiDAR drivers send it: 22-byte points with intensity and ring between."""
        offsets = {"x": 0, "y": 4, "z": 8, "intensity": 16}
        kind = np.dtype(
            {
                "names": list(offsets),
                "formats": ["<f4"] * 4,
                "offsets": list(offsets.values()),
                "itemsize": 22,
            }
        )
        packed = np.zeros(len(points), kind)
        for axis, name in enumerate("xyz"):
            packed[name] = points[:, axis]
        message = PointCloud2(height=1, width=len(points), point_step=22)
        message.header = conversions.header_of(self.stamp_ns, "lidar")
        message.row_step = 22 * len(points)
        message.fields = [
            PointField(name=name, offset=offset, datatype=FLOAT32, count=1)
            for name, offset in offsets.items()
        ]
        message.data.frombytes(packed.tobytes())
        self.points.publish(message)

    def drive(self, frames: int, lidar: bool = False, grey: np.ndarray | None = None) -> list[int]:
        """Send images one after another (with camera_info and, if asked, scans); their stamps."""
        stamps = []
        for _ in range(frames):
            message = self.frame(grey)
            stamps.append(self.stamp_ns)
            self.send_info()
            if lidar:
                self.send_points(lidar_points(scene() if grey is None else grey))
            self.send(message)
        return stamps

    def sparse_publisher(self) -> Publisher:
        return self.node.create_publisher(Image, "sparse_depth", 10)

    def sparse_depth(self) -> Image:
        """Depth in millimetres at every fourth pixel, of the newest image."""
        depth = np.full(scene().shape, np.nan, np.float32)
        depth[::4, ::4] = true_depth(scene())[::4, ::4]
        header = conversions.header_of(self.stamp_ns, FRAME)
        return conversions.depth_message(header, depth, "16UC1")

    def service(self, kind: Any, name: str) -> Client:
        """A client of one of the node's own services."""
        client = self.node.create_client(kind, f"/depth_node/{name}")
        self.wait(client.service_is_ready)
        return client

    def call(self, client: Client, request: Any) -> Any:
        """The answer to a request that may arrive twice."""
        question = Question(client, request)
        self.wait(question.answered, what=f"for {client.srv_name}")
        return question.answer()

    def set_parameter(self, *names_and_values: Any) -> str:
        """Set parameters together; the reason why they were refused, or empty."""
        pairs = zip(names_and_values[::2], names_and_values[1::2], strict=True)
        request = SetParametersAtomically.Request()
        request.parameters = [Parameter(n, value=v).to_parameter_msg() for n, v in pairs]
        client = self.service(SetParametersAtomically, "set_parameters_atomically")
        result = self.call(client, request).result
        self.node.destroy_client(client)
        return "" if result.successful else str(result.reason)

    def stamps(self, topic: str) -> list[int]:
        """Stamps of everything received on a topic."""
        return [conversions.stamp_of(message) for message in self.received[topic]]

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        self.diagnostics.update({status.name: status for status in message.status})


class _Nothing:
    values: tuple[Any, ...] = ()
    message = ""
