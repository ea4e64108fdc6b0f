# SPDX-License-Identifier: Apache-2.0
"""7-Scenes (Shotton et al., CVPR 2013): frame-XXXXXX.color, .depth.png and .pose.txt.

Depth is in millimetres, 0 and 65535 mean "not measured". Poses map the camera to the world. There
are no stamps: 30 Hz by frame number.

In the data set's own recordings focal length (585 px), depth and pose are those of the Kinect's
depth camera, which sits 26 mm beside the colour camera: taken for the colour camera's, the truth
lies 33 px off at the left and right edge, by the focal lengths alone. They are moved to the colour
camera here. The data set has no calibration of the two; what is taken is the one that its users
share, in the script that prepares 7-Scenes for ACE (Brachmann et al., CVPR 2023).

Others record in this layout, too. The data set's own are those whose camera-intrinsics.txt says
585, 585, 320, 240, and without such a file those of 640x480 px (said to the user, for another
recording may look the same), but for JPEG colour with a camera given by the user: the data set is
published as PNG. Any other camera-intrinsics.txt is taken for the one camera of a registered
recording: it describes the colour images in their size, and depth and poses are the colour
camera's, as they are. Without either the camera is not known, as of a video.
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
    depth_seen,
    image_files,
    read_depth,
    read_matrix,
    read_rgb,
)
from video_depth_ros.camera import Camera
from video_depth_ros.errors import RecordingError
from video_depth_ros.poses import inverse

_RATE = 30.0
_INTRINSICS = "camera-intrinsics.txt"
_SAME_PX = 0.5  # some write the centre as 319.5, 239.5
# The data set's own figures, of the depth camera.
_DEPTH = Camera(640, 480, 585.0, 585.0, 320.0, 240.0)
_COLOUR = Camera(640, 480, 525.0, 525.0, 320.0, 240.0)
_T_COLOUR_DEPTH = np.array(
    [
        [0.99996518, 0.00267651, -0.00790410, -0.02555894],
        [-0.00274093, 0.99996303, -0.00815045, 0.00010110],
        [0.00788199, 0.00817183, 0.99993555, 0.00203183],
        [0.0, 0.0, 0.0, 1.0],
    ]
)
_T_DEPTH_COLOUR = inverse(_T_COLOUR_DEPTH)


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
        if (path / "_info.txt").exists():
            raise RecordingError(
                f"{path} is a ScanNet scan unpacked by SensReader's C++ program; unpack it with "
                "SensReader/python, which `video_depth evaluate` reads (--format scannet)"
            )
        height, width = read_rgb(self._files[0]).shape[:2]
        # of a recording of the data set itself: what is measured is the depth camera's
        given = camera_from_options(self.options, width, height)
        self._apart = self._is_own(width, height, given is not None)
        self.camera = given or self._camera(width, height)
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
            if depth is not None and self._apart:
                depth = self._registered(depth, depth_file)
            yield SequenceFrame(self._stamp(file), read_rgb(file), depth, self._pose(file), file)

    def odometry(self) -> Iterator[PoseSample]:
        """The true poses, of the base."""
        for file in self._files:
            pose = self._pose(file)
            if pose is not None:
                yield PoseSample(self._stamp(file), pose @ self.T_camera_base)

    def _stamp(self, file: Path) -> int:
        rate = self.options.rate or _RATE
        number = int(file.name.split(".")[0].removeprefix("frame-"))
        first = int(self._files[0].name.split(".")[0].removeprefix("frame-"))
        return FIRST_STAMP_NS + round((number - first) * 1e9 / rate)

    def _pose(self, colour: Path) -> np.ndarray | None:
        """T_world_camera; None where the tracker was lost (not finite) or nothing was written."""
        file = _beside(colour, "pose.txt")
        if not file.exists():
            return None
        pose = read_matrix(file, (4, 4))
        if not np.isfinite(pose).all():
            return None
        return pose @ _T_DEPTH_COLOUR if self._apart else pose

    def _registered(self, depth: np.ndarray, file: Path) -> np.ndarray:
        """Depth [H, W] as the colour camera would see it: of what meets in a pixel, the nearest.

        Raises:
            RecordingError: the depth image is not of the depth camera's size.
        """
        if depth.shape != (_DEPTH.height, _DEPTH.width):
            raise RecordingError(f"{file}: expected depth of 640x480 px, got {depth.shape}")
        assert self.camera is not None
        points = _DEPTH.back_project(depth)[np.isfinite(depth)]
        return depth_seen(self.camera, _T_COLOUR_DEPTH, points)

    def _is_own(self, width: int, height: int, camera_given: bool) -> bool:
        """Whether it is a recording of the data set itself."""
        if (width, height) != (_DEPTH.width, _DEPTH.height):
            return False
        file = self._intrinsics()
        if file is not None:
            return _says_own(file)
        as_published = self._files[0].suffix.lower() == ".png"
        if camera_given and not as_published:
            return False
        self.assumed = (
            f"640x480 px and no {_INTRINSICS}: taken for a recording of 7-Scenes itself, depth "
            f"and poses are moved to its colour camera; if it is none, write {_INTRINSICS} (3x3) "
            "of its colour images into the folder"
        )
        return True

    def _camera(self, width: int, height: int) -> Camera | None:
        """The colour camera; None, and said to the user, where the source does not tell it."""
        if self._apart:
            return _COLOUR
        file = self._intrinsics()
        if file is not None and not _says_own(file):
            return camera_from_matrix(read_matrix(file, (3, 3)), width, height)
        why = f"no {_INTRINSICS}"
        if file is not None:
            why = f"{_INTRINSICS} is 7-Scenes' own, of 640x480 px"
        self.assumed = (
            f"{why}, and images of {width}x{height} px: depth is taken as it is, the camera is "
            "not known, there will be no camera_info; give --camera FX,FY,CX,CY (evaluate: "
            f"--intrinsics), or write {_INTRINSICS} (3x3) of these images"
        )
        return None

    def _intrinsics(self) -> Path | None:
        """The file that says the camera, of the sequence or of the scene above it."""
        files = (folder / _INTRINSICS for folder in (self.path, self.path.parent))
        return next((file for file in files if file.exists()), None)


def _says_own(file: Path) -> bool:
    """Whether the file holds the camera of the data set."""
    K = read_matrix(file, (3, 3))
    stated = (K[0, 0], K[1, 1], K[0, 2], K[1, 2])
    own = (_DEPTH.fx, _DEPTH.fy, _DEPTH.cx, _DEPTH.cy)
    return bool(np.allclose(stated, own, rtol=0.0, atol=_SAME_PX))


def _colour_files(path: Path) -> list[Path]:
    def fits(name: str) -> bool:
        return name.startswith("frame-") and name[6:].split(".")[0].isdecimal()

    if not path.is_dir():
        return []
    return [p for p in image_files(path) if ".color." in p.name and fits(p.name)]


def _beside(colour: Path, ending: str) -> Path:
    return colour.with_name(f"{colour.name.split('.')[0]}.{ending}")
