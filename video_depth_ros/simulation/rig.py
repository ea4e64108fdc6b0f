# SPDX-License-Identifier: Apache-2.0
"""Where the sensors sit on the robot. A Path moves ``camera_link``; the rest follows rigidly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .builder import rotation_zyx
from .path import T_LINK_OPTICAL, Path


@dataclass(frozen=True)
class Rig:
    """Static extrinsics, each float64 [4, 4], T_a_b mapping points in b to a.

    Attributes:
        T_base_camera_link: camera body axes (x forward, y left, z up) on the robot.
        T_base_lidar, T_base_imu: the other sensors.
        planar: whether the robot drives on the ground (wheel odometry measures x, y, yaw).
    """

    T_base_camera_link: np.ndarray
    T_base_lidar: np.ndarray
    T_base_imu: np.ndarray
    planar: bool

    @staticmethod
    def on(path: Path, style: str) -> Rig:
        """The rig for a path style.

        A vehicle's base_link lies on the ground below the camera, and the camera's height, pitch
        and roll at the start are its mounting; otherwise base_link is the held device itself.
        """
        base = np.eye(4)
        if style == "vehicle":
            x0 = path.evaluate(np.zeros(1))[0]
            base[:3, :3] = rotation_zyx(0.0, x0[4], x0[5])
            base[:3, 3] = [0.0, 0.0, x0[2]]
            lidar, imu = [-0.15, 0.0, x0[2] + 0.12], [-0.2, 0.05, 0.5 * x0[2]]
        else:
            base[:3, 3] = [0.06, 0.0, 0.0]
            lidar, imu = [0.02, 0.0, 0.08], [0.03, 0.02, -0.02]
        return Rig(base, _at(lidar), _at(imu), style == "vehicle")

    def camera_poses(self, path: Path, times: np.ndarray) -> np.ndarray:
        """T_world_camera of the optical frame, float64 [T, 4, 4]."""
        return np.asarray(path.poses(times) @ T_LINK_OPTICAL)

    def base_poses(self, path: Path, times: np.ndarray) -> np.ndarray:
        """T_world_base, float64 [T, 4, 4]."""
        return np.asarray(path.poses(times) @ np.linalg.inv(self.T_base_camera_link))

    def lidar_poses(self, path: Path, times: np.ndarray) -> np.ndarray:
        """T_world_lidar, float64 [T, 4, 4]."""
        return np.asarray(self.base_poses(path, times) @ self.T_base_lidar)

    @property
    def T_link_imu(self) -> np.ndarray:
        """The IMU seen from camera_link, float64 [4, 4]."""
        return np.asarray(np.linalg.inv(self.T_base_camera_link) @ self.T_base_imu)


def _at(place: list[float]) -> np.ndarray:
    T = np.eye(4)
    T[:3, 3] = place
    return T
