# SPDX-License-Identifier: Apache-2.0
"""Why a measurement was or was not used, and how: stable words for diagnostics."""

from __future__ import annotations

from enum import Enum


class Verdict(Enum):
    """Outcome of one measurement of one source."""

    ACCEPTED = "accepted"
    LEVEL_ONLY = "level_only"  # one depth or part of the view: a * d + b is known there, not a, b
    TOO_FEW = "too_few"  # not enough usable anchors
    NO_POINTS = "no_points"  # empty or only non-finite measurement
    OUT_OF_VIEW = "out_of_view"  # no point projects into the image: wrong extrinsics?
    OUTLIERS = "outliers"  # too few anchors agree with any map: wrong extrinsics or clock?
    MISALIGNED = "misaligned"  # the anchors would fit better elsewhere: wrong extrinsics?
    UNRELATED = "unrelated"  # the residuals are too large for any use
    INVERTED = "inverted"  # farther where the network sees nearer: wrong extrinsics?
    NON_POSITIVE = "non_positive"  # the map would put pixels behind infinity
    GATED = "gated"  # contradicts the filter
    REINITIALISED = "reinitialised"  # contradicted the filter repeatedly and replaced it
    TIME_OFFSET = "time_offset"  # no image near its stamp: clocks apart?
    NO_CAMERA = "no_camera"  # the image has no camera model
    DISABLED = "disabled"  # the source is not in scale.sources
    SHORT_BASELINE = "short_baseline"  # the robot moved too little to triangulate
    FEW_TRACKS = "few_tracks"  # not enough features could be followed
    CONTRADICTED = "contradicted"  # the features refute the odometer: mounting, a jump, clocks?
    UNOBSERVABLE = "unobservable"  # the motion does not excite the scale


# Verdicts with which a measurement enters the filter.
USABLE = frozenset({Verdict.ACCEPTED, Verdict.LEVEL_ONLY})


class PointTimes(Enum):
    """Whether the points of a scan were moved from their own times, or why not.

    All but the first mean that the points were taken as simultaneous, at the scan's stamp.
    """

    PER_POINT = "per_point"
    NOT_GIVEN = "not_given"  # the cloud has no field of times
    ABSURD = "absurd"  # times that no scan of this stamp can have: unit, clock?
    NO_POSES = "no_poses"  # no odometry over the time of the scan
    SWITCHED_OFF = "switched_off"  # scale.lidar.deskew
