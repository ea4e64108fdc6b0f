# SPDX-License-Identifier: Apache-2.0
"""Data sources as words on the command line.

``simulated``, ``tartanair:DIR``, ``vkitti2:DIR``, ``hypersim:DIR`` or ``cache:DIR``; an ending
``@40`` says how often a source is drawn relative to the others (DVD's shares: Hypersim 9 and
Virtual KITTI 1 among images, TartanAir 40 and Virtual KITTI 10 among videos).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from video_depth_ros.errors import ConfigError, RecordingError
from video_depth_ros.training.clips import CachedClips, Clip, ClipSource, SimulatedClips, load_clip
from video_depth_ros.training.config import TrainConfig
from video_depth_ros.training.datasets import LAYOUTS
from video_depth_ros.training.validate import Validation

# rendered a little larger than trained on, so that a crop has something to choose from
IMAGE_SIZES = ((160, 208), (160, 208), (160, 208), (128, 384))
VIDEO_SIZES = ((152, 200), (152, 200), (152, 200), (112, 336))
VIDEO_FIRST = 1_000_000  # worlds of the videos are others than those of the images


@dataclass(frozen=True)
class SavedClips:
    """Every clip file of a folder, as ``training.clips.save_clip`` writes them."""

    files: tuple[Path, ...]
    frames: int

    def __len__(self) -> int:
        return len(self.files)

    def clip(self, index: int) -> Clip:
        return load_clip(self.files[index % len(self.files)])


def saved(folder: Path) -> SavedClips:
    """The clips of a folder.

    Raises:
        RecordingError: there are none.
    """
    files = tuple(sorted(folder.glob("clip_*.npz")))
    if not files:
        raise RecordingError(f"cache: expected clip_*.npz files in {folder}, got none")
    return SavedClips(files, len(load_clip(files[0]).rgb))


def simulated(
    images: int, videos: int, frames: int, cache: Path | None
) -> tuple[list[ClipSource], list[float]]:
    """Single images and clips of the simulation, cached in a folder if one is given.

    Returns the sources and their shares: every frame of either is drawn equally often.
    """
    parts: list[ClipSource] = [SimulatedClips(images, 1, IMAGE_SIZES)]
    if videos:
        parts.append(SimulatedClips(videos, frames, VIDEO_SIZES, first=VIDEO_FIRST))
    shares = [float(len(part) * part.frames) for part in parts]
    if cache is not None:
        names = ("images", "videos")
        parts = [CachedClips(p, cache / n) for p, n in zip(parts, names, strict=False)]
    return parts, shares


def parse(
    words: Sequence[str], frames: int, images: int, videos: int, cache: Path | None
) -> tuple[list[ClipSource], list[float]]:
    """Sources and shares from command-line words.

    Raises:
        ConfigError: a word that names no source.
        RecordingError: a folder without data in the layout.
    """
    sources: list[ClipSource] = []
    shares: list[float] = []
    for word in words:
        text, _, share = word.partition("@")
        weight = read_share(f"data source {word!r}", share) if share else 1.0
        name, _, place = text.partition(":")
        if name == "simulated":
            made, parts = simulated(images, videos, frames, cache)
            sources += made
            shares += [weight * part / sum(parts) for part in parts]
        elif name == "cache" and place:
            sources.append(saved(Path(place)))
            shares.append(weight)
        elif name in LAYOUTS and place:
            sources.append(LAYOUTS[name](Path(place), frames))
            shares.append(weight)
        else:
            known = ", ".join(["simulated", "cache:DIR", *(f"{n}:DIR" for n in LAYOUTS)])
            raise ConfigError(f"data source {word!r}: expected one of {known}, each with @SHARE")
    if not sources:
        raise ConfigError("expected at least one data source, e.g. --data simulated")
    return sources, shares


def read_share(word: str, share: str) -> float:
    """What stands after the @ of a word.

    Raises:
        ConfigError: no positive, finite number.
    """
    try:
        value = float(share)
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf"):
        raise ConfigError(f"{word}: expected a positive number after @, got {share!r}")
    return value


def heldout(count: int, config: TrainConfig, cache: Path | None) -> Validation:
    """Validation on simulated clips of the held-out split, at the training's first size."""
    batch = config.batch
    size = (batch.heights[0], batch.widths[0])
    clips: ClipSource = SimulatedClips(count, batch.frames, (size,), split="heldout")
    if cache is not None:
        name = f"heldout_{size[0]}x{size[1]}x{batch.frames}"
        clips = CachedClips(clips, cache / name)
    return Validation(clips, count, batch.frames, size)
