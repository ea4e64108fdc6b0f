# SPDX-License-Identifier: Apache-2.0
"""What every recording format is read as: a sequence of frames with what was measured beside.

Everything is read when it is asked for; memory does not grow with the length of the sequence.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from video_depth_ros.camera import Camera
from video_depth_ros.errors import ConfigError, RecordingError
from video_depth_ros.poses import T_BODY_OPTICAL, inverse

# Where a source has no clock, stamps start at one second: zero means "latest" to tf2.
FIRST_STAMP_NS = 1_000_000_000


@dataclass(frozen=True)
class SourceOptions:
    """What the user says where the source does not.

    Attributes:
        intrinsics: fx, fy, cx, cy [px] of an undistorted camera; replaces the source's own.
        hfov: horizontal field of view [deg], for an ideal camera with its centre in the middle.
        rate: frames per second where the source has no stamps.
        hold_out: where true depth comes from the LiDAR's own scans, the share of every scan's
            points that becomes truth and is left out of the scans, so that what gives the scale
            and what judges it are not the same points; 0 = all points are both.
        depth_scale: raw value of one metre in depth images whose layout leaves it open.
    """

    intrinsics: tuple[float, float, float, float] | None = None
    hfov: float | None = None
    rate: float | None = None
    hold_out: float = 0.0
    depth_scale: float | None = None

    def __post_init__(self) -> None:
        """Refuse two cameras, and a scale that no depth image has.

        Raises:
            ConfigError: both intrinsics and a field of view, or a depth scale outside 1 to 1e6.
        """
        if self.intrinsics is not None and self.hfov is not None:
            raise ConfigError(
                "expected intrinsics or a horizontal field of view, got both: leave out --hfov "
                "or the intrinsics"
            )
        # below 1 it is metres per unit, the inverse, that somebody gave
        if self.depth_scale is not None and not 1.0 <= self.depth_scale <= 1e6:
            raise ConfigError(
                "--depth-scale: expected 1 to 1000000 units per metre (millimetres: 1000), got "
                f"{self.depth_scale:g}"
            )


@dataclass(frozen=True)
class SequenceFrame:
    """One image and the truth that belongs to it.

    Attributes:
        stamp_ns: time of exposure.
        rgb: uint8 [H, W, 3]; grey sources have three equal channels.
        depth: true depth float32 [H, W] in metres, NaN unknown; None where the source has none.
        T_world_camera: true pose of the optical frame; None where unknown.
        file: the image file it was read from, if there is one.
    """

    stamp_ns: int
    rgb: np.ndarray
    depth: np.ndarray | None = None
    T_world_camera: np.ndarray | None = None
    file: Path | None = None


@dataclass(frozen=True)
class Scan:
    """LiDAR points float32 [N, 3] in the LiDAR's frame, and their intensity [N] if known."""

    stamp_ns: int
    points: np.ndarray
    intensity: np.ndarray | None = None


@dataclass(frozen=True)
class ImuSample:
    """Angular velocity [rad/s] and specific force [m/s^2] in the IMU's frame, each [3]."""

    stamp_ns: int
    angular_velocity: np.ndarray
    linear_acceleration: np.ndarray


@dataclass(frozen=True)
class PoseSample:
    """Pose of the robot's base in a fixed frame."""

    stamp_ns: int
    T_world_base: np.ndarray


class SequenceReader(ABC):
    """A sequence on disk. Formats fill in what their source has.

    Attributes:
        format: name of the format.
        path: where it lies.
        camera: model of the images, or None when nobody knows it.
        frame_count: number of frames (an estimate for videos).
        grey: the source's images are monochrome.
        odometry_is_truth: :meth:`odometry` gives the reference poses, not a robot's own estimate.
        depth_scale_is_open: the layout does not say how many units of its depth are a metre.
        assumed: what was assumed because the source does not say it, as a sentence for the user;
            empty when nothing was.
        T_base_camera, T_base_lidar, T_base_imu: where the sensors sit on the robot; None for a
            sensor that is not there. Without a robot the base is the camera in REP-103's body
            orientation.
    """

    format = ""
    grey = False
    odometry_is_truth = True
    depth_scale_is_open = False

    def __init__(self, path: Path, options: SourceOptions | None = None) -> None:
        """Nothing is read yet.

        Raises:
            RecordingError: a depth scale for a format that has no use for it.
        """
        self.path = path
        self.options = options or SourceOptions()
        self.assumed = ""
        if self.options.depth_scale is not None and not self.depth_scale_is_open:
            raise RecordingError(
                f"{path} ({self.format}): expected --depth-scale for depth images of the tum_rgbd "
                "layout alone; other formats state their scale or have no depth, leave it out"
            )
        self.camera: Camera | None = None
        self.frame_count = 0
        self.T_base_camera: np.ndarray = T_BODY_OPTICAL
        self.T_base_lidar: np.ndarray | None = None
        self.T_base_imu: np.ndarray | None = None

    @staticmethod
    @abstractmethod
    def matches(path: Path) -> bool:
        """Whether a path looks like this format."""

    @classmethod
    def recognised(cls, path: Path) -> bool:
        """Whether a path looks like this format, and not like a plainer one as well."""
        return cls.matches(path)

    @property
    def T_camera_lidar(self) -> np.ndarray | None:
        """Points of the LiDAR's frame to the optical frame."""
        return self._in_camera(self.T_base_lidar)

    @property
    def T_camera_imu(self) -> np.ndarray | None:
        """Points of the IMU's frame to the optical frame."""
        return self._in_camera(self.T_base_imu)

    @property
    def T_camera_base(self) -> np.ndarray:
        """Points of the robot's base to the optical frame."""
        return inverse(self.T_base_camera)

    @abstractmethod
    def frames(self) -> Iterator[SequenceFrame]:
        """The frames in the order of their stamps.

        Raises:
            RecordingError: a file is missing or damaged.
        """

    def scans(self) -> Iterator[Scan]:
        """LiDAR scans in the order of their stamps; none by default."""
        return iter(())

    def imu(self) -> Iterator[ImuSample]:
        """Inertial samples in the order of their stamps; none by default."""
        return iter(())

    def odometry(self) -> Iterator[PoseSample]:
        """Poses of the base in the order of their stamps; none by default."""
        return iter(())

    def _in_camera(self, T_base_sensor: np.ndarray | None) -> np.ndarray | None:
        return None if T_base_sensor is None else self.T_camera_base @ T_base_sensor
