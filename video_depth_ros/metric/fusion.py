# SPDX-License-Identifier: Apache-2.0
"""Anchors and fits of all sources into one filter, with an account of each source."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np

from video_depth_ros.metric.anchors import Anchors, View
from video_depth_ros.metric.config import ScaleConfig
from video_depth_ros.metric.fit import ScaleFit, fit_scale
from video_depth_ros.metric.misalignment import Agreement, Mounting, agreement
from video_depth_ros.metric.parts import covered_parts
from video_depth_ros.metric.reasons import USABLE, Verdict
from video_depth_ros.metric.report import SourceRecord
from video_depth_ros.metric.scale_filter import CONFIRMED, ScaleFilter

_PLACED = ("lidar", "sparse_depth")  # sources whose extrinsics can be checked
_SKY = 0.2  # inverse depth this far below zero, as a share of the level, may still be sky
_CLEARED = 0.8  # misalignment at which a misaligned source is used again
_TREND = 0.5  # weight of a new scan in the average misalignment
_NARROW = 0.05  # of that weight is left to a scan of one part of the view
# No map follows from such a measurement, but it tells how far off the present one is.
_USELESS = (Verdict.UNRELATED, Verdict.OUTLIERS, Verdict.INVERTED, Verdict.NON_POSITIVE)
# An odometer's jump along its way is seen in no single triangulation: two are needed.
_TRIANGULATION = 2
_LOWEST = 0.2  # fitted over measured inverse depth that still says anything


@dataclass(frozen=True)
class Fused:
    """Anchors that entered the filter, with the disparity at each."""

    stamp_ns: int
    anchors: Anchors
    disparity: np.ndarray


class Fusion:
    """Owner of the filter and of the sources' accounts.

    Attributes:
        filter: (a, b) and their covariance.
        sources: account of each source that ever gave something.
        last_reject: source and word of the newest verdict that was not a success.
        reinitialised: times the filter was replaced.
        supported_ns: stamp of the newest measurement that was used, None before.
        fused: anchors of the newest frame that had any.
    """

    def __init__(self, config: ScaleConfig) -> None:
        self.config = config
        self.filter = ScaleFilter(config.filter)
        self.sources: dict[str, SourceRecord] = {}
        self._mountings: dict[str, Mounting] = {}
        self.last_reject = ""
        self.reinitialised = 0
        self.supported_ns: int | None = None
        self.fused: list[Fused] = []

    def account(self, source: str) -> SourceRecord:
        """The account of a source."""
        return self.sources.setdefault(source, SourceRecord())

    def restart(self) -> None:
        """The disparity's affine frame began anew.

        A scale that is carried over still rests on what was measured; it is given up like any
        other when that becomes too old.
        """
        self.filter.restart()
        if not self.filter.known:
            self.supported_ns = None
        for record in self.sources.values():
            record.used_ns = None
        self.fused.clear()

    def fuse(self, source: str, view: View, anchors: Anchors) -> Verdict:
        """Fit anchors of one frame and take the fit into the filter."""
        d, _ = view.sample(anchors.uv)
        known = np.isfinite(d)
        d, anchors = d[known], anchors.take(known)
        agreed = self._agreement(source, view, anchors)
        parts = covered_parts(anchors.uv, view.disparity.shape)
        if self._misaligned(source, agreed, parts):
            self.distrust(source, view.stamp_ns)
            self.count(source, Verdict.MISALIGNED)
            return Verdict.MISALIGNED
        prior = (self.filter.a, self.filter.b) if self.filter.known else None
        if prior is None and len(anchors) == 1:
            prior = (1.0, 0.0)
        fit = fit_scale(
            d, anchors.inverse_depth, anchors.sigma, self.config.fit, prior, anchors.common, parts
        )  # fmt: skip
        if fit.verdict is Verdict.LEVEL_ONLY and not agreed.related:
            # not a scene at one depth: the sensor does not see what the camera sees
            fit = dataclasses.replace(fit, verdict=Verdict.UNRELATED)
        verdict = self.take(source, view, fit, _witnesses(source, agreed))
        if self.filter.known and len(anchors):
            ratio = (self.filter.a * d + self.filter.b) / anchors.inverse_depth
            self.account(source).residual = float(np.median(np.abs(ratio - 1.0)))
            if verdict in _USELESS and len(anchors) >= self.config.fit.min_points:
                self.filter.dispute(1.0 / max(float(np.median(ratio)), _LOWEST))
        if verdict in USABLE or verdict is Verdict.REINITIALISED:
            if self.fused and self.fused[0].stamp_ns != view.stamp_ns:
                self.fused.clear()
            self.fused.append(Fused(view.stamp_ns, anchors, d))
        return verdict

    def take(self, source: str, view: View, fit: ScaleFit, witnesses: int = CONFIRMED) -> Verdict:
        """Take a fit into the filter and account for it."""
        if fit.verdict in USABLE and not self._positive(view, fit):
            fit = dataclasses.replace(fit, verdict=Verdict.NON_POSITIVE)
        record = self.account(source)
        last = record.used_ns
        since_last = math.inf if last is None else abs(view.stamp_ns - last) * 1e-9
        verdict = self.filter.update(fit, since_last, witnesses)
        record.anchors, record.inlier_share = fit.n, fit.inlier_share
        if fit.verdict in USABLE:
            record.innovation = self.filter.innovation
        self.count(source, verdict)
        if verdict in USABLE or verdict is Verdict.REINITIALISED:
            record.used_ns = max(view.stamp_ns, last or view.stamp_ns)
            self.supported_ns = max(view.stamp_ns, self.supported_ns or 0)
        self.reinitialised += verdict is Verdict.REINITIALISED
        return verdict

    def count(self, source: str, verdict: Verdict) -> None:
        """Account for a verdict."""
        self.account(source).count(verdict)
        if verdict not in USABLE:
            self.last_reject = f"{source}: {verdict.value}"

    def apart(self, source: str, ahead: float) -> None:
        """Account for a measurement without a frame near its stamp; ``ahead`` of them [s]."""
        self.account(source).ahead = ahead
        self.count(source, Verdict.TIME_OFFSET)

    def _agreement(self, source: str, view: View, anchors: Anchors) -> Agreement:
        """How a sensor with extrinsics agrees with the frame."""
        if view.camera is None or source not in _PLACED:
            return Agreement()
        return agreement(view, view.camera, anchors)

    def _misaligned(self, source: str, agreed: Agreement, parts: float) -> bool:
        """Whether a sensor has looked elsewhere, on average of its scans.

        The mounting does not change when points are seen in one part of the view alone, where some
        other place agrees better by chance: such a scan hardly changes what wider ones have told.
        """
        limit = self.config.lidar.max_misalignment
        if limit <= 0.0:
            return False
        record = self.account(source)
        if agreed.elsewhere is not None:
            mounting = self._mountings.setdefault(source, Mounting())
            mounting.add(agreed.elsewhere, _TREND * min(max(parts - 1.0, _NARROW), 1.0))
            record.misalignment = mounting.misalignment
        # once under suspicion, only clear agreement in place clears it
        if record.last is Verdict.MISALIGNED:
            limit = min(limit, _CLEARED)
        return record.misalignment > limit

    def distrust(self, source: str, stamp_ns: int) -> None:
        """A source turns out to be mounted otherwise: so it was before, when it was believed.

        What it gave is kept only where another source has borne it out lately.
        """
        record = self.account(source)
        if record.used_ns is None:
            return
        record.used_ns = None
        others = [other.used_ns for name, other in self.sources.items() if name != source]
        oldest = stamp_ns - self.config.stale_after * 1e9
        if not any(used is not None and used >= oldest for used in others):
            self.filter.reset()

    def _positive(self, view: View, fit: ScaleFit) -> bool:
        """Whether the map keeps nearly all pixels from beyond infinity.

        The sky lies about it, and what lies beyond it by no more than the map's own deviation
        there is no contradiction.
        """
        away = view.sampled - fit.centre
        slope = fit.sigma_slope if math.isfinite(fit.sigma_slope) else 0.0
        margin = _SKY * fit.level + np.hypot(fit.sigma_level, slope * away)
        q = fit.level + fit.slope * away
        return bool(np.mean(q > -margin) >= self.config.fit.min_positive)


def _witnesses(source: str, agreed: Agreement) -> int:
    """For how many witnesses a fit of a source counts."""
    if source == "odometry":
        return _TRIANGULATION
    return CONFIRMED if source not in _PLACED or agreed.sure else 1
