# SPDX-License-Identifier: Apache-2.0
"""A small world with exact depth: smooth relief, an affine disparity, a LiDAR that sees it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from video_depth_ros.camera import Camera

WIDTH, HEIGHT = 320, 240
A, B = 0.55, 0.03  # 1/Z = A d + B


@dataclass(frozen=True)
class Scene:
    """Depth and its affine disparity.

    Attributes:
        depth: float64 [H, W], metres.
        disparity: float32 [H, W].
        camera: the camera.
        T_camera_lidar: the sensor's true mounting.
    """

    depth: np.ndarray
    disparity: np.ndarray
    camera: Camera
    T_camera_lidar: np.ndarray

    @property
    def tensor(self) -> Tensor:
        """The disparity as the pipeline gives it."""
        return torch.from_numpy(self.disparity)

    @property
    def rgb(self) -> Tensor:
        """A picture without content."""
        return torch.zeros((HEIGHT, WIDTH, 3), dtype=torch.uint8)

    def scan(self, n: int, seed: int = 0, noise: float = 0.02) -> np.ndarray:
        """n LiDAR points float32 [n, 3] in the sensor's frame."""
        rng = np.random.default_rng(seed)
        u, v = rng.integers(0, WIDTH, n), rng.integers(0, HEIGHT, n)
        z = self.depth[v, u] + rng.normal(0.0, noise, n)
        rays = np.column_stack([self.camera.normalised(np.column_stack([u, v])), np.ones(n)])
        T = np.linalg.inv(self.T_camera_lidar)
        return (rays * z[:, None] @ T[:3, :3].T + T[:3, 3]).astype(np.float32)


def make_scene(seed: int = 0, camera: Camera | None = None, error: float = 0.0) -> Scene:
    """A relief from 2 to 25 m; ``error`` is the smooth relative error of the disparity."""
    rng = np.random.default_rng(seed)
    coarse = np.exp(rng.uniform(np.log(0.04), np.log(0.5), (5, 6))).astype(np.float32)
    q = np.maximum(cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC), 0.02)
    wrong = rng.normal(size=(6, 8)).astype(np.float32)
    wrong = cv2.resize(wrong, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    disparity = (q * np.exp(error * wrong) - B) / A
    T = np.array(  # LiDAR axes (x forward, y left, z up), 10 cm above and behind the camera
        [[0.0, -1.0, 0.0, 0.02], [0.0, 0.0, -1.0, -0.1], [1.0, 0.0, 0.0, -0.1], [0, 0, 0, 1.0]]
    )
    camera = camera or Camera(WIDTH, HEIGHT, 240.0, 240.0, 159.5, 119.5)
    return Scene(1.0 / q.astype(np.float64), disparity.astype(np.float32), camera, T)
