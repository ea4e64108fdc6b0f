# SPDX-License-Identifier: Apache-2.0
"""How much memory the joint solve of a long recording takes, and how that grows."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from video_depth_ros.alignment import AlignmentConfig, align_recording
from video_depth_ros.errors import ConfigError
from video_depth_ros.evaluation.laboratory import (
    LaboratoryFaults,
    LaboratoryRegressor,
    SyntheticDisparity,
    read_index,
    write_index,
)

_SIZE = (9, 12)
_EVERY = 50  # frames between two looks at the memory
_WARM = 300  # frames until everything that is bounded is full


@dataclass(frozen=True)
class JointMemory:
    """What was allocated by Python and NumPy.

    Attributes:
        frames: of the recording.
        growth: KiB per 1,000 frames, of the first pass once its buffers are full.
        peak: KiB, both passes and the solution of the graph.
    """

    frames: int
    growth: float
    peak: float


def joint_memory(frames: int) -> JointMemory:
    """Align a laboratory recording of tiny frames as a whole and watch the memory.

    Raises:
        ConfigError: too few frames to tell growth from start.
    """
    if frames < 2 * _WARM:
        raise ConfigError(f"--frames: expected {2 * _WARM} or more, got {frames}")
    view = SyntheticDisparity(*_SIZE)
    faults = LaboratoryFaults(noise=0.005, outliers=0.0)
    regressor = LaboratoryRegressor(lambda i: 0.1 + 0.8 * view(i), faults, index_of=read_index)
    blank = torch.zeros(3, *_SIZE)
    held: list[int] = []  # bytes, by frames of the first pass

    def images() -> Iterator[Tensor]:
        for index in range(frames):
            if index % _EVERY == 0 and index // _EVERY == len(held):
                held.append(tracemalloc.get_traced_memory()[0])
            yield write_index(blank, index)

    tracemalloc.start()
    try:
        start = tracemalloc.get_traced_memory()[0]
        for _ in align_recording(regressor, images, AlignmentConfig()):
            pass
        peak = tracemalloc.get_traced_memory()[1] - start
    finally:
        tracemalloc.stop()
    warm = np.array(held[_WARM // _EVERY :]) / 1024.0
    slope = np.polyfit(_EVERY * np.arange(len(warm)), warm, 1)[0]
    return JointMemory(frames, 1000.0 * float(slope), peak / 1024.0)
