# SPDX-License-Identifier: Apache-2.0
"""Metric scale: sparse metric anchors from every sensor, one filter over 1/Z = a d + b."""

from video_depth_ros.metric.config import ScaleConfig
from video_depth_ros.metric.reasons import PointTimes, Verdict
from video_depth_ros.metric.report import ScaleReport, SourceRecord
from video_depth_ros.metric.scaler import MetricScaler

__all__ = ["MetricScaler", "PointTimes", "ScaleConfig", "ScaleReport", "SourceRecord", "Verdict"]
