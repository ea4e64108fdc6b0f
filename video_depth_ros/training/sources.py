# SPDX-License-Identifier: Apache-2.0
"""Data sources as words on the command line.

``simulated``, ``tartanair:DIR``, ``vkitti2:DIR``, ``hypersim:DIR``, ``cache:DIR``, or a recording
with depth in a format that ``video_depth import`` knows, ``tum_rgbd:DIR`` say. An ending ``@40``
says how often a source is drawn relative to the others, ``@1,10`` says it for images and for
videos apart (DVD's shares: Hypersim 9 and Virtual KITTI 1 among images, TartanAir 40 and Virtual
KITTI 10 among videos).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from video_depth_ros.errors import ConfigError, RecordingError
from video_depth_ros.training import recordings
from video_depth_ros.training.batches import BatchConfig, BatchSource
from video_depth_ros.training.clips import (
    CachedClips,
    Clip,
    ClipSource,
    SimulatedClips,
    load_clip,
    load_clip_of,
)
from video_depth_ros.training.config import TrainConfig
from video_depth_ros.training.datasets import LAYOUTS
from video_depth_ros.training.validate import Validation

# rendered a little larger than trained on, so that a crop has something to choose from
IMAGE_SIZES = ((160, 208), (160, 208), (160, 208), (128, 384))
VIDEO_SIZES = ((152, 200), (152, 200), (152, 200), (112, 336))
VIDEO_FIRST = 1_000_000  # worlds of the videos are others than those of the images


class Share(NamedTuple):
    """How often a source is drawn in image steps and in video steps."""

    images: float
    videos: float


class Sources(NamedTuple):
    """Sources, and how often each is drawn in image steps and in video steps."""

    sources: list[ClipSource]
    shares: list[float]
    video_shares: list[float]

    def batches(
        self, config: BatchConfig, seed: int, rank: int = 0, ranks: int = 1
    ) -> BatchSource:
        """Batches drawn from them.

        Raises:
            ConfigError: see :class:`~video_depth_ros.training.batches.BatchSource`.
        """
        return BatchSource(self.sources, self.shares, config, seed, rank, ranks, self.video_shares)


@dataclass(frozen=True)
class SavedClips:
    """Every clip file of a folder, as ``training.clips.save_clip`` writes them.

    ``frames`` is the length of the first; the others are expected to be as long or longer.
    """

    files: tuple[Path, ...]
    frames: int

    def __len__(self) -> int:
        return len(self.files)

    def clip(self, index: int) -> Clip:
        """Read a clip.

        Raises:
            InputError: ``unreadable``, with the path.
            RecordingError: it is shorter than ``frames``.
        """
        return load_clip_of(
            self.files[index % len(self.files)],
            self.frames,
            f"{self.files[0].name} is that long; keep shorter clips in a folder of their own",
        )


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
        # as long as the clips: another stage may ask for longer ones
        names = ("images", f"videos_{frames}")
        parts = [CachedClips(p, cache / n) for p, n in zip(parts, names, strict=False)]
    return parts, shares


def parse(
    words: Sequence[str], frames: int, images: int, videos: int, cache: Path | None
) -> Sources:
    """Sources and shares from command-line words.

    Args:
        words: see the module.
        frames: per clip of a source.
        images, videos: single images and clips of ``simulated``.
        cache: folder that keeps rendered clips and those read from recordings.

    Raises:
        ConfigError: a word that names no source, or a recording without a ``cache``.
        RecordingError: a folder without data in the layout, or a recording without depth.
    """
    sources: list[ClipSource] = []
    shares: list[Share] = []
    for word in words:
        text, at, share = word.partition("@")
        weight = read_shares(f"data source {word!r}", share) if at else Share(1.0, 1.0)
        name, _, place = text.partition(":")
        if name == "simulated":
            made, parts = simulated(images, videos, frames, cache)
            sources += made
            shares += [
                Share(weight.images * part / sum(parts), weight.videos * part / sum(parts))
                for part in parts
            ]
            continue
        if name == "cache" and place:
            sources.append(saved(Path(place)))
        elif name in LAYOUTS and place:
            sources.append(LAYOUTS[name](Path(place), frames))
        elif name in recordings.FORMATS and place:
            if cache is None:
                raise ConfigError(
                    f"data source {word!r}: a recording is read once and kept as clips; expected "
                    "a folder for them, add --cache DIR"
                )
            sources.append(saved(recordings.kept(name, Path(place), frames, cache)))
        else:
            places = ("cache", *LAYOUTS, *recordings.FORMATS)
            known = ", ".join(["simulated", *(f"{n}:DIR" for n in places)])
            raise ConfigError(
                f"data source {word!r}: expected one of {known}, each with @SHARE or "
                "@IMAGES,VIDEOS"
            )
        shares.append(weight)
    if not sources:
        raise ConfigError("expected at least one data source, e.g. --data simulated")
    return Sources(sources, [s.images for s in shares], [s.videos for s in shares])


def read_share(word: str, share: str) -> float:
    """What stands after the @ of a word.

    Raises:
        ConfigError: no positive, finite number.
    """
    value = _number(share)
    if not 0 < value < float("inf"):
        raise ConfigError(f"{word}: expected a positive number after @, got {share!r}")
    return value


def read_shares(word: str, share: str) -> Share:
    """``40``, or ``1,10`` for images and videos apart, either of which may be 0 (never).

    Raises:
        ConfigError: anything else.
    """
    if "," not in share:
        both = read_share(word, share)
        return Share(both, both)
    values = [_number(part) for part in share.split(",")]
    if len(values) != 2 or not all(0 <= v < float("inf") for v in values) or not any(values):
        raise ConfigError(
            f"{word}: expected @IMAGES,VIDEOS, two numbers from 0 on that are not both 0, got "
            f"{share!r}"
        )
    return Share(*values)


def _number(text: str) -> float:
    """The number, or -1 for what is none."""
    try:
        return float(text)
    except ValueError:
        return -1.0


def heldout(count: int, config: TrainConfig, cache: Path | None) -> Validation:
    """Validation on simulated clips of the held-out split, at the training's first size."""
    batch = config.batch
    size = (batch.heights[0], batch.widths[0])
    clips: ClipSource = SimulatedClips(count, batch.frames, (size,), split="heldout")
    if cache is not None:
        name = f"heldout_{size[0]}x{size[1]}x{batch.frames}"
        clips = CachedClips(clips, cache / name)
    return Validation(clips, count, batch.frames, size)
