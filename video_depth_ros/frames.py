# SPDX-License-Identifier: Apache-2.0
"""What travels through the pipeline: frames in, disparity groups between, depth estimates out.

Disparity is near = large and affine-invariant; depth is metres along the optical axis
(REP-118), NaN where unknown (REP-117). Stamps are integer nanoseconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
from torch import Tensor

from video_depth_ros.camera import Camera

# DVD's targets are clipped at the 98 % quantile: from here on "nearer than this", not a value.
SATURATED_DISPARITY = 0.995


@dataclass(frozen=True)
class Frame:
    """One camera image.

    Attributes:
        rgb: uint8 [H, W, 3], RGB order; a numpy view of the message or a device tensor.
        stamp_ns: time of exposure.
        camera: the camera model at this image's size, or None when it is not known.
    """

    rgb: np.ndarray | Tensor
    stamp_ns: int
    camera: Camera | None = None


@dataclass(frozen=True)
class DisparityGroup:
    """What a regressor session returns for a pushed group of frames.

    Attributes:
        disparity: float32 [T, h, w] on the session's device, near = large, affine-invariant: one
            unknown scale and shift common to all T frames. The last ``new`` rows are the group
            just pushed; the rows before are the overlap, i.e. earlier frames as the newest window
            sees them, consecutive and directly before the group.
        first_index: index in the stream (0 = first frame since open or reset) of row 0.
        new: number of newest frames.
    """

    disparity: Tensor
    first_index: int
    new: int

    @property
    def overlap(self) -> int:
        """Number of frames before the newest group."""
        return int(self.disparity.shape[0]) - self.new


class ScaleState(Enum):
    """How far metric depth can be trusted."""

    UNSCALED = "unscaled"  # no metric scale yet: depth is relative and is not published
    METRIC = "metric"
    STALE = "stale"  # the last scale is held, its source has fallen silent


@dataclass(frozen=True)
class MetricScale:
    """The map from running disparity d to metric inverse depth, 1/Z = a*d + b.

    Attributes:
        state: see :class:`ScaleState`; a, b and covariance mean nothing while UNSCALED.
        a, b: scale and shift [1/m].
        covariance: float64 [2, 2] of (a, b).
        stamp_ns: when it was last supported by a measurement.
    """

    state: ScaleState
    a: float
    b: float
    covariance: np.ndarray
    stamp_ns: int


UNSCALED = MetricScale(ScaleState.UNSCALED, 1.0, 0.0, np.zeros((2, 2)), 0)


@dataclass(frozen=True)
class DepthEstimate:
    """Depth of one frame, at the regressor's resolution [h, w], on its device.

    Attributes:
        stamp_ns: stamp of its own frame.
        index: index of the frame in the stream since the last reset.
        rgb: uint8 [h, w, 3], the image at the estimate's resolution.
        disparity: float32 [h, w] in the stream's one affine frame, near = large, NaN unknown.
        depth: float32 [h, w] in metres, NaN unknown; None while the scale is unknown.
        sigma: float32 [h, w], standard deviation of the depth in metres, NaN where depth is NaN;
            None while the scale is unknown.
        scale: the metric scale used.
        sequence: grows by one whenever the affine frame of the stream starts anew.
        camera: the camera model at [h, w], or None.
    """

    stamp_ns: int
    index: int
    rgb: Tensor
    disparity: Tensor
    depth: Tensor | None
    sigma: Tensor | None
    scale: MetricScale
    sequence: int
    camera: Camera | None
