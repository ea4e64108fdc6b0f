# SPDX-License-Identifier: Apache-2.0
"""The windows of a recording, and their cross-fade once they are in one affine frame."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from video_depth_ros.alignment.config import AlignmentConfig
from video_depth_ros.alignment.rows import RowMaps, level_rows
from video_depth_ros.frames import DisparityGroup
from video_depth_ros.regressors.base import Regressor, RegressorSession


@dataclass(frozen=True)
class Window:
    """One window of a recording.

    Attributes:
        indices: of its frames in the recording, rising.
        disparity: float32 [T, h, w] in the window's own affine frame.
        dilation: distance of its frames.
    """

    indices: tuple[int, ...]
    disparity: Tensor
    dilation: int = 1


def run_windows(
    regressor: Regressor,
    frames: Iterable[Tensor],
    overlap: int,
    dilations: Sequence[int] = (1,),
    config: AlignmentConfig | None = None,
) -> Iterator[Window]:
    """All windows of a recording, by their newest frame.

    Args:
        regressor: one session per dilation is opened.
        frames: float32 [3, h, w] each, on the regressor's device.
        overlap: earlier frames in a window beside the newest group.
        dilations: session k is fed every ``dilations[k]``-th frame.
        config: measure how the frames of a window differ and level them (``rows.py``); None:
            windows as they come. ``overlap`` must be its overlap, then.
    """
    row_maps = None if config is None else RowMaps(config, regressor.spec)
    pushes = [0 for _ in dilations]

    def leveled(group: DisparityGroup, lane: int) -> Tensor:
        maps = None if row_maps is None else row_maps.of(group, pushes[lane])
        if maps is None or config is None:
            return group.disparity
        return level_rows(group, maps, config.saturation).disparity

    sessions: list[RegressorSession] = []
    pending: list[list[Tensor]] = [[] for _ in dilations]
    seen: list[deque[int]] = [deque(maxlen=1024) for _ in dilations]
    for index, frame in enumerate(frames):
        if not sessions:
            sessions = [regressor.open(frame.shape[1], frame.shape[2]) for _ in dilations]
        for lane, dilation in enumerate(dilations):
            if index % dilation:
                continue
            pending[lane].append(frame)
            seen[lane].append(index)
            if len(pending[lane]) == sessions[lane].next_group:
                if row_maps is not None and lane == 0:
                    row_maps.observe(sessions[0], frame)
                group = sessions[lane].push(torch.stack(pending[lane]), overlap)
                pending[lane].clear()
                indices = tuple(seen[lane])[-group.disparity.shape[0] :]
                yield Window(indices, leveled(group, lane), dilation)
                pushes[lane] += 1
    for lane, dilation in enumerate(dilations):
        if dilation == 1 and pending[lane]:
            group = sessions[lane].preview(torch.stack(pending[lane]), overlap)
            indices = tuple(seen[lane])[-group.disparity.shape[0] :]
            yield Window(indices, leveled(group, lane), dilation)


def cross_fade(windows: Iterable[tuple[Sequence[int], Tensor]]) -> Iterator[tuple[int, Tensor]]:
    """Frames from overlapping windows that are already in one affine frame.

    Over the overlap the weight of the later window rises linearly, and never quite reaches 0 or 1.

    Args:
        windows: (indices, disparity [T, h, w]), consecutive frames, by rising first index.

    Yields:
        (index, disparity [h, w]) by rising index. At most one window of frames is held.
    """
    held: dict[int, Tensor] = {}
    for indices, disparity in windows:
        for index in sorted(held):
            if index < indices[0]:
                yield index, held.pop(index)
        shared = [index for index in indices if index in held]
        for row, index in enumerate(indices):
            if index in held:
                weight = (shared.index(index) + 1.0) / (len(shared) + 1.0)
                held[index] = torch.lerp(held[index], disparity[row], weight)
            else:
                held[index] = disparity[row]
    for index in sorted(held):
        yield index, held[index]
