# SPDX-License-Identifier: Apache-2.0
"""Metric depth of a frame and its standard deviation, under the published scale.

The anchors' residual shows all errors together, those of the map and of the windows too, but only
where anchors are. What the covariance of (a, b) and the windows' disagreement say reaches farther,
but knows nothing of the network's own errors. Neither is part of the other: the larger one counts.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from video_depth_ros.frames import MetricScale, ScaleState
from video_depth_ros.metric.anchors import View
from video_depth_ros.metric.config import ScaleConfig
from video_depth_ros.metric.fusion import Fused
from video_depth_ros.metric.local import LocalCorrection, fit_local, trust
from video_depth_ros.metric.spread import ResidualSpread


class DepthOutput:
    """Owner of the local correction and of the residual spread.

    Attributes:
        local: correction of the newest frame, or None.
    """

    def __init__(self, config: ScaleConfig) -> None:
        self.config = config
        self.local: LocalCorrection | None = None
        self._spread = ResidualSpread()
        self._local_spread = ResidualSpread()
        self._corrected_ns: int | None = None

    def restart(self) -> None:
        """The disparity's affine frame began anew."""
        self.local = None
        self._spread.reset()
        self._local_spread.reset()

    def correct(self, view: View, scale: MetricScale, fused: list[Fused]) -> None:
        """Local correction and residual spread under the published map.

        A correction is kept for the frames until the next scan, for ``max_time_offset``.

        Args:
            view: the frame.
            scale: the published map.
            fused: anchors of the newest frame that had any.
        """
        if scale.state is ScaleState.UNSCALED or not fused:
            self.local = None
            return
        stamp_ns = fused[0].stamp_ns
        if abs(view.stamp_ns - stamp_ns) * 1e-9 > self.config.lidar.max_time_offset:
            self.local = None
            return
        if self._corrected_ns == stamp_ns:
            return
        self._corrected_ns = stamp_ns
        fitted = np.concatenate([scale.a * f.disparity + scale.b for f in fused])
        measured = np.concatenate([f.anchors.inverse_depth for f in fused])
        usable = fitted > 1e-4
        fitted, measured = fitted[usable], measured[usable]
        self.local = None
        if self.config.local.enabled:
            uv = np.concatenate([f.anchors.uv for f in fused])[usable]
            sigma = np.concatenate([f.anchors.sigma for f in fused])[usable]
            size = (int(view.disparity.shape[0]), int(view.disparity.shape[1]))
            weight = trust(fitted, measured, sigma)
            self.local = fit_local(uv, fitted, measured, weight, size, self.config.local)
        self._spread.add(fitted, measured / fitted)
        if self.local is not None:
            left_out = np.isfinite(self.local.errors)
            self._local_spread.add(fitted[left_out], np.exp(self.local.errors[left_out]))

    def depth(
        self, disparity: Tensor, scale: MetricScale, sigma_disparity: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Metric depth of the frame last given to :meth:`correct`.

        Args:
            disparity: float32 [h, w], running frame.
            scale: the one it was given with.
            sigma_disparity: float32 [h, w], standard deviation of the disparity, or None.

        Returns:
            depth and its standard deviation, float32 [h, w], metres; NaN where unknown, nearer
            than ``min_depth`` or beyond ``max_depth``.
        """
        if scale.state is ScaleState.UNSCALED:
            unknown = torch.full_like(disparity, math.nan)
            return unknown, unknown.clone()
        q = scale.a * disparity + scale.b
        q = torch.where(q > 0.0, q, math.nan)
        relative2 = self._spread.at(q) ** 2
        if self.local is not None:
            near = self.local.covered(q)
            q = self.local.apply(q)
            relative2 = near * self._local_spread.at(q) ** 2 + (1.0 - near) * relative2
        C = scale.covariance
        variance = (C[0, 0] * disparity + 2.0 * C[0, 1]) * disparity + C[1, 1]
        if sigma_disparity is not None:
            variance = variance + (scale.a * sigma_disparity) ** 2
        variance = torch.maximum(variance, relative2 * q * q)
        # the range is that of the depth given out: a local correction moves pixels across its ends
        depth = 1.0 / q
        inside = (depth >= self.config.min_depth) & (depth <= self.config.max_depth)
        depth = torch.where(inside, depth, math.nan)
        return depth, variance.sqrt() * depth * depth
