# SPDX-License-Identifier: Apache-2.0
"""EuRoC MAV and the ASL layout (Burri et al., IJRR 2016): mav0/cam0, imu0 and ground truth.

The base is the body frame of ``T_BS``, which for EuRoC is the IMU. Of several ground truths the
one re-estimated by OpenVINS is preferred: the orientation of the official V1_01 is inaccurate.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from video_depth_ros.bags.formats.base import (
    ImuSample,
    PoseSample,
    SequenceFrame,
    SequenceReader,
    SourceOptions,
)
from video_depth_ros.bags.formats.files import (
    Trajectory,
    camera_from_options,
    numbers,
    pose_from_cells,
    read_rgb,
    rows,
)
from video_depth_ros.camera import Camera
from video_depth_ros.errors import RecordingError

_GROUND_TRUTHS = ("groundtruth_openvins", "state_groundtruth_estimate0")
_MAX_POSE_GAP_NS = 100_000_000
_MODELS = {"radial-tangential": "plumb_bob", "radtan": "plumb_bob", "equidistant": "equidistant"}


class Euroc(SequenceReader):
    """One recording in the ASL layout; ``path`` is the folder with ``mav0``, or ``mav0``."""

    format = "euroc"
    grey = True

    def __init__(self, path: Path, options: SourceOptions | None = None) -> None:
        super().__init__(path, options)
        self._root = _root(path)
        camera_file = self._root / "cam0" / "sensor.yaml"
        if not camera_file.exists():
            raise RecordingError(f"{path} is not in the EuRoC layout: expected {camera_file}")
        sensor = _sensor(camera_file)
        self.camera = _camera(camera_file, sensor, self.options)
        self.T_base_camera = _pose(camera_file, sensor)
        imu_file = self._root / "imu0" / "sensor.yaml"
        if (self._root / "imu0" / "data.csv").exists():
            exists = imu_file.exists()
            self.T_base_imu = _pose(imu_file, _sensor(imu_file)) if exists else np.eye(4)
        self._images = sorted(
            (_stamp(self._root / "cam0" / "data.csv", cells[0]), cells[1])
            for cells in rows(self._root / "cam0" / "data.csv", 2, ",")
        )
        if not self._images:
            raise RecordingError(f"{self._root / 'cam0' / 'data.csv'} lists no image")
        self.frame_count = len(self._images)
        self._trajectory = self._read_trajectory()

    @staticmethod
    def matches(path: Path) -> bool:
        """Whether a path looks like this format."""
        return (_root(path) / "cam0" / "sensor.yaml").is_file()

    def frames(self) -> Iterator[SequenceFrame]:
        """Images with the true pose where there is one; this format has no depth."""
        for stamp_ns, name in self._images:
            file = self._root / "cam0" / "data" / name
            T_world_base = self._trajectory.at(stamp_ns)
            pose = None if T_world_base is None else T_world_base @ self.T_base_camera
            yield SequenceFrame(stamp_ns, read_rgb(file), None, pose, file)

    def imu(self) -> Iterator[ImuSample]:
        """imu0."""
        file = self._root / "imu0" / "data.csv"
        if file.exists():
            for cells in rows(file, 7, ","):
                values = numbers(file, cells[1:7])
                yield ImuSample(_stamp(file, cells[0]), values[:3], values[3:])

    def odometry(self) -> Iterator[PoseSample]:
        """The true poses of the body."""
        for stamp_ns, pose in zip(self._trajectory.stamps, self._trajectory.poses, strict=True):
            yield PoseSample(stamp_ns, pose)

    def _read_trajectory(self) -> Trajectory:
        stamps, poses = [], []
        files = [self._root / name / "data.csv" for name in _GROUND_TRUTHS]
        file = next((f for f in files if f.exists()), None)
        if file is not None:
            for cells in rows(file, 8, ","):
                pose = pose_from_cells(file, cells[1:8], wxyz=True)
                if pose is not None:
                    stamps.append(_stamp(file, cells[0]))
                    poses.append(pose)
        return Trajectory(stamps, poses, _MAX_POSE_GAP_NS)


def _root(path: Path) -> Path:
    return path / "mav0" if (path / "mav0").is_dir() else path


def _stamp(path: Path, cell: str) -> int:
    try:
        return int(cell)
    except ValueError:
        raise RecordingError(f"{path}: expected a stamp in nanoseconds, got {cell!r}") from None


def _sensor(path: Path) -> dict[str, Any]:
    """A sensor.yaml; OpenCV's first line ``%YAML:1.0`` is not YAML and is left out."""
    try:
        text = path.read_text(encoding="utf-8")
        lines = [line for line in text.splitlines() if not line.startswith("%YAML")]
        sensor = yaml.safe_load("\n".join(lines))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RecordingError(f"cannot read {path}: {' '.join(str(error).split())}") from error
    if not isinstance(sensor, dict):
        raise RecordingError(f"{path}: expected names and values")
    return sensor


def _pose(path: Path, sensor: dict[str, Any]) -> np.ndarray:
    """T_BS: the sensor in the body."""
    try:
        pose = np.array(sensor["T_BS"]["data"], dtype=np.float64).reshape(4, 4)
    except (KeyError, TypeError, ValueError):
        raise RecordingError(f"{path}: expected T_BS with 16 numbers under data") from None
    return pose


def _camera(path: Path, sensor: dict[str, Any], options: SourceOptions) -> Camera:
    try:
        width, height = (int(x) for x in sensor["resolution"])
        fx, fy, cx, cy = (float(x) for x in sensor["intrinsics"])
        stated = str(sensor["distortion_model"])
        distortion = tuple(float(x) for x in sensor["distortion_coefficients"])
    except (KeyError, TypeError, ValueError) as error:
        raise RecordingError(
            f"{path}: expected resolution, intrinsics, distortion_model and "
            f"distortion_coefficients ({error})"
        ) from None
    model = _MODELS.get(stated, stated) if any(distortion) else "none"
    own = Camera(width, height, fx, fy, cx, cy, model, distortion if any(distortion) else ())
    return camera_from_options(options, width, height) or own
