# SPDX-License-Identifier: Apache-2.0
"""NYU Depth v2 (Silberman et al., ECCV 2012), the labelled test images unpacked to files.

    bathroom/rgb_0045.png  depth_0045.png                  (16 bit, mm)
    bathroom/rgb_00045.jpg sync_depth_00045.png            (the same, other names)

These are single images, not videos: every image is a sequence of one frame with a fit of its own.
A sequence is one rgb file.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from video_depth_ros.bags.formats.base import (
    FIRST_STAMP_NS,
    SequenceFrame,
    SequenceReader,
    SourceOptions,
)
from video_depth_ros.bags.formats.files import (
    camera_from_options,
    published_camera,
    read_depth,
    read_rgb,
)
from video_depth_ros.camera import Camera
from video_depth_ros.errors import RecordingError

_PER_METRE = 1000.0
# The colour camera by the data set's toolbox, 1-based there, of the undistorted 640x480 images.
_INTRINSICS = (518.85790117, 519.46961112, 324.58244941, 252.73616633)


class NyuV2(SequenceReader):
    """One image."""

    format = "nyuv2"

    def __init__(self, path: Path, options: SourceOptions | None = None) -> None:
        super().__init__(path, options)
        depth = _depth_file(path)
        if depth is None:
            raise RecordingError(
                f"{path} is not an NYUv2 image: expected rgb_NUMBER.png or .jpg with "
                "depth_NUMBER.png or sync_depth_NUMBER.png beside"
            )
        self._depth = depth
        height, width = read_rgb(path).shape[:2]
        own = published_camera(Camera(640, 480, *_INTRINSICS), width, height)
        self.camera = camera_from_options(self.options, width, height) or own
        self.frame_count = 1

    @staticmethod
    def matches(path: Path) -> bool:
        """Whether a path looks like this format."""
        return _depth_file(path) is not None

    @classmethod
    def recognised(cls, path: Path) -> bool:
        """Such an image, or a folder of them."""
        inside = path.glob("rgb_*") if path.is_dir() else ()
        return any(map(cls.matches, (path, *inside)))

    def frames(self) -> Iterator[SequenceFrame]:
        """The one image."""
        depth = read_depth(self._depth, _PER_METRE)
        yield SequenceFrame(FIRST_STAMP_NS, read_rgb(self.path), depth, None, self.path)


def _depth_file(path: Path) -> Path | None:
    if not path.is_file() or not path.name.startswith("rgb_"):
        return None
    number = path.stem.removeprefix("rgb_")
    for name in (f"depth_{number}.png", f"sync_depth_{number}.png"):
        if (path.parent / name).is_file():
            return path.parent / name
    return None
