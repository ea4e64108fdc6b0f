# SPDX-License-Identifier: Apache-2.0
"""Which pixels count, per data set: depth range, crop, mask; DVD's values where it has any.

A crop cuts image, truth and camera before the network sees them; a mask only leaves truth out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from video_depth_ros.errors import ConfigError
from video_depth_ros.evaluation.metrics import DepthRange

# Eigen's crop of KITTI as shares of the height and width (NeurIPS 2014, Garg's variant is lower).
_EIGEN = (0.3324324, 0.91351351, 0.0359477, 0.96405229)
# Rows and columns of NYUv2 that the depth sensor covers, at 480x640.
_NYU = (45, 471, 41, 601)


@dataclass(frozen=True)
class Protocol:
    """How the videos of one data set are evaluated.

    Attributes:
        name: of the protocol.
        depth_range: truth outside does not count.
        crop: (height, width) cut from the bottom middle of the image, KITTI's benchmark rule;
            None for the whole image. Smaller images are taken whole.
        mask: "", "eigen" or "nyu".
    """

    name: str
    depth_range: DepthRange
    crop: tuple[int, int] | None = None
    mask: str = ""

    def crop_origin(self, height: int, width: int) -> tuple[int, int, int, int]:
        """(top, left, height, width) of what is cut from an image of this size."""
        if self.crop is None or self.crop[0] > height or self.crop[1] > width:
            return 0, 0, height, width
        rows, columns = self.crop
        return height - rows, (width - columns) // 2, rows, columns

    def valid(self, truth: np.ndarray) -> np.ndarray:
        """bool [H, W]: the pixels of a (cropped) true depth map that count."""
        valid = self.depth_range.valid(truth)
        if not self.mask:
            return valid
        height, width = truth.shape
        if self.mask == "eigen":
            top, bottom, left, right = _EIGEN
            rows = slice(int(top * height), int(bottom * height))
            columns = slice(int(left * width), int(right * width))
        else:
            top, bottom, left, right = (
                edge * size // full
                for edge, size, full in zip(
                    _NYU, (height, height, width, width), (480, 480, 640, 640), strict=True
                )
            )
            rows, columns = slice(top, bottom), slice(left, right)
        inside = np.zeros_like(valid)
        inside[rows, columns] = True
        return valid & inside


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        # DVD's five benchmarks
        Protocol("kitti", DepthRange(0.1, 80.0), crop=(352, 1216), mask="eigen"),
        Protocol("scannet", DepthRange(0.1, 10.0)),
        Protocol("bonn", DepthRange(1e-3, 10.0)),
        Protocol("sintel", DepthRange(0.1, 70.0)),
        Protocol("nyuv2", DepthRange(1e-3, 10.0), mask="nyu"),
        # recordings as they are
        Protocol("kitti_raw", DepthRange(0.1, 80.0)),
        Protocol("seven_scenes", DepthRange(1e-3, 10.0)),
        Protocol("tum_rgbd", DepthRange(1e-3, 10.0)),
        Protocol("simulated", DepthRange(0.1, 80.0)),
        Protocol("default", DepthRange(0.1, 80.0)),
    )
}


def protocol_of(name: str) -> Protocol:
    """The protocol of this name.

    Raises:
        ConfigError: unknown, with the known ones.
    """
    if name not in PROTOCOLS:
        raise ConfigError(f"unknown protocol {name!r}; expected one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]
