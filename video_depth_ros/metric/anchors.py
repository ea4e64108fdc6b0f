# SPDX-License-Identifier: Apache-2.0
"""Sparse metric anchors, what every source yields, and the frames they are measured against."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from video_depth_ros.camera import Camera

# Within this share of the frame's disparity range from its ends a pixel only says "nearer than"
# or "farther than".
_PLATEAU = 0.005
_PLATEAU_SHARE = 0.005


@dataclass(frozen=True)
class Anchors:
    """Metric measurements in one image.

    Attributes:
        uv: float64 [N, 2], pixels.
        inverse_depth: float64 [N], 1/Z [1/m].
        sigma: float64 [N], its standard deviation [1/m].
        common: relative standard deviation common to all anchors (an odometer's scale).
    """

    uv: np.ndarray
    inverse_depth: np.ndarray
    sigma: np.ndarray
    common: float = 0.0

    def __len__(self) -> int:
        return len(self.uv)

    def take(self, which: np.ndarray) -> Anchors:
        """The anchors of a mask or index array."""
        return Anchors(self.uv[which], self.inverse_depth[which], self.sigma[which], self.common)


@dataclass(frozen=True)
class View:
    """One frame's disparity as anchors see it.

    Attributes:
        stamp_ns: stamp of the frame.
        disparity: float32 [h, w] in the running frame, NaN unknown.
        camera: model at [h, w], or None.
    """

    stamp_ns: int
    disparity: np.ndarray
    camera: Camera | None

    @cached_property
    def quantiles(self) -> np.ndarray:
        """5, 50 and 95 % quantiles of the finite disparities, NaN when there are none."""
        sample = self.sampled
        return np.quantile(sample, (0.05, 0.5, 0.95)) if sample.size else np.full(3, np.nan)

    @cached_property
    def sampled(self) -> np.ndarray:
        """Finite disparities of at most about 20 000 pixels on a grid, float64 [n]."""
        height, width = self.disparity.shape
        step = max(1, int(np.sqrt(height * width / 20_000)))
        sample = self.disparity[::step, ::step].ravel()
        return sample[np.isfinite(sample)].astype(np.float64)

    @cached_property
    def limits(self) -> tuple[float, float]:
        """Disparities between which a pixel is a value, not a clipped one."""
        sample = self.sampled
        if not sample.size:
            return np.inf, -np.inf
        low, high = float(sample.min()), float(sample.max())
        margin = _PLATEAU * (high - low)
        few = _PLATEAU_SHARE * sample.size
        clipped_low = np.count_nonzero(sample <= low + margin) > few
        clipped_high = np.count_nonzero(sample >= high - margin) > few
        return (
            low + margin if clipped_low else -np.inf,
            high - margin if clipped_high else np.inf,
        )

    def sample(self, uv: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Bilinear disparity at pixels [N, 2], and its largest step to the four neighbours.

        NaN where any pixel involved is unknown; positions are clamped to the image.
        """
        height, width = self.disparity.shape
        flat = self.disparity.reshape(-1)
        u = np.clip(uv[:, 0], 0.0, width - 1.0)
        v = np.clip(uv[:, 1], 0.0, height - 1.0)
        u0 = np.minimum(u.astype(np.intp), max(width - 2, 0))
        v0 = np.minimum(v.astype(np.intp), max(height - 2, 0))
        right, down = int(width > 1), width * int(height > 1)
        at = v0 * width + u0
        fu, fv = u - u0, v - v0
        d00, d01 = flat[at], flat[at + right]
        d10, d11 = flat[at + down], flat[at + down + right]
        value = (d00 * (1 - fu) + d01 * fu) * (1 - fv) + (d10 * (1 - fu) + d11 * fu) * fv
        step = np.maximum(np.maximum(d00, d01), np.maximum(d10, d11)) - np.minimum(
            np.minimum(d00, d01), np.minimum(d10, d11)
        )
        return value, step
