# SPDX-License-Identifier: Apache-2.0
"""KITTI raw (Geiger et al., IJRR 2013): one drive's rectified colour camera, Velodyne and OXTS.

Calibration chain of the development kit: a Velodyne point goes through ``Tr_velo_to_cam`` to the
unrectified reference camera, through ``R_rect_00`` to the rectified one, and by the fourth column
of ``P_rect_02`` to the left colour camera. The base is the OXTS unit where its calibration is
given, else the Velodyne; both are forward, left, up.

True depth is the drive's depth maps of the depth benchmark (``proj_depth/groundtruth``) where they
lie beside; they lack the first and last five frames, which then have no truth. Without maps it is
the frame's own scan projected into the image: sparse, and blind to what the camera sees past the
edges that hide it from the LiDAR. The two are never mixed in one drive.
"""

from __future__ import annotations

import calendar
import math
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from video_depth_ros.bags.formats.base import (
    FIRST_STAMP_NS,
    ImuSample,
    PoseSample,
    Scan,
    SequenceFrame,
    SequenceReader,
    SourceOptions,
)
from video_depth_ros.bags.formats.files import (
    camera_from_matrix,
    camera_from_options,
    depth_seen,
    image_files,
    numbers,
    read_depth,
    read_rgb,
    rows,
    text_lines,
)
from video_depth_ros.errors import RecordingError
from video_depth_ros.poses import inverse

_CAMERA = "02"  # left colour
_RATE = 10.0
_EARTH_RADIUS = 6378137.0  # as in the development kit
_DATE = re.compile(r"(\d+)-(\d+)-(\d+) (\d+):(\d+):(\d+)(?:\.(\d+))?")


