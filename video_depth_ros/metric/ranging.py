# SPDX-License-Identifier: Apache-2.0
"""Sensors that measure depth: what they give becomes anchors once its frame is known."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from video_depth_ros.camera import Camera
from video_depth_ros.checks import numbers, stamp
from video_depth_ros.errors import InputError
from video_depth_ros.metric.anchors import Anchors, View
from video_depth_ros.metric.config import LidarConfig
from video_depth_ros.metric.lidar import depth_to_anchors, points_to_anchors
from video_depth_ros.metric.reasons import PointTimes, Verdict
from video_depth_ros.metric.sweep import Sweep, sweep_of
from video_depth_ros.metric.waiting import Measurement


class Ranging:
    """Makes measurements of checked input.

    Attributes:
        config: of the newest measurement.
    """

    def __init__(
        self, config: LidarConfig, motion: Callable[[int, int], np.ndarray | None]
    ) -> None:
        """``motion``: T_camera(second)_camera(first) by stamps, None where no poses are."""
        self.config = config
        self._motion = motion

    def points(
        self,
        points: np.ndarray,
        stamp_ns: int,
        T_camera_sensor: np.ndarray,
        offset_s: np.ndarray | None,
        tell: Callable[[PointTimes], None],
    ) -> Measurement:
        """A cloud [N, 3]; ``tell`` hears how its points' own times were used.

        Raises:
            InputError: ``points`` or ``transform``, when the shapes or numbers cannot be that.
        """
        points, stamp_ns = numbers(points, "points", "points [N, 3]"), stamp(stamp_ns)
        if points.ndim != 2 or points.shape[1] != 3:
            raise InputError("points", f"expected points [N, 3], got {list(points.shape)}")
        if offset_s is not None:
            offset_s = numbers(offset_s, "points", f"{len(points)} times of points [s]")
        if offset_s is not None and offset_s.shape != (len(points),):
            raise InputError(
                "points", f"expected {len(points)} times of points, got {list(offset_s.shape)}"
            )
        T, config = rigid(T_camera_sensor), self.config

        def anchors(view: View) -> Anchors | Verdict:
            sweep = self._sweep(offset_s, T, stamp_ns, view)
            if isinstance(sweep, Sweep):
                tell(PointTimes.PER_POINT)
                return points_to_anchors(points, T, view, config, sweep)
            tell(sweep)
            return points_to_anchors(points, self._moved(T, stamp_ns, view), view, config)

        return Measurement("lidar", stamp_ns, anchors)

    def sparse_depth(self, depth: np.ndarray, stamp_ns: int, camera: Camera) -> Measurement:
        """A depth image [H, W] with gaps.

        Raises:
            InputError: ``sparse_depth`` when these are no metres (integers are most often
                millimetres); ``size`` when image and model differ in size.
        """
        metres = "sparse depth in metres, floating point; divide millimetres by 1000"
        depth, stamp_ns = numbers(depth, "sparse_depth", metres, "f"), stamp(stamp_ns)
        if not isinstance(camera, Camera):
            raise InputError("camera", f"expected the depth image's Camera, got {camera!r}")
        if depth.shape != (camera.height, camera.width):
            raise InputError(
                "size",
                f"expected sparse depth of {camera.width}x{camera.height} px, got "
                f"{list(depth.shape)}; give the model of the depth image itself",
            )
        config = self.config
        return Measurement(
            "sparse_depth", stamp_ns, lambda view: depth_to_anchors(depth, camera, view, config)
        )

    def distance(
        self, distance: float, sigma: float, stamp_ns: int, T_camera_sensor: np.ndarray
    ) -> Measurement:
        """One range along the sensor's x axis [m], with its deviation.

        Raises:
            InputError: ``transform`` when the transform is none, ``range`` when distance and
                deviation are no numbers or the deviation is not above 0.
        """
        T, stamp_ns = rigid(T_camera_sensor), stamp(stamp_ns)
        told = numbers((distance, sigma), "range", "a distance and its deviation [m]")
        if told.shape != (2,) or not (np.isfinite(told[1]) and told[1] > 0.0):
            raise InputError("range", f"expected a deviation above 0 m, got {sigma!r}")
        config = dataclasses.replace(self.config, occlusion_margin=0.0)
        points = np.array([[distance, 0.0, 0.0]])

        def anchors(view: View) -> Anchors | Verdict:
            found = points_to_anchors(points, self._moved(T, stamp_ns, view), view, config)
            if isinstance(found, Verdict):
                return found
            return dataclasses.replace(found, sigma=sigma * found.inverse_depth**2)

        return Measurement("range", stamp_ns, anchors)

    def _moved(self, T_camera_sensor: np.ndarray, stamp_ns: int, view: View) -> np.ndarray:
        """Sensor at its stamp to the camera at the frame's, where odometry tells the motion."""
        if stamp_ns == view.stamp_ns:
            return T_camera_sensor
        motion = self._motion(stamp_ns, view.stamp_ns)
        return T_camera_sensor if motion is None else motion @ T_camera_sensor

    def _sweep(
        self, offset_s: np.ndarray | None, T: np.ndarray, stamp_ns: int, view: View
    ) -> Sweep | PointTimes:
        """The motion within a scan, or why its points are taken as simultaneous."""
        if offset_s is None or not offset_s.size:
            return PointTimes.NOT_GIVEN
        if not self.config.deskew:
            return PointTimes.SWITCHED_OFF
        return sweep_of(offset_s, T, stamp_ns, view.stamp_ns, self._motion)


def rigid(T: np.ndarray) -> np.ndarray:
    """A checked rigid transform, float64 [4, 4].

    Raises:
        InputError: ``transform``.
    """
    T = numbers(T, "transform", "a finite 4x4 transform").astype(np.float64)
    if T.shape != (4, 4) or not np.isfinite(T).all():
        raise InputError("transform", f"expected a finite 4x4 transform, got {list(T.shape)}")
    R = T[:3, :3]
    # np.allclose takes four times as long, for every sample of an IMU
    if np.abs(R @ R.T - np.eye(3)).max() > 1e-3 or np.linalg.det(R) < 0.0:
        raise InputError("transform", "expected a rotation matrix; check the extrinsics")
    return T
