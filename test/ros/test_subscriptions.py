# SPDX-License-Identifier: Apache-2.0
"""What the inputs subscribe to, in this process: names, transport, QoS."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Iterator

import pytest
import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSDurabilityPolicy, QoSProfile
from sensor_msgs.msg import CameraInfo

from video_depth_ros.errors import ConfigError
from video_depth_ros.node_config import SUBSCRIBED
from video_depth_ros.ros.handover import Counters, Handover
from video_depth_ros.ros.inputs import Inputs, check_qos_names, input_topics, transport_of


@contextlib.contextmanager
def node_with(domain: int, *arguments: str) -> Iterator[Node]:
    """A node with these ROS arguments, in a context of its own."""
    context = Context()
    rclpy.init(context=context, domain_id=domain)
    node = Node(
        "depth_node",
        context=context,
        cli_args=["--ros-args", *arguments] if arguments else None,
        use_global_arguments=False,
    )
    try:
        yield node
    finally:
        node.destroy_node()
        rclpy.try_shutdown(context=context)


def inputs_of(node: Node, sources: Collection[str] = SUBSCRIBED) -> Inputs:
    """What the node makes when it is configured."""
    counters = Counters()
    return Inputs(node, Handover(counters), counters, "auto", sources)


@pytest.mark.parametrize("image", ["/camera/image_raw", "/camera/image_raw/compressed"])
def test_an_image_topic_may_be_named_raw_or_compressed(ros_environment: int, image: str) -> None:
    with node_with(ros_environment, "-r", f"image:={image}") as node:
        topics = input_topics(node)
        assert topics["image"] == "/camera/image_raw"
        assert topics["image/compressed"] == "/camera/image_raw/compressed"
        assert topics["camera_info"] == "/camera/camera_info"
        if image == "/camera/image_raw":
            assert [transport_of(node, t) for t in ("auto", "raw")] == ["auto", "raw"]
        else:
            assert [transport_of(node, t) for t in ("auto", "compressed")] == ["compressed"] * 2
            with pytest.raises(ConfigError, match="remap image to /camera/image_raw,"):
                transport_of(node, "raw")


@pytest.mark.parametrize(
    ("rule", "taken"),
    [
        ("camera_info:=/camera_info", "/camera_info"),  # its name anyway, but asked for
        ("depth_node:camera_info:=/camera_info", "/camera_info"),
        ("other_node:camera_info:=/camera_info", "/camera/camera_info"),
        ("/camera_info:=/camera_info", "/camera_info"),
        ("camera_info:=/info", "/info"),
        ("points:=/camera_info", "/camera/camera_info"),
    ],
)
def test_camera_info_lies_beside_the_image_unless_a_rule_names_it(
    ros_environment: int, rule: str, taken: str
) -> None:
    arguments = ["-r", "image:=/camera/image_raw", "-r", rule]
    with node_with(ros_environment, *arguments) as node:
        assert input_topics(node, arguments)["camera_info"] == taken


@pytest.mark.parametrize(
    ("sources", "left_out"),
    [
        (SUBSCRIBED, set()),
        (("lidar", "odometry"), {"/sparse_depth", "/imu"}),
        (("imu",), {"/points", "/sparse_depth"}),
        (("sparse_depth", "range"), {"/points", "/imu"}),
    ],
)
def test_a_source_that_is_switched_off_is_not_subscribed(
    ros_environment: int, sources: tuple[str, ...], left_out: set[str]
) -> None:
    ours = {"/image", "/camera_info", "/points", "/sparse_depth", "/odom", "/imu"}
    with node_with(ros_environment) as node:
        inputs_of(node, sources)
        heard = {subscription.topic_name for subscription in node.subscriptions}
        assert heard & ours == ours - left_out


def test_a_camera_info_that_is_sent_once_is_heard(ros_environment: int) -> None:
    override = "qos_overrides./cam/camera_info.subscription"
    arguments = ["-r", "image:=/cam/image_raw"]
    arguments += ["-p", f"{override}.durability:=transient_local"]
    arguments += ["-p", f"{override}.reliability:=reliable"]
    latched = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
    with node_with(ros_environment) as driver:
        driver.create_publisher(CameraInfo, "/cam/camera_info", latched).publish(CameraInfo())
        with node_with(ros_environment, *arguments) as node:
            inputs = inputs_of(node)
            executor = SingleThreadedExecutor(context=node.context)
            executor.add_node(node)
            deadline = time.monotonic() + 30.0
            while not inputs.camera_info_seen and time.monotonic() < deadline:
                executor.spin_once(timeout_sec=0.1)
            executor.shutdown()
            assert inputs.camera_info_seen


@pytest.mark.parametrize(
    "name",
    [
        "/cam/image_raw.subscription.durability",  # would be passed over
        "/cam/camera_info.publisher.durability",
        "/cam/camera_info.subscription.lifespan",
        "/cam/image_raw.subscriber.reliability",
        "/cam/image_raw.reliability",
    ],
)
def test_a_qos_policy_that_nobody_reads_is_refused(ros_environment: int, name: str) -> None:
    with node_with(ros_environment, "-r", "image:=/cam/image_raw") as node:
        check_qos_names(
            node,
            [
                "qos_overrides./cam/camera_info.subscription.durability",
                "qos_overrides./cam/image_raw.subscription.reliability",
                "qos_overrides./depth/points.publisher.depth",
            ],
        )
        with pytest.raises(ConfigError, match=f"{name}: expected .*here /cam/camera_info"):
            check_qos_names(node, [f"qos_overrides.{name}"])
