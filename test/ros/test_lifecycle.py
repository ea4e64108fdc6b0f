# SPDX-License-Identifier: Apache-2.0
"""The node as a real process over DDS: its lifecycle, its main job, and its end."""

from __future__ import annotations

import signal
import time

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from rcl_interfaces.msg import ParameterType
from rcl_interfaces.srv import GetParameters
from std_srvs.srv import Trigger

from video_depth_ros.node_config import SUBSCRIBED
from video_depth_ros.ros import conversions
from video_depth_ros.ros.node_process import NodeProcessError

from .robot import FRAME, Robot, scene, true_depth


def test_depth_comes_out_with_its_images_header_twice_over(robot: Robot) -> None:
    robot.listen("depth/image", "depth/camera_info", "depth/disparity", "depth/points")
    with robot.start() as node:
        for _ in range(2):
            robot.activate(node)
            for messages in robot.received.values():
                messages.clear()
            robot.drive(1 + 4, lidar=True)
            stamps = robot.drive(8, lidar=True)
            robot.wait_for("depth/points", stamps[-1])
            robot.wait_for("depth/image", stamps[-1])
            assert set(stamps) <= set(robot.stamps("depth/image"))
            image = robot.received["depth/image"][-1]
            assert image.header.frame_id == FRAME
            depth = conversions.depth_of(image)
            np.testing.assert_allclose(depth, true_depth(scene()), rtol=0.05)
            node.require("deactivate")
            before = {topic: len(messages) for topic, messages in robot.received.items()}
            robot.image.publish(robot.frame())
            robot.wait(lambda: robot.count("inactive") > 0)
            assert before == {t: len(m) for t, m in robot.received.items()}
            node.require("cleanup")
            assert node.state() == "unconfigured"
        assert node.close() == 0
        assert "Traceback" not in node.final_output


def test_many_activations_leave_no_trace(robot: Robot) -> None:
    robot.listen("depth/disparity")
    with robot.start(input__width=64, input__height=48) as node:
        robot.activate(node)
        for cycle in range(1, 11):
            stamp = robot.drive(1)[0]  # a window of its own: its first group is one image
            robot.wait_for("depth/disparity", stamp)
            node.require("deactivate", "activate")
            assert len(robot.received["depth/disparity"]) == cycle
            robot.wait(lambda: robot.state() == "active")
        assert node.transition("shutdown") is True
        assert node.state() == "finalized"
        assert node.close() == 0
        assert "Traceback" not in node.final_output


def test_services_parameters_and_bad_transitions(robot: Robot) -> None:
    robot.listen("depth/image", "depth/disparity")
    with robot.start() as node:
        reset = robot.service(Trigger, "reset")
        assert not robot.call(reset, Trigger.Request()).success
        assert node.transition("activate") is False  # unconfigured: there is no such transition
        # ours where rclpy would raise and never answer, rclpy's own from Kilted on
        said = node.output()
        assert "not possible" in said or "Unable to start transition" in said
        robot.activate(node)
        robot.drive(9, lidar=True)
        robot.wait(lambda: robot.value("scale", "state") == "metric")
        assert robot.call(reset, Trigger.Request()).success
        robot.wait(lambda: robot.value("scale", "state") == "unscaled")
        robot.wait(lambda: robot.value("inference", "last_reset") == "service ~/reset")

        assert "out of range" in robot.set_parameter("input.timeout", 0.0)
        assert robot.set_parameter("regressor.device", "auto") == ""  # as it is: a dump, loaded
        assert "active" in robot.set_parameter("regressor.device", "cpu")
        assert "one of 32FC1, 16UC1" in robot.set_parameter("output.encoding", "64FC1")
        assert "min_depth < max_depth" in robot.set_parameter(
            "scale.max_depth", 0.1, "scale.min_depth", 0.2
        )
        assert robot.set_parameter("output.encoding", "16UC1") == ""
        stamps = robot.drive(1 + 4 + 4, lidar=True)
        robot.wait_for("depth/image", stamps[-1])
        image = robot.received["depth/image"][-1]
        assert image.encoding == "16UC1"
        np.testing.assert_allclose(conversions.depth_of(image), true_depth(scene()), rtol=0.05)

        node.require("deactivate")
        assert "unit quaternion" in robot.set_parameter("extrinsics.points", [0.0] * 6 + [2.0])
        assert robot.set_parameter("stream.latency", "frame") == ""
        robot.activate(node, configure=False)  # builds in what was set while inactive
        stamps = robot.drive(3)
        robot.wait_for("depth/disparity", stamps[-1])


