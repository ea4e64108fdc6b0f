# SPDX-License-Identifier: Apache-2.0
"""Real recordings for the metric study: KITTI's scans in halves, EuRoC's IMU against its poses."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path

import numpy as np

from video_depth_ros.bags.formats.base import SourceOptions
from video_depth_ros.bags.formats.euroc import Euroc
from video_depth_ros.bags.formats.kitti_raw import KittiRaw
from video_depth_ros.errors import RecordingError
from video_depth_ros.evaluation.metric_study import Drive
from video_depth_ros.evaluation.triangulation import Triangulated
from video_depth_ros.metric.config import InertialConfig
from video_depth_ros.metric.inertial import VisualStep, align
from video_depth_ros.metric.poses import rotation_vector
from video_depth_ros.metric.preintegration import InertialHistory

_HELD_OUT = 0.5
_UNITS = 2.7  # metres per visual unit: any number that the alignment cannot guess
_PAIRS, _INTERVAL_NS, _STEP_NS = 12, 200_000_000, 200_000_000


def kitti_drive(path: Path, frames: int | None = None) -> Drive:
    """A KITTI raw drive; a random half of every scan's points is given, the other is the truth.

    Raises:
        RecordingError: not a drive of KITTI raw, or one without scans.
    """
    reader = KittiRaw(path, SourceOptions(hold_out=_HELD_OUT))
    if reader.camera is None or reader.T_camera_lidar is None:
        raise RecordingError(f"{path}: the metric study needs LiDAR scans and a calibration")
    images = list(islice(reader.frames(), frames))
    truth = [image.depth for image in images if image.depth is not None]
    if len(truth) != len(images):
        raise RecordingError(f"{path}: {len(images) - len(truth)} images have no scan")
    return Drive(
        name=path.name,
        camera=reader.camera,
        stamps_ns=np.array([image.stamp_ns for image in images], np.int64),
        rgb=np.array([image.rgb for image in images]),
        truth=np.array(truth, np.float16),
        scans=tuple(islice(reader.scans(), frames)),
        T_camera_lidar=reader.T_camera_lidar,
    )


def kitti_points(path: Path, frames: int | None = None) -> list[tuple[np.ndarray, np.ndarray]]:
    """All that the scans saw: pixels [N, 2] as shares of the image's size, and depth [N]."""
    reader = KittiRaw(path)
    camera, T = reader.camera, reader.T_camera_lidar
    assert camera is not None and T is not None
    found = []
    for scan in islice(reader.scans(), frames):
        seen = scan.points.astype(np.float64) @ T[:3, :3].T + T[:3, 3]
        uv, valid = camera.project(seen)
        found.append(((uv[valid] + 0.5) / (camera.width, camera.height), seen[valid, 2]))
    return found


def euroc_drive(path: Path, frames: int | None = None) -> Drive:
    """A EuRoC recording with its IMU; truth are corners triangulated with the reference poses.

    Raises:
        RecordingError: not in EuRoC's layout, or without IMU or poses.
    """
    reader = Euroc(path)
    if reader.camera is None or reader.T_camera_imu is None:
        raise RecordingError(f"{path}: the metric study needs the camera's model and an IMU")
    images = list(Triangulated(reader, frames).frames())
    stamps = np.array([image.stamp_ns for image in images], np.int64)
    samples = [
        [(s.stamp_ns - int(stamps[0])) * 1e-9, *s.angular_velocity, *s.linear_acceleration]
        for s in reader.imu()
        if s.stamp_ns <= int(stamps[-1]) + _INTERVAL_NS
    ]
    return Drive(
        name=path.name,
        camera=reader.camera,
        stamps_ns=stamps,
        rgb=np.array([image.rgb for image in images]),
        truth=np.array([image.depth for image in images], np.float16),
        imu=np.array(samples).reshape(-1, 7),
        T_camera_imu=reader.T_camera_imu,
    )


@dataclass(frozen=True)
class InertialWindow:
    """The scale of one window of keyframes.

    Attributes:
        start: of the window, after the first pose [s].
        noise: of the visual path, in visual units.
        observable: whether the alignment vouches for it.
        error: relative error of the scale.
        sigma: its stated relative standard deviation.
    """

    start: float
    noise: float
    observable: bool
    error: float
    sigma: float


def euroc_windows(
    path: Path, noises: tuple[float, ...] = (5e-4, 2e-3), config: InertialConfig | None = None
) -> list[InertialWindow]:
    """Scale from the real IMU, the reference poses in place of vision.

    The camera's path is that of the reference poses in units of 2.7 m, with noise on every
    position; windows of 2.4 s begin every 0.2 s.

    Raises:
        RecordingError: not in EuRoC's layout, or without IMU or poses.
    """
    config = config or InertialConfig()
    reader = Euroc(path)
    track = list(reader.odometry())
    if reader.T_base_imu is None or not track:
        raise RecordingError(f"{path}: the metric study needs an IMU and reference poses")
    history = InertialHistory()
    for sample in reader.imu():
        history.add(sample.stamp_ns, sample.angular_velocity, sample.linear_acceleration)
    T_imu_camera = np.linalg.inv(reader.T_base_imu) @ reader.T_base_camera
    stamps = np.array([pose.stamp_ns for pose in track], np.int64)
    R_ic = T_imu_camera[:3, :3]
    found: list[InertialWindow] = []
    for start in range(int(stamps[0]), int(stamps[-1]), _STEP_NS):
        wanted = start + _INTERVAL_NS * np.arange(_PAIRS + 1)
        if wanted[-1] > stamps[-1]:
            break
        keys = [int(np.argmin(np.abs(stamps - t))) for t in wanted]
        body = [track[k].T_world_base @ reader.T_base_imu for k in keys]
        felt = [
            history.integrate(int(stamps[a]), int(stamps[b]), np.zeros(3))
            for a, b in pairwise(keys)
        ]
        parts = [part for part in felt if part is not None]
        if len(parts) < len(felt):
            continue  # the IMU does not cover the window
        for noise in noises:
            rng = np.random.default_rng((len(found), 41))
            seen = [(T @ T_imu_camera)[:3, 3] / _UNITS + noise * rng.normal(size=3) for T in body]
            steps = []
            for k, part in enumerate(parts):
                turned = body[k][:3, :3].T @ body[k + 1][:3, :3]
                w = R_ic.T @ rotation_vector(part.R @ turned.T)
                moved = R_ic.T @ body[k][:3, :3].T @ (seen[k + 1] - seen[k])
                steps.append(VisualStep(moved, np.eye(3) * noise**2, w))
            scale = align(steps, parts, T_imu_camera, config)
            found.append(
                InertialWindow(
                    start=(start - int(stamps[0])) * 1e-9,
                    noise=noise,
                    observable=scale.observable,
                    error=scale.a * _UNITS - 1.0,
                    sigma=scale.sigma / scale.a,
                )
            )
    return found
