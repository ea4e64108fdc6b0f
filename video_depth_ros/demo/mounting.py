# SPDX-License-Identifier: Apache-2.0
"""The sensors' mounting from a recording, as parameters for a node that has no TF.

tf2_ros comes only with a ROS installation; the recording knows the mounting all the same.
"""

from __future__ import annotations

from typing import Any

from video_depth_ros.bags.reader import Recording
from video_depth_ros.bags.static_transforms import StaticTransforms
from video_depth_ros.bags.topics import Parts
from video_depth_ros.errors import InputError
from video_depth_ros.poses import quaternion


def mounting_parameters(recording: Recording, parts: Parts) -> dict[str, Any]:
    """``extrinsics.*`` of every sensor that the recording places relative to the camera."""
    transforms = StaticTransforms.of(recording)
    camera = recording.first(parts.image).header.frame_id
    frames = {
        "points": _frame(recording, parts.points, "header"),
        "imu": _frame(recording, parts.imu, "header"),
        "base": _frame(recording, parts.odometry, "child"),
    }
    parameters: dict[str, Any] = {}
    for sensor, frame in frames.items():
        if not frame:
            continue
        try:
            T = transforms.lookup(camera, frame)
        except InputError:
            continue  # the node will say that it lacks this mounting, and how to give it
        parameters[f"extrinsics.{sensor}"] = [*T[:3, 3].tolist(), *quaternion(T).tolist()]
    return parameters


def _frame(recording: Recording, topic: str | None, of: str) -> str:
    message = recording.first(topic) if topic else None
    if message is None:
        return ""
    return str(message.child_frame_id if of == "child" else message.header.frame_id)
