# SPDX-License-Identifier: Apache-2.0
"""TUM RGB-D (Sturm et al., IROS 2012): rgb.txt, depth.txt, groundtruth.txt.

Depth images hold 5000 per metre, 0 means "not measured". Colour, depth and poses have stamps of
their own and are associated by the nearest one. Poses map the camera to the world.

Nothing in the layout says which camera it was and how many units are a metre. Which published
sequence it is comes from the folder's name, else from the comments at the head of rgb.txt, which
name the bag that it was unpacked from. Other recordings are taken to have the data set's default
camera and scale, which is told to the user: both are often others.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

from video_depth_ros.bags.formats.base import (
    PoseSample,
    SequenceFrame,
    SequenceReader,
    SourceOptions,
)
from video_depth_ros.bags.formats.files import (
    Trajectory,
    camera_from_options,
    nearest,
    pose_from_cells,
    published_camera,
    read_depth,
    read_rgb,
    rows,
    seconds_to_ns,
    text_lines,
)
from video_depth_ros.camera import Camera
from video_depth_ros.errors import RecordingError

_PER_METRE = 5000.0
_ASSOCIATION_NS = 20_000_000  # the data set's own tool associates within 0.02 s
_MAX_POSE_GAP_NS = 100_000_000

# Published calibrations of the three Kinects (fx, fy, cx, cy; plumb_bob), by name of the sequence.
_CALIBRATIONS = {
    "freiburg1": (
        (517.3, 516.5, 318.6, 255.3),
        (0.2624, -0.9531, -0.0054, 0.0026, 1.1633),
    ),
    "freiburg2": (
        (520.9, 521.0, 325.1, 249.7),
        (0.2312, -0.7849, -0.0033, -0.0001, 0.9172),
    ),
    "freiburg3": ((535.4, 539.2, 320.1, 247.6), ()),
}
BONN = "rgbd_bonn"  # in the folders' names of a data set in this layout
_DEFAULT = (525.0, 525.0, 319.5, 239.5)  # the data set's "ROS default" camera

Listing = list[tuple[int, str]]  # stamp and file name, in the order of time


class TumRgbd(SequenceReader):
    """One sequence folder of TUM RGB-D, or of anything that follows its layout."""

    format = "tum_rgbd"
    depth_scale_is_open = True

    def __init__(self, path: Path, options: SourceOptions | None = None) -> None:
        super().__init__(path, options)
        if not self.matches(path):
            raise RecordingError(f"{path} is not a TUM RGB-D sequence: expected rgb.txt in it")
        if self.format == TumRgbd.format and BONN in path.resolve().name:
            raise RecordingError(
                f"{path} is of Bonn RGB-D Dynamic: the layout is TUM's, but the camera is another "
                "and the poses are those of markers, not of the camera. `video_depth evaluate` "
                "reads it (--format bonn); import its images alone with --format images"
            )
        self._rgb, self._depth = self._listings()
        self._depth_stamps = [stamp for stamp, _ in self._depth]
        self._trajectory = self._read_trajectory()
        self._per_metre = self.options.depth_scale or _PER_METRE
        height, width = read_rgb(path / self._rgb[0][1]).shape[:2]
        given = camera_from_options(self.options, width, height)
        self.camera = given or self._camera(width, height)
        self.assumed = self._assumptions(self.camera if given is None else None)
        self.frame_count = len(self._rgb)

    @staticmethod
    def matches(path: Path) -> bool:
        """Whether a path looks like this format."""
        return (path / "rgb.txt").is_file()

    def frames(self) -> Iterator[SequenceFrame]:
        """Colour with the nearest depth image and the pose at that time."""
        for stamp_ns, name in self._rgb:
            index = nearest(self._depth_stamps, stamp_ns, _ASSOCIATION_NS)
            depth = None
            if index is not None:
                depth = read_depth(self.path / self._depth[index][1], self._per_metre)
            pose = self._trajectory.at(stamp_ns)
            file = self.path / name
            yield SequenceFrame(stamp_ns, read_rgb(file), depth, pose, file)

    def odometry(self) -> Iterator[PoseSample]:
        """The motion capture's poses, of the base."""
        for stamp_ns, pose in zip(self._trajectory.stamps, self._trajectory.poses, strict=True):
            yield PoseSample(stamp_ns, pose @ self.T_camera_base)

    def _listings(self) -> tuple[Listing, Listing]:
        """Colour and depth images."""
        rgb_list, depth_list = self.path / "rgb.txt", self.path / "depth.txt"
        rgb = _listing(rgb_list)
        if not rgb:
            raise RecordingError(f"{rgb_list} lists no image")
        return rgb, _listing(depth_list) if depth_list.exists() else []

    def _read_trajectory(self) -> Trajectory:
        stamps, poses = [], []
        file = self.path / "groundtruth.txt"
        if file.exists():
            for cells in rows(file, 8):
                pose = pose_from_cells(file, cells[1:8])
                if pose is not None:
                    stamps.append(seconds_to_ns(cells[0]))
                    poses.append(pose)
        return Trajectory(stamps, poses, _MAX_POSE_GAP_NS)

    def _camera(self, width: int, height: int) -> Camera:
        name = self._published_as()
        if name is None:
            return published_camera(Camera(640, 480, *_DEFAULT), width, height)
        intrinsics, distortion = _CALIBRATIONS[name]
        model = "plumb_bob" if distortion else "none"
        return published_camera(Camera(640, 480, *intrinsics, model, distortion), width, height)

    def _published_as(self) -> str | None:
        """The Kinect of a published sequence; None for a recording of somebody else."""
        for text in (self.path.resolve().name, _comments(self.path / "rgb.txt")):
            for name in _CALIBRATIONS:
                if name in text:
                    return name
        return None

    def _assumptions(self, camera: Camera | None) -> str:
        """What the recording does not say: the scale, and its camera unless that is None."""
        if self._published_as() is not None:
            return ""
        assumed = []
        if camera is not None:
            intrinsics = ",".join(f"{x:g}" for x in (camera.fx, camera.fy, camera.cx, camera.cy))
            assumed.append(f"the camera is {intrinsics} (--camera)")
        if self._depth and self.options.depth_scale is None:
            assumed.append(f"depth has {_PER_METRE:g} units per metre (--depth-scale)")
        if not assumed:
            return ""
        return (
            "neither the folder's name nor rgb.txt names a published sequence (freiburg1 to 3); "
            f"assumed: {' and '.join(assumed)}"
        )


def _comments(path: Path) -> str:
    """The comments at the head of a listing."""
    return "\n".join(takewhile(lambda line: not line or line.startswith("#"), text_lines(path)))


def _listing(path: Path) -> Listing:
    return sorted((seconds_to_ns(cells[0]), cells[1]) for cells in rows(path, 2))
