# SPDX-License-Identifier: Apache-2.0
"""MPI Sintel (Butler et al., ECCV 2012) with its depth and camera add-on.

    training/final/alley_1/frame_0001.png      (or clean/)
    training/depth/alley_1/frame_0001.dpt      float tag 202021.25, width, height, float32 metres
    training/camdata_left/alley_1/frame_0001.cam   tag, K 3x3, [R t] 3x4 world to camera, float64

A sequence is the folder of one scene's images.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from video_depth_ros.bags.formats.base import (
    FIRST_STAMP_NS,
    SequenceFrame,
    SequenceReader,
    SourceOptions,
)
from video_depth_ros.bags.formats.files import camera_from_options, image_files, read_rgb
from video_depth_ros.camera import Camera
from video_depth_ros.errors import RecordingError
from video_depth_ros.poses import inverse

_RATE = 24.0
_TAG = np.float32(202021.25)


class Sintel(SequenceReader):
    """One scene, given by the folder of its images."""

    format = "sintel"

    def __init__(self, path: Path, options: SourceOptions | None = None) -> None:
        path = path.resolve()  # the scene's name and the folders above are read from it
        super().__init__(path, options)
        if not self.matches(path):
            raise RecordingError(
                f"{path} is not a Sintel scene: expected training/final/SCENE or clean/SCENE, "
                "with training/depth/SCENE beside"
            )
        self._files = image_files(path)
        self._depth = path.parents[1] / "depth" / path.name
        self._cameras = path.parents[1] / "camdata_left" / path.name
        height, width = read_rgb(self._files[0]).shape[:2]
        self.camera = camera_from_options(self.options, width, height)
        if self.camera is None and self._camera_file(self._files[0]).is_file():
            K, _ = read_cam(self._camera_file(self._files[0]))
            self.camera = Camera(width, height, K[0, 0], K[1, 1], K[0, 2], K[1, 2])
        self.frame_count = len(self._files)

    @staticmethod
    def matches(path: Path) -> bool:
        """Whether a path looks like this format."""
        path = path.resolve()
        return (
            path.parent.name in ("final", "clean")
            and (path.parents[1] / "depth" / path.name).is_dir()
            and bool(image_files(path))
        )

    def frames(self) -> Iterator[SequenceFrame]:
        """The images with depth and pose."""
        period_ns = 1e9 / (self.options.rate or _RATE)
        for index, file in enumerate(self._files):
            pose = None
            if self._camera_file(file).is_file():
                pose = inverse(read_cam(self._camera_file(file))[1])
            stamp_ns = FIRST_STAMP_NS + round(index * period_ns)
            depth = read_dpt(self._depth / f"{file.stem}.dpt")
            yield SequenceFrame(stamp_ns, read_rgb(file), depth, pose, file)

    def _camera_file(self, file: Path) -> Path:
        return self._cameras / f"{file.stem}.cam"


def read_dpt(path: Path) -> np.ndarray:
    """A .dpt depth file as float32 [H, W] in metres.

    Raises:
        RecordingError: missing, of another kind, or truncated.
    """
    data = _tagged(path)
    if len(data) >= 12:
        width, height = (int(x) for x in np.frombuffer(data, "<i4", 2, 4))
        if width > 0 and height > 0 and len(data) == 12 + 4 * width * height:
            return np.frombuffer(data, "<f4", offset=12).reshape(height, width).copy()
    raise RecordingError(f"{path}: the size in the header does not fit {len(data)} bytes")


def read_cam(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """A .cam file as K float64 [3, 3] and T_camera_world float64 [4, 4].

    Raises:
        RecordingError: missing, of another kind, or truncated.
    """
    data = _tagged(path)
    if len(data) != 4 + 8 * (9 + 12):
        raise RecordingError(f"{path}: expected 172 bytes, got {len(data)}")
    values = np.frombuffer(data, "<f8", offset=4)
    T = np.eye(4)
    T[:3] = values[9:].reshape(3, 4)
    return values[:9].reshape(3, 3).copy(), T


def _tagged(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RecordingError(f"cannot read {path}: {error}") from error
    if len(data) < 4 or np.frombuffer(data, "<f4", 1)[0] != _TAG:
        raise RecordingError(f"{path}: does not start with the tag of Sintel's depth add-on")
    return data
