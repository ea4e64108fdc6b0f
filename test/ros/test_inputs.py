# SPDX-License-Identifier: Apache-2.0
"""Bad input has a named outcome and the node lives on; good input in any form gives depth."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from nav_msgs.msg import Odometry
from sensor_msgs.msg import CameraInfo, CompressedImage, Imu, PointCloud2

from video_depth_ros.camera import Camera
from video_depth_ros.ros import conversions

from .robot import CAMERA, FRAME, SCALE, Robot, lidar_points, scene


def test_bad_images_are_counted_by_reason_and_the_next_good_one_is_used(robot: Robot) -> None:
    robot.listen("depth/disparity")
    with robot.start() as node:
        robot.activate(node)
        robot.drive(1)
        wrong = robot.frame()
        wrong.encoding = "32SC2"
        truncated = robot.frame()
        truncated.data = truncated.data[:-100]
        short_step = robot.frame()
        short_step.step = 5
        empty = robot.frame()
        empty.width = 0
        tiny = conversions.image_message(
            conversions.header_of(robot.next_stamp(), FRAME), scene(8, 10), "mono8"
        )
        faults = {
            "encoding": wrong,
            "truncated": truncated,
            "bad_step": short_step,
            "empty": empty,
            "too_small": tiny,
        }
        for reason, message in faults.items():
            robot.send(message)
            robot.wait_count(f"dropped.{reason}", 1)
        duplicate = robot.frame()
        robot.send(duplicate)
        robot.send(duplicate)
        robot.wait(lambda: robot.count("dropped.duplicate") == 1)
        late = robot.frame()
        late.header.stamp = conversions.time_of(robot.stamp_ns - 150_000_000)
        robot.send(late)
        robot.wait(lambda: robot.count("dropped.out_of_order") == 1)
        stamps = robot.drive(4)
        robot.wait(lambda: set(stamps[:-1]) <= set(robot.stamps("depth/disparity")))
        assert node.state() == "active"
        assert "32SC2" in node.output() and "rgb8" in node.output()
        assert "Traceback" not in node.output()


def test_camera_info_faults_leave_disparity_and_the_last_good_model(robot: Robot) -> None:
    robot.listen("depth/disparity", "depth/camera_info")
    with robot.start() as node:
        robot.activate(node)
        uncalibrated = CameraInfo(width=64, height=48)
        uncalibrated.header.frame_id = FRAME
        robot.info.publish(uncalibrated)
        robot.send(robot.frame())
        robot.wait(lambda: robot.count("dropped.camera_info_uncalibrated") == 1)
        robot.wait(lambda: "uncalibrated" in robot.status("input").message)
        robot.drive(4, lidar=True)
        stamp = robot.drive(4, lidar=True)[-1]
        robot.wait(lambda: stamp in robot.stamps("depth/camera_info"))
        broken = conversions.camera_info_message(uncalibrated.header, CAMERA)
        broken.k[0] = float("nan")
        robot.info.publish(broken)
        stamps = [robot.next_stamp() for _ in range(4)]
        for stamp in stamps:
            message = robot.frame()
            message.header.stamp = conversions.time_of(stamp)
            robot.stamp_ns = stamp
            robot.send(message)
        robot.wait(lambda: robot.count("dropped.camera_info_camera_info") == 1)
        robot.wait(lambda: stamps[-1] in robot.stamps("depth/camera_info"))
        assert robot.received["depth/camera_info"][-1].k[0] == CAMERA.fx


def test_unusable_clouds_are_counted_and_depth_goes_on(robot: Robot) -> None:
    robot.listen("depth/disparity")
    with robot.start(extrinsics__points=(0.0,) * 7) as node:
        robot.activate(node)
        robot.drive(1)
        robot.points.publish(PointCloud2(height=1, width=4, point_step=16, row_step=64))
        robot.drive(1)
        robot.wait(lambda: robot.count("dropped.points_fields") == 1)
        robot.send_points(lidar_points(scene()))
        robot.drive(1)
        robot.wait(lambda: robot.count("dropped.points_transform") == 1)
        assert "extrinsics.points" in node.output() and "'lidar'" in node.output()
        robot.send_points(np.full((50, 3), np.nan))
        stamps = robot.drive(2)
        robot.wait_for("depth/disparity", stamps[-1])


def test_a_lidar_on_another_clock_is_told_by_how_much(robot: Robot) -> None:
    robot.listen("depth/disparity")
    with robot.start() as node:
        robot.activate(node)
        for _ in range(5):
            message = robot.frame()
            robot.stamp_ns += 37_000_000_000  # PTP's time is TAI
            robot.send_points(lidar_points(scene()))
            robot.stamp_ns -= 37_000_000_000
            robot.send(message)
        robot.wait(lambda: robot.value("scale", "lidar.last") == "time_offset")
        robot.wait(lambda: "synchronise the clocks" in robot.status("scale").message)
        said = robot.status("scale").message  # of the first frame of a group
        assert re.match(r"lidar: its stamps are about 37\.[0-3] s ahead of the images", said), said
        assert robot.status("scale").level == DiagnosticStatus.WARN


def test_imu_and_odometry_reach_the_scale_and_their_faults_are_counted(robot: Robot) -> None:
    robot.listen("depth/disparity")
    imu = robot.node.create_publisher(Imu, "imu", 50)
    odom = robot.node.create_publisher(Odometry, "odom", 50)
    with robot.start(
        extrinsics__imu=(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0), input__camera_info_timeout=0.1
    ) as node:
        robot.activate(node)
        robot.wait(lambda: imu.get_subscription_count() and odom.get_subscription_count())
        robot.wait(lambda: "no camera_info on /camera_info" in robot.status("input").message)
        pose = Odometry(child_frame_id="base_link")
        pose.pose.pose.orientation.w = 1.0
        for _ in range(5):
            sample = Imu()
            sample.header = conversions.header_of(robot.stamp_ns, "imu")
            sample.linear_acceleration.z = 9.81
            imu.publish(sample)
            pose.header = sample.header
            odom.publish(pose)
            robot.drive(1)
        robot.wait_count("dropped.odom_transform", 5)
        robot.wait(lambda: len(robot.received["depth/disparity"]) == 5)
        pose.header.frame_id, pose.child_frame_id = "odom", FRAME  # the camera's own pose
        pose.pose.pose.orientation.w = 0.0
        odom.publish(pose)
        robot.drive(1)
        robot.wait_count("dropped.odom_pose", 1)
        assert robot.value("input", "dropped.imu_transform") is None
        assert "extrinsics.base" in node.output()


@contextlib.contextmanager
def with_odometer(robot: Robot) -> Iterator[Callable[[int], None]]:
    """An active node; gives what publishes a pose of the camera itself, by its stamp."""
    robot.listen("depth/disparity")
    odom = robot.node.create_publisher(Odometry, "odom", 50)
    pose = Odometry(child_frame_id=FRAME)
    pose.pose.pose.orientation.w = 1.0

    def publish(stamp_ns: int) -> None:
        pose.header = conversions.header_of(stamp_ns, "odom")
        odom.publish(pose)

    with robot.start() as node:
        robot.activate(node)
        robot.wait(odom.get_subscription_count)
        yield publish


def test_an_odometer_that_has_ended_is_told(robot: Robot) -> None:
    with with_odometer(robot) as publish:
        robot.drive(1)
        publish(robot.stamp_ns)
        robot.drive(20)
        robot.wait(lambda: robot.value("scale", "odometry.last") == "time_offset")
        robot.wait(lambda: "has it ended?" in robot.status("scale").message)
        assert float(robot.value("scale", "odometry.ahead") or 0.0) < -1.0


def test_an_odometer_whose_clock_is_seconds_ahead_is_told(robot: Robot) -> None:
    with with_odometer(robot) as publish:
        for _ in range(15):
            robot.drive(1)
            publish(robot.stamp_ns + 4_000_000_000)
        robot.wait(lambda: "odometry: arrives with stamps" in robot.status("scale").message)
        assert robot.status("scale").level == DiagnosticStatus.WARN
        # the stamps of this robot run faster than its images arrive
        assert 3.0 < float(robot.value("scale", "odometry.ahead") or 0.0) < 4.2


def test_compressed_images_are_used_when_nobody_publishes_raw_ones(robot: Robot) -> None:
    robot.listen("depth/disparity")
    robot.node.destroy_publisher(robot.image)
    robot.image = robot.node.create_publisher(CompressedImage, "image/compressed", 10)
    with robot.start() as node:
        robot.activate(node)
        robot.send(robot.compressed(scene()))
        damaged = robot.compressed(scene())
        damaged.data = damaged.data[: len(damaged.data) // 4]
        robot.send(damaged)
        robot.wait(lambda: robot.count("dropped.decode") == 1)
        for _ in range(4):
            robot.send(robot.compressed(scene()))
        robot.wait(lambda: len(robot.received["depth/disparity"]) == 5)
        disparity = conversions.depth_of(robot.received["depth/disparity"][-1])
        np.testing.assert_allclose(disparity, scene() / 255.0, atol=0.02)


def test_time_and_size_may_change_under_way(robot: Robot) -> None:
    robot.listen("depth/disparity")
    with robot.start() as node:
        robot.activate(node)
        robot.drive(5)
        robot.stamp_ns -= 60_000_000_000  # a bag loops
        stamps = robot.drive(5)
        robot.wait_for("depth/disparity", stamps[-1])
        robot.wait(lambda: "time moved back" in (robot.value("inference", "last_reset") or ""))
        robot.stamp_ns += 5_000_000_000  # and the camera is silent for a while
        stamps = robot.drive(5)
        robot.wait_for("depth/disparity", stamps[-1])
        robot.wait(lambda: "gap of" in (robot.value("inference", "last_reset") or ""))
        stamps = robot.drive(5, grey=scene(96, 160))
        robot.wait_for("depth/disparity", stamps[-1])
        last = robot.received["depth/disparity"][-1]
        assert abs(last.width / last.height - 160 / 96) < 0.2
        robot.wait(lambda: robot.value("inference", "input_size") == "160x96")


def test_a_camera_slower_than_the_largest_gap_is_warned_of(robot: Robot) -> None:
    robot.listen("depth/disparity")
    with robot.start() as node:
        robot.activate(node)
        robot.drive(1)
        for _ in range(4):
            robot.stamp_ns += 1_000_000_000
            stamps = robot.drive(1)
            robot.wait_for("depth/disparity", stamps[-1])
        robot.wait(lambda: "4 times within 30 s" in robot.status("inference").message)
        assert "stream.max_gap is 0.5 s: raise it" in robot.status("inference").message


def test_camera_info_of_another_shape_withholds_the_cloud_alone(robot: Robot) -> None:
    robot.listen("depth/disparity", "depth/points")
    with robot.start() as node:
        robot.activate(node)
        robot.info.publish(
            conversions.camera_info_message(
                conversions.header_of(robot.stamp_ns, FRAME), Camera(640, 360, 600, 600, 320, 180)
            )
        )
        for _ in range(5):
            robot.send(robot.frame())
        robot.wait(lambda: len(robot.received["depth/disparity"]) == 5)
        robot.wait(lambda: "640x360" in robot.status("input").message)
        assert not robot.received["depth/points"]


@pytest.mark.parametrize("source", ["sparse_depth", "half_size_camera_info"])
def test_metric_depth_from_sparse_depth_and_from_a_scaled_camera_info(
    robot: Robot, source: str
) -> None:
    robot.listen("depth/image", "depth/camera_info")
    sparse = robot.sparse_publisher()
    with robot.start() as node:
        robot.activate(node)
        robot.wait(lambda: sparse.get_subscription_count() > 0)
        for _ in range(9):
            message = robot.frame()
            if source == "sparse_depth":
                robot.send_info()
                sparse.publish(robot.sparse_depth())
            else:
                robot.send_info(CAMERA.resized(32, 24))
                robot.send_points(lidar_points(scene()))
            robot.send(message)
        robot.wait(lambda: robot.stamp_ns in robot.stamps("depth/camera_info"))
        depth = conversions.depth_of(robot.received["depth/image"][-1])
        truth = 1.0 / (SCALE * scene() / 255.0 + 0.05)
        np.testing.assert_allclose(depth, truth, rtol=0.05)
        k = robot.received["depth/camera_info"][-1].k
        np.testing.assert_allclose(k, CAMERA.matrix.reshape(-1), atol=1e-9)
