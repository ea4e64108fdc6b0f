# SPDX-License-Identifier: Apache-2.0
"""A third party's regressor for the tests: disparity is the image's brightness.

So the truth can be painted: an image of brightness d has disparity d, and a LiDAR point at
1 / (a d + b) metres agrees with it. Nothing imports this module but the entry point that
stands beside it, as another package's would. ``regressor.weights`` names a fault,
or a FIFO on which the network waits.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from video_depth_ros.errors import CheckpointError, RegressorError
from video_depth_ros.frames import DisparityGroup
from video_depth_ros.regressors.base import RegressorSpec
from video_depth_ros.regressors.registry import RegressorConfig

SPEC = RegressorSpec(
    name="brightness",
    licence="Apache-2.0",
    first_group=1,
    group=4,
    size_multiple=16,
    box=(48, 64),
    max_overlap=4,
)


class BrightnessSession:
    """Groups of 1, 4, 4, ...; the overlap is exact."""

    def __init__(self, fault: str) -> None:
        self._fault = fault
        self._frames: list[Tensor] = []
        self._index = 0

    @property
    def next_group(self) -> int:
        return SPEC.group if self._index else SPEC.first_group

    def push(self, rgb: Tensor, overlap: int) -> DisparityGroup:
        group = self.preview(rgb, overlap)
        self._frames = [*self._frames, *rgb.mean(dim=1)][-SPEC.max_overlap :]
        self._index += len(rgb)
        return group

    def preview(self, rgb: Tensor, overlap: int) -> DisparityGroup:
        if self._fault == "not_finite":
            rgb = torch.full_like(rgb, torch.nan)
        if self._fault == "memory":
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        if self._fault == "lost":
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        if self._fault.startswith("/"):
            Path(self._fault).read_text()  # a FIFO: until somebody opens its other end
        past = self._frames[-overlap:] if overlap else []
        disparity = torch.stack([*past, *rgb.mean(dim=1)])
        return DisparityGroup(disparity, self._index - len(past), len(rgb))

    def snapshot(self) -> tuple[list[Tensor], int]:
        return (list(self._frames), self._index)

    def restore(self, state: tuple[list[Tensor], int]) -> None:
        self._frames, self._index = list(state[0]), state[1]

    def reset(self) -> None:
        self._frames, self._index = [], 0


class BrightnessRegressor:
    """Behind the same contract as a network."""

    def __init__(self, fault: str) -> None:
        self._fault = fault

    @property
    def spec(self) -> RegressorSpec:
        return SPEC

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def open(self, height: int, width: int) -> BrightnessSession:
        if height % SPEC.size_multiple or width % SPEC.size_multiple:
            raise RegressorError(f"size {width}x{height}")
        return BrightnessSession(self._fault)


def brightness(config: RegressorConfig) -> BrightnessRegressor:
    """The factory that the entry point names."""
    if config.weights == "missing":
        raise CheckpointError("brightness: no weight file; expected /nowhere/brightness.pt")
    return BrightnessRegressor(config.weights)
