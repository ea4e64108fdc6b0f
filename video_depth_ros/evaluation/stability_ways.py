# SPDX-License-Identifier: Apache-2.0
"""Ways to make a stream of a regressor's windows, side by side over one video.

The network runs once: every way of aligning gets the same windows, so that what differs is the
alignment alone. The network without temporal context is one more way, with a run of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from video_depth_ros.alignment import (
    AlignmentConfig,
    DriftReport,
    FitVerdict,
    KeyframeAnchor,
    LookAhead,
    RowMaps,
    RunningEstimate,
)
from video_depth_ros.config import PipelineConfig
from video_depth_ros.frames import DisparityGroup
from video_depth_ros.regressors.base import Regressor, RegressorSession
from video_depth_ros.regressors.preprocessing import cover_size, to_regressor

PER_FRAME = "per frame"
UNALIGNED = "windows as they come"
CHAINING = "plain chaining (DVD)"
OURS = "ours"
LOOK_AHEAD = "ours, look-ahead 1"
KEYFRAMES = "ours, keyframes"
WAYS = (PER_FRAME, UNALIGNED, CHAINING, OURS, LOOK_AHEAD, KEYFRAMES)

GROUPS_BETWEEN = 10  # groups between dilated windows where the configuration has none

Map = tuple[str, int, np.ndarray]  # way, frame index, disparity float32 [h, w]


@dataclass(frozen=True)
class AlignmentLog:
    """What one way said of its windows.

    Attributes:
        segments: affine frames used.
        windows: aligned in total.
        held: of them, how many could not be fitted, so that the last map was used again.
        looks: dilated windows over old keyframes.
        believed: of them, how many corrected the running frame.
        disagreement: median over the looks of what the keyframes disagree by in log scale.
    """

    segments: int = 1
    windows: int = 0
    held: int = 0
    looks: int = 0
    believed: int = 0
    disagreement: float = float("nan")


class _Aligned:
    """One way of aligning the shared windows."""

    def __init__(
        self,
        config: AlignmentConfig,
        regressor: Regressor,
        size: tuple[int, int],
        row_maps: RowMaps,
    ) -> None:
        self._estimate = RunningEstimate(config)
        self._ahead = LookAhead.of(config, regressor.spec)
        self._row_maps = row_maps if config.method == "robust" else None
        self._anchor: KeyframeAnchor | None = None
        if config.keyframes.every:
            session = regressor.open(*size)
            self._anchor = KeyframeAnchor(
                config, regressor.spec, session, self._estimate, self._row_maps
            )
        self._verdicts: Counter[FitVerdict] = Counter()
        self._reports: list[DriftReport] = []

    def push(
        self, group: DisparityGroup, number: int, newest: Tensor
    ) -> Iterator[tuple[int, Tensor]]:
        maps = None if self._row_maps is None else self._row_maps.of(group, number)
        aligned = self._estimate.align(group, row_maps=maps)
        self._verdicts[aligned.fit.verdict] += 1
        if self._anchor is not None:
            index = group.first_index + int(group.disparity.shape[0]) - 1
            report = self._anchor.push(newest, index)
            if report is not None:
                self._reports.append(report)
        for frame in self._ahead.push(aligned):
            yield frame.index, frame.disparity

    @property
    def scale(self) -> float:
        return self._estimate.scale

    @property
    def segments(self) -> int:
        return self._estimate.sequence + 1

    def flush(self) -> Iterator[tuple[int, Tensor]]:
        for frame in self._ahead.flush():
            yield frame.index, frame.disparity

    def log(self) -> AlignmentLog:
        held = (FitVerdict.TOO_FEW, FitVerdict.OUTLIERS)
        disagreements = [report.disagreement for report in self._reports]
        return AlignmentLog(
            segments=self.segments,
            windows=self._verdicts.total(),
            held=sum(self._verdicts[verdict] for verdict in held),
            looks=len(self._reports),
            believed=sum(report.applied for report in self._reports),
            disagreement=float(np.median(disagreements)) if disagreements else float("nan"),
        )


class SideBySide:
    """Frames of one video in, every way's maps out, by frame index."""

    def __init__(self, config: PipelineConfig, regressor: Regressor, height: int, width: int):
        """
        Args:
            config: of the pipeline; its alignment is what OURS uses, without keyframes and
                look-ahead, and KEYFRAMES with them.
            regressor: shared by all ways.
            height, width: of the images.
        """
        spec, wanted = regressor.spec, config.regressor
        box = (wanted.height or spec.box[0], wanted.width or spec.box[1])
        self.size = cover_size(height, width, box, spec.size_multiple)
        self._regressor = regressor
        self._alone: RegressorSession = regressor.open(*self.size)
        self._session: RegressorSession = regressor.open(*self.size)
        self._overlap = min(config.alignment.overlap, spec.max_overlap)
        self._pending: list[Tensor] = []
        self._pushed = 0
        self._groups = 0
        self._row_maps = RowMaps(replace(config.alignment, method="robust"), spec)
        self._ways = {
            name: _Aligned(each, regressor, self.size, self._row_maps)
            for name, each in ways_to_align(config.alignment.for_regressor(spec)).items()
        }

    def push(self, rgb: np.ndarray) -> list[Map]:
        """Take the next image uint8 [H, W, 3]."""
        image = to_regressor(rgb, self.size, self._regressor.device)
        with torch.inference_mode():
            maps = [self._per_frame(image)]
            self._pending.append(image)
            self._pushed += 1
            if len(self._pending) == self._session.next_group:
                maps += self._window(whole=True)
        return maps

    def flush(self) -> list[Map]:
        """What the last group and the look-ahead still hold."""
        with torch.inference_mode():
            maps = self._window(whole=False) if self._pending else []
        for name, way in self._ways.items():
            maps += _maps(name, way.flush())
        return maps

    def logs(self) -> dict[str, AlignmentLog]:
        """What every way that aligns said."""
        return {name: way.log() for name, way in self._ways.items()}

    def is_seam(self, index: int) -> bool:
        """Whether a new window takes over between frame ``index`` - 1 and ``index``."""
        spec = self._regressor.spec
        return index >= spec.first_group and (index - spec.first_group) % spec.group == 0

    def _per_frame(self, image: Tensor) -> Map:
        self._alone.reset()
        run = self._alone.push if self._alone.next_group == 1 else self._alone.preview
        group = run(image[None], 0)
        return PER_FRAME, self._pushed, group.disparity[-1].float().cpu().numpy()

    def _window(self, whole: bool) -> list[Map]:
        newest = self._pending[-1]
        if whole:
            self._row_maps.observe(self._session, newest, self._ways[OURS].scale)
        run = self._session.push if whole else self._session.preview
        group = run(torch.stack(self._pending), self._overlap)
        self._pending.clear()
        first = group.first_index + group.overlap
        new = zip(range(first, first + group.new), group.disparity[group.overlap :], strict=True)
        maps = list(_maps(UNALIGNED, new))
        for name, way in self._ways.items():
            segments = way.segments
            maps += _maps(name, way.push(group, self._groups, newest))
            if name == OURS and way.segments != segments:
                self._row_maps.forget()
        self._groups += 1
        return maps


def ways_to_align(config: AlignmentConfig) -> dict[str, AlignmentConfig]:
    """The ways that align, by name."""
    every = config.keyframes.every or GROUPS_BETWEEN
    plain = replace(config, look_ahead=0, keyframes=replace(config.keyframes, every=0))
    return {
        CHAINING: replace(plain, method="dvd"),
        OURS: replace(plain, method="robust"),
        LOOK_AHEAD: replace(plain, method="robust", look_ahead=max(1, config.look_ahead)),
        KEYFRAMES: replace(
            plain, method="robust", keyframes=replace(config.keyframes, every=every)
        ),
    }


def _maps(name: str, frames: Iterator[tuple[int, Tensor]]) -> Iterator[Map]:
    for index, disparity in frames:
        yield name, index, disparity.float().cpu().numpy()
