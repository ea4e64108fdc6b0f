# SPDX-License-Identifier: Apache-2.0
"""What one depth estimate becomes in a bag: the node's output topics, with the header of the
image that it was made from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from video_depth_ros.bags import messages as m
from video_depth_ros.frames import DepthEstimate
from video_depth_ros.node_config import OutputConfig
from video_depth_ros.organised_cloud import OrganisedClouds
from video_depth_ros.point_cloud import pack_cloud

# name below the prefix -> type
OUTPUTS = {
    "image": m.IMAGE,
    "sigma": m.IMAGE,
    "camera_info": m.CAMERA_INFO,
    "points": m.POINT_CLOUD,
    "disparity": m.IMAGE,
}


class DepthMessages:
    """Makes the messages of one stream's estimates."""

    def __init__(self, config: OutputConfig) -> None:
        self._config = config
        self._clouds = OrganisedClouds()

    def of(self, estimate: DepthEstimate, frame_id: str) -> Iterator[tuple[str, Any]]:
        """(name, message) of an estimate; metric ones only where there is a metric scale."""
        t = estimate.stamp_ns
        disparity = estimate.disparity.float().cpu().numpy()
        yield "disparity", m.image(t, frame_id, disparity)
        if estimate.depth is None:
            return
        depth = estimate.depth.float().cpu().numpy()
        metric = millimetres(depth) if self._config.encoding == "16UC1" else depth
        yield "image", m.image(t, frame_id, metric, self._config.encoding)
        if estimate.sigma is not None:
            yield "sigma", m.image(t, frame_id, estimate.sigma.float().cpu().numpy())
        camera = estimate.camera
        if camera is None:
            return
        yield "camera_info", m.camera_info(t, frame_id, camera)
        if self._clouds.due(t, self._config.cloud_max_rate):
            packed, _ = pack_cloud(*self._clouds.of(estimate, depth, camera, self._config))
            yield "points", m.organised_cloud(t, frame_id, packed)


def millimetres(depth: np.ndarray) -> np.ndarray:
    """Depth [m] as uint16 millimetres (REP-118); 0 where unknown or beyond 65.535 m."""
    rounded = np.rint(np.nan_to_num(depth, nan=0.0, posinf=0.0, neginf=0.0) * 1000.0)
    rounded[(rounded < 0) | (rounded > 65535)] = 0
    return rounded.astype(np.uint16)
