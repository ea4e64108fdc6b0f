# SPDX-License-Identifier: Apache-2.0
"""What the alignment alone loses: drift, seams and AbsRel against the laboratory's truth.

The laboratory knows the affine map of every window, so the map from truth to the aligned stream is
known exactly, group by group, and none of the laboratory's noise enters the figures.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from video_depth_ros.alignment import (
    AlignmentConfig,
    JointAlignment,
    KeyframeAnchor,
    KeyframeConfig,
    RunningEstimate,
    run_windows,
)
from video_depth_ros.evaluation.laboratory import (
    LaboratoryFaults,
    LaboratoryRegressor,
    LaboratorySession,
    read_index,
    write_index,
)
from video_depth_ros.frames import DisparityGroup

GROUPS_BETWEEN = 10  # groups between two dilated windows, where keyframes are used
_PART = 25  # groups at the start and at the end whose mean scale is compared


@dataclass(frozen=True)
class AlignmentResult:
    """Figures of one way of aligning.

    Attributes:
        name: of the way.
        end_drift: |s_end / s_start - 1|, both averaged over 25 groups.
        worst_drift: largest |s / s_start - 1| of any group.
        abs_rel: mean relative depth error that the alignment adds to a perfect network, after one
            affine fit of the whole stream.
        worst_seam: largest step between two groups, median relative change of the depth of one
            and the same frame.
        segments: affine frames used.
        milliseconds: mean CPU time of aligning a group.
    """

    name: str
    end_drift: float
    worst_drift: float
    abs_rel: float
    worst_seam: float
    segments: int
    milliseconds: float


class _Recorder:
    """A laboratory regressor that keeps the true affine map of every push, over all sessions."""

    def __init__(self, regressor: LaboratoryRegressor) -> None:
        self.regressor, self.spec, self.device = regressor, regressor.spec, regressor.device
        self.maps: list[tuple[float, float]] = []

    def open(self, height: int, width: int) -> LaboratorySession:
        """A recorded session."""
        maps = self.maps

        class Session(LaboratorySession):
            def push(self, rgb: Tensor, overlap: int) -> DisparityGroup:
                group = super().push(rgb, overlap)
                maps.append(self.true_affine)
                return group

        return Session(self.regressor, height, width)


class AlignmentStudy:
    """Aligns one laboratory stream in several ways."""

    def __init__(
        self,
        truth: Callable[[int], Tensor],
        frames: int,
        faults: LaboratoryFaults | None = None,
        config: AlignmentConfig | None = None,
        infinity: float = 0.0,
    ) -> None:
        """
        Args:
            truth: frame index -> disparity float32 [h, w] in [0, 1], affine in 1 / depth.
            frames: length of the stream, 1 + 4 n of them are used.
            faults: of the laboratory.
            config: of the alignment.
            infinity: the truth's value at infinite depth.
        """
        self._infinity = infinity
        self._truth = truth
        self._frames = 1 + (frames - 1) // 4 * 4
        self._faults = faults or LaboratoryFaults()
        self._config = config or AlignmentConfig(keyframes=KeyframeConfig(every=GROUPS_BETWEEN))
        height, width = truth(0).shape
        self._size = (int(height), int(width))

    def online(self, name: str, method: str, keyframes: bool) -> AlignmentResult:
        """The running estimate, causally."""
        config = replace(self._config, method=method)
        regressor = self._regressor()
        session = regressor.open(*self._size)
        estimate = RunningEstimate(config)
        anchor = KeyframeAnchor(config, regressor.spec, regressor.open(*self._size), estimate)
        maps, spent, index = [], 0.0, 0
        while index < self._frames:
            count = session.next_group
            images = torch.stack([self._image(index + k) for k in range(count)])
            group = session.push(images, config.overlap)
            start = time.process_time()
            aligned = estimate.align(group)
            spent += time.process_time() - start
            maps.append(_compose(aligned.fit.scale, aligned.fit.shift, session.true_affine))
            index += count
            if keyframes:
                anchor.push(images[-1], index - 1)
        return self._result(name, np.array(maps), estimate.sequence + 1, spent)

    def offline(self, name: str, dilations: tuple[int, ...]) -> AlignmentResult:
        """The joint solve over the whole recording."""
        recorder = _Recorder(self._regressor())
        joint = JointAlignment(self._config)
        rows, spent = [], 0.0
        images: Iterator[Tensor] = (self._image(index) for index in range(self._frames))
        for window in run_windows(recorder, images, self._config.overlap, dilations):
            start = time.process_time()
            number = joint.add(window)
            spent += time.process_time() - start
            if window.dilation == 1:
                rows.append(number)
        start = time.process_time()
        solution = joint.solve()
        spent += time.process_time() - start
        maps = [
            _compose(float(solution[row, 0]), float(solution[row, 1]), recorder.maps[row])
            for row in rows
        ]
        return self._result(name, np.array(maps), 1, spent)

    def unaligned(self, name: str) -> AlignmentResult:
        """Every window as it comes."""
        regressor = self._regressor()
        session = regressor.open(*self._size)
        maps, index = [], 0
        while index < self._frames:
            count = session.next_group
            session.push(torch.stack([self._image(index + k) for k in range(count)]), 0)
            maps.append(_compose(1.0, 0.0, session.true_affine))
            index += count
        return self._result(name, np.array(maps), 1, 0.0)

    def _regressor(self) -> LaboratoryRegressor:
        return LaboratoryRegressor(self._truth, self._faults, index_of=read_index)

    def _image(self, index: int) -> Tensor:
        return write_index(torch.zeros(3, *self._size), index)

    def _result(
        self, name: str, maps: np.ndarray, segments: int, seconds: float
    ) -> AlignmentResult:
        scale = maps[:, 0] / maps[:_PART, 0].mean()
        values = [self._values(0 if group == 0 else 4 * group) for group in range(len(maps))]
        aligned = [s * v + t for (s, t), v in zip(maps, values, strict=True)]
        inverse = [value - self._infinity for value in values]  # proportional to 1 / depth
        a, b = _inverse_fit(np.concatenate(aligned), np.concatenate(inverse))
        errors, seams = [], []
        for group, truth in enumerate(values):
            here = inverse[group] / np.maximum(
                a * aligned[group] + b, 1e-3
            )  # aligned depth / true depth
            errors.append(np.abs(here - 1.0).mean())
            if group:
                before = a * (maps[group - 1, 0] * truth + maps[group - 1, 1]) + b
                step = np.maximum(before, 1e-3) / np.maximum(a * aligned[group] + b, 1e-3)
                seams.append(abs(float(np.median(step)) - 1.0))
        return AlignmentResult(
            name=name,
            end_drift=abs(float(scale[-_PART:].mean() / scale[:_PART].mean()) - 1.0),
            worst_drift=float(np.abs(scale - 1.0).max()),
            abs_rel=float(np.mean(errors)),
            worst_seam=max(seams, default=0.0),
            segments=segments,
            milliseconds=1e3 * seconds / len(maps),
        )

    def _values(self, index: int) -> np.ndarray:
        """True disparity of one frame at some pixels, the sky left out."""
        value = self._truth(index)[1::3, 1::3].double().numpy().ravel()
        return value[value > self._infinity + 0.02]


def _compose(scale: float, shift: float, truth: tuple[float, float]) -> tuple[float, float]:
    """Map from truth to aligned: truth = u d + v and aligned = scale d + shift."""
    return scale / truth[0], shift - scale / truth[0] * truth[1]


def _inverse_fit(aligned: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """truth = a * aligned + b, least squares of the relative depth error."""
    design = np.stack([aligned, np.ones_like(aligned)], axis=1) / truth[:, None]
    a, b = np.linalg.lstsq(design, np.ones_like(truth), rcond=None)[0]
    return float(a), float(b)
