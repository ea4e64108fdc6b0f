# SPDX-License-Identifier: Apache-2.0
"""What comes of an affine fit, and when it is believed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

import numpy as np

from video_depth_ros.alignment.config import AlignmentConfig


class FitVerdict(Enum):
    """What came of aligning a window."""

    START = "start"  # nothing to align to: first window of a segment
    ACCEPTED = "accepted"
    CLIPPED = "clipped"  # scale was out of range and clipped, shift solved for the clipped scale
    FLAT = "flat"  # the view has no relief: scale held, shift from the level
    TOO_FEW = "too_few"  # not enough usable pixels: held
    OUTLIERS = "outliers"  # too few pixels agree: held
    INVERTED = "inverted"  # near and far exchanged: a new segment starts
    UNRELATED = "unrelated"  # the windows do not show the same scene: a new segment starts
    SCENE_CUT = "scene_cut"  # two consecutive frames of the window differ: a new segment starts
    LOST = "lost"  # held for too long: a new segment starts


# The fit itself is good enough to be used.
USABLE = frozenset({FitVerdict.ACCEPTED, FitVerdict.CLIPPED})


@dataclass(frozen=True)
class AffineFit:
    """ref = scale * cur + shift.

    Attributes:
        scale, shift: the map.
        covariance: float64 [2, 2] of (scale, shift).
        inlier_share: share of the n pixels within three robust standard deviations.
        n: pixels used.
        residual: robust standard deviation of the residual, units of ref.
        explained: 1 - (residual / robust standard deviation of ref)^2, robust R^2.
        verdict: see :class:`FitVerdict`.
    """

    scale: float
    shift: float
    covariance: np.ndarray
    inlier_share: float
    n: int
    residual: float
    explained: float
    verdict: FitVerdict


@dataclass(frozen=True)
class FitLimits:
    """When a robust fit is believed; the meaning of each is in AlignmentConfig."""

    min_pixels: int = 64
    min_inliers: float = 0.35
    min_explained: float = 0.5
    flat_spread: float = 0.01
    max_scale_sigma: float = 0.05
    scale_low: float = 0.0
    scale_high: float = math.inf

    @classmethod
    def of(cls, config: AlignmentConfig) -> FitLimits:
        """The limits of any two windows; the range of the scale is only for neighbours."""
        return cls(
            min_pixels=config.min_pixels,
            min_inliers=config.min_inliers,
            min_explained=config.min_explained,
            flat_spread=config.flat_spread,
            max_scale_sigma=config.max_scale_sigma,
        )
