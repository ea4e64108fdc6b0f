# SPDX-License-Identifier: Apache-2.0
"""A folder of images in natural order, at a steady rate."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from video_depth_ros.bags.formats.base import (
    FIRST_STAMP_NS,
    SequenceFrame,
    SequenceReader,
    SourceOptions,
)
from video_depth_ros.bags.formats.files import camera_from_options, image_files, read_rgb
from video_depth_ros.errors import RecordingError

_DEFAULT_RATE = 10.0


class ImageFolder(SequenceReader):
    """Images of one size, such as frame_1.png ... frame_10.png."""

    format = "images"

    def __init__(self, path: Path, options: SourceOptions | None = None) -> None:
        super().__init__(path, options)
        self._files = image_files(path) if path.is_dir() else []
        if not self._files:
            raise RecordingError(f"{path} is not a folder with images (png, jpg, bmp, tif, webp)")
        rate = self.options.rate or _DEFAULT_RATE
        self._period_ns = 1e9 / rate
        height, width = read_rgb(self._files[0]).shape[:2]
        self._size = (height, width)
        self.camera = camera_from_options(self.options, width, height)
        self.frame_count = len(self._files)

    @staticmethod
    def matches(path: Path) -> bool:
        """Whether a path looks like this format."""
        return path.is_dir() and bool(image_files(path))

    def frames(self) -> Iterator[SequenceFrame]:
        """The images; stamps are one period apart."""
        for index, file in enumerate(self._files):
            rgb = read_rgb(file)
            if rgb.shape[:2] != self._size:
                raise RecordingError(
                    f"{file}: expected {self._size[1]}x{self._size[0]} px as before, got "
                    f"{rgb.shape[1]}x{rgb.shape[0]}; keep other images in another folder"
                )
            stamp_ns = FIRST_STAMP_NS + round(index * self._period_ns)
            yield SequenceFrame(stamp_ns, rgb, file=file)
