# SPDX-License-Identifier: Apache-2.0
"""ScanNet (Dai et al., CVPR 2017), one scan as the official exporter unpacks it.

    scene0707_00/color/0.jpg  depth/0.png (mm)  pose/0.txt (camera to world)
                 intrinsic/intrinsic_color.txt (4x4) or intrinsic_depth.txt

Colour (1296x968) is resized to the size of the depth images (640x480), as DVD's protocol and most
others do. A pose that was lost is written as -inf there and is None here.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from video_depth_ros.bags.formats.base import (
    FIRST_STAMP_NS,
    SequenceFrame,
    SequenceReader,
    SourceOptions,
)
from video_depth_ros.bags.formats.files import (
    camera_from_options,
    image_files,
    read_depth,
    read_matrix,
    read_rgb,
)
from video_depth_ros.camera import Camera
from video_depth_ros.errors import RecordingError

_RATE = 30.0
_PER_METRE = 1000.0


class ScanNet(SequenceReader):
    """One scan folder."""

    format = "scannet"

    def __init__(self, path: Path, options: SourceOptions | None = None) -> None:
        super().__init__(path, options)
        if not self.matches(path):
            raise RecordingError(
                f"{path} is not a ScanNet scan: expected color/ and depth/ in it; unpack the "
                ".sens file first"
            )
        self._files = [f for f in image_files(path / "color") if f.stem.isdecimal()]
        if not self._files:
            raise RecordingError(f"{path / 'color'}: expected images named by their number")
        held = next((f for f in map(self._depth_file, self._files) if f.is_file()), None)
        if held is None:
            raise RecordingError(f"{path / 'depth'}: expected NUMBER.png for the images of color/")
        height, width = read_depth(held, _PER_METRE).shape
        self._size = (width, height)
        self.camera = camera_from_options(self.options, width, height) or self._camera()
        self.frame_count = len(self._files)

    @staticmethod
    def matches(path: Path) -> bool:
        """Whether a path looks like this format."""
        return (path / "color").is_dir() and (path / "depth").is_dir()

    def frames(self) -> Iterator[SequenceFrame]:
        """Colour at the size of depth, with depth and pose."""
        period_ns = 1e9 / (self.options.rate or _RATE)
        for file in self._files:
            depth_file = self._depth_file(file)  # a partial download may lack some
            depth = read_depth(depth_file, _PER_METRE) if depth_file.is_file() else None
            rgb = cv2.resize(read_rgb(file), self._size, interpolation=cv2.INTER_AREA)
            stamp_ns = FIRST_STAMP_NS + round(int(file.stem) * period_ns)
            yield SequenceFrame(stamp_ns, rgb, depth, self._pose(file), file)

    def _depth_file(self, file: Path) -> Path:
        return self.path / "depth" / f"{file.stem}.png"

    def _pose(self, file: Path) -> np.ndarray | None:
        pose_file = self.path / "pose" / f"{file.stem}.txt"
        if not pose_file.is_file():
            return None
        pose = read_matrix(pose_file, (4, 4))
        return pose if np.isfinite(pose).all() else None

    def _camera(self) -> Camera | None:
        width, height = self._size
        folder = self.path / "intrinsic"
        if (folder / "intrinsic_color.txt").is_file():
            colour_height, colour_width = read_rgb(self._files[0]).shape[:2]
            K = read_matrix(folder / "intrinsic_color.txt", (4, 4))
            camera = Camera(colour_width, colour_height, K[0, 0], K[1, 1], K[0, 2], K[1, 2])
            return camera.resized(width, height)
        if (folder / "intrinsic_depth.txt").is_file():
            K = read_matrix(folder / "intrinsic_depth.txt", (4, 4))
            return Camera(width, height, K[0, 0], K[1, 1], K[0, 2], K[1, 2])
        return None
