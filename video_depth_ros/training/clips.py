# SPDX-License-Identifier: Apache-2.0
"""Where training clips come from: the simulation, a cache of it on disk, folders of real data.

A source is a numbered collection of clips: ``source.clip(index)`` is a function of the index alone
(no hidden state), which is what makes training reproducible, resumable and free to run in any
number of worker processes.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from video_depth_ros.errors import InputError, RecordingError
from video_depth_ros.files import replacing

# What numpy and h5py raise for a file that is truncated, damaged or of another kind.
READ_ERRORS = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    EOFError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)


class Clip(NamedTuple):
    """Consecutive frames with truth.

    Attributes:
        rgb: uint8 [T, H, W, 3].
        depth: float32 [T, H, W] in metres along the optical axis; NaN unknown, +inf sky.
    """

    rgb: np.ndarray
    depth: np.ndarray


def stacked(name: str, frames: Sequence[tuple[np.ndarray, np.ndarray]]) -> Clip:
    """Images [H, W, 3] and their depths [H, W] as a clip.

    Raises:
        RecordingError: images of different sizes; ``name`` is named.
    """
    sizes = [image.shape[:2] for image, _ in frames]
    for size in sizes:
        if size != sizes[0]:
            raise RecordingError(
                f"{name}: expected images of one size, got {list(size)} after {list(sizes[0])}; "
                "keep them in folders of their own, or split the recording"
            )
    return Clip(np.stack([i for i, _ in frames]), np.stack([d for _, d in frames]))


class ClipSource(Protocol):
    """A numbered collection of clips."""

    @property
    def frames(self) -> int:
        """Frames of every clip; 1 for a collection of single images."""

    def __len__(self) -> int:
        """Number of clips; indices beyond it wrap around in training."""

    def clip(self, index: int) -> Clip:
        """The clip of this number, the same one every time."""


@runtime_checkable
class PartSource(Protocol):
    """A source that can read some frames of a clip without the others."""

    def part(self, index: int, frames: Sequence[int]) -> Clip:
        """The frames at these positions of clip ``index``, in this order."""


@dataclass(frozen=True)
class SimulatedClips:
    """Clips rendered on the fly, one world per index.

    Attributes:
        count: distinct clips.
        frames: frames per clip.
        sizes: (height, width) of the images; the index picks one in turn, so that a training sees
            several aspect ratios.
        split: ``train`` or ``heldout``; the seeds of the two never meet.
        first: index offset, to take other worlds than another training took.
    """

    count: int
    frames: int
    sizes: tuple[tuple[int, int], ...]
    split: str = "train"
    first: int = 0

    def __len__(self) -> int:
        return self.count

    def clip(self, index: int) -> Clip:
        from video_depth_ros.simulation.clip import random_clip

        number = self.first + index % self.count
        height, width = self.sizes[number % len(self.sizes)]
        made = random_clip(number, self.frames, height, width, split=self.split)
        return Clip(np.asarray(made.rgb, np.uint8), np.asarray(made.depth, np.float32))


@dataclass(frozen=True)
class CachedClips:
    """Keeps every clip of another source as one file, so that it is rendered only once.

    Depth is stored as half-precision disparity (relative error 5e-4). Files are written beside and
    renamed, so that several processes may fill one folder.
    """

    source: ClipSource
    folder: Path

    @property
    def frames(self) -> int:
        """Frames of every clip."""
        return self.source.frames

    def __len__(self) -> int:
        return len(self.source)

    def path(self, index: int) -> Path:
        """The file of a clip."""
        return self.folder / f"clip_{index % len(self.source):06d}.npz"

    def clip(self, index: int) -> Clip:
        """Read a clip, made first where the folder lacks it.

        Raises:
            InputError: ``unreadable``, with the path.
            RecordingError: the folder holds shorter clips than the source's.
        """
        path = self.path(index)
        if not path.exists():
            made = self.source.clip(index)
            save_clip(path, made)
        return load_clip_of(
            path, self.frames, "name another --cache folder, or delete the one it is in"
        )


def save_clip(path: Path, clip: Clip) -> None:
    """Write a clip to a file; sky is stored as disparity 0, unknown as NaN."""
    with np.errstate(divide="ignore", over="ignore"):
        disparity = (1.0 / clip.depth).astype(np.float16)
    with replacing(path) as beside, beside.open("wb") as file:
        np.savez(file, rgb=clip.rgb, disparity=disparity)


def load_clip(path: Path) -> Clip:
    """Read a clip written by :func:`save_clip`.

    Raises:
        InputError: ``unreadable``, with the path.
    """
    try:
        with np.load(path, allow_pickle=False) as data:
            disparity = data["disparity"].astype(np.float32)
            rgb = data["rgb"]
    except READ_ERRORS as error:
        raise _unreadable(path, str(error) or type(error).__name__) from error
    fits = rgb.ndim == 4 and rgb.shape[3] == 3 and rgb.dtype == np.uint8
    if not fits or disparity.shape != rgb.shape[:3] or not rgb.size:
        raise _unreadable(
            path, f"{rgb.dtype} {list(rgb.shape)} and disparity {list(disparity.shape)}"
        )
    with np.errstate(divide="ignore"):
        return Clip(rgb, 1.0 / disparity)


def load_clip_of(path: Path, frames: int, remedy: str) -> Clip:
    """:func:`load_clip`, of a clip that must be so long.

    Raises:
        InputError: ``unreadable``, with the path.
        RecordingError: it is shorter than ``frames``; ``remedy`` says what to do.
    """
    clip = load_clip(path)
    if len(clip.rgb) < frames:
        raise RecordingError(
            f"cache: expected clips of {frames} frames or more, got {len(clip.rgb)} in {path}; "
            f"{remedy}"
        )
    return clip


def _unreadable(path: Path, came: str) -> InputError:
    return InputError(
        "unreadable",
        f"expected a clip with rgb uint8 [T, H, W, 3] and disparity [T, H, W] at {path}, got "
        f"{came}; delete the file (the simulation makes it again) or, of a recording, the folder",
    )
