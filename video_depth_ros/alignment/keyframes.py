# SPDX-License-Identifier: Apache-2.0
"""Drift control by slow keyframes.

Fits chained from window to window drift like a random walk. Every now and then the network
therefore looks at a dilated window: some old keyframes and a recent frame in one. As all frames
of a window share one affine frame, fitting it to what was published of the old keyframes tells how
far the running frame has moved since. The fits meet in a small graph (``graph.py``) with the last
dilated windows and the chain itself as further edges; its answer for the newest frame becomes a
correction that the running estimate takes in steps too small to be seen. RollingDepth's dilated
snippets (arXiv 2411.19189), made causal.

Memory is constant: a handful of keyframes (image and coarse samples) and a handful of edges. Ages
of the keyframes are spread evenly in log time, and the first of a segment is kept as long as it
fits.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from video_depth_ros.alignment.config import AlignmentConfig
from video_depth_ros.alignment.fit import fit_affine
from video_depth_ros.alignment.graph import AffineEdge, edge_from_fit
from video_depth_ros.alignment.keyframe_graph import (
    DilatedWindow,
    Keyframe,
    compose,
    inverse,
    solve_keyframes,
)
from video_depth_ros.alignment.references import sample_stride
from video_depth_ros.alignment.rows import RowMaps, level_rows
from video_depth_ros.alignment.running import RunningEstimate
from video_depth_ros.alignment.verdicts import USABLE, FitLimits, FitVerdict
from video_depth_ros.errors import ConfigError, RegressorError
from video_depth_ros.regressors.base import RegressorSession, RegressorSpec

_WITNESSES = 3  # fewer keyframes agree by chance
_PART = 0.2  # of a pending correction, most that is applied at once
_FIRST = 4  # group of the first keyframe: early, the segment's frame is the common one


@dataclass(frozen=True)
class DriftReport:
    """What one dilated window said.

    Attributes:
        keyframes: old keyframes in it.
        fitted: how many of them fitted.
        disagreement: mean deviation, as a sigma, over the keyframes of the log scale that each of
            them gives to the dilated window; 0 with one.
        applied: whether the correction is believed and will be applied.
        scale, shift: the correction found, X_true = scale * X + shift of the running frame.
        verdicts: of the fits to the old keyframes, oldest first, then of the newest frame.
    """

    keyframes: int
    fitted: int
    disagreement: float
    applied: bool
    scale: float
    shift: float
    verdicts: tuple[FitVerdict, ...]


class KeyframeAnchor:
    """Holds a :class:`RunningEstimate` to old keyframes through a second regressor session."""

    def __init__(
        self,
        config: AlignmentConfig,
        spec: RegressorSpec,
        session: RegressorSession,
        estimate: RunningEstimate,
        row_maps: RowMaps | None = None,
    ) -> None:
        """
        Args:
            config: of the alignment.
            spec: of the regressor.
            session: a second session of the stream's regressor and image size, used by nobody
                else: it is reset for every dilated window.
            estimate: what is held against drift.
            row_maps: of the regressor's windows, where they are measured.

        Raises:
            ConfigError: a window of the regressor does not hold two frames.
        """
        self.config = config.keyframes
        # the last group of a dilated window comes with at most max_overlap frames before it
        self._count = min(self.config.count, spec.max_overlap + spec.group - 1)
        if self._count < 1:
            raise ConfigError(
                f"alignment.keyframes.every: {spec.name} sees one frame at a time, which cannot "
                "hold drift; set it to 0"
            )
        self._spec = spec
        self._limits = FitLimits.of(config)
        self._range = (config.floor, config.saturation)
        self._session = session
        self._estimate = estimate
        self._row_maps = row_maps
        self._sequence = estimate.sequence
        self._forget()

    def push(self, image: Tensor, index: int) -> DriftReport | None:
        """To be called after every whole group was aligned.

        Args:
            image: float32 [3, h, w], the group's newest frame as the regressor saw it.
            index: its index in the stream, as in the group's ``first_index``.

        Returns:
            A report when a dilated window was run for this group.

        Raises:
            RegressorError: the regressor returned fewer frames of it than its spec says.
        """
        if self._estimate.sequence != self._sequence:
            self._sequence = self._estimate.sequence
            self._forget()
        self._recent.append((index, image))
        while self._recent[0][0] < self._estimate.oldest_index:
            self._recent.popleft()
        number = self._groups
        self._groups += 1
        self._slew()
        if self.config.every == 0 or number % self.config.every != _FIRST % self.config.every:
            return None
        # the oldest frame that is still compared: most windows saw it, its samples are the best
        index, image = self._recent[0]
        kept = self._estimate.samples(index)
        if kept is None or int(kept[1].sum()) < self._limits.min_pixels:
            return None  # nothing could ever be fitted to it
        keyframe = Keyframe(number, image.clone(), *kept, self._applied)
        report = None
        if self._keyframes:
            report = self._anchor(keyframe)
        self._keep(keyframe)
        return report

    def reset(self) -> None:
        """Forget all keyframes."""
        self._forget()

    def _forget(self) -> None:
        self._groups = 0
        self._keyframes: list[Keyframe] = []
        self._windows: deque[DilatedWindow] = deque(maxlen=self.config.history)
        self._recent: deque[tuple[int, Tensor]] = deque()
        self._pending = (1.0, 0.0)
        self._applied = (1.0, 0.0)

    def _slew(self) -> None:
        """Apply a small part of the pending correction."""
        scale, shift = self._pending
        kept = self._estimate.samples(self._recent[0][0])
        if (scale, shift) == (1.0, 0.0) or kept is None:
            return
        values = kept[0][kept[1]]
        if values.size == 0:
            return
        low, high = np.quantile(values, (0.1, 0.9))
        unit = max(abs(float(np.median(values))), float(high - low), 1e-9)
        change = max(
            abs((scale - 1.0) * float(low) + shift),
            abs((scale - 1.0) * float(high) + shift),
            abs(math.log(scale)) * unit,
        )
        # no faster than over a few groups, even when it is small: its noise, too, is spread
        part = min(_PART, self.config.slew * unit / max(change, 1e-12))
        step = (scale**part, part * shift)
        self._estimate.correct(*step)
        self._applied = compose(step, self._applied)
        rest = scale / step[0]
        self._pending = (rest, shift - rest * step[1])

    def _anchor(self, newest: Keyframe) -> DriftReport:
        old = list(self._keyframes)
        disparity = self._look([*old, newest])
        stride = sample_stride(disparity.shape[1], disparity.shape[2])
        grid = disparity[:, ::stride, ::stride].detach().to("cpu", torch.float64).numpy()
        window = DilatedWindow()
        verdicts = []
        for row, keyframe in enumerate([*old, newest]):
            verdict, edge = self._fit(grid[grid.shape[0] - len(old) - 1 + row], keyframe)
            verdicts.append(verdict)
            if edge is not None:
                window.fits[keyframe.number] = edge
                keyframe.failures = 0
            else:
                keyframe.failures += 1
        fitted = sum(keyframe.number in window.fits for keyframe in old)
        disagreement = self._disagreement(old, window)
        applied = (
            newest.number in window.fits
            and fitted >= _WITNESSES
            and disagreement <= self.config.max_disagreement
        )
        if applied:
            self._windows.append(window)
            newest.solved = self._compose_chain(newest)
            keyframes = [*self._keyframes, newest]
            applied = solve_keyframes(keyframes, self._windows, self.config.drift)
            if applied:
                self._pending = newest.solved
            else:  # remembered, the window would spoil the next answers, too
                self._windows.pop()
        self._keyframes = [k for k in self._keyframes if k.failures < self.config.patience]
        return DriftReport(
            len(old), fitted, disagreement, applied, *newest.solved, tuple(verdicts)
        )

    @staticmethod
    def _disagreement(old: list[Keyframe], window: DilatedWindow) -> float:
        """Whether the network can look at such distant frames at once shows in this."""
        logs = np.array(
            [
                math.log(keyframe.solved[0] * window.fits[keyframe.number].scale)
                for keyframe in old
                if keyframe.number in window.fits
            ]
        )
        if logs.size == 0:
            return 0.0
        return 1.2533 * float(np.mean(np.abs(logs - np.median(logs))))

    def _look(self, frames: list[Keyframe]) -> Tensor:
        """Disparity of the frames as one window [T, h, w]; T >= len(frames), newest last.

        Where the frames do not fill whole groups the oldest is repeated before them.
        """
        first, group = self._spec.first_group, self._spec.group
        length = first + max(0, -(-(len(frames) - first) // group)) * group
        images = [frames[0].image] * (length - len(frames)) + [frame.image for frame in frames]
        self._session.reset()
        result = self._session.push(torch.stack(images[:first]), 0)
        pushes = 0
        for at in range(first, length, group):
            result = self._session.push(torch.stack(images[at : at + group]), at)
            pushes += 1
        maps = None if self._row_maps is None else self._row_maps.of(result, pushes)
        if maps is not None:
            result = level_rows(result, maps, self._range[1])
        if result.disparity.shape[0] < len(frames):
            raise RegressorError(
                f"keyframes: expected at least {len(frames)} frames of a dilated window, got "
                f"{result.disparity.shape[0]}; {self._spec.name} returns less overlap than its "
                f"max_overlap of {self._spec.max_overlap}. Set alignment.keyframes.every to 0"
            )
        return result.disparity

    def _fit(self, row: np.ndarray, keyframe: Keyframe) -> tuple[FitVerdict, AffineEdge | None]:
        """The edge from the window to a keyframe; its node numbers are set when solving."""
        mask = (row > self._range[0]) & (row < self._range[1]) & keyframe.usable
        fit = fit_affine(
            row[mask],
            keyframe.samples[mask],
            prior=keyframe.solved,
            limits=self._limits,
            cur_range=self._range,
        )
        if fit.verdict not in USABLE:
            return fit.verdict, None
        return fit.verdict, edge_from_fit(0, 0, fit)

    def _compose_chain(self, newest: Keyframe) -> tuple[float, float]:
        """Where the chain alone puts the newest frame: with the last keyframe."""
        last = self._keyframes[-1]
        between = compose(newest.correction, inverse(last.correction))
        return compose(last.solved, inverse(between))

    def _keep(self, newest: Keyframe) -> None:
        """Add the newest; of too many, drop the one whose age is nearest to its neighbours'."""
        if newest.failures:
            return
        self._keyframes.append(newest)
        while len(self._keyframes) > self._count:
            ages = [newest.number + self.config.every - k.number for k in self._keyframes]
            ratios = [ages[i - 1] / ages[i + 1] for i in range(1, len(ages) - 1)]
            # the first is kept: it is the frame of the whole segment
            drop = 1 + int(np.argmin(ratios)) if ratios else 1
            del self._keyframes[drop]
