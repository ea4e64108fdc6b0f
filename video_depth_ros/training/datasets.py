# SPDX-License-Identifier: Apache-2.0
"""Clips from data sets in the folders people have them in: TartanAir, Virtual KITTI 2, Hypersim.

These are DVD's own training sets. Only the layouts are known here; the data is the user's, with
its own licence. Depth limits are DVD's: TartanAir clamped at 50 m, Virtual KITTI's sky at 655.35 m
taken as sky, Hypersim's distance along the ray turned into depth along the axis and clamped at
65 m. One is not: Virtual KITTI is clamped at 80 m, beyond which DVD leaves its pixels out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

from video_depth_ros.errors import RecordingError
from video_depth_ros.training.clips import READ_ERRORS, Clip, stacked
from video_depth_ros.training.hypersim_cameras import METADATA, axis_over_ray, read_cameras

Reader = Callable[[Path], np.ndarray]
Frames = tuple[tuple[Path, Path], ...]  # image and depth of each

TARTANAIR_FAR = 50.0
VKITTI_FAR = 80.0
VKITTI_SKY = 655.0  # m; the sky is stored as 65535 cm
HYPERSIM_FAR = 65.0
HYPERSIM_FOCAL = 886.81  # px at 1024 x 768


@dataclass(frozen=True)
class FolderClips:
    """Runs of frames of several sequences; clip ``i`` is the ``i``-th run of ``frames`` frames.

    Attributes:
        name: of the layout, for messages.
        sequences: (image path, depth path) of every frame, per sequence, in order, none missing.
        frames: frames per clip; runs start at every ``frames``-th frame.
        read_depth: file to float32 [H, W] in metres, NaN unknown, +inf sky.
        max_height: larger images are reduced to this height (training crops are small).
    """

    name: str
    sequences: tuple[Frames, ...]
    frames: int
    read_depth: Reader
    max_height: int = 480

    def __len__(self) -> int:
        return sum(len(s) // self.frames for s in self.sequences)

    def clip(self, index: int) -> Clip:
        """Read a run of frames.

        Raises:
            RecordingError: a file cannot be read.
        """
        return self.part(index, range(self.frames))

    def part(self, index: int, frames: Sequence[int]) -> Clip:
        """Read some frames of a run, by their positions in it, in this order.

        Raises:
            RecordingError: a file cannot be read, or images of one clip differ in size.
        """
        run = self._run(index)
        files = [run[position] for position in frames]
        return stacked(
            f"{self.name}: {files[0][0].parent}",
            [
                reduced(_image(image), self.read_depth(depth), self.max_height, depth)
                for image, depth in files
            ],
        )

    def _run(self, index: int) -> Frames:
        place = index % len(self)
        for sequence in self.sequences:
            runs = len(sequence) // self.frames
            if place < runs:
                return sequence[place * self.frames : (place + 1) * self.frames]
            place -= runs
        raise AssertionError("unreachable: place is below the number of runs")


def tartanair(root: Path, frames: int) -> FolderClips:
    """``ENV/{Easy,Hard}/P000/image_left/000000_left.png`` with ``depth_left/*_left_depth.npy``."""
    sequences: list[Frames] = []
    for folder in sorted(root.glob("**/image_left")):
        depth = folder.parent / "depth_left"
        pairs = [(p, depth / f"{p.stem}_depth.npy") for p in sorted(folder.glob("*_left.png"))]
        sequences += _unbroken(pairs)
    return _source("tartanair", root, sequences, frames, _tartanair_depth)


def vkitti2(root: Path, frames: int) -> FolderClips:
    """``Scene01/clone/frames/rgb/Camera_0/rgb_00000.jpg``, ``depth/Camera_0/depth_00000.png``."""
    sequences: list[Frames] = []
    for folder in sorted(root.glob("**/frames/rgb/Camera_*")):
        depth = folder.parents[1] / "depth" / folder.name
        pairs = [
            (p, depth / f"{p.stem.replace('rgb', 'depth')}.png")
            for p in sorted(folder.glob("rgb_*.jpg"))
        ]
        sequences += _unbroken(pairs)
    return _source("vkitti2", root, sequences, frames, _vkitti_depth)


def hypersim(root: Path, frames: int) -> FolderClips:
    """``ai_001_001/images/scene_cam_00_{final_preview,geometry_hdf5}``; single images (no video).

    Camera poses jump between Hypersim's frames, so clips are one frame long whatever ``frames``.
    Distance becomes depth by the scenes' own cameras where ``metadata_camera_parameters.csv`` lies
    in ``root``, else by one focal length for all.
    """
    metadata = root / METADATA
    cameras = read_cameras(metadata) if metadata.exists() else {}
    sequences: list[Frames] = []
    for folder in sorted(root.glob("**/scene_cam_*_final_preview")):
        depth = folder.with_name(folder.name.replace("final_preview", "geometry_hdf5"))
        pairs = [
            (p, depth / p.name.replace(".tonemap.jpg", ".depth_meters.hdf5"))
            for p in sorted(folder.glob("frame.*.tonemap.jpg"))
        ]
        sequences += _unbroken(pairs)
    return _source("hypersim", root, sequences, 1, partial(_hypersim_depth, cameras))