def test_a_bare_true_is_taken_for_the_word(robot: Robot) -> None:
    """In a parameter file everywhere; by ros2 param set where rclpy lets us, Humble does not."""
    with robot.start(input__rectified=True):
        get = robot.service(GetParameters, "get_parameters")

        def rectified() -> tuple[int, str]:
            request = GetParameters.Request(names=["input.rectified"])
            value = robot.call(get, request).values[0]
            return value.type, value.string_value

        assert rectified() == (ParameterType.PARAMETER_STRING, "true")
        refused = robot.set_parameter("input.rectified", False)
        if hasattr(robot.node, "add_pre_set_parameters_callback"):
            assert refused == ""
            assert rectified() == (ParameterType.PARAMETER_STRING, "false")
        else:
            assert "expected 'Type.STRING'" in refused
        assert robot.set_parameter("input.rectified", "auto") == ""


def test_the_cloud_is_the_depth_back_projected(robot: Robot) -> None:
    robot.listen("depth/image", "depth/camera_info", "depth/points", "depth/sigma")
    with robot.start() as node:
        robot.activate(node)
        robot.drive(5, lidar=True)
        stamps = robot.drive(8, lidar=True)
        for topic in list(robot.received):
            robot.wait_for(topic, stamps[-1])
        cloud = robot.received["depth/points"][-1]
        stamp = conversions.stamp_of(cloud)
        image, info, sigma = (
            next(m for m in robot.received[topic] if conversions.stamp_of(m) == stamp)
            for topic in ("depth/image", "depth/camera_info", "depth/sigma")
        )
        assert (cloud.point_step, cloud.row_step) == (16, 16 * cloud.width)
        assert (cloud.height, cloud.width) == (image.height, image.width)
        depth = conversions.depth_of(image)
        v, u = np.mgrid[0 : image.height, 0 : image.width]
        expected = np.stack(  # depth_image_proc's formula on the published camera_info
            [(u - info.k[2]) * depth / info.k[0], (v - info.k[5]) * depth / info.k[4], depth], 2
        ).reshape(-1, 3)
        expected = expected[np.isfinite(expected).all(axis=1)]
        np.testing.assert_allclose(conversions.points_of(cloud), expected, atol=1e-4)
        assert (conversions.depth_of(sigma)[np.isfinite(depth)] > 0).all()
        assert robot.set_parameter("output.cloud_decimation", 3) == ""
        robot.wait_for("depth/points", robot.drive(8, lidar=True)[-1])
        thinned = robot.received["depth/points"][-1]
        assert (thinned.height, thinned.width) == (-(-cloud.height // 3), -(-cloud.width // 3))


def test_depth_is_withheld_until_the_scale_is_known_and_one_line_says_how(robot: Robot) -> None:
    robot.listen("depth/image", "depth/points", "depth/disparity", "depth/image_color")
    with robot.start() as node:
        robot.activate(node)
        robot.drive(9)
        robot.wait(lambda: len(robot.received["depth/image_color"]) == 9)
        assert not robot.received["depth/image"] and not robot.received["depth/points"]
        assert node.output().count("no metric scale yet") == 1
        assert robot.received["depth/image_color"][-1].encoding == "rgb8"


def test_a_source_without_a_topic_is_named_once_it_is_asked_for(robot: Robot) -> None:
    with robot.start(scale__sources=["lidar", "range"]) as node:
        node.require("configure")
        node.wait_until(lambda: "range is of no use here" in node.output(), 30.0, "said so")
        node.require("cleanup")
        assert robot.set_parameter("scale.sources", list(SUBSCRIBED)) == ""
        node.require("configure")
        assert node.output().count("is of no use here") == 1


def test_depth_without_metric_scale_may_be_asked_for(robot: Robot) -> None:
    robot.listen("depth/disparity", "depth/image")
    with robot.start(scale__sources=["none"]) as node:
        node.require("configure", "activate")
        robot.wait(lambda: robot.image.get_subscription_count() > 0)
        robot.wait(lambda: robot.value("output", "depth/image.subscribers") == "1")
        robot.wait_for("depth/disparity", robot.drive(5)[-1])
        robot.wait(lambda: "names none" in robot.status("scale").message)
        assert robot.status("scale").level == DiagnosticStatus.OK
        assert robot.points.get_subscription_count() == 0
        assert "no metric scale yet" not in node.output()
        node.require("shutdown")
        robot.wait(lambda: robot.status("scale").message == "finalized")


def test_nothing_is_computed_when_nobody_listens(robot: Robot) -> None:
    with robot.start() as node:
        robot.activate(node)
        robot.drive(5)
        robot.wait(lambda: robot.count("unsubscribed") == 5)
        assert robot.value("inference", "frames") == "0"
        assert robot.count("used") == 0


@pytest.mark.parametrize("passed_over", [2, 10])
def test_who_subscribes_again_gets_nothing_stale(robot: Robot, passed_over: int) -> None:
    """0.2 s are no gap, 1 s is one, though the camera never paused."""
    robot.listen("depth/disparity")
    with robot.start() as node:
        robot.activate(node)
        before = robot.drive(1 + 4 + 2)  # two wait for their group
        robot.wait_for("depth/disparity", before[4])
        robot.wait_count("used", 7)
        robot.stop_listening("depth/disparity")
        robot.drive(passed_over)
        robot.wait_count("unsubscribed", passed_over)
        robot.received["depth/disparity"].clear()
        robot.listen("depth/disparity")
        robot.wait_matched()
        after = robot.drive(1 + 4)
        robot.wait_for("depth/disparity", after[1])
        if passed_over == 2:
            assert robot.stamps("depth/disparity") == before[5:] + after[:2]
            assert robot.value("inference", "resets") == "0"
        else:
            robot.wait_for("depth/disparity", after[-1])
            assert robot.stamps("depth/disparity") == after
            assert robot.value("inference", "last_reset") == "nobody subscribed for 1.1 s"
            assert node.output().count("nobody subscribed for 1.1 s") == 1


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"regressor__weights": "missing"}, "/nowhere/brightness.pt"),
        ({"regressor__name": "brigthness"}, "brightness"),
    ],
)
def test_a_network_that_cannot_be_loaded_fails_to_configure_by_name(
    robot: Robot, parameters: dict[str, str], said: str
) -> None:
    with robot.start(**parameters) as node:
        assert node.transition("configure") is False
        assert node.state() == "unconfigured"
        assert said in node.output()
        assert "Traceback" not in node.output()
        assert robot.set_parameter("regressor.weights", "") == ""
        assert robot.set_parameter("regressor.name", "brightness") == ""
        assert node.transition("configure") is True


