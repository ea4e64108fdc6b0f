# SPDX-License-Identifier: Apache-2.0
"""The node's inputs: topic names, QoS, and subscriptions that only hand messages over."""

from __future__ import annotations

import sys
import time
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from nav_msgs.msg import Odometry
from rclpy.callback_groups import CallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import QoSPolicyKind, QoSProfile, QoSReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, Imu, PointCloud2

from video_depth_ros.errors import ConfigError
from video_depth_ros.ros.batches import Sleeper, take_all
from video_depth_ros.ros.conversions import stamp_of
from video_depth_ros.ros.handover import Counters, Handover
from video_depth_ros.ros.stamp_lead import StampLeads

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

QOS_OVERRIDES = "qos_overrides."  # parameters of ROS, not of this package

_MEASUREMENTS = {
    "camera_info": (CameraInfo, 5),
    "points": (PointCloud2, 5),
    "sparse_depth": (Image, 5),
    "odom": (Odometry, 50),
    "imu": (Imu, 200),
}


# the source of the metric scale that alone needs the topic; odometry also moves a LiDAR's points
_NEEDED_BY = {"points": "lidar", "sparse_depth": "sparse_depth", "imu": "imu"}
# policies that qos_overrides can set; drivers that send camera_info once latch it
_OVERRIDABLE = (QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH, QoSPolicyKind.RELIABILITY)
_OVERRIDABLE_OF_CAMERA_INFO = (*_OVERRIDABLE, QoSPolicyKind.DURABILITY)
# Sources that send up to hundreds of messages a second: these are taken in batches, and their
# clock is watched, see StampLeads.
_STREAMS = {"odom": "odometry", "imu": "imu"}
_BATCH = 0.05  # s; what precedes an image is taken when that comes
_SLEEP = 0.8 * _BATCH  # so that the timer that comes next finds it awake
_COMPRESSED = "/compressed"  # how image_transport names what it derives from a raw topic


def sibling(topic: str, name: str) -> str:
    """The topic ``name`` beside ``topic``: /camera/camera_info beside /camera/image_raw."""
    return f"{topic.rsplit('/', 1)[0]}/{name}"


def is_remapped(node: Node, name: str, arguments: Sequence[str]) -> bool:
    """Whether an input is remapped, be it to the name that it has anyway: rclpy does not tell such
    a rule from none.

    Args:
        node: whose input it is.
        name: of the input, relative to the node's namespace.
        arguments: of the process, where the rules ``[NODE:]NAME:=TOPIC`` stand.
    """
    default = node.resolve_topic_name(name, only_expand=True)
    if node.resolve_topic_name(name) != default:
        return True
    rules = [argument.partition(":=")[0].rpartition(":") for argument in arguments]
    return any(
        match in (name, default) and of_node in ("", node.get_name())
        for of_node, _, match in rules
    )


def input_topics(node: Node, arguments: Sequence[str] = sys.argv) -> dict[str, str]:
    """Full names of all inputs after remapping.

    ``image/compressed`` and ``camera_info`` follow the image topic unless they are remapped
    themselves: <image>/compressed, and camera_info beside the image. An image topic that is itself
    a compressed one is taken for ``image/compressed``, and the raw topic it is named after for
    ``image``.
    """
    topics = {
        name: node.resolve_topic_name(name)
        for name in ("image", "image/compressed", *_MEASUREMENTS)
    }
    if topics["image"].endswith(_COMPRESSED):
        topics["image/compressed"] = topics["image"]
        topics["image"] = topics["image"].removesuffix(_COMPRESSED)
    elif not is_remapped(node, "image/compressed", arguments):
        topics["image/compressed"] = topics["image"] + _COMPRESSED
    if not is_remapped(node, "camera_info", arguments):
        topics["camera_info"] = sibling(topics["image"], "camera_info")
    return topics


def transport_of(node: Node, wanted: str) -> str:
    """The transport to use, out of auto, raw and compressed: compressed for an image topic that is
    a compressed one, else the one that is ``wanted``.

    Raises:
        ConfigError: raw is wanted of a compressed topic.
    """
    named = node.resolve_topic_name("image")
    if not named.endswith(_COMPRESSED):
        return wanted
    if wanted == "raw":
        raise ConfigError(
            f"input.transport is raw, but {named} is a compressed image topic; remap image to "
            f"{named.removesuffix(_COMPRESSED)}, or set input.transport to auto"
        )
    return "compressed"


def check_qos_names(node: Node, names: Iterable[str]) -> None:
    """Refuse parameters ``qos_overrides.<topic>.<subscription or publisher>.<policy>`` that set a
    policy which is not read here: ROS would pass over them without a word.

    Raises:
        ConfigError: naming the parameter and what may be set.
    """
    info = input_topics(node)["camera_info"]
    for name in names:
        rest, _, policy = name.removeprefix(QOS_OVERRIDES).rpartition(".")
        topic, _, entity = rest.rpartition(".")
        latched = topic == info and entity == "subscription"
        policies = _OVERRIDABLE_OF_CAMERA_INFO if latched else _OVERRIDABLE
        known = [kind.name.lower() for kind in policies]
        if policy not in known or entity not in ("subscription", "publisher"):
            raise ConfigError(
                f"parameter {name}: expected {QOS_OVERRIDES}<full topic name>.subscription or "
                f".publisher, and of that {', '.join(known)}; durability only of the subscription "
                f"to camera_info, here {info}"
            )


