# SPDX-License-Identifier: Apache-2.0
"""What the inputs subscribe to, in this process: names, transport, QoS."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
import rclpy
from rclpy.context import Context
from rclpy.node import Node

from video_depth_ros.errors import ConfigError
from video_depth_ros.ros.inputs import input_topics, transport_of


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