class KittiRaw(SequenceReader):
    """One drive; the calibration lies in it or, as KITTI ships it, in the folder of the day."""

    format = "kitti_raw"
    odometry_is_truth = False

    def __init__(self, path: Path, options: SourceOptions | None = None) -> None:
        super().__init__(path, options)
        images = path / f"image_{_CAMERA}" / "data"
        self._images = _by_number(image_files(images)) if images.is_dir() else {}
        if not self._images:
            raise RecordingError(f"{path} is not a KITTI raw drive: expected images in {images}")
        scans = path / "velodyne_points" / "data"
        self._scans = _by_number(sorted(scans.glob("*.bin")))
        self._oxts = _by_number(sorted((path / "oxts" / "data").glob("*.txt")))
        self._velo = np.eye(4)
        self._read_calibration()
        self._image_stamps = self._stamps(f"image_{_CAMERA}")
        self._scan_stamps = self._stamps("velodyne_points")
        self._oxts_stamps = self._stamps("oxts")
        self.frame_count = len(self._images)

    @staticmethod
    def matches(path: Path) -> bool:
        """Whether a path looks like this format."""
        return (path / f"image_{_CAMERA}" / "data").is_dir()

    def frames(self) -> Iterator[SequenceFrame]:
        """Left colour images with true depth."""
        truth = self.path / "proj_depth" / "groundtruth" / f"image_{_CAMERA}"
        annotated = any(truth.glob("*.png"))  # one kind of truth in one video
        for number, file in self._images.items():
            dense = truth / f"{file.stem}.png"
            depth: np.ndarray | None = None
            if annotated:
                depth = read_depth(dense, 256.0) if dense.exists() else None
            elif number in self._scans:
                table = _read_scan(self._scans[number])
                held = self._held_out(number, len(table))
                depth = self._project(table[held if self.options.hold_out else slice(None), :3])
            stamp_ns = self._stamp(self._image_stamps, number)
            yield SequenceFrame(stamp_ns, read_rgb(file), depth, None, file)

    def scans(self) -> Iterator[Scan]:
        """Velodyne scans with reflectance, less the points that are held out."""
        for number, file in self._scans.items():
            table = _read_scan(file)
            table = table[~self._held_out(number, len(table))]
            stamp_ns = self._stamp(self._scan_stamps, number)
            yield Scan(stamp_ns, table[:, :3], table[:, 3])

    def imu(self) -> Iterator[ImuSample]:
        """The OXTS unit's rates and accelerations (at the 10 Hz of the synchronised drives)."""
        for stamp_ns, values in self._read_oxts():
            yield ImuSample(stamp_ns, values[17:20], values[11:14])

    def odometry(self) -> Iterator[PoseSample]:
        """The OXTS unit's poses (GPS and IMU) relative to the first, Mercator's projection."""
        T_start: np.ndarray | None = None
        scale = 1.0
        for stamp_ns, values in self._read_oxts():
            if T_start is None:
                scale = math.cos(math.radians(values[0]))
                T_start = _oxts_pose(values, scale)
            yield PoseSample(stamp_ns, inverse(T_start) @ _oxts_pose(values, scale))

    def _held_out(self, number: int, count: int) -> np.ndarray:
        """bool [count]: the points of scan ``number`` that are truth only; the same every time."""
        rng = np.random.default_rng(number)
        return rng.random(count) < self.options.hold_out

    def _read_calibration(self) -> None:
        """Camera and mounting; a file is asked for where something in the drive needs it."""
        height, width = read_rgb(next(iter(self._images.values()))).shape[:2]
        self.camera = camera_from_options(self.options, width, height)
        mounted = bool(self._scans or self._oxts)
        file = _find(self.path, "calib_cam_to_cam.txt", mounted or self.camera is None)
        if file is None:
            return
        cameras = _calibration(file)
        P = _entry(cameras, f"P_rect_{_CAMERA}", self.path).reshape(3, 4)
        raw = cameras.get(f"S_{_CAMERA}", np.zeros(2))
        rectified = cameras.get(f"S_rect_{_CAMERA}", raw)
        if (width, height) == tuple(raw) and not np.array_equal(raw, rectified):
            raise RecordingError(
                f"{self.path}: expected rectified images of {rectified[0]:.0f}x{rectified[1]:.0f} "
                f"px, got {width}x{height}, as KITTI's _extract drives have them; take the _sync "
                "drive"
            )
        self.camera = self.camera or camera_from_matrix(P, width, height)
        if not mounted:
            return
        self._velo = self._T_camera_velo(cameras, P)
        T_velo_base = np.eye(4)
        oxts_file = _find(self.path, "calib_imu_to_velo.txt", required=False)
        if oxts_file is not None:
            T_velo_base = _rigid(_calibration(oxts_file), oxts_file)
        self.T_base_camera = inverse(self._velo @ T_velo_base)
        if self._scans:
            self.T_base_lidar = inverse(T_velo_base)
        if self._oxts:
            self.T_base_imu = np.eye(4)

    def _T_camera_velo(self, cameras: dict[str, np.ndarray], P: np.ndarray) -> np.ndarray:
        file = _find(self.path, "calib_velo_to_cam.txt")
        rectify = np.eye(4)
        rectify[:3, :3] = _entry(cameras, "R_rect_00", self.path).reshape(3, 3)
        offset = np.eye(4)
        offset[:3, 3] = np.linalg.solve(P[:, :3], P[:, 3])
        return offset @ rectify @ _rigid(_calibration(file), file)

    def _project(self, points: np.ndarray) -> np.ndarray:
        """Depth image of a scan, the nearest point of every pixel, NaN elsewhere."""
        assert self.camera is not None
        return depth_seen(self.camera, self._velo, points)

    def _read_oxts(self) -> Iterator[tuple[int, np.ndarray]]:
        for number, file in self._oxts.items():
            cells = next(rows(file, 20), None)
            if cells is None:
                raise RecordingError(f"{file} is empty")
            yield self._stamp(self._oxts_stamps, number), numbers(file, cells)

    def _stamps(self, folder: str) -> list[int | None]:
        """Stamps by file number, which is the line; a lost scan left its line empty: None."""
        file = self.path / folder / "timestamps.txt"
        if not file.exists():
            return []
        return [_nanoseconds(file, text) if text else None for text in text_lines(file)]

    def _stamp(self, stamps: list[int | None], number: int) -> int:
        """The stamp of a file's number; 10 Hz where the drive came without stamps."""
        if not stamps:
            first = next(iter(self._images))
            rate = self.options.rate or _RATE
            return FIRST_STAMP_NS + round((number - first) * 1e9 / rate)
        stamp_ns = stamps[number] if number < len(stamps) else None
        if stamp_ns is None:
            raise RecordingError(
                f"{self.path}: there is a file {number}, but no stamp in line {number + 1} of its "
                "timestamps.txt"
            )
        return stamp_ns


