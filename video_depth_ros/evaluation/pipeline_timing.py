# SPDX-License-Identifier: Apache-2.0
"""What the whole pipeline costs, and how much of it is the network."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from video_depth_ros.config import PipelineConfig
from video_depth_ros.evaluation.metric_study import Drive, replay, whole_groups
from video_depth_ros.frames import DisparityGroup, ScaleState
from video_depth_ros.pipeline import DepthPipeline
from video_depth_ros.regressors.base import Regressor, RegressorSession, RegressorSpec

Clock = Callable[[], float]


@dataclass(frozen=True)
class PipelineTiming:
    """A drive through the pipeline.

    Attributes:
        frames: timed frames.
        metric: of these, with metric depth.
        group: median seconds from one group of estimates to the next.
        network: median seconds of a group inside the regressor's session.
        size: new frames of a group.
    """

    frames: int
    metric: int
    group: float
    network: float
    size: int

    @property
    def fps(self) -> float:
        """Frames per second through the whole pipeline."""
        return self.size / self.group

    @property
    def ratio(self) -> float:
        """How many times the network's own time the pipeline takes."""
        return self.group / self.network


def time_pipeline(
    drive: Drive,
    config: PipelineConfig,
    regressor: Regressor,
    warmup: int,
    clock: Clock = time.perf_counter,
) -> PipelineTiming:
    """Images and LiDAR scans in, depth and sigma out, as fast as they are taken.

    Args:
        drive: camera and LiDAR.
        warmup: groups that are not timed: the window fills, memory is allocated.
        clock: ``time.process_time`` counts CPU time.
    """
    watched = _Watched(regressor, clock)
    pipeline = DepthPipeline(config, watched)
    spec = regressor.spec
    skip = spec.first_group + warmup * spec.group
    taken: list[float] = []
    frames = metric = 0
    start = clock()
    whole = whole_groups(len(drive.stamps_ns), regressor)
    for estimate in replay(drive, pipeline, "lidar", whole):
        frames += 1
        if frames <= skip:
            start = clock()
            continue
        metric += estimate.scale.state is ScaleState.METRIC
        if (frames - skip) % spec.group == 0:
            now = clock()
            taken.append(now - start)
            start = now
    network = watched.seconds[1 + warmup :]
    return PipelineTiming(
        frames - skip, metric, statistics.median(taken), statistics.median(network), spec.group
    )


class _Watched:
    """A regressor whose sessions write down how long each push takes."""

    def __init__(self, regressor: Regressor, clock: Clock) -> None:
        self._regressor = regressor
        self._clock = clock
        self.seconds: list[float] = []

    @property
    def spec(self) -> RegressorSpec:
        return self._regressor.spec

    @property
    def device(self) -> torch.device:
        return self._regressor.device

    def open(self, height: int, width: int) -> RegressorSession:
        return _WatchedSession(self._regressor.open(height, width), self._clock, self.seconds)


class _WatchedSession:
    def __init__(self, session: RegressorSession, clock: Clock, seconds: list[float]) -> None:
        self._session = session
        self._clock = clock
        self._seconds = seconds

    @property
    def next_group(self) -> int:
        return self._session.next_group

    def push(self, rgb: Tensor, overlap: int) -> DisparityGroup:
        start = self._clock()
        group = self._session.push(rgb, overlap)
        if group.disparity.is_cuda:
            torch.cuda.synchronize(group.disparity.device)
        self._seconds.append(self._clock() - start)
        return group

    def preview(self, rgb: Tensor, overlap: int) -> DisparityGroup:
        return self._session.preview(rgb, overlap)

    def snapshot(self) -> Any:
        return self._session.snapshot()

    def restore(self, state: Any) -> None:
        self._session.restore(state)

    def reset(self) -> None:
        self._session.reset()
