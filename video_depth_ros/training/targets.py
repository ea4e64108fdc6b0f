# SPDX-License-Identifier: Apache-2.0
"""What the network learns to predict: normalised disparity of a whole clip.

DVD's rule: d = 1 / depth, the 2 % and 98 % quantiles over the valid pixels of all frames of the
clip (one pair per clip), (d - q02) / (q98 - q02 + 1e-5), clipped to [0, 1]. The sky is left out of
the quantiles and ends at 0; pixels without truth are left out of the loss.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from video_depth_ros.errors import InputError

QUANTILES = (0.02, 0.98)
MIN_DEPTH = 1e-5  # m; nearer readings are faults of the source
MIN_VALID = 16  # pixels of a clip; fewer give no quantiles


class Target(NamedTuple):
    """Normalised disparity with what is needed to undo it.

    Attributes:
        disparity: float32 [T, H, W] in [0, 1], near = 1; 0 in the sky and where unknown.
        known: bool [T, H, W], pixels with truth, the sky included.
        low, high: the two quantiles [1/m]: 1 / Z = low + disparity * (high - low).
    """

    disparity: np.ndarray
    known: np.ndarray
    low: float
    high: float


def normalised_disparity(depth: np.ndarray, max_depth: float = np.inf) -> Target:
    """The training target of a clip.

    Args:
        depth: [T, H, W] in metres along the optical axis; NaN or <= 0 where unknown, +inf in the
            sky.
        max_depth: farther finite depths are clamped to this (DVD: 50 m for TartanAir, 65 m for
            Hypersim).

    Raises:
        InputError: ``empty`` for a clip with fewer than 16 valid pixels.
    """
    depth = np.asarray(depth, np.float32)
    sky = np.isposinf(depth)
    valid = np.isfinite(depth) & (depth > MIN_DEPTH)
    if int(valid.sum()) < MIN_VALID:
        raise InputError(
            "empty",
            f"expected a clip with at least {MIN_VALID} pixels of known depth, got "
            f"{int(valid.sum())} of {depth.size}; leave this clip out",
        )
    inverse = np.zeros_like(depth)
    np.divide(1.0, np.minimum(depth, max_depth), out=inverse, where=valid)
    low, high = (float(q) for q in np.quantile(inverse[valid], QUANTILES))
    scaled = np.clip((inverse - low) / (high - low + 1e-5), 0.0, 1.0)
    scaled[~valid] = 0.0
    return Target(scaled.astype(np.float32), valid | sky, low, high)
