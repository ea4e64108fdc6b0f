# SPDX-License-Identifier: Apache-2.0
"""Flicker, seams and drift of a real network's stream, without or with truth.

Without truth the camera must stand still (a surveillance video): whatever changes on a pixel whose
image does not change is an error. With truth, the camera may move.

flicker: with truth :func:`video_depth_ros.evaluation.temporal.flicker`, the relative change of the
    depth error along scene points from frame to frame, after one affine fit of the whole video;
    without truth ``static_flicker`` as there: mean |d1 - d0| over unchanged pixels, by the spread
    (2-98 %) of the disparity.
seams: the same, only over the pairs of frames between which one window hands over to the next.
drift: the video in ten parts. Without truth the median over the background (pixels whose image is
    the same in both parts) of |median disparity of the last part - of the first part|, by the
    spread; with truth the difference of the mean log scale (median truth / prediction). ``worst``
    is the largest such difference of any part to the first.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

import cv2
import numpy as np

from video_depth_ros.config import PipelineConfig
from video_depth_ros.errors import RecordingError
from video_depth_ros.evaluation.map_store import MapStore
from video_depth_ros.evaluation.stability_measures import (
    STILL,
    Figures,
    StillPairs,
    against_itself,
    against_truth,
    grey_of,
)
from video_depth_ros.evaluation.stability_ways import PER_FRAME, WAYS, AlignmentLog, SideBySide
from video_depth_ros.evaluation.videos import Video
from video_depth_ros.regressors.base import Regressor


@dataclass(frozen=True)
class WayResult:
    """One way over one video; NaN where a figure has no meaning.

    Attributes:
        flicker, seams, drift, worst: see the module.
        series: per frame, without truth the median deviation of the background from its start in
            shares of the spread, with truth the log scale from its start; NaN unknown.
        profile: float32 [h, frames], one column of the disparity over time, NaN unknown.
        log: of the alignment; None for a way that does not align.
    """

    flicker: float
    seams: float
    drift: float
    worst: float
    series: np.ndarray
    profile: np.ndarray
    log: AlignmentLog | None


@dataclass(frozen=True)
class StabilityResult:
    """All ways over one video.

    Attributes:
        video: its name.
        frames: in it.
        basis: ``truth``, ``still camera`` or ``none``: what the figures rest on.
        image: uint8 [h, frames, 3], the image's column over time.
        ways: by name.
    """

    video: str
    frames: int
    basis: str
    image: np.ndarray
    ways: dict[str, WayResult]


def measure_stability(
    video: Video,
    regressor: Regressor,
    config: PipelineConfig | None = None,
    column: float = 0.5,
    advance: Callable[[], None] = lambda: None,
) -> StabilityResult:
    """Run every way over the video and measure it. Maps wait on disk, memory is bounded.

    Args:
        video: with truth, or of a camera that stands still; else only the profiles are drawn.
        regressor: shared by all ways.
        config: of the pipeline.
        column: of the profile, 0 left to 1 right.
        advance: called once per frame.

    Raises:
        RecordingError: no frames.
    """
    config = config or PipelineConfig()
    with ExitStack() as stack:
        stores = {name: stack.enter_context(MapStore()) for name in WAYS}
        greys = stack.enter_context(MapStore())
        strips: list[np.ndarray] = []
        side: SideBySide | None = None
        has_truth = False
        for index, frame in enumerate(video.frames()):
            height, width = frame.rgb.shape[:2]
            side = side or SideBySide(config, regressor, height, width)
            for name, at, disparity in side.push(frame.rgb):
                stores[name].put(at, disparity)
            greys.put(index, grey_of(frame.rgb, side.size))
            strip = frame.rgb[:, min(width - 1, int(column * width))]
            strips.append(cv2.resize(strip[:, None], (1, side.size[0]))[:, 0])
            has_truth |= frame.depth is not None and bool(video.protocol.valid(frame.depth).any())
            advance()
        if side is None:
            raise RecordingError(f"{video.name}: no frames")
        for name, at, disparity in side.flush():
            stores[name].put(at, disparity)
        count = len(strips)
        if has_truth:
            basis, figures = "truth", against_truth(video, stores, side.is_seam)
        elif (pairs := StillPairs(greys, count)).share > STILL:
            basis, figures = "still camera", against_itself(stores, greys, pairs, side.is_seam)
        else:
            basis, figures = "none", {name: Figures() for name in WAYS}
        logs = side.logs()
        results = {
            name: WayResult(
                flicker=figures[name].flicker(),
                seams=float("nan") if name == PER_FRAME else figures[name].seams(),
                drift=figures[name].drift,
                worst=figures[name].worst,
                series=np.array(figures[name].series),
                profile=_profile(stores[name], count, column),
                log=logs.get(name),
            )
            for name in WAYS
        }
    return StabilityResult(video.name, count, basis, np.stack(strips, axis=1), results)


def _profile(store: MapStore, count: int, column: float) -> np.ndarray:
    columns: list[np.ndarray | None] = []
    height = 0
    for index in range(count):
        values = store.get(index)
        if values is not None:
            height = values.shape[0]
            values = values[:, min(values.shape[1] - 1, int(column * values.shape[1]))]
        columns.append(values)
    unknown = np.full(height, np.nan, dtype=np.float32)
    return np.stack([unknown if each is None else each for each in columns], axis=1)
