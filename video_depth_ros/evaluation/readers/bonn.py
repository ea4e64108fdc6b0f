# SPDX-License-Identifier: Apache-2.0
"""Bonn RGB-D Dynamic (Palazzolo et al., IROS 2019): the TUM layout, its own camera.

The published poses are those of the motion capture's markers, not of the camera, so no camera
poses are given here. ``rgb_110``/``depth_110``, the cut of 110 frames that video depth papers
evaluate on, are used where they lie in the folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from video_depth_ros.bags.formats.base import PoseSample, SequenceFrame
from video_depth_ros.bags.formats.files import image_files, published_camera, seconds_to_ns
from video_depth_ros.bags.formats.tum_rgbd import BONN, Listing, TumRgbd
from video_depth_ros.camera import Camera
from video_depth_ros.errors import RecordingError

_INTRINSICS = (542.822841, 542.576870, 315.593520, 237.756098)
_DISTORTION = (0.039903, -0.099343, -0.000730, -0.000144, 0.0)  # plumb_bob


class Bonn(TumRgbd):
    """One sequence folder."""

    format = "bonn"
    depth_scale_is_open = False

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
        for frame in super().frames():
            yield replace(frame, T_world_camera=None)

    def odometry(self) -> Iterator[PoseSample]:
        """None: the poses are not the camera's."""
        return iter(())

    def _camera(self, width: int, height: int) -> Camera:
        published = Camera(640, 480, *_INTRINSICS, "plumb_bob", _DISTORTION)
        return published_camera(published, width, height)

    def _assumptions(self, camera: Camera | None) -> str:
        """None: camera and scale are published."""
        return ""

    def _listings(self) -> tuple[Listing, Listing]:
        """The cut where it is there, by the times that its files are named after."""
        if not (self.path / "rgb_110").is_dir():
            return super()._listings()
        if not (self.path / "depth_110").is_dir():
            raise RecordingError(f"{self.path}: expected depth_110 beside rgb_110; unpack both")
        colour, depth = (
            sorted(
                (seconds_to_ns(file.stem), f"{folder}/{file.name}")
                for file in image_files(self.path / folder)
            )
            for folder in ("rgb_110", "depth_110")
        )
        if not colour or not depth:
            raise RecordingError(
                f"{self.path}: expected images in rgb_110 and depth_110, got {len(colour)} and "
                f"{len(depth)}"
            )
        return colour, depth
