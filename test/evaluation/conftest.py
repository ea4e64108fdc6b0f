# SPDX-License-Identifier: Apache-2.0
"""A short video whose truth is known to the regressor, so that every figure can be foretold."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from video_depth_ros.bags.formats.base import SequenceFrame
from video_depth_ros.camera import Camera
from video_depth_ros.evaluation.laboratory import (
    LaboratoryFaults,
    LaboratoryRegressor,
    SyntheticDisparity,
    read_index,
    write_index,
)
from video_depth_ros.evaluation.protocols import protocol_of
from video_depth_ros.evaluation.videos import Video

HEIGHT, WIDTH = 60, 80


class MarkedSequence:
    """Frames that carry their own index in their first pixels; the picture shows the depth."""

    def __init__(self, disparity: SyntheticDisparity, frames: int, with_truth: bool) -> None:
        self._disparity = disparity
        self._with_truth = with_truth
        self.frame_count = frames
        self.camera = Camera(WIDTH, HEIGHT, 50.0, 50.0, 39.5, 29.5)

    def frames(self) -> Iterator[SequenceFrame]:
        for index in range(self.frame_count):
            disparity = self._disparity(index)
            image = write_index(disparity.expand(3, -1, -1), index)
            rgb = (image * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
            depth = (1.0 / disparity).numpy().astype(np.float32)
            yield SequenceFrame(
                1_000_000_000 + index * 100_000_000, rgb, depth if self._with_truth else None
            )


class Laboratory:
    """Videos and the regressors that know their truth."""

    def __init__(self) -> None:
        self._disparity = SyntheticDisparity(HEIGHT, WIDTH, seed=3)

    def video(self, name: str = "corridor", frames: int = 33, with_truth: bool = True) -> Video:
        sequence = MarkedSequence(self._disparity, frames, with_truth)
        return Video(name, sequence, protocol_of("default"))

    def regressor(self, **faults: float) -> LaboratoryRegressor:
        """No faults but those named."""
        none = {"scale_sigma": 0.0, "shift_sigma": 0.0, "noise": 0.0, "outliers": 0.0}
        return LaboratoryRegressor(
            self._disparity,
            LaboratoryFaults(**{**none, **faults}, saturate=False),  # type: ignore[arg-type]
            index_of=read_index,
        )


@pytest.fixture
def laboratory() -> Laboratory:
    return Laboratory()
