# SPDX-License-Identifier: Apache-2.0
"""Images to the regressor's resolution, by DVD's rule (but for its rounding of ratios).

The image is scaled, aspect kept, until it covers a target box; height and width are rounded up to
the regressor's multiple; nothing is cropped. Resampling is bilinear with half-pixel centres
(``align_corners=False``), so a camera model follows by :meth:`Camera.resized`.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from video_depth_ros.errors import InputError

MIN_SIDE = 32  # pixels; below this an image carries no scene
MAX_ASPECT = 4.0


def cover_size(height: int, width: int, box: tuple[int, int], multiple: int) -> tuple[int, int]:
    """Height and width that cover ``box`` with the aspect kept, rounded up to ``multiple``.

    Raises:
        InputError: ``too_small`` for sides under 32 px, ``aspect`` beyond 4:1 either way.
    """
    if min(height, width) < MIN_SIDE:
        raise InputError(
            "too_small",
            f"expected an image of at least {MIN_SIDE}x{MIN_SIDE} px, got {width}x{height}; "
            "give the full camera image",
        )
    if max(height, width) > MAX_ASPECT * min(height, width):
        raise InputError(
            "aspect",
            f"expected an aspect ratio up to {MAX_ASPECT:g}:1, got {width}x{height}; "
            "crop the image before the node",
        )
    ratio = max(box[0] / height, box[1] / width)
    # 1e-6: a ratio that is exact in decimals must not gain a row by binary rounding
    return (
        math.ceil(height * ratio / multiple - 1e-6) * multiple,
        math.ceil(width * ratio / multiple - 1e-6) * multiple,
    )


def to_regressor(rgb: np.ndarray | Tensor, size: tuple[int, int], device: torch.device) -> Tensor:
    """One uint8 image [H, W, 3] to float32 [3, h, w] in [0, 1] on ``device``."""
    if isinstance(rgb, np.ndarray):
        # torch cannot take read-only memory (a message's buffer) without a warning: copy once
        rgb = torch.from_numpy(np.array(rgb, copy=True))
    image = rgb.to(device, non_blocking=True).permute(2, 0, 1).float().div_(255.0)
    if image.shape[1:] != size:
        image = functional.interpolate(
            image[None], size=size, mode="bilinear", align_corners=False, antialias=False
        )[0]
    return image
