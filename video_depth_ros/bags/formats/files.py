# SPDX-License-Identifier: Apache-2.0
"""Reading the files that recordings are made of: images, depth, tables, poses."""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path

import cv2
import numpy as np

from video_depth_ros.bags.formats.base import SourceOptions
from video_depth_ros.camera import Camera
from video_depth_ros.errors import InputError, RecordingError
from video_depth_ros.poses import quaternion, transform

_MOST_SECONDS = 2**63 // 10**9  # what nanoseconds can say in 64 bits
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm")


def read_rgb(path: Path) -> np.ndarray:
    """An image file as uint8 [H, W, 3], RGB; grey images get three equal channels.

    Raises:
        RecordingError: missing or not an image.
    """
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    image = _decoded(path, flags)
    if image is None:
        raise RecordingError(f"{path} is not an image OpenCV can read; is the file complete?")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def read_depth(path: Path, per_metre: float, invalid: Sequence[int] = (0,)) -> np.ndarray:
    """A 16-bit depth PNG as float32 [H, W] in metres, NaN where invalid.

    Args:
        path: the file.
        per_metre: raw value of one metre.
        invalid: raw values that mean "not measured".

    Raises:
        RecordingError: missing, or not a 16-bit image of one channel.
    """
    raw = _decoded(path, cv2.IMREAD_UNCHANGED)
    if raw is None or raw.dtype != np.uint16 or raw.ndim != 2:
        came = "no image" if raw is None else f"{raw.dtype} {list(raw.shape)}"
        raise RecordingError(f"{path}: expected a 16-bit depth image of one channel, got {came}")
    depth = raw.astype(np.float32) / np.float32(per_metre)
    depth[np.isin(raw, invalid)] = np.nan
    return depth


