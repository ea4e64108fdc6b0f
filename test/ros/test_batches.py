# SPDX-License-Identifier: Apache-2.0
"""Fast topics are taken in batches: nothing is lost, out of order or late for its image."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

import pytest
import rclpy
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import Image, Imu

from video_depth_ros.node_config import SUBSCRIBED
from video_depth_ros.ros.batches import Sleeper, take_all
from video_depth_ros.ros.handover import Counters, Handover
from video_depth_ros.ros.inputs import Inputs

PATIENCE = 30.0
RELIABLE = "qos_overrides./imu.subscription.reliability:=reliable"  # a test must lose nothing


@contextlib.contextmanager
def node_in(domain: int, name: str, *parameters: str) -> Iterator[Node]:
    """A node in a context of its own."""
    context = Context()
    rclpy.init(context=context, domain_id=domain)
    arguments = ["--ros-args", *[word for value in parameters for word in ("-p", value)]]
    node = Node(name, context=context, cli_args=arguments, use_global_arguments=False)
    try:
        yield node
    finally:
        node.destroy_node()
        rclpy.try_shutdown(context=context)


def wait(condition: Callable[[], object], step: Callable[[], None]) -> None:
    """Take steps until the condition holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        step()


def spinning(node: Node) -> Callable[[], None]:
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(node)
    return lambda: executor.spin_once(timeout_sec=0.1)


def publisher_of(node: Node, kind: type, topic: str, reliable: bool = True) -> Publisher:
    policies = QoSReliabilityPolicy
    reliability = policies.RELIABLE if reliable else policies.BEST_EFFORT
    return node.create_publisher(kind, topic, QoSProfile(depth=200, reliability=reliability))


def sample(k: int) -> Imu:
    message = Imu()
    message.header.stamp.sec = 100 + k
    return message


class Heard:
    """The node's inputs, and what they handed over."""

    def __init__(self, node: Node) -> None:
        self.counters = Counters()
        self.handover = Handover(self.counters)
        self.handover.open = True
        self.inputs = Inputs(node, self.handover, self.counters, "raw", SUBSCRIBED)

    def count(self, name: str) -> int:
        return self.counters.snapshot().get(name, 0)

    def seconds(self) -> list[int]:
        """Stamps of the samples that were handed over, with the next image or command."""
        self.handover.command(lambda: None)
        batch = self.handover.take(1.0)
        assert batch is not None
        return [m.header.stamp.sec for kind, m in batch.measurements if kind == "imu"]


def test_a_burst_comes_whole_and_in_order_and_wakes_the_executor_seldom(
    ros_environment: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = []
    sleep = Sleeper.sleep

    def noted(sleeper: Sleeper) -> None:
        batches.append(sleeper)
        sleep(sleeper)

    monkeypatch.setattr(Sleeper, "sleep", noted)
    with (
        node_in(ros_environment, "imu") as sender,
        node_in(ros_environment, "depth", RELIABLE) as node,
    ):
        heard, spin = Heard(node), spinning(node)
        publisher = publisher_of(sender, Imu, "/imu")
        wait(lambda: publisher.get_subscription_count() and node.count_publishers("/imu"), spin)
        began = time.monotonic()
        for k in range(150):
            publisher.publish(sample(k))
            time.sleep(0.002)  # the sensor's pace
            if k % 10 == 9:
                spin()
        wait(lambda: heard.count("imu") == 150, spin)
        elapsed = time.monotonic() - began
        assert heard.seconds() == list(range(100, 250))
        assert 1 <= len(batches) <= elapsed / 0.05 + 1  # not one for each sample


def test_an_image_brings_along_what_came_before_it(ros_environment: int) -> None:
    with (
        node_in(ros_environment, "imu") as sender,
        node_in(ros_environment, "depth", RELIABLE) as node,
    ):
        heard = Heard(node)
        publisher = publisher_of(sender, Imu, "/imu")
        wait(
            lambda: publisher.get_subscription_count() and node.count_publishers("/imu"),
            lambda: time.sleep(0.01),
        )
        for k in range(5):
            publisher.publish(sample(k))
        image = heard.inputs._image  # as the executor does, which here takes no other callback
        assert image is not None
        wait(lambda: heard.count("imu") == 5, lambda: image.callback(Image()))
        assert heard.seconds() == [100, 101, 102, 103, 104]


def test_what_is_destroyed_is_not_read(ros_environment: int) -> None:
    with node_in(ros_environment, "depth") as node:
        gone = node.create_subscription(Imu, "/imu", lambda message: None, 5)
        node.destroy_subscription(gone)
        assert list(take_all(gone)) == []
        heard = Heard(node)
        before = len(list(node.timers))
        heard.inputs.destroy()
        heard.inputs.catch_up()
        assert len(list(node.timers)) == before - 1 and not heard.counters.snapshot()


@pytest.mark.parametrize(("kind", "topic"), [(Image, "/image"), (Imu, "/imu")])
def test_a_publisher_that_cannot_be_heard_is_named(
    ros_environment: int, capfd: pytest.CaptureFixture[str], kind: type, topic: str
) -> None:
    override = f"qos_overrides.{topic}.subscription.reliability:=reliable"
    said = ""

    def is_said() -> bool:
        nonlocal said
        said += capfd.readouterr().err
        return f"a publisher on {topic} offers an incompatible QoS" in said

    with node_in(ros_environment, "driver") as driver:
        publisher_of(driver, kind, topic, reliable=False)
        with node_in(ros_environment, "depth", override) as node:
            heard, spin = Heard(node), spinning(node)
            wait(is_said, spin)
            assert heard.count("imu") == heard.count("images") == 0


def test_it_sleeps_alone_and_runs_with_no_other_of_its_group() -> None:
    class Entity:
        """Stands for a subscription: groups only keep and compare it."""

    other, fast = Entity(), Entity()
    group = MutuallyExclusiveCallbackGroup()
    group.add_entity(other)
    sleeper = Sleeper(group, seconds=3600.0)
    sleeper.add_entity(fast)
    assert sleeper.can_execute(fast) and group.can_execute(other)
    assert group.beginning_execution(other)
    assert not sleeper.can_execute(fast) and not sleeper.beginning_execution(fast)
    group.ending_execution(other)
    assert sleeper.beginning_execution(fast) and not group.can_execute(other)
    sleeper.ending_execution(fast)
    sleeper.sleep()
    assert not sleeper.can_execute(fast) and group.can_execute(other)
