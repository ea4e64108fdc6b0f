# SPDX-License-Identifier: Apache-2.0
"""Batches for the image-video joint loop, made in worker processes.

Batch number ``step`` is a function of (seed, step) alone: whether it holds images or videos, its
size, its clips and its augmentation. Training can therefore stop and go on at any step with any
number of workers and see the same data.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from video_depth_ros.errors import ConfigError, InputError, RecordingError, VideoDepthError
from video_depth_ros.settings import group, parameter
from video_depth_ros.training.augment import AugmentConfig, augment
from video_depth_ros.training.clips import Clip, ClipSource, PartSource
from video_depth_ros.training.targets import normalised_disparity

_TRIES = 20  # clips without usable depth in a row before the data is called unusable


class Batch(NamedTuple):
    """Clips of one length and size.

    Attributes:
        rgb: uint8 [B, T, H, W, 3].
        target: float32 [B, T, H, W], normalised disparity.
        known: bool [B, T, H, W].
        low, high: float32 [B], quantiles of the normalisation [1/m].
    """

    rgb: Tensor
    target: Tensor
    known: Tensor
    low: Tensor
    high: Tensor

    def images(self, device: torch.device) -> Tensor:
        """float32 [B, 3, T, H, W] in [0, 1]."""
        return self.rgb.to(device).permute(0, 4, 1, 2, 3).float().div_(255.0)


@dataclass(frozen=True)
class BatchConfig:
    """How images and videos are mixed."""

    image_share: float = parameter(
        0.7, "Share of the steps that train on single images.", low=0.0, high=1.0
    )
    images: int = parameter(16, "Images per image step.", low=1)
    videos: int = parameter(4, "Clips per video step.", low=1)
    frames: int = parameter(
        5, "Frames per clip; 1 + a multiple of the temporal stride.", unit="frames", low=1
    )
    stride: int = parameter(1, "Largest step between the frames of a clip.", low=1)
    heights: tuple[int, ...] = parameter((144,), "Image heights; a step takes one.", unit="px")
    widths: tuple[int, ...] = parameter((192,), "Image widths, one per height.", unit="px")
    max_depth: float = parameter(
        100.0, "Farther finite depths are clamped to this.", unit="m", low=1.0
    )
    augment: AugmentConfig = group(AugmentConfig)


@dataclass(frozen=True)
class BatchSource(Dataset):  # type: ignore[type-arg]
    """``source[step]`` is the batch of a step.

    Args:
        sources: collections of clips.
        shares: how often each is drawn, any positive scale; 0 = never.
        rank, ranks: this process among those that train together; each gets other clips.
        video_shares: how often each is drawn in video steps; None takes ``shares`` for both.

    Raises:
        ConfigError: no source to draw images or clips of ``config.frames`` frames from, or lists
            that do not fit each other.
    """

    sources: Sequence[ClipSource]
    shares: Sequence[float]
    config: BatchConfig
    seed: int
    rank: int = 0
    ranks: int = 1
    video_shares: Sequence[float] | None = None

    def __post_init__(self) -> None:
        for shares in (self.shares, self._video_shares):
            if not self.sources or len(self.sources) != len(shares):
                raise ConfigError(
                    f"expected one share per data source, got {len(self.sources)} sources and "
                    f"{len(shares)} shares"
                )
        drawn = [s.frames for s, v in zip(self.sources, self._video_shares, strict=True) if v > 0]
        longest = max(drawn, default=0)
        if self.config.image_share < 1 and longest < self.config.frames:
            raise ConfigError(
                f"expected a data source with clips of {self.config.frames} frames, got at most "
                f"{longest}; lower batch.frames or set batch.image_share to 1"
            )
        if self.config.image_share > 0 and not any(share > 0 for share in self.shares):
            raise ConfigError(
                "expected a data source to draw images from, got the share 0 for images of all; "
                "raise one or set batch.image_share to 0"
            )
        if not self.config.heights or len(self.config.heights) != len(self.config.widths):
            raise ConfigError(
                "expected one width per height and at least one pair, got heights "
                f"{self.config.heights} and widths {self.config.widths}"
            )

    @property
    def _video_shares(self) -> Sequence[float]:
        return self.shares if self.video_shares is None else self.video_shares

    def __getitem__(self, step: int) -> Batch:
        cv2.setNumThreads(0)  # the training process needs the cores
        config = self.config
        rng = np.random.default_rng((self.seed, step))
        images = rng.random() < config.image_share
        which = int(rng.integers(len(config.heights)))
        size = (config.heights[which], config.widths[which])
        own = np.random.default_rng((self.seed, step, 1 + self.rank))
        count, frames = (config.images, 1) if images else (config.videos, config.frames)
        shares = self.shares if images else self._video_shares
        return _stack([self._sample(frames, size, shares, own) for _ in range(count)])

    def _sample(
        self,
        frames: int,
        size: tuple[int, int],
        shares: Sequence[float],
        rng: np.random.Generator,
    ) -> tuple[Any, ...]:
        config = self.config
        long_enough = [source.frames >= frames for source in self.sources]
        drawn = np.asarray(shares, float) * long_enough
        for _ in range(_TRIES):
            source = self.sources[int(rng.choice(len(drawn), p=drawn / drawn.sum()))]
            clip = _run(source, int(rng.integers(len(source))), frames, config, rng)
            view = augment(clip, size, config.augment, rng)
            try:
                target = normalised_disparity(view.depth, config.max_depth)
            except InputError:
                continue
            return view.rgb, *target[:2], np.float32(target.low), np.float32(target.high)
        raise InputError(
            "empty",
            f"{_TRIES} clips in a row had no usable depth; check the data source's layout",
        )


def _run(
    source: ClipSource, number: int, frames: int, config: BatchConfig, rng: np.random.Generator
) -> Clip:
    """A random run of frames of a clip; where a source can do so, no other frame is read.

    Raises:
        RecordingError: the clip is shorter than its source said.
    """
    if isinstance(source, PartSource):
        return source.part(number, _positions(source.frames, frames, config, rng))
    clip = source.clip(number)
    if len(clip.rgb) < frames:
        raise RecordingError(
            f"expected clips of {frames} frames or more, got {len(clip.rgb)} in clip {number} of "
            f"{type(source).__name__}, which promises {source.frames}; mend the source"
        )
    index = _positions(len(clip.rgb), frames, config, rng)
    return Clip(clip.rgb[index], clip.depth[index])


def _positions(have: int, frames: int, config: BatchConfig, rng: np.random.Generator) -> list[int]:
    """``frames`` of ``have`` frames, at a random step and in either direction of time."""
    longest = min(config.stride, (have - 1) // (frames - 1)) if frames > 1 else 1
    step = int(rng.integers(1, longest + 1))
    start = int(rng.integers(have - (frames - 1) * step))
    index = [start + step * k for k in range(frames)]
    # drawn in any case: a switch shall not change what is drawn after it
    backwards = rng.random() < 0.5
    return index[::-1] if backwards and config.augment.reverse else index


def _stack(samples: list[tuple[Any, ...]]) -> Batch:
    return Batch(*(torch.from_numpy(np.stack(part)) for part in zip(*samples, strict=True)))


@dataclass(frozen=True)
class _Carried(Dataset):  # type: ignore[type-arg]
    """``source``, but an error of this package is a value: raised in a worker process it would
    arrive with that process's traceback for its message."""

    source: BatchSource

    def __getitem__(self, step: int) -> Batch | VideoDepthError:
        try:
            return self.source[step]
        except VideoDepthError as error:
            return error


def _opened(item: Batch | VideoDepthError) -> Batch:
    if isinstance(item, VideoDepthError):
        raise item
    return item


@contextmanager
def open_batches(
    source: BatchSource, start: int, stop: int, workers: int
) -> Iterator[Iterator[Batch]]:
    """The batches of steps start .. stop - 1 in order, from ``workers`` processes (0 = in line).

    An error of this package that a worker meets is raised here, as itself, when its batch is
    asked for. On leaving the context, also by an exception, all worker processes have ended.
    """
    loader: DataLoader[Batch | VideoDepthError] = DataLoader(
        _Carried(source),
        batch_size=None,
        sampler=range(start, stop),
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        # Opening a loader draws a number; it must not come from training's own generator.
        generator=torch.Generator().manual_seed(source.seed),
    )
    iterator = iter(loader)
    try:
        yield map(_opened, iterator)
    finally:
        shutdown = getattr(iterator, "_shutdown_workers", None)
        if shutdown is not None:
            shutdown()
