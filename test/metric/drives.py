# SPDX-License-Identifier: Apache-2.0
"""Robots driving through simulated worlds: true depth and LiDAR scans by casting rays alone.

The disparity is the true one with smooth errors that change slowly, as a network's do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from video_depth_ros.camera import Camera
from video_depth_ros.frames import MetricScale, ScaleState
from video_depth_ros.metric import MetricScaler, ScaleConfig, ScaleReport
from video_depth_ros.metric.poses import inverse
from video_depth_ros.settings import replace_flat
from video_depth_ros.simulation import lidar as laser
from video_depth_ros.simulation.recording import Simulation, SimulationConfig

A, B = 0.55, 0.03  # 1/Z = A d + B
ERROR = 0.05  # of the disparity's shape
RATE, SECONDS = 5.0, 4.0
_LIDAR = laser.Lidar(columns=450)


@dataclass(frozen=True)
class Turn:
    """A LiDAR's turn as a driver gives it.

    Attributes:
        points: float32 [N, 3]; offset_s: float32 [N]; stamp_s: time it is stamped with.
        T_camera_lidar: the extrinsics that the robot believes.
    """

    points: np.ndarray
    offset_s: np.ndarray | None
    stamp_s: float
    T_camera_lidar: np.ndarray


Fault = Callable[["Drive", Turn, int], Turn | None]


@dataclass(frozen=True)
class Drive:
    """A robot's drive.

    Attributes:
        camera: 96x72 pixels.
        times: float64 [T], of the images.
        depth: float64 [T, H, W], true, NaN in the sky; disparity: float32 [T, H, W].
        turns: one for every image.
        odometry: times [K] and T_odom_base [K, 4, 4] at 50 Hz.
        T_camera_base: the camera's mounting.
    """

    camera: Camera
    times: np.ndarray
    depth: np.ndarray
    disparity: np.ndarray
    turns: tuple[Turn, ...]
    odometry: tuple[np.ndarray, np.ndarray]
    T_camera_base: np.ndarray


def make_drive(world: str, seed: int, style: str, error: float = ERROR) -> Drive:
    """Four seconds at five images a second; ``error`` of the disparity's shape."""
    simulation = Simulation.of(
        SimulationConfig(
            world=world, seed=seed, path=style, seconds=SECONDS, rate=RATE, width=96, height=72
        )
    )
    camera, path, rig = simulation.camera, simulation.path, simulation.rig
    times = np.asarray(simulation.image_times()) + 0.06  # a turn begins before its stamp
    poses = rig.camera_poses(path, times)
    rays = np.asarray(camera.rays(), dtype=np.float64)
    length = np.linalg.norm(rays, axis=-1)
    unit = (rays / length[..., None]).reshape(-1, 3)
    rng = np.random.default_rng(seed)
    T_base_camera = inverse(rig.base_poses(path, times)[0]) @ poses[0]
    T_camera_lidar = inverse(T_base_camera) @ rig.T_base_lidar
    depth, disparity, turns = [], [], []
    field = rng.normal(size=(4, 5))
    for pose, t in zip(poses, times, strict=True):
        origins = np.repeat(pose[None, :3, 3], len(unit), axis=0)
        ranges, _ = simulation.world.cast(origins, unit @ pose[:3, :3].T, float(t), camera.width)
        z = ranges.reshape(length.shape) / length
        field = 0.95 * field + np.sqrt(1.0 - 0.95**2) * rng.normal(size=field.shape)
        wrong = cv2.resize(field.astype(np.float32), (camera.width, camera.height))
        q = np.where(np.isfinite(z), 1.0 / z, 0.0) * np.exp(error * wrong)
        depth.append(np.where(np.isfinite(z), z, np.nan))
        disparity.append(((q - B) / A).astype(np.float32))
        turn = laser.scan(simulation.world, path, rig, _LIDAR, float(t), rng)
        turns.append(Turn(turn.points, turn.offset_s, float(t), T_camera_lidar))
    stamps = np.arange(0.0, times[-1] + 0.2, 0.02)
    base = rig.base_poses(path, stamps)
    return Drive(
        camera, times, np.array(depth), np.array(disparity), tuple(turns),
        (stamps, base), inverse(T_base_camera),
    )  # fmt: skip


