# SPDX-License-Identifier: Apache-2.0
"""Whether the tests of this folder can run here at all."""

from __future__ import annotations

import pytest


def test_rclpy_can_be_used() -> None:
    rclpy = pytest.importorskip(
        "rclpy",
        reason="test/ros is left out: it needs rclpy, from a ROS 2 installation or from "
        "`pip install ros-jazzy-rclpy[fastrtps]`",
    )
    context = rclpy.context.Context()
    rclpy.init(context=context)
    assert context.ok()
    rclpy.try_shutdown(context=context)