@pytest.mark.parametrize(
    ("fault", "reason"), [("not_finite", "regressor"), ("memory", "out_of_memory")]
)
def test_a_network_that_keeps_failing_deactivates_the_node(
    robot: Robot, fault: str, reason: str
) -> None:
    robot.listen("depth/disparity")
    with robot.start(regressor__weights=fault, stream__latency="frame") as node:
        robot.activate(node)
        for failures in (1, 2, 3):
            robot.send(robot.frame())
            robot.wait_count(f"dropped.{reason}", failures)  # images that come faster push out
        robot.wait(lambda: robot.state() == "inactive")
        assert node.state() == "inactive"
        assert robot.status("inference").level == DiagnosticStatus.ERROR
        assert not robot.received["depth/disparity"]
        node.require("cleanup")


def test_a_lost_device_ends_the_process_with_an_error_status(robot: Robot) -> None:
    robot.listen("depth/disparity")
    node = robot.start(regressor__weights="lost")
    robot.activate(node)
    robot.image.publish(robot.frame())
    robot.wait(lambda: node.process.poll() is not None)
    assert node.close() == 1


def test_an_unknown_parameter_ends_the_start_with_the_nearest_names(robot: Robot) -> None:
    with pytest.raises(NodeProcessError) as error:
        robot.start(scale__max_dept=3.0).wait_until(lambda: False, 30.0, "ended")
    assert "status 2" in str(error.value)
    assert "unknown parameter 'scale.max_dept'; did you mean scale.max_depth" in str(error.value)


def test_an_interrupt_in_the_middle_of_the_stream_ends_the_process_cleanly(robot: Robot) -> None:
    robot.listen("depth/disparity")
    node = robot.start(stream__latency="frame")
    robot.activate(node)
    robot.drive(6)
    node.process.send_signal(signal.SIGINT)
    deadline = time.monotonic() + 30.0
    while node.process.poll() is None and time.monotonic() < deadline:
        robot.image.publish(robot.frame())  # what is being computed finds ROS gone
    assert node.close() == 0
    assert "a frame was lost" not in node.final_output
    assert "Traceback" not in node.final_output
