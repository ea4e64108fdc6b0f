# SPDX-License-Identifier: Apache-2.0
"""Recordings made for these tests, and the shared real ones where they are."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from video_depth_ros.bags import messages as m
from video_depth_ros.bags.writer import BagWriter
from video_depth_ros.camera import Camera
from video_depth_ros.evaluation.laboratory import LaboratoryRegressor
from video_depth_ros.poses import T_BODY_OPTICAL

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("VIDEO_DEPTH_SHARED", ROOT.parent / "shared"))
CAMERA = Camera(64, 48, 60.0, 60.0, 31.5, 23.5)
BASE_CAMERA = T_BODY_OPTICAL.copy()
BASE_CAMERA[:3, 3] = (0.2, 0.0, 0.5)
BASE_LIDAR = np.eye(4)
BASE_LIDAR[:3, 3] = (0.1, 0.0, 0.8)
START = 1_700_000_000_000_000_000
PERIOD = 100_000_000


def shared(name: str) -> Path:
    """A shared real recording; skips where it is absent."""
    path = SHARED / "data" / name
    if not path.exists():
        pytest.skip(f"no shared recording {name}")
    return path


def picture(seed: int) -> np.ndarray:
    """A textured picture uint8 [48, 64, 3]."""
    v, u = np.mgrid[0:48, 0:64]
    noise = np.random.default_rng(seed).integers(0, 40, (48, 64, 3))
    wave = 100 + 60 * np.sin((u + 2 * seed) / 5.0) * np.cos(v / 7.0)
    return np.clip(wave[..., None] + noise, 0, 255).astype(np.uint8)


def wall_scan(distance: float = 4.0) -> np.ndarray:
    """LiDAR points [N, 3] on a slanted wall in front, in the LiDAR's frame (x forward)."""
    y, z = np.meshgrid(np.linspace(-1.5, 1.5, 40), np.linspace(-1.0, 1.0, 16))
    x = distance + 0.8 * y
    return np.stack([x, y, z], axis=-1).reshape(-1, 3)


def write_robot(path: Path, frames: int = 9, storage: str | None = None) -> Path:
    """A small robot's recording: camera, LiDAR, IMU, odometry and the chain of its frames."""
    with BagWriter(path, storage) as bag:
        bag.add_topic("/tf_static", m.TF_MESSAGE, latched=True)
        bag.add_topic("/camera/image_raw", m.IMAGE)
        bag.add_topic("/camera/camera_info", m.CAMERA_INFO)
        bag.add_topic("/points", m.POINT_CLOUD)
        bag.add_topic("/imu/data", m.IMU)
        bag.add_topic("/odom", m.ODOMETRY)
        edges = [("base_link", "camera_optical_frame", BASE_CAMERA), ("base_link", "mast", _UP)]
        bag.write("/tf_static", START, m.transforms(START, edges))
        lidar = [("mast", "lidar", np.linalg.inv(_UP) @ BASE_LIDAR)]
        bag.write("/tf_static", START, m.transforms(START, lidar))
        for i in range(frames):
            t = START + i * PERIOD
            frame = "camera_optical_frame"
            bag.write("/points", t, m.cloud(t, "lidar", wall_scan()))
            for k in range(4):
                s = t + k * PERIOD // 4
                bag.write("/imu/data", s, m.imu(s, "imu", np.zeros(3), np.array([0, 0, 9.81])))
            bag.write("/odom", t, m.odometry(t, "odom", "base_link", np.eye(4)))
            bag.write("/camera/camera_info", t, m.camera_info(t, frame, CAMERA))
            bag.write("/camera/image_raw", t + 5_000_000, m.image(t, frame, picture(i)))
    return path


def sloped_laboratory() -> LaboratoryRegressor:
    """A network of little cost for images of this camera: its disparity is a slope."""
    slope = torch.linspace(0.2, 0.8, 60)[:, None].expand(60, 80)
    return LaboratoryRegressor(lambda index: slope)


_UP = np.eye(4)
_UP[2, 3] = 0.4


def layout(message) -> tuple:
    """What `decoding` asks of an image message."""
    return (
        message.data,
        message.encoding,
        message.height,
        message.width,
        message.step,
        message.is_bigendian,
    )


def model_of(info, rectified: bool = False) -> Camera:
    """The camera model of a camera_info that must have one."""
    camera = m.camera_of(info, rectified)
    assert camera is not None
    return camera
