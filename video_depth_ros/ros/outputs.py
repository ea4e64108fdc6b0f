# SPDX-License-Identifier: Apache-2.0
"""The node's outputs. What nobody subscribes to is not computed; what one frame yields carries
one identical header: the stamp and frame_id of its source image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_msgs.msg import Header

from video_depth_ros.frames import DepthEstimate
from video_depth_ros.node_config import OutputConfig
from video_depth_ros.organised_cloud import OrganisedClouds
from video_depth_ros.ros import conversions
from video_depth_ros.ros.handover import Counters

# name -> message type; metric topics are silent while the scale is unknown
METRIC = {
    "depth/image": Image,
    "depth/sigma": Image,
    "depth/camera_info": CameraInfo,
    "depth/points": PointCloud2,
}
RELATIVE = {"depth/disparity": Image, "depth/image_color": Image}


def output_qos(group: int) -> QoSProfile:
    """Reliable, because a best-effort publisher is invisible to reliable subscribers, and deep
    enough for two groups of frames, which come at once: what is overwritten before a subscriber
    has it is lost to it. A new object for every publisher: rclpy writes the overrides of one
    topic into it."""
    return QoSProfile(depth=max(8, 2 * group), reliability=QoSReliabilityPolicy.RELIABLE)


class Outputs:
    """Publishers and what is published on them. Published on by the worker alone.

    Args:
        node: on which they are made.
        counters: publications are counted here.
        group: frames of the network that come at once.
    """

    def __init__(self, node: LifecycleNode, counters: Counters, group: int) -> None:
        self._node = node
        self._counters = counters
        self._publishers = {
            name: node.create_lifecycle_publisher(
                kind,
                name,
                output_qos(group),
                qos_overriding_options=QoSOverridingOptions.with_default_policies(),
            )
            for name, kind in {**METRIC, **RELATIVE}.items()
        }
        self._colour_range: tuple[int, float, float] | None = None
        self._clouds = OrganisedClouds()

    def destroy(self) -> None:
        """Destroy the publishers; the worker must have ended."""
        for publisher in self._publishers.values():
            self._node.destroy_lifecycle_publisher(publisher)
        self._publishers.clear()

    def subscribers(self) -> dict[str, int]:
        """Number of subscribers by topic."""
        return {name: p.get_subscription_count() for name, p in self._publishers.items()}

    def wanted(self) -> bool:
        """Whether any output has a subscriber."""
        return any(p.get_subscription_count() for p in self._publishers.values())

    def metric_wanted(self) -> bool:
        """Whether an output that needs the metric scale has a subscriber."""
        return any(self._publishers[name].get_subscription_count() for name in METRIC)

    def publish(self, estimate: DepthEstimate, frame_id: str, config: OutputConfig) -> None:
        """Publish whatever of one estimate somebody subscribes to."""
        header = conversions.header_of(estimate.stamp_ns, frame_id)
        self._publish("depth/disparity", lambda: self._disparity(header, estimate))
        self._publish("depth/image_color", lambda: self._colour(header, estimate))
        if estimate.depth is None:
            return
        depth = estimate.depth.float().cpu().numpy()
        encoding = config.encoding
        self._publish("depth/image", lambda: conversions.depth_message(header, depth, encoding))
        if estimate.sigma is not None:
            sigma = estimate.sigma
            self._publish(
                "depth/sigma",
                lambda: conversions.image_message(header, sigma.float().cpu().numpy(), "32FC1"),
            )
        camera = estimate.camera
        if camera is None:
            return
        self._publish("depth/camera_info", lambda: conversions.camera_info_message(header, camera))
        if self._clouds.due(estimate.stamp_ns, config.cloud_max_rate):
            self._publish(
                "depth/points",
                lambda: conversions.cloud_message(
                    header, *self._clouds.of(estimate, depth, camera, config)
                ),
            )

    def _publish(self, name: str, make: Callable[[], Any]) -> None:
        publisher = self._publishers[name]
        if publisher.get_subscription_count():
            publisher.publish(make())
            self._counters.add(name)

    def _disparity(self, header: Header, estimate: DepthEstimate) -> Image:
        disparity = estimate.disparity.float().cpu().numpy()
        return conversions.image_message(header, disparity, "32FC1")

    def _colour(self, header: Header, estimate: DepthEstimate) -> Image:
        """The colour range follows the scene slowly, so that colours do not flicker."""
        disparity = estimate.disparity.float().cpu().numpy()
        finite = disparity[::3, ::3][np.isfinite(disparity[::3, ::3])]
        low, high = np.percentile(finite, [2, 98]) if finite.size else (0.0, 1.0)
        if self._colour_range is not None and self._colour_range[0] == estimate.sequence:
            _, old_low, old_high = self._colour_range
            low, high = old_low + 0.1 * (low - old_low), old_high + 0.1 * (high - old_high)
        self._colour_range = (estimate.sequence, float(low), float(high))
        rgb = conversions.colour_of(disparity, float(low), float(high))
        return conversions.image_message(header, rgb, "rgb8")
