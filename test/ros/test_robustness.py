# SPDX-License-Identifier: Apache-2.0
"""Overload, interruption of a running network, simulated time, QoS."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.qos import QoSReliabilityPolicy
from rosgraph_msgs.msg import Clock

from video_depth_ros.regressors.wan.factory import NANO_WEIGHTS
from video_depth_ros.ros import conversions

from .robot import FRAME, START_NS, Robot, scene


@pytest.fixture()
def fifo(tmp_path: Path) -> Path:
    """A network on this FIFO runs until somebody writes to it."""
    path = tmp_path / "network"
    os.mkfifo(path)
    return path


def one_run_per_image(fifo: Path) -> dict[str, Any]:
    """Parameters: no group to wait for, and no still video shown to the network in between."""
    return {
        "regressor__weights": str(fifo),
        "stream__latency": "frame",
        "alignment__still_every": 0,
    }


def test_while_the_network_runs_the_newest_images_wait_and_deactivate_stops_its_output(
    robot: Robot, fifo: Path
) -> None:
    robot.listen("depth/disparity")
    with robot.start(**one_run_per_image(fifo)) as node:
        robot.activate(node)
        first = robot.drive(1)[0]
        with fifo.open("w"):  # opens when the network waits: the image is being computed
            robot.wait_count("used", 0)
        robot.wait_for("depth/disparity", first)
        robot.drive(1)
        release = os.open(fifo, os.O_WRONLY)
        robot.drive(7)
        robot.wait_count("overload", 6)  # one waits, the newest
        node.require("deactivate")  # is answered while the network is at work
        os.close(release)
        robot.wait_count("discarded", 1)
        assert robot.stamps("depth/disparity") == [first]
        node.require("activate")
        robot.wait(lambda: robot.state() == "active")
        newest = robot.frame()
        robot.image.publish(newest)
        with fifo.open("w"):
            pass
        robot.wait_for("depth/disparity", conversions.stamp_of(newest))


def test_an_interrupt_while_the_network_runs_ends_the_process_cleanly(
    robot: Robot, fifo: Path
) -> None:
    robot.listen("depth/disparity")
    node = robot.start(**one_run_per_image(fifo))
    robot.activate(node)
    robot.image.publish(robot.frame())
    with fifo.open("w"):
        assert node.close() == 0
    assert "Traceback" not in node.final_output


def test_simulated_time_is_waited_for_and_its_jump_back_resets(robot: Robot) -> None:
    robot.listen("depth/disparity")
    clock = robot.node.create_publisher(Clock, "/clock", 10)
    with robot.start(use_sim_time=True) as node:
        robot.activate(node)
        robot.wait(lambda: clock.get_subscription_count() > 0)
        robot.wait(lambda: "waiting for /clock" in robot.status("input").message)
        for stamp_ns in (START_NS, START_NS + 5 * 10**9):
            clock.publish(Clock(clock=conversions.time_of(stamp_ns)))
            robot.wait(lambda: "waiting for /clock" not in robot.status("input").message)
        stamps = robot.drive(5)
        robot.wait_for("depth/disparity", stamps[-1])
        # two messages that changed places are no jump
        clock.publish(Clock(clock=conversions.time_of(START_NS + 5 * 10**9 - 10**6)))
        clock.publish(Clock(clock=conversions.time_of(START_NS + 5 * 10**9)))
        stamps = robot.drive(4)
        robot.wait_for("depth/disparity", stamps[-1])
        assert robot.value("inference", "resets") == "0"
        clock.publish(Clock(clock=conversions.time_of(START_NS)))
        robot.wait(
            lambda: robot.value("inference", "last_reset") == "clock moved back 5.0 s",
        )
        stamps = robot.drive(5)
        robot.wait_for("depth/disparity", stamps[-1])
        assert node.state() == "active"


def test_qos_is_overridden_by_parameters_and_two_publishers_are_noticed(robot: Robot) -> None:
    robot.listen("depth/disparity")
    overrides = {
        "qos_overrides./image.subscription.reliability": "reliable",
        "qos_overrides./depth/points.publisher.reliability": "best_effort",
        "input.timeout": 0.2,
    }
    with robot.start(**overrides) as node:
        robot.activate(node)
        subscription = robot.node.get_subscriptions_info_by_topic("/image")[0]
        assert subscription.qos_profile.reliability == QoSReliabilityPolicy.RELIABLE
        cloud = robot.node.get_publishers_info_by_topic("/depth/points")[0]
        assert cloud.qos_profile.reliability == QoSReliabilityPolicy.BEST_EFFORT
        disparity = robot.node.get_publishers_info_by_topic("/depth/disparity")[0]
        assert disparity.qos_profile.reliability == QoSReliabilityPolicy.RELIABLE
        robot.wait(lambda: robot.status("input").level == DiagnosticStatus.STALE)
        assert "although 1 publish" in robot.status("input").message
        robot.node.create_publisher(type(robot.frame()), "image", 1)
        robot.wait(lambda: robot.value("input", "publishers") == "2")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            "nano",
            marks=pytest.mark.skipif(
                not NANO_WEIGHTS.is_file(), reason="the package has no nano weights yet"
            ),
        ),
        "random_nano",
    ],
)
def test_a_real_network_runs_in_the_node(robot: Robot, name: str) -> None:
    robot.listen("depth/disparity", "depth/image_color")
    with robot.start(regressor__name=name, regressor__height=96, regressor__width=128) as node:
        robot.activate(node)
        grey = scene(192, 256)
        stamps = []
        for group in (1, 4, 4):  # one at a time: however slow the machine, none is dropped
            stamps += robot.drive(group, grey=grey)
            robot.wait_for("depth/disparity", stamps[-1])
        robot.wait_for("depth/image_color", stamps[-1])
        assert robot.stamps("depth/disparity") == stamps
        image = robot.received["depth/disparity"][-1]
        assert (image.header.frame_id, image.height, image.width) == (FRAME, 96, 128)
        disparity = np.frombuffer(image.data, np.float32)
        assert np.isfinite(disparity).any() and disparity.std() > 0
        assert "licence of its weights" in node.output()
        node.require("deactivate", "cleanup")
