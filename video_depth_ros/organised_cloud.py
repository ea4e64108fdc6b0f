# SPDX-License-Identifier: Apache-2.0
"""Organised clouds of one stream's depth images, as ``output.cloud_*`` asks for them."""

from __future__ import annotations

import numpy as np

from video_depth_ros.camera import Camera
from video_depth_ros.frames import DepthEstimate
from video_depth_ros.node_config import OutputConfig

_EARLY = 0.99  # of a period: stamps of a camera are not exactly periodic


class OrganisedClouds:
    """Which depth images become clouds, and their points. The viewing rays are kept for as long as
    the camera stays the same."""

    def __init__(self) -> None:
        self._camera: Camera | None = None
        self._rays = np.empty((0, 0, 3), np.float32)  # of that camera
        self._last_ns: int | None = None

    def due(self, stamp_ns: int, max_rate: float) -> bool:
        """Whether a depth image becomes a cloud: at most ``max_rate`` a second, 0 for every one.

        One that is older than the last is due, too: time has moved back.
        """
        last = self._last_ns
        if (
            max_rate > 0.0
            and last is not None
            and 0 <= (stamp_ns - last) * 1e-9 * max_rate < _EARLY
        ):
            return False
        self._last_ns = stamp_ns
        return True

    def of(
        self, estimate: DepthEstimate, depth: np.ndarray, camera: Camera, config: OutputConfig
    ) -> tuple[np.ndarray, np.ndarray]:
        """Points float32 [H', W', 3] in the camera's optical frame [m], all three NaN where there
        is none, and their colours uint8 [H', W', 3].

        Args:
            estimate: that the depth is of.
            depth: float32 [H, W] in metres, not finite where unknown.
            camera: model of the depth image.
            config: every how many rows and columns, and up to which relative sigma.
        """
        if config.cloud_max_sigma > 0.0 and estimate.sigma is not None:
            sigma = estimate.sigma.float().cpu().numpy()
            depth = np.where(sigma <= config.cloud_max_sigma * depth, depth, np.nan)
        if self._camera != camera:
            self._camera, self._rays = camera, camera.rays().astype(np.float32)
        step = config.cloud_decimation
        z = np.where(np.isfinite(depth), depth, np.float32(np.nan))[::step, ::step, None]
        points = self._rays[::step, ::step] * z  # a ray that the lens has not is NaN in z, too
        return points, estimate.rgb.cpu().numpy()[::step, ::step]
