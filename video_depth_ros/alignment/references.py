# SPDX-License-Identifier: Apache-2.0
"""What is kept of the published frames: a coarse grid of samples each, never the frames."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from video_depth_ros.alignment.verdicts import AffineFit

_GRID = 4800  # most samples kept of one frame (480 x 640 at every eighth pixel)
_RESOLUTION = 1e-3  # disparity differences that mean nothing even between perfect windows


@dataclass
class Reference:
    """What is kept of a published frame: its samples in the running frame.

    The samples are the average over all windows that saw the frame, not what was published of it:
    an average has less noise, and the chain drifts less. Values that disagree are not averaged,
    which would pull everything towards the middle: where the first two views disagree, the pixel
    is not used again; later, the one that disagrees is left out.
    """

    index: int
    samples: np.ndarray  # float64 [gh, gw]
    usable: np.ndarray  # bool [gh, gw]
    views: np.ndarray  # float64 [gh, gw], views averaged
    low: float  # below and above, a view was cut off
    high: float

    def take(self, samples: np.ndarray, usable: np.ndarray, fit: AffineFit) -> None:
        """One more view of the frame, already in the running frame."""
        limit = max(3.0 * fit.residual, _RESOLUTION * fit.scale)
        innovation = samples - self.samples
        agrees = usable & (np.abs(innovation) <= limit)
        self.usable &= agrees | (self.views > 1.0)
        self.views += agrees
        self.samples += np.where(agrees, innovation / self.views, 0.0)


def sample_stride(height: int, width: int) -> int:
    """Distance of the samples that are kept of a frame [px]."""
    return max(1, math.ceil(math.sqrt(height * width / _GRID)))


def sigma_map(variance: np.ndarray, like: Tensor) -> Tensor:
    """Sigma of frames [new, h, w]: the samples' variance [gh, gw], smoothed, at full size."""
    new, height, width = like.shape
    coarse = torch.as_tensor(variance, dtype=torch.float32)[None, None]
    coarse = torch.nn.functional.avg_pool2d(
        coarse, 3, stride=1, padding=1, count_include_pad=False
    )
    sigma = coarse.sqrt().to(like.device)
    sigma = torch.nn.functional.interpolate(
        sigma, size=(height, width), mode="bilinear", align_corners=False
    )
    return sigma[0].expand(new, height, width)
