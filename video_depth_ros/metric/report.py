# SPDX-License-Identifier: Apache-2.0
"""What metric scale tells the diagnostics."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

from video_depth_ros.frames import ScaleState
from video_depth_ros.metric.reasons import USABLE, PointTimes, Verdict


@dataclass
class SourceRecord:
    """Running account of one source.

    Attributes:
        received: measurements given in.
        used: measurements that entered the filter.
        verdicts: how often each verdict came.
        last: newest verdict, None before the first.
        ahead: seconds that the newest measurement without a frame near its stamp was ahead of
            the frames, negative behind; NaN before the first such.
        anchors: anchors of the newest measurement.
        inlier_share: share of them that agree with their own fit.
        residual: their median |relative residual| against the filtered map; a source whose
            extrinsics are wrong shows here.
        innovation: normalised disagreement of the newest fit with the filter, about 1 when all
            is well.
        misalignment: how much better the anchors agree with the disparity at another place in the
            image than where the extrinsics put them, averaged over scans; the place at which it
            is most; above 1 is suspicious.
        point_times: how the newest scan's own times were used; None where there are no points.
        used_ns: stamp of the newest measurement used for the present affine frame, None before.
        resting: whether it is spared at present, as another source gives the scale.
    """

    received: int = 0
    used: int = 0
    verdicts: Counter[Verdict] = field(default_factory=Counter)
    last: Verdict | None = None
    ahead: float = math.nan
    anchors: int = 0
    inlier_share: float = math.nan
    residual: float = math.nan
    innovation: float = math.nan
    misalignment: float = math.nan
    point_times: PointTimes | None = None
    used_ns: int | None = None
    resting: bool = False

    def count(self, verdict: Verdict) -> None:
        """Account for the outcome of one measurement."""
        self.verdicts[verdict] += 1
        self.last = verdict
        if verdict in USABLE or verdict is Verdict.REINITIALISED:
            self.used += 1


@dataclass(frozen=True)
class ScaleReport:
    """State of the metric scale.

    Attributes:
        state: see :class:`ScaleState`.
        a, b: filtered map, 1/Z = a d + b [1/m].
        sigma_a, sigma_b: standard deviations.
        relative_sigma: largest relative standard deviation of inverse depth over the nearer half
            of the newest frame; inf while unknown.
        age: seconds since the last used measurement, inf before the first.
        sources: account of each source that ever gave something, by name.
        local: whether the newest frame is locally corrected.
        local_gain: share by which the local correction lowered the left-out error, NaN if none.
        last_reject: word of the newest verdict that was not a success, or empty.
        reinitialised: times the filter was replaced by contradicting measurements.
    """

    state: ScaleState
    a: float
    b: float
    sigma_a: float
    sigma_b: float
    relative_sigma: float
    age: float
    sources: dict[str, SourceRecord]
    local: bool
    local_gain: float
    last_reject: str
    reinitialised: int
