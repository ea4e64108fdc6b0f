# SPDX-License-Identifier: Apache-2.0
"""A regressor that can be checked by hand: disparity is the image's mean channel.

It follows the whole contract (groups 1, 4, 4, ...; overlap seen again by the newest window;
preview; snapshot), and every window comes in an affine frame of its own, as a real network's does.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from video_depth_ros.errors import RegressorError
from video_depth_ros.frames import DisparityGroup
from video_depth_ros.regressors.base import RegressorSpec
from video_depth_ros.window import GroupPhase


class LuminanceRegressor:
    def __init__(self, max_overlap: int = 12, wobble: float = 0.1) -> None:
        self.spec = RegressorSpec("luminance", "Apache-2.0", 1, 4, 16, (64, 96), max_overlap)
        self.device = torch.device("cpu")
        self.wobble = wobble
        self.opened: list[tuple[int, int]] = []
        self.poison_at: int | None = None  # group that comes out non-finite

    def open(self, height: int, width: int) -> LuminanceSession:
        self.opened.append((height, width))
        return LuminanceSession(self, height, width)


class LuminanceSession:
    def __init__(self, regressor: LuminanceRegressor, height: int, width: int) -> None:
        self.regressor, self.size = regressor, (height, width)
        self.phase = GroupPhase(1, 4)
        self.reset()

    def reset(self) -> None:
        self.state: tuple[int, tuple[Tensor, ...]] = (0, ())

    def snapshot(self):
        return self.state

    def restore(self, state) -> None:
        self.state = state

    @property
    def next_group(self) -> int:
        return self.phase.size(self.state[0])

    def push(self, rgb: Tensor, overlap: int) -> DisparityGroup:
        if rgb.shape != (self.next_group, 3, *self.size):
            raise RegressorError(f"expected {self.next_group} frames, got {list(rgb.shape)}")
        group = self._window(rgb, overlap)
        groups, history = self.state
        self.state = (groups + 1, (*history, *rgb.mean(1))[-self.regressor.spec.max_overlap :])
        return group

    def preview(self, rgb: Tensor, overlap: int) -> DisparityGroup:
        return self._window(rgb, overlap)

    def _window(self, rgb: Tensor, overlap: int) -> DisparityGroup:
        groups, history = self.state
        old = history[len(history) - min(overlap, len(history)) :]
        disparity = torch.stack([*old, *rgb.mean(1)])
        wobble = torch.Generator().manual_seed(groups)
        s, t = (torch.rand(2, generator=wobble) - 0.5) * self.regressor.wobble
        disparity = disparity * (1 + s) + t * 0.1
        if self.regressor.poison_at == groups:
            disparity = disparity * float("nan")
        return DisparityGroup(disparity, self.phase.frames(groups) - len(old), rgb.shape[0])


@pytest.fixture
def luminance() -> type[LuminanceRegressor]:
    return LuminanceRegressor
