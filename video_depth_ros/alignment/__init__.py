# SPDX-License-Identifier: Apache-2.0
"""Alignment: windows of affine-invariant disparity brought into one affine frame for hours."""

from video_depth_ros.alignment.config import AlignmentConfig, KeyframeConfig
from video_depth_ros.alignment.fit import fit_affine, fit_dvd
from video_depth_ros.alignment.joint import JointAlignment, align_recording
from video_depth_ros.alignment.keyframes import DriftReport, KeyframeAnchor
from video_depth_ros.alignment.look_ahead import AlignedFrame, LookAhead
from video_depth_ros.alignment.motion import CameraMotion
from video_depth_ros.alignment.recording import Window, cross_fade, run_windows
from video_depth_ros.alignment.rows import RowMaps, level_rows
from video_depth_ros.alignment.running import AlignedGroup, RunningEstimate
from video_depth_ros.alignment.verdicts import AffineFit, FitLimits, FitVerdict

__all__ = [
    "AffineFit",
    "AlignedFrame",
    "AlignedGroup",
    "AlignmentConfig",
    "CameraMotion",
    "DriftReport",
    "FitLimits",
    "FitVerdict",
    "JointAlignment",
    "KeyframeAnchor",
    "KeyframeConfig",
    "LookAhead",
    "RowMaps",
    "RunningEstimate",
    "Window",
    "align_recording",
    "cross_fade",
    "fit_affine",
    "fit_dvd",
    "level_rows",
    "run_windows",
]
