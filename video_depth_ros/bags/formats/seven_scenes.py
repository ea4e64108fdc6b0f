# SPDX-License-Identifier: Apache-2.0
"""7-Scenes (Shotton et al., CVPR 2013): frame-XXXXXX.color, .depth.png and .pose.txt.

Depth is in millimetres, 0 and 65535 mean "not measured", and it is not exactly registered to the
colour image. Poses map the camera to the world. There are no stamps: 30 Hz by frame number.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from video_depth_ros.bags.formats.base import (
    FIRST_STAMP_NS,
    PoseSample,
    SequenceFrame,
    SequenceReader,
    SourceOptions,
)
from video_depth_ros.bags.formats.files import (
    camera_from_matrix,
    camera_from_options,
    image_files,
    published_camera,
    read_depth,
    read_matrix,
    read_rgb,
)
from video_depth_ros.camera import Camera
from video_depth_ros.errors import RecordingError

_RATE = 30.0
# The data set's own figures where a folder has no camera-intrinsics.txt.
_FOCAL, _CX, _CY = 585.0, 320.0, 240.0


class SevenScenes(SequenceReader):
    """One sequence folder of 7-Scenes, or of anything that follows its layout."""

    format = "seven_scenes"

    def __init__(self, path: Path, options: SourceOptions | None = None) -> None:
        super().__init__(path, options)
        self._files = _colour_files(path)
        if not self._files:
            raise RecordingError(
                f"{path} is not a 7-Scenes sequence: expected frame-000000.color.png and so on"
            )
        height, width = read_rgb(self._files[0]).shape[:2]
        self.camera = camera_from_options(self.options, width, height) or self._camera(
            width, height
        )
        self.frame_count = len(self._files)

    @staticmethod
    def matches(path: Path) -> bool:
        """Whether a path looks like this format."""
        return path.is_dir() and bool(_colour_files(path))

    def frames(self) -> Iterator[SequenceFrame]:
        """Colour with depth and pose."""
        for file in self._files:
            depth_file = _beside(file, "depth.png")
            depth = read_depth(depth_file, 1000.0, (0, 65535)) if depth_file.exists() else None
            yield SequenceFrame(self._stamp(file), read_rgb(file), depth, _pose(file), file)

    def odometry(self) -> Iterator[PoseSample]:
        """The true poses, of the base."""
        for file in self._files:
            pose = _pose(file)
            if pose is not None:
                yield PoseSample(self._stamp(file), pose @ self.T_camera_base)

    def _stamp(self, file: Path) -> int:
        rate = self.options.rate or _RATE
        number = int(file.name.split(".")[0].removeprefix("frame-"))
        first = int(self._files[0].name.split(".")[0].removeprefix("frame-"))
        return FIRST_STAMP_NS + round((number - first) * 1e9 / rate)

    def _camera(self, width: int, height: int) -> Camera:
        for folder in (self.path, self.path.parent):
            file = folder / "camera-intrinsics.txt"
            if file.exists():
                return camera_from_matrix(read_matrix(file, (3, 3)), width, height)
        published = Camera(640, 480, _FOCAL, _FOCAL, _CX, _CY)
        return published_camera(published, width, height)


def _colour_files(path: Path) -> list[Path]:
    def fits(name: str) -> bool:
        return name.startswith("frame-") and name[6:].split(".")[0].isdecimal()

    if not path.is_dir():
        return []
    return [p for p in image_files(path) if ".color." in p.name and fits(p.name)]


def _beside(colour: Path, ending: str) -> Path:
    return colour.with_name(f"{colour.name.split('.')[0]}.{ending}")


def _pose(colour: Path) -> np.ndarray | None:
    """T_world_camera; None where the tracker was lost (not finite) or nothing was written."""
    file = _beside(colour, "pose.txt")
    if not file.exists():
        return None
    pose = read_matrix(file, (4, 4))
    return pose if np.isfinite(pose).all() else None