def _by_number(files: list[Path]) -> dict[int, Path]:
    """Files by the number they are named after, ascending."""
    numbered = {int(p.stem): p for p in files if p.stem.isdecimal()}
    return dict(sorted(numbered.items()))


def _find(path: Path, name: str, required: bool = True) -> Path | None:
    for folder in (path, path.resolve().parent):
        if (folder / name).is_file():
            return folder / name
    if required:
        raise RecordingError(
            f"{path}: expected {name} in it or in the folder above; KITTI offers the calibration "
            "of each day as a download of its own"
        )
    return None


def _calibration(path: Path | None) -> dict[str, np.ndarray]:
    """``name: numbers`` of a calibration file; entries that are not numbers are left out."""
    assert path is not None
    entries = {}
    for cells in rows(path, 1):
        name, values = cells[0].rstrip(":"), cells[1:]
        if values and all(re.fullmatch(r"[-+.\deE]+", v) for v in values):
            entries[name] = numbers(path, values)
    return entries


def _entry(entries: dict[str, np.ndarray], name: str, path: Path) -> np.ndarray:
    size = {"P": 12, "R": 9, "T": 3}[name[0]]
    if name not in entries or entries[name].size != size:
        raise RecordingError(f"{path}: the calibration lacks {name} with {size} numbers")
    return entries[name]


def _rigid(entries: dict[str, np.ndarray], path: Path | None) -> np.ndarray:
    assert path is not None
    T = np.eye(4)
    T[:3, :3] = _entry(entries, "R", path).reshape(3, 3)
    T[:3, 3] = _entry(entries, "T", path)
    return T


def _read_scan(path: Path) -> np.ndarray:
    """x, y, z, reflectance float32 [N, 4]."""
    try:
        values = np.fromfile(path, dtype="<f4")
        size = path.stat().st_size
    except OSError as error:
        raise RecordingError(f"cannot read {path}: {error}") from error
    if size % 16:
        raise RecordingError(
            f"{path}: expected whole points of 16 bytes, got {size} bytes; the file is truncated"
        )
    return values.reshape(-1, 4)


def _nanoseconds(path: Path, text: str) -> int:
    """``2011-09-26 13:02:25.964389445`` (taken as UTC) to nanoseconds since 1970."""
    match = _DATE.fullmatch(text)
    if match is None:
        raise RecordingError(f"{path}: expected a date and time, got {text!r}")
    seconds = calendar.timegm(tuple(int(x) for x in match.groups()[:6]))
    return seconds * 1_000_000_000 + int(f"{match.group(7) or '0':0<9}"[:9])


def _oxts_pose(values: np.ndarray, scale: float) -> np.ndarray:
    """T_world_imu by the development kit's ``convertOxtsToPose``."""
    lat, lon, alt, roll, pitch, yaw = values[:6]
    T = np.eye(4)
    T[:3, 3] = (
        scale * _EARTH_RADIUS * math.radians(lon),
        scale * _EARTH_RADIUS * math.log(math.tan(math.radians(90.0 + lat) / 2.0)),
        alt,
    )
    cr, sr, cp, sp = math.cos(roll), math.sin(roll), math.cos(pitch), math.sin(pitch)
    cy, sy = math.cos(yaw), math.sin(yaw)
    Rx = np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
    Ry = np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
    Rz = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
    T[:3, :3] = Rz @ Ry @ Rx
    return T
