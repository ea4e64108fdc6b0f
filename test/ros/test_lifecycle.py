# SPDX-License-Identifier: Apache-2.0
"""The node as a real process over DDS: its lifecycle, its main job, and its end."""

from __future__ import annotations

import numpy as np
from robot import CAMERA, FRAME, Robot, scene, true_depth

from video_depth_ros.ros import conversions


def test_depth_comes_out_with_its_images_header_twice_over(robot: Robot) -> None:
    robot.listen("depth/image", "depth/camera_info", "depth/disparity", "depth/points")
    with robot.start() as node:
        for _ in range(2):
            robot.activate(node)
            for messages in robot.received.values():
                messages.clear()
            robot.drive(1 + 4, lidar=True)
            stamps = robot.drive(8, lidar=True)
            robot.wait(lambda: stamps[-1] in robot.stamps("depth/points"))
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