class Inputs:
    """Subscriptions, made when the node is configured.

    Best effort: such a subscriber hears every publisher, reliable or not (REP-2003).

    Args:
        node: on which they are made.
        handover: takes the messages.
        counters: arrivals are counted here.
        transport: of the images, see :func:`transport_of`.
        sources: ``scale.sources``; topics of those left out are not subscribed.
    """

    def __init__(
        self,
        node: Node,
        handover: Handover,
        counters: Counters,
        transport: str,
        sources: Collection[str],
    ) -> None:
        self._node = node
        self._handover = handover
        self._counters = counters
        self._transport = transport
        self.topics = input_topics(node)
        self.last_image: float | None = None  # time.monotonic() of the newest image
        self.camera_info_seen = False
        self.leads = StampLeads()
        self._subscriptions = {
            name: self._subscribe_measurement(name, kind, depth)
            for name, (kind, depth) in _MEASUREMENTS.items()
            if name not in _NEEDED_BY or _NEEDED_BY[name] in sources
        }
        # wakes the executor for the batches, also while simulated time stands still
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = node.create_timer(_BATCH, lambda: None, clock=steady)
        self.image_topic = ""
        self._image: Subscription | None = None
        self._use("image/compressed" if transport == "compressed" else "image")

    def destroy(self) -> None:
        """End all subscriptions."""
        self._node.destroy_timer(self._timer)
        for subscription in self._subscriptions.values():
            self._node.destroy_subscription(subscription)
        self._subscriptions.clear()
        if self._image is not None:
            self._node.destroy_subscription(self._image)
            self._image = None

    def catch_up(self) -> None:
        """Hand over what has come of odometry and IMU and waits for its batch."""
        for name in _STREAMS:
            if name in self._subscriptions:
                for message in take_all(self._subscriptions[name]):
                    self._receive(name, message)

    def publishers(self) -> int:
        """How many publish on the image topic in use."""
        return int(self._node.count_publishers(self.image_topic))

    def choose_transport(self) -> None:
        """With transport auto: compressed images when nobody publishes raw ones, and back."""
        if self._transport != "auto":
            return
        raw = self._node.count_publishers(self.topics["image"])
        compressed = self._node.count_publishers(self.topics["image/compressed"])
        wanted = "image/compressed" if compressed and not raw else "image"
        if self.topics[wanted] != self.image_topic and (raw or compressed):
            self._use(wanted)

    def _use(self, name: str) -> None:
        if self._image is not None:
            self._node.destroy_subscription(self._image)
        kind = Image if name == "image" else CompressedImage
        self.image_topic = self.topics[name]
        self._image = self._subscribe(kind, self.image_topic, 5, self._on_image)
        self._node.get_logger().info(f"images are taken from {self.image_topic}")

    def _subscribe_measurement(self, name: str, kind: Any, depth: int) -> Subscription:
        if name == "camera_info":
            return self._subscribe(kind, self.topics[name], depth, self._on_camera_info)
        group = None
        if name in _STREAMS:
            group = Sleeper(self._node.default_callback_group, _SLEEP)

        def receive(message: Any) -> None:
            self._receive(name, message)
            if group is not None:
                self.catch_up()
                group.sleep()

        return self._subscribe(kind, self.topics[name], depth, receive, group)

    def _subscribe(
        self,
        kind: Any,
        topic: str,
        depth: int,
        callback: Any,
        group: CallbackGroup | None = None,
    ) -> Subscription:
        def incompatible(event: Any) -> None:
            self._node.get_logger().warning(
                f"a publisher on {topic} offers an incompatible QoS ({event.last_policy_kind}); "
                f"override it with qos_overrides.{topic}.subscription.*"
            )

        policies = _OVERRIDABLE_OF_CAMERA_INFO if kind is CameraInfo else _OVERRIDABLE
        return self._node.create_subscription(
            kind,
            topic,
            callback,
            QoSProfile(depth=depth, reliability=QoSReliabilityPolicy.BEST_EFFORT),
            callback_group=group,
            event_callbacks=SubscriptionEventCallbacks(incompatible_qos=incompatible),
            qos_overriding_options=QoSOverridingOptions(policies),
        )

    def _on_image(self, message: Any) -> None:
        self.catch_up()  # measurements go before the image that they precede
        self.last_image = time.monotonic()
        self._counters.add("images")
        stamp_ns = stamp_of(message)
        self.leads.image(stamp_ns, self.last_image)
        self._handover.offer_frame(message, stamp_ns)

    def _receive(self, name: str, message: Any) -> None:
        self._counters.add(name)
        if name in _STREAMS:
            self.leads.measurement(_STREAMS[name], stamp_of(message), time.monotonic())
        self._handover.offer(name, message)

    def _on_camera_info(self, message: CameraInfo) -> None:
        self.camera_info_seen = True
        self._handover.offer("camera_info", message)
