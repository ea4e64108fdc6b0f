# SPDX-License-Identifier: Apache-2.0
"""Everything that comes beside the images: from messages to the pipeline."""

from __future__ import annotations

from typing import Any

import numpy as np

from video_depth_ros.bags.camera_source import CameraSource
from video_depth_ros.bags.contents import motion_of, registered_depth_of
from video_depth_ros.bags.messages import pose_of
from video_depth_ros.errors import InputError
from video_depth_ros.mounting import Transforms
from video_depth_ros.pipeline import DepthPipeline
from video_depth_ros.ros import conversions

# parameter extrinsics.* that places the input without TF
_PLACED_BY = {"points": "points", "odom": "base", "imu": "imu"}


class Measurements:
    """Gives messages to the pipeline and to the camera's model. Used by the worker alone."""

    def __init__(
        self, pipeline: DepthPipeline, camera: CameraSource, transforms: Transforms
    ) -> None:
        self._pipeline = pipeline
        self._camera = camera
        self._transforms = transforms

    def give(self, kind: str, message: Any, image_frame: str | None) -> bool:
        """Take one message.

        Args:
            kind: camera_info, points, sparse_depth, odom or imu.
            message: of that input's type.
            image_frame: frame_id of the images, None before the first.

        Returns:
            Whether it was taken: False while no image has told the frame in which to place it.

        Raises:
            InputError: the message cannot be used, or its sensor's mounting is not known.
        """
        if kind == "camera_info":
            self._camera.update(message)
            return True
        camera_frame = image_frame or self._camera.frame_id
        if image_frame is None and not self._can_be_placed(kind):
            return False
        stamp_ns = conversions.stamp_of(message)

        def mounting(sensor: str, frame: str) -> np.ndarray:
            return self._transforms.camera_from(sensor, camera_frame, frame, stamp_ns)

        if kind == "points":
            cloud = conversions.cloud_of(message, stamp_ns)
            T = mounting("points", message.header.frame_id)
            self._pipeline.add_points(cloud.points, stamp_ns, T, cloud.offset_s)
        elif kind == "sparse_depth":
            depth = registered_depth_of(message, camera_frame)
            camera = self._camera.model_at(depth.shape[0], depth.shape[1], "sparse depth images")
            if camera is None:
                raise InputError("camera_info", "sparse depth needs camera_info; none has come")
            self._pipeline.add_sparse_depth(depth, stamp_ns, camera)
        elif kind == "odom":
            T = mounting("base", message.child_frame_id)
            self._pipeline.add_odometry(pose_of(message), stamp_ns, T)
        elif kind == "imu":
            T = mounting("imu", message.header.frame_id)
            rate, force = motion_of(message)
            self._pipeline.add_imu(rate, force, stamp_ns, T)
        return True

    def _can_be_placed(self, kind: str) -> bool:
        """Whether the input's place is known before the first image has told its frame."""
        if kind not in _PLACED_BY:  # sparse depth lies in the images' own frame
            return False
        return bool(self._camera.frame_id) or self._transforms.is_given(_PLACED_BY[kind])
