# SPDX-License-Identifier: Apache-2.0
"""Evaluating one video: predict, fit, measure. Three passes over its frames, bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np

from video_depth_ros.bags.formats.base import SequenceFrame
from video_depth_ros.config import PipelineConfig
from video_depth_ros.errors import RecordingError
from video_depth_ros.evaluation.affine import AffineFit, affine_depth
from video_depth_ros.evaluation.baselines import SPATIAL_BASELINES, SpatialFit
from video_depth_ros.evaluation.map_store import MapStore
from video_depth_ros.evaluation.meters import TrueFrame, TruePair, VideoMeter
from video_depth_ros.evaluation.metrics import resize_to
from video_depth_ros.evaluation.pictures import Picture
from video_depth_ros.evaluation.predictors import (
    ChainingPredictor,
    PerFramePredictor,
    PipelinePredictor,
    Predictor,
)
from video_depth_ros.evaluation.protocols import Protocol
from video_depth_ros.evaluation.videos import Video
from video_depth_ros.regressors.base import Regressor

PIPELINE = "pipeline"
_MANY_STARTS = 0.1  # of the frames: more is no video


@dataclass(frozen=True)
class EvaluationOptions:
    """How to evaluate.

    Attributes:
        config: of the pipeline.
        metric: metric protocol: random pixels of the truth stand in for a sensor and give the
            scale, the other pixels are the truth, nothing is aligned.
        metric_points: most pixels given per frame; never more than half of those known.
        seed: of their choice.
        pictures: frames kept for the report.
    """

    config: PipelineConfig = field(default_factory=PipelineConfig)
    metric: bool = False
    metric_points: int = 1000
    seed: int = 0
    pictures: int = 3


@dataclass(frozen=True)
class VideoResult:
    """What was measured on one video.

    Attributes:
        name, protocol: of the video.
        metrics: of the pipeline, by name.
        baselines: the same for every baseline.
        details: frames, fitted scale and shift, affine frames of the stream, refused frames.
        series: ``abs_rel`` and ``log_scale`` per frame with truth, per predictor.
        pictures: some frames.
        notes: what a reader of the figures must know of this video.
    """

    name: str
    protocol: str
    metrics: dict[str, float]
    baselines: dict[str, dict[str, float]]
    details: dict[str, float]
    series: dict[str, dict[str, list[float]]]
    pictures: list[Picture]
    notes: tuple[str, ...] = ()


def evaluate_video(
    video: Video,
    regressor: Regressor,
    options: EvaluationOptions | None = None,
    advance: Callable[[], None] = lambda: None,
) -> VideoResult:
    """Run the pipeline and the baselines over a video and measure them.

    Args:
        video: frames with or without truth.
        regressor: shared by all predictors.
        options: see :class:`EvaluationOptions`.
        advance: called twice per frame, for progress bars.

    Raises:
        RecordingError: the video has no frames, the file is damaged, or --metric without truth or
            camera model.
        InputError: no pixel can be compared (see the depth range).
    """
    options = options or EvaluationOptions()
    camera = video.camera
    if options.metric and camera is None:
        raise RecordingError(
            f"{video.name}: the metric protocol needs the camera model; give --intrinsics or "
            "--hfov"
        )
    pipeline = PipelinePredictor(options.config, regressor, camera, options.metric)
    predictors: dict[str, Predictor] = {
        PIPELINE: pipeline,
        "per_frame": PerFramePredictor(options.config, regressor),
        "plain_chaining": ChainingPredictor(options.config, regressor),
    }
    with ExitStack() as stack:
        stores = {name: stack.enter_context(MapStore()) for name in predictors}
        count, has_truth = _predict(video, predictors, stores, options, advance)
        if not count:
            raise RecordingError(f"{video.name}: no frames")
        if options.metric and not has_truth:
            raise RecordingError(f"{video.name}: the metric protocol needs true depth")
        if len(stores[PIPELINE]) == 0:
            raise RecordingError(f"{video.name}: the pipeline gave no estimate of {count} frames")
        fits = Fits(video.protocol, list(predictors))
        if has_truth:
            for now in _true_frames(video, options):
                fits.add(now, stores)
        meters = fits.meters(metric=options.metric)
        pictures = _measure(video, options, stores, fits, meters, count, advance)
    details = {
        "frames": float(count),
        "affine_frames": float(len(pipeline.sequences)),
        "refused": float(pipeline.dropped),
        **({} if options.metric else fits.of(PIPELINE)),
    }
    return VideoResult(
        video.name,
        video.protocol.name,
        meters[PIPELINE].result(),
        {name: meter.result() for name, meter in meters.items() if name != PIPELINE},
        details,
        {name: meter.series for name, meter in meters.items() if meter.series},
        pictures,
        _notes(video, has_truth, count, len(pipeline.sequences)),
    )


def split_truth(
    depth: np.ndarray, most: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Known pixels at random in two: a sensor's (at most half and ``most``) and the truth's.

    Args:
        depth: float [H, W], NaN or 0 unknown.
    """
    known = np.flatnonzero(np.isfinite(depth) & (depth > 0))
    chosen = rng.permutation(known)[: min(most, len(known) // 2)]
    given = np.full_like(depth, np.nan)
    given.flat[chosen] = depth.flat[chosen]
    kept = depth.copy()
    kept.flat[chosen] = np.nan
    return given, kept


class Fits:
    """One affine fit per network predictor and the spatial baselines, on the truth of a video."""

    def __init__(self, protocol: Protocol, networks: list[str]) -> None:
        self._protocol = protocol
        self._networks = networks
        self._affine = {name: AffineFit() for name in networks}
        self._spatial: dict[str, SpatialFit] = {}
        self.maps: dict[str, np.ndarray] = {}

    def add(self, now: TrueFrame, stores: dict[str, MapStore]) -> None:
        """Take one frame's truth and predictions."""
        if now.truth is None:
            return
        shape = (now.truth.shape[0], now.truth.shape[1])
        known = np.isfinite(now.truth)
        for name, fit in self._affine.items():
            values = stores[name].get(now.index)
            if values is not None:
                values = resize_to(values, shape)
                fit.add(values, now.truth, known & np.isfinite(values))
        if not self._spatial:
            self._spatial = {name: SpatialFit(name, *shape) for name in SPATIAL_BASELINES}
        for spatial in self._spatial.values():
            spatial.add(now.truth, known)

    def of(self, name: str) -> dict[str, float]:
        """``scale`` and ``shift`` of a network predictor; empty without truth."""
        fit = self._affine[name]
        return dict(zip(("scale", "shift"), fit.solve(), strict=True)) if fit.count else {}

    def meters(self, metric: bool) -> dict[str, VideoMeter]:
        """A meter for every predictor and baseline, which knows how its maps become depth."""
        meters = {}
        for name in self._networks:
            to_depth: Callable[[np.ndarray, tuple[int, int]], np.ndarray] | None = None
            metres = metric and name == PIPELINE
            if metres:
                to_depth = _resized_depth
            elif self._spatial:
                to_depth = self._aligned(*self._affine[name].solve())
            meters[name] = VideoMeter(self._protocol, to_depth, metric=metres)
        for name, spatial in self._spatial.items():
            self.maps[name] = spatial.disparity()
            meters[name] = VideoMeter(self._protocol, self._aligned(1.0, 0.0), over_time=False)
        return meters

    def _aligned(
        self, scale: float, shift: float
    ) -> Callable[[np.ndarray, tuple[int, int]], np.ndarray]:
        depth_range = self._protocol.depth_range
        return lambda values, shape: affine_depth(
            resize_to(values, shape), scale, shift, depth_range
        )


def _notes(video: Video, has_truth: bool, count: int, starts: int) -> tuple[str, ...]:
    notes = []
    topic = getattr(video.sequence, "truth", "")  # None for a bag without such a topic
    assumed = getattr(video.sequence, "assumed", "")
    if assumed:
        notes.append(assumed)
    if has_truth and topic:
        notes.append(f"truth: {topic}")
    if not has_truth and topic is None:
        notes.append(
            "no topic holds true depth of the images' camera: errors were not measured; name one "
            "with --depth-topic"
        )
    elif not has_truth:
        notes.append("no true depth within the protocol's range: errors were not measured")
    if starts > max(3, _MANY_STARTS * count):
        notes.append(
            f"the stream was started anew {starts} times in {count} frames, so these are hardly "
            "windows of video; if its frames lie far apart in time, raise --set stream.max_gap "
            "(s) or --rate"
        )
    return tuple(notes)


def _resized_depth(depth: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Depth in metres at another size; inverse depth is interpolated, as the network sees it."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return 1.0 / resize_to(1.0 / depth, shape)


def _predict(
    video: Video,
    predictors: dict[str, Predictor],
    stores: dict[str, MapStore],
    options: EvaluationOptions,
    advance: Callable[[], None],
) -> tuple[int, bool]:
    """First pass: every predictor's maps into its store; number of frames, any truth."""
    count, has_truth = 0, False
    for index, frame in enumerate(video.frames()):
        given = None
        if frame.depth is not None:
            has_truth = has_truth or bool(video.protocol.valid(frame.depth).any())
            if options.metric:
                given, _ = _split(frame, index, options)
        for name, predictor in predictors.items():
            for position, values in predictor.push(index, frame, given):
                stores[name].put(position, values)
        count += 1
        advance()
    for name, predictor in predictors.items():
        for position, values in predictor.flush():
            stores[name].put(position, values)
    return count, has_truth


def _measure(
    video: Video,
    options: EvaluationOptions,
    stores: dict[str, MapStore],
    fits: Fits,
    meters: dict[str, VideoMeter],
    count: int,
    advance: Callable[[], None],
) -> list[Picture]:
    """Last pass: the meters take every frame."""
    shown = set(np.linspace(0, count - 1, options.pictures + 2).round().astype(int)[1:-1].tolist())
    pictures: list[Picture] = []
    before: TrueFrame | None = None
    camera = video.camera
    for now in _true_frames(video, options):
        pair = TruePair.of(before, now, camera) if before is not None else None
        for name, meter in meters.items():
            values = stores[name].get(now.index) if name in stores else fits.maps[name]
            depth = meter.add(values, now, pair)
            if name == PIPELINE and now.index in shown and values is not None:
                # without truth there are no metres: near = large is shown as it is
                shape = (now.frame.rgb.shape[0], now.frame.rgb.shape[1])
                disparity = resize_to(values, shape) if depth is None else 1.0 / depth
                pictures.append(Picture.of(now.index, now.frame.rgb, disparity, now.truth))
        before = now
        advance()
    return pictures


def _true_frames(video: Video, options: EvaluationOptions) -> Iterator[TrueFrame]:
    for index, frame in enumerate(video.frames()):
        truth = frame.depth
        if truth is not None:
            if options.metric:
                _, truth = _split(frame, index, options)
            truth = np.where(video.protocol.valid(truth), truth, np.float32(np.nan))
        yield TrueFrame(index, frame, truth)


def _split(
    frame: SequenceFrame, index: int, options: EvaluationOptions
) -> tuple[np.ndarray, np.ndarray]:
    assert frame.depth is not None
    rng = np.random.default_rng((options.seed, index))
    return split_truth(frame.depth, options.metric_points, rng)