def depth_seen(camera: Camera, T_camera_points: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points as a depth image: the nearest one of every pixel, NaN where there is none.

    Args:
        camera: the camera that sees them.
        T_camera_points: float64 [4, 4].
        points: float [N, 3], metres.

    Returns:
        float32 [H, W], metres.
    """
    moved = points.astype(np.float64) @ T_camera_points[:3, :3].T + T_camera_points[:3, 3]
    uv, valid = camera.project(moved)
    columns, lines = np.rint(uv[valid]).astype(np.int64).T
    depth = np.full((camera.height, camera.width), np.inf, np.float32)
    np.minimum.at(depth, (lines, columns), moved[valid, 2].astype(np.float32))
    depth[np.isinf(depth)] = np.nan
    return depth


def natural_order(path: Path) -> list[tuple[int, int, str]]:
    """Sort key by which frame10 comes after frame9."""
    parts = re.split(r"(\d+)", path.name)
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p.lower()) for p in parts if p]


def image_files(folder: Path) -> list[Path]:
    """The images of a folder in natural order."""
    files = (p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
    return sorted(files, key=natural_order)


def text_lines(path: Path) -> Iterator[str]:
    """The lines of a text, without the white space around them; blank ones are there.

    Raises:
        RecordingError: missing file, or no UTF-8.
    """
    try:
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                yield line.strip()
    except (OSError, UnicodeDecodeError) as error:
        raise RecordingError(f"cannot read {path}: {error}") from error


def rows(path: Path, columns: int, separator: str | None = None) -> Iterator[list[str]]:
    """Lines of a text table, comments (#) and blank lines passed over.

    Raises:
        RecordingError: missing file or a line with fewer columns.
    """
    for number, text in enumerate(text_lines(path), start=1):
        if not text or text.startswith("#"):
            continue
        cells = [cell.strip() for cell in text.split(separator)]
        if len(cells) < columns:
            raise RecordingError(
                f"{path}, line {number}: expected {columns} columns, got {len(cells)}"
            )
        yield cells


def numbers(path: Path, cells: Sequence[str]) -> np.ndarray:
    """Cells as float64.

    Raises:
        RecordingError: a cell that is no number.
    """
    try:
        return np.array([float(cell) for cell in cells])
    except ValueError as error:
        raise RecordingError(f"{path}: {error}") from error


def read_matrix(path: Path, shape: tuple[int, int]) -> np.ndarray:
    """A matrix written as text, float64.

    Raises:
        RecordingError: missing, or of another shape.
    """
    values = [value for line in rows(path, 1) for value in numbers(path, line)]
    if len(values) != shape[0] * shape[1]:
        expected = f"{shape[0]}x{shape[1]}"
        raise RecordingError(f"{path}: expected a {expected} matrix, got {len(values)} numbers")
    return np.array(values).reshape(shape)


def seconds_to_ns(text: str) -> int:
    """Decimal seconds, 12.5 or 1.25e+01, to nanoseconds without rounding through float.

    Raises:
        RecordingError: not a number.
    """
    try:
        seconds = Decimal(text)
        if abs(seconds) < _MOST_SECONDS:  # nan: InvalidOperation
            return int(seconds.scaleb(9))
    except ArithmeticError:
        pass
    raise RecordingError(f"expected a time in seconds, got {text!r}")


def nearest(stamps: Sequence[int], stamp_ns: int, tolerance_ns: int) -> int | None:
    """Index of the stamp nearest to ``stamp_ns`` within the tolerance, in a sorted list."""
    right = bisect_left(stamps, stamp_ns)
    best = min(
        (i for i in (right - 1, right) if 0 <= i < len(stamps)),
        key=lambda i: abs(stamps[i] - stamp_ns),
        default=None,
    )
    return best if best is not None and abs(stamps[best] - stamp_ns) <= tolerance_ns else None


class Trajectory:
    """Poses at sorted stamps, interpolated between: translation linearly, rotation along the
    shortest arc (slerp)."""

    def __init__(self, stamps: list[int], poses: list[np.ndarray], max_gap_ns: int) -> None:
        order = np.argsort(np.array(stamps, dtype=np.int64), kind="stable")
        self.stamps = [stamps[i] for i in order]
        self.poses = [poses[i] for i in order]
        self._max_gap_ns = max_gap_ns

    def at(self, stamp_ns: int) -> np.ndarray | None:
        """The pose [4, 4] at a time; None outside, or in a gap longer than allowed."""
        right = bisect_left(self.stamps, stamp_ns)
        if right < len(self.stamps) and self.stamps[right] == stamp_ns:
            return self.poses[right]
        if right in (0, len(self.stamps)):
            return None
        before, after = self.stamps[right - 1], self.stamps[right]
        if after - before > self._max_gap_ns:
            return None
        fraction = (stamp_ns - before) / (after - before)
        return _between(self.poses[right - 1], self.poses[right], fraction)


def camera_from_options(options: SourceOptions, width: int, height: int) -> Camera | None:
    """The camera the user described, or None when nothing was said.

    Raises:
        RecordingError: a field of view that no pinhole camera has.
        InputError: intrinsics that cannot be used.
    """
    if options.intrinsics is not None:
        return Camera(width, height, *options.intrinsics)
    if options.hfov is None:
        return None
    if not 1.0 <= options.hfov <= 170.0:
        raise RecordingError(f"expected a field of view of 1 to 170 degrees, got {options.hfov}")
    f = 0.5 * width / math.tan(math.radians(options.hfov) / 2.0)
    return Camera(width, height, f, f, (width - 1) / 2.0, (height - 1) / 2.0)


def camera_from_matrix(K: np.ndarray, width: int, height: int) -> Camera:
    """An undistorted camera from K [3, 3] (or the left part of a projection matrix)."""
    fx, fy, cx, cy = float(K[0, 0]), float(K[1, 1]), float(K[0, 2]), float(K[1, 2])
    return Camera(width, height, fx, fy, cx, cy)


def published_camera(camera: Camera, width: int, height: int) -> Camera:
    """A data set's published camera for images of this size.

    Another size is taken for another resolution, another aspect for a cut from the middle.
    """
    scale = max(width / camera.width, height / camera.height)
    whole = camera.resized(round(scale * camera.width), round(scale * camera.height))
    left, top = (whole.width - width) // 2, (whole.height - height) // 2
    return whole.cropped(left, top, width, height)


def pose_from_cells(path: Path, cells: Sequence[str], wxyz: bool = False) -> np.ndarray | None:
    """T [4, 4] from tx ty tz qx qy qz qw (or qw first); None for a pose marked as lost."""
    values = numbers(path, cells[:7])
    q = np.roll(values[3:], -1) if wxyz else values[3:]
    try:
        return transform(values[:3], q)
    except InputError:
        return None


def _between(first: np.ndarray, second: np.ndarray, fraction: float) -> np.ndarray:
    a, b = quaternion(first), quaternion(second)
    cosine = float(a @ b)
    if cosine < 0.0:
        b, cosine = -b, -cosine
    angle = math.acos(min(cosine, 1.0))
    if angle < 1e-9:
        q = a
    else:
        q = (math.sin((1 - fraction) * angle) * a + math.sin(fraction * angle) * b) / math.sin(
            angle
        )
    return transform((1 - fraction) * first[:3, 3] + fraction * second[:3, 3], q)


def _decoded(path: Path, flags: int) -> np.ndarray | None:
    """OpenCV's reading of an image file; None for what is no image."""
    try:
        data = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise RecordingError(f"cannot read {path}: {error}") from error
    if not data.size:
        raise RecordingError(f"{path} is empty")
    try:
        return cv2.imdecode(data, flags)
    except cv2.error:  # a header that promises an impossible size
        return None
