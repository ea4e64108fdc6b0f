# SPDX-License-Identifier: Apache-2.0
"""The node's own parameters, beside those of the pipeline. Imports no ROS.

:class:`DepthNodeConfig` is the one source of truth for ``config/depth.yaml``, the ROS parameter
descriptors and the table in ``docs/node.md``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from video_depth_ros.config import PipelineConfig
from video_depth_ros.metric.config import SOURCES, ScaleConfig
from video_depth_ros.settings import group, parameter

NO_POSE = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
# range has no topic: a single distance comes through the Python API
SUBSCRIBED = tuple(source for source in SOURCES if source != "range")
_POSE = (
    "as x y z [m] qx qy qz qw of the sensor's frame seen from the camera's optical frame; all "
    "zero = not given here, TF is asked."
)


@dataclass(frozen=True)
class InputConfig:
    """What the node subscribes to and what it expects of it."""

    transport: str = parameter(
        "auto",
        "Image topic: raw (image), compressed (image/compressed), or auto: compressed when only "
        "that one has a publisher, or when image is remapped to a topic that ends in /compressed.",
        choices=("auto", "raw", "compressed"),
    )
    rectified: str = parameter(
        "auto",
        "Whether the image is rectified: P of camera_info holds and no distortion; auto = the "
        "image topic's last part starts with image_rect. A text: Humble's ros2 param set wants "
        "it as \"'true'\".",
        choices=("auto", "true", "false"),
    )
    width: int = parameter(
        0,
        "Expected image width; with height it lets configure warm the network up; 0 = unknown.",
        unit="px",
        low=0,
        high=16384,
    )
    height: int = parameter(0, "Expected image height; 0 = unknown.", unit="px", low=0, high=16384)
    max_rate: float = parameter(
        0.0,
        "Most images per second that are used; others are left out evenly; 0 = as many as the "
        "network can take.",
        unit="1/s",
        low=0.0,
        high=1000.0,
        live=True,
    )
    timeout: float = parameter(
        1.0,
        "Without an image for this long the diagnostics say STALE.",
        unit="s",
        low=0.05,
        high=3600.0,
        live=True,
    )
    camera_info_timeout: float = parameter(
        5.0,
        "Without camera_info for this long after activation the diagnostics warn.",
        unit="s",
        low=0.1,
        high=3600.0,
        live=True,
    )


@dataclass(frozen=True)
class OutputConfig:
    """What the node publishes."""

    encoding: str = parameter(
        "32FC1",
        "Encoding of depth/image: 32FC1 (metres, NaN unknown) or 16UC1 (millimetres, 0 unknown).",
        choices=("32FC1", "16UC1"),
        live=True,
    )
    cloud_decimation: int = parameter(
        1, "depth/points takes every n-th row and column.", low=1, high=64, live=True
    )
    cloud_max_rate: float = parameter(
        0.0,
        "Most clouds per second, by the images' stamps; 0 = one for every depth image.",
        unit="1/s",
        low=0.0,
        high=1000.0,
        live=True,
    )
    cloud_max_sigma: float = parameter(
        0.0,
        "Points whose depth has a standard deviation above this share of the depth are NaN; "
        "0 = all points are kept.",
        low=0.0,
        high=10.0,
        live=True,
    )
    run_unsubscribed: bool = parameter(
        False,
        "Run the network even while no output has a subscriber, so that window and metric scale "
        "are warm for the first one.",
        live=True,
    )


@dataclass(frozen=True)
class ExtrinsicsConfig:
    """Mounting of the sensors, for robots without TF; a pose given here wins over TF."""

    points: tuple[float, ...] = parameter(NO_POSE, f"LiDAR mounting {_POSE}")
    imu: tuple[float, ...] = parameter(NO_POSE, f"IMU mounting {_POSE}")
    base: tuple[float, ...] = parameter(
        NO_POSE, f"Mounting of the frame whose pose odom gives, {_POSE}"
    )


@dataclass(frozen=True)
class DiagnosticsConfig:
    """How the node reports on itself."""

    period: float = parameter(1.0, "Period of /diagnostics.", unit="s", low=0.05, high=60.0)


@dataclass(frozen=True)
class DepthNodeConfig(PipelineConfig):
    """Every parameter of the node: a pipeline's configuration and what ROS adds to it."""

    scale: ScaleConfig = field(default_factory=lambda: ScaleConfig(sources=SUBSCRIBED))
    input: InputConfig = group(InputConfig)
    output: OutputConfig = group(OutputConfig)
    extrinsics: ExtrinsicsConfig = group(ExtrinsicsConfig)
    diagnostics: DiagnosticsConfig = group(DiagnosticsConfig)
