# SPDX-License-Identifier: Apache-2.0
"""A video file, whatever OpenCV's build can open."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2

from video_depth_ros.bags.formats.base import (
    FIRST_STAMP_NS,
    SequenceFrame,
    SequenceReader,
    SourceOptions,
)
from video_depth_ros.bags.formats.files import IMAGE_SUFFIXES, camera_from_options
from video_depth_ros.errors import RecordingError

VIDEO_SUFFIXES = (
    ".mp4",
    ".avi",
    ".mkv",
    ".mov",
    ".webm",
    ".m4v",
    ".mpg",
    ".mpeg",
    ".wmv",
    ".mjpg",
)
_DEFAULT_RATE = 25.0


class Video(SequenceReader):
    """Frames of a video; stamps are the container's own unless a rate is given."""

    format = "video"

    def __init__(self, path: Path, options: SourceOptions | None = None) -> None:
        super().__init__(path, options)
        capture = self._capture()
        rate = capture.get(cv2.CAP_PROP_FPS)
        self.frame_count = max(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0)
        ok, first = capture.read()
        capture.release()
        if not ok:
            raise RecordingError(f"{path}: no frame of the video can be decoded")
        self._rate = rate if 0.1 <= rate <= 1000.0 else _DEFAULT_RATE
        self.camera = camera_from_options(self.options, first.shape[1], first.shape[0])

    @staticmethod
    def matches(path: Path) -> bool:
        """Whether a path looks like this format."""
        return path.is_file() and path.suffix.lower() in VIDEO_SUFFIXES

    def frames(self) -> Iterator[SequenceFrame]:
        """The frames that can be decoded, in order."""
        capture = self._capture()
        last_ns = -1
        try:
            index = 0
            while True:
                ok, image = capture.read()
                if not ok:
                    return
                stamp_ns = self._stamp(capture, index, last_ns)
                last_ns, index = stamp_ns, index + 1
                rgb = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
                yield SequenceFrame(FIRST_STAMP_NS + stamp_ns, rgb)
        finally:
            capture.release()

    def _stamp(self, capture: cv2.VideoCapture, index: int, last_ns: int) -> int:
        """Time since the start; some containers have no usable times, then the rate holds."""
        if self.options.rate:
            return round(index * 1e9 / self.options.rate)
        stated = round(capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6)
        if stated > last_ns and (index == 0 or stated > 0):
            return stated
        return last_ns + round(1e9 / self._rate)

    def _capture(self) -> cv2.VideoCapture:
        if not self.path.is_file():
            raise RecordingError(f"{self.path} is not a video file")
        if self.path.suffix.lower() in IMAGE_SUFFIXES:
            raise RecordingError(f"{self.path} is an image; give a video, or a folder of images")
        capture = cv2.VideoCapture(str(self.path))
        if not capture.isOpened():
            raise RecordingError(
                f"{self.path} is not a video OpenCV can open; try `ffmpeg -i` to convert it to mp4"
            )
        return capture
