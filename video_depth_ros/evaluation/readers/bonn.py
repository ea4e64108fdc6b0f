# SPDX-License-Identifier: Apache-2.0
"""Bonn RGB-D Dynamic (Palazzolo et al., IROS 2019): the TUM layout, its own camera.

The published poses are those of the motion capture's markers, not of the camera, so no camera
poses are given here. ``rgb_110``/``depth_110``, the cut of 110 frames that video depth papers
evaluate on, are used where they lie in the folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from video_depth_ros.bags.formats.base import PoseSample, SequenceFrame, SourceOptions
from video_depth_ros.bags.formats.files import (
    camera_from_options,
    image_files,
    nearest,
    published_camera,
    read_depth,
    read_rgb,
    seconds_to_ns,
)
from video_depth_ros.bags.formats.tum_rgbd import ASSOCIATION_NS, BONN, TumRgbd
from video_depth_ros.camera import Camera
from video_depth_ros.errors import RecordingError

_PER_METRE = 5000.0
_INTRINSICS = (542.822841, 542.576870, 315.593520, 237.756098)
_DISTORTION = (0.039903, -0.099343, -0.000730, -0.000144, 0.0)  # plumb_bob


class Bonn(TumRgbd):
    """One sequence folder."""

    format = "bonn"

    def __init__(self, path: Path, options: SourceOptions | None = None) -> None:
        self._cut: list[tuple[Path, Path | None]] = []
        if (path / "rgb_110").is_dir():
            self._open_cut(path, options)
        else:
            super().__init__(path, options)

    @staticmethod
    def matches(path: Path) -> bool:
        """Whether a path looks like this format."""
        return (path / "rgb_110").is_dir() or TumRgbd.matches(path)

    @classmethod
    def recognised(cls, path: Path) -> bool:
        """By the cut, or by the folder's name: otherwise it is any TUM sequence."""
        named = BONN in path.resolve().name and TumRgbd.matches(path)
        return named or (path / "rgb_110").is_dir()

    def frames(self) -> Iterator[SequenceFrame]:
        """Colour and depth; no poses of the camera."""
        if not self._cut:
            for frame in super().frames():
                yield SequenceFrame(frame.stamp_ns, frame.rgb, frame.depth, None, frame.file)
        for rgb, file in self._cut:
            depth = None if file is None else read_depth(file, _PER_METRE)
            yield SequenceFrame(seconds_to_ns(rgb.stem), read_rgb(rgb), depth, None, rgb)

    def odometry(self) -> Iterator[PoseSample]:
        """None: the poses are not the camera's."""
        return iter(())

    def _camera(self, width: int, height: int) -> Camera:
        published = Camera(640, 480, *_INTRINSICS, "plumb_bob", _DISTORTION)
        return published_camera(published, width, height)

    def _open_cut(self, path: Path, options: SourceOptions | None) -> None:
        if not (path / "depth_110").is_dir():
            raise RecordingError(f"{path}: expected depth_110 beside rgb_110; unpack both")
        # By time: of 633.5283 and 633.46123 the natural order takes the fractions for integers.
        colour, depth = (
            sorted(image_files(path / folder), key=lambda file: seconds_to_ns(file.stem))
            for folder in ("rgb_110", "depth_110")
        )
        if not colour or not depth:
            raise RecordingError(
                f"{path}: expected images in rgb_110 and depth_110, got {len(colour)} and "
                f"{len(depth)}"
            )
        self.path, self.options = path, options or SourceOptions()
        stamps = [seconds_to_ns(file.stem) for file in depth]
        found = [nearest(stamps, seconds_to_ns(file.stem), ASSOCIATION_NS) for file in colour]
        self._cut = [
            (file, None if index is None else depth[index])
            for file, index in zip(colour, found, strict=True)
        ]
        height, width = read_rgb(colour[0]).shape[:2]
        self.camera = camera_from_options(self.options, width, height) or self._camera(
            width, height
        )
        self.frame_count = len(colour)
