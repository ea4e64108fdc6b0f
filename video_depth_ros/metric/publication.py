# SPDX-License-Identifier: Apache-2.0
"""What is published of the filtered scale: its state, and a limit on how fast it changes."""

from __future__ import annotations

import math

import numpy as np

from video_depth_ros.frames import UNSCALED, MetricScale, ScaleState
from video_depth_ros.metric.anchors import View
from video_depth_ros.metric.config import ScaleConfig
from video_depth_ros.metric.scale_filter import ScaleFilter

_SWING = 2.0  # standard deviations from one side of the truth to the other
_LEAVE = 2.0  # times max_sigma at which depth stops being metric


class Publication:
    """State machine and slew limit.

    Attributes:
        state: of the newest frame.
        relative_sigma: largest relative standard deviation of inverse depth over the nearer half
            of the newest frame.
    """

    def __init__(self, config: ScaleConfig) -> None:
        self.config = config
        self.state = ScaleState.UNSCALED
        self.relative_sigma = math.inf
        self._published: tuple[float, float] | None = None

    def restart(self) -> None:
        """The disparity's affine frame began anew."""
        self.state = ScaleState.UNSCALED
        self.relative_sigma = math.inf
        self._published = None

    def publish(
        self,
        scale_filter: ScaleFilter,
        view: View,
        supported_ns: int | None,
        seconds: float,
        jumped: bool,
    ) -> MetricScale:
        """The scale of a frame. A scale that is lost is forgotten by the filter, too.

        Args:
            scale_filter: the estimate.
            view: the frame.
            supported_ns: stamp of the newest measurement that was used, None before.
            seconds: since the frame before.
            jumped: whether the filter was replaced.
        """
        nearer = [float(d) for d in view.quantiles[1:]]
        self.relative_sigma = max(scale_filter.relative_sigma(d) for d in nearer)
        own = max(scale_filter.relative_sigma(d, disputed=False) for d in nearer)
        age = math.inf
        if supported_ns is not None:
            age = (view.stamp_ns - supported_ns) * 1e-9
        self.state = self._next_state(scale_filter, age, own)
        if self.state is ScaleState.UNSCALED:
            self._published = None
            if age > self.config.lost_after:
                scale_filter.reset()
            return UNSCALED
        a, b = scale_filter.a, scale_filter.b
        if self._published is not None and not jumped and self.config.slew > 0.0:
            a, b = self._slewed(a, b, view, seconds)
        self._published = (a, b)
        # what the slew limit holds back is part of the uncertainty
        behind = np.array([scale_filter.a - a, scale_filter.b - b])
        covariance = scale_filter.covariance + np.outer(behind, behind)
        return MetricScale(self.state, a, b, covariance, supported_ns or 0)

    def _next_state(self, scale_filter: ScaleFilter, age: float, own: float) -> ScaleState:
        if age > self.config.lost_after or not scale_filter.known:
            return ScaleState.UNSCALED
        if self.state is ScaleState.UNSCALED:
            sure = self.relative_sigma <= self.config.filter.max_sigma and scale_filter.confirmed
            if not sure:
                return ScaleState.UNSCALED
        elif own > _LEAVE * self.config.filter.max_sigma:
            # by the filter's own deviation: a single wild fit does not take depth away
            return ScaleState.UNSCALED
        return ScaleState.STALE if age > self.config.stale_after else ScaleState.METRIC

    def _slewed(self, a: float, b: float, view: View, seconds: float) -> tuple[float, float]:
        """The filtered map, approached from the published one at a limited rate.

        What is limited is the relative change of depth over the nearer half of the view: by
        ``slew``, or where that is more by what the scale's error itself may do, from one deviation
        above the truth to one below while errors of the network last (``filter.correlation``):
        nobody can rely on a scale being steadier than it is known. On the way from one map to the
        other the change of 1/Z is linear, so that the limit is exact.
        """
        assert self._published is not None
        old_a, old_b = self._published
        d = view.quantiles[1:]
        before = old_a * d + old_b
        if not np.all(before > 0.0):  # it was no map for this frame
            return a, b
        change = float(np.max(np.abs((a * d + b) / before - 1.0)))
        lasting = max(self.config.filter.correlation, seconds, 1e-3)
        rate = max(self.config.slew, _SWING * self.relative_sigma / lasting)
        limit = rate * max(seconds, 0.0)
        share = 1.0 if change <= limit else limit / change
        return old_a + share * (a - old_a), old_b + share * (b - old_b)