@dataclass(frozen=True)
class Rendered:
    """A robot's drive along a corridor, with its pictures.

    Attributes:
        rgb: uint8 [T, H, W, 3]; depth: float [T, H, W], true.
        poses: T_world_camera [T, 4, 4]; times: [T], seconds.
        camera: 240x180 pixels.
    """

    rgb: np.ndarray
    depth: np.ndarray
    poses: np.ndarray
    times: np.ndarray
    camera: Camera


def render_corridor(seconds: float) -> Rendered:
    """Six frames a second."""
    config = SimulationConfig(
        world="corridor", seed=1, seconds=seconds, rate=6.0, width=240, height=180, clean=True
    )
    simulation = Simulation.of(config)
    times = np.asarray(simulation.image_times())
    poses = simulation.rig.camera_poses(simulation.path, times)
    rgb, depth = [], []
    for pose, t in zip(poses, times, strict=True):
        linear, z = simulation.world.render_linear(simulation.camera, pose, float(t), 1)
        rgb.append((255.0 * np.clip(linear, 0.0, 1.0) ** 0.45).astype(np.uint8))
        depth.append(z)
    return Rendered(np.array(rgb), np.array(depth), poses, times, simulation.camera)


@dataclass(frozen=True)
class Outcome:
    """What the scaler made of a drive.

    Attributes:
        states: of every frame; wrong: frames that are METRIC though their depth is off by more
            than a tenth and by more than three of the stated deviations of the scale, at the
            median over the view.
        errors: signed median depth error of METRIC frames.
        report: at the end.
    """

    states: list[ScaleState]
    wrong: int
    errors: list[float]
    report: ScaleReport


def run(
    drive: Drive, fault: Fault | None = None, odometry: bool = True, **values: object
) -> Outcome:
    """Drive with a fault of the LiDAR, which may change or drop each turn."""
    flat = {"local.enabled": False, "sources": ("lidar",)}
    flat |= {name.replace("__", "."): value for name, value in values.items()}
    scaler = MetricScaler(replace_flat(ScaleConfig(), flat))
    if odometry:
        for t, pose in zip(*drive.odometry, strict=True):
            scaler.add_odometry(pose, _ns(t), drive.T_camera_base)
    rgb = torch.zeros((*drive.depth.shape[1:], 3), dtype=torch.uint8)
    states, errors, wrong = [], [], 0
    for k, t in enumerate(drive.times):
        turn = drive.turns[k] if fault is None else fault(drive, drive.turns[k], k)
        if turn is not None:
            scaler.add_points(turn.points, _ns(turn.stamp_s), turn.T_camera_lidar, turn.offset_s)
        d = torch.from_numpy(drive.disparity[k])
        scale = scaler.update(d, rgb, drive.camera, _ns(t), 0)
        states.append(scale.state)
        if scale.state is ScaleState.METRIC:
            errors.append(_error(drive, k, scale, scaler))
            stated = scaler.report(_ns(t)).relative_sigma
            wrong += abs(errors[-1]) > max(0.1, 3.0 * stated)
    return Outcome(states, wrong, errors, scaler.report(_ns(drive.times[-1])))


def _error(drive: Drive, k: int, scale: MetricScale, scaler: MetricScaler) -> float:
    depth, _ = scaler.depth(torch.from_numpy(drive.disparity[k]), scale)
    known = torch.isfinite(depth).numpy() & np.isfinite(drive.depth[k])
    return float(np.median(depth.numpy()[known] / drive.depth[k][known])) - 1.0


def _ns(seconds: float) -> int:
    return 1_000_000_000_000 + round(float(seconds) * 1e9)