LAYOUTS: dict[str, Callable[[Path, int], FolderClips]] = {
    "tartanair": tartanair,
    "vkitti2": vkitti2,
    "hypersim": hypersim,
}


def _source(
    name: str,
    root: Path,
    sequences: Sequence[Frames],
    frames: int,
    read_depth: Reader,
) -> FolderClips:
    source = FolderClips(name, tuple(s for s in sequences if s), frames, read_depth)
    if not len(source):
        doc = " ".join((LAYOUTS[name].__doc__ or "").split())
        raise RecordingError(
            f"{name}: expected runs of {frames} frames in the layout {doc} under {root}, got none"
        )
    return source


def _unbroken(pairs: list[tuple[Path, Path]]) -> list[Frames]:
    """The sequence, cut where an image or a depth file is missing: a clip is consecutive video.

    A data set of which every n-th frame was kept has no gap: what is usual is its images' step.
    """
    numbers = [_number(image, place) for place, (image, _) in enumerate(pairs)]
    step = min((b - a for a, b in pairwise(numbers)), default=1)
    parts: list[list[tuple[Path, Path]]] = []
    last = None
    for number, pair in zip(numbers, pairs, strict=True):
        if not pair[1].exists():
            continue
        if last is None or number - last != step:
            parts.append([])
        parts[-1].append(pair)
        last = number
    return [tuple(part) for part in parts]


def _number(image: Path, place: int) -> int:
    """The frame's number in its name, else its place in the folder."""
    found = re.search(r"\d+", image.name)
    return int(found.group()) if found else place


def _image(path: Path) -> np.ndarray:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise RecordingError(f"expected a readable image at {path}")
    return np.ascontiguousarray(image[..., ::-1])


def _tartanair_depth(path: Path) -> np.ndarray:
    try:
        depth = np.load(path, allow_pickle=False).astype(np.float32)
    except READ_ERRORS as error:
        raise _no_depth("TartanAir depth (.npy)", path, error) from error
    return np.where(depth > 0, np.minimum(depth, TARTANAIR_FAR), np.nan).astype(np.float32)


def _vkitti_depth(path: Path) -> np.ndarray:
    centimetres = cv2.imread(str(path), cv2.IMREAD_ANYDEPTH)
    if centimetres is None or centimetres.dtype != np.uint16:
        came = "no image" if centimetres is None else str(centimetres.dtype)
        raise RecordingError(f"expected Virtual KITTI 2 depth (16 bit, cm) at {path}, got {came}")
    depth = centimetres.astype(np.float32) / 100.0
    sky = depth >= VKITTI_SKY
    depth = np.where(depth > 1e-5, np.minimum(depth, VKITTI_FAR), np.nan)
    return np.where(sky, np.inf, depth).astype(np.float32)


def _hypersim_depth(cameras: Mapping[str, np.ndarray], path: Path) -> np.ndarray:
    try:
        import h5py  # type: ignore[import-not-found, import-untyped]
    except ImportError as error:
        raise RecordingError(
            "Hypersim's depth is HDF5: expected the package h5py; install it with pip install h5py"
        ) from error
    try:
        with h5py.File(path, "r") as file:
            distance = np.asarray(file["dataset"], np.float32)
    except READ_ERRORS as error:
        raise _no_depth("Hypersim distance (HDF5, dataset [H, W])", path, error) from error
    if distance.ndim != 2:
        raise RecordingError(
            f"expected Hypersim distance [H, W] at {path}, got {list(distance.shape)}"
        )
    camera = cameras.get(path.parents[2].name)  # ai_001_001/images/scene_cam_00_geometry_hdf5/
    return planar_depth(distance, camera)


def _no_depth(expected: str, path: Path, error: Exception) -> RecordingError:
    came = str(error) or type(error).__name__
    return RecordingError(f"expected {expected} at {path}, got {came}; fetch the file again")


def planar_depth(distance: np.ndarray, M_cam_from_uv: np.ndarray | None = None) -> np.ndarray:
    """Distance along the ray [H, W] to depth along the axis; without a camera by the focal length
    of most scenes, the principal point in the middle."""
    height, width = distance.shape
    if M_cam_from_uv is None:
        half_width = 512 / HYPERSIM_FOCAL
        M_cam_from_uv = np.diag([half_width, half_width * height / width, -1.0])
    cosine = axis_over_ray(M_cam_from_uv, height, width)
    depth = np.where(np.isfinite(distance), distance * cosine, np.nan)
    return np.minimum(depth, HYPERSIM_FAR).astype(np.float32)


def reduced(
    image: np.ndarray, depth: np.ndarray, max_height: int, path: Path
) -> tuple[np.ndarray, np.ndarray]:
    """An image [H, W, 3] and its depth [H, W], no higher than ``max_height``.

    Raises:
        RecordingError: their sizes differ; ``path`` is named.
    """
    height, width = image.shape[:2]
    if depth.shape != (height, width):
        raise RecordingError(
            f"expected depth {[height, width]} at {path}, as its image, got {list(depth.shape)}"
        )
    if height <= max_height:
        return image, depth
    size = (round(width * max_height / height), max_height)
    return (
        cv2.resize(image, size, interpolation=cv2.INTER_AREA),
        cv2.resize(depth, size, interpolation=cv2.INTER_NEAREST_EXACT),
    )
