# SPDX-License-Identifier: Apache-2.0
"""Ways to run a regressor over a video: the pipeline, and the two that it must beat.

Each takes the frames of one video in order and gives maps by frame index. Disparity is near =
large in one affine frame that the protocol's fit then finds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from video_depth_ros.alignment import fit_dvd
from video_depth_ros.bags.formats.base import SequenceFrame
from video_depth_ros.camera import Camera
from video_depth_ros.config import PipelineConfig
from video_depth_ros.errors import InputError
from video_depth_ros.frames import DepthEstimate, Frame
from video_depth_ros.pending import Pending
from video_depth_ros.pipeline import DepthPipeline
from video_depth_ros.regressors.base import Regressor, RegressorSession
from video_depth_ros.regressors.preprocessing import cover_size, to_regressor

NETWORK_BASELINES = ("per_frame", "plain_chaining")
_DVD_WINDOW, _DVD_OVERLAP = 45, 9

Maps = Iterator[tuple[int, np.ndarray]]


class Predictor(Protocol):
    """Frames in, (frame index, map float32 [h, w]) out; a map may come again, improved."""

    def push(self, index: int, frame: SequenceFrame, given: np.ndarray | None) -> Maps:
        """Take the next frame, and metric depth [H, W] of some pixels where there is any."""

    def flush(self) -> Maps:
        """What is left at the end."""


class PipelinePredictor:
    """The real pipeline, as the node runs it."""

    def __init__(
        self, config: PipelineConfig, regressor: Regressor, camera: Camera | None, metric: bool
    ) -> None:
        """``metric``: give depth in metres (NaN unknown) instead of running disparity."""
        self._pipeline = DepthPipeline(config, regressor)
        self._camera = camera
        self._metric = metric
        self._indices: Pending[int] = Pending()
        self.sequences: set[int] = set()
        self.dropped = 0

    def push(self, index: int, frame: SequenceFrame, given: np.ndarray | None) -> Maps:
        """See :class:`Predictor`; a frame the pipeline refuses is counted in ``dropped``."""
        if given is not None and self._camera is not None:
            self._pipeline.add_sparse_depth(given, frame.stamp_ns, self._camera)
        self._indices.put(frame.stamp_ns, index)
        try:
            estimates = self._pipeline.push(Frame(frame.rgb, frame.stamp_ns, self._camera))
        except InputError as error:
            self._indices.take_back(frame.stamp_ns)
            if error.reason not in ("duplicate", "out_of_order"):
                raise
            self.dropped += 1
            return
        yield from self._maps(estimates)

    def flush(self) -> Maps:
        """See :class:`Predictor`."""
        yield from self._maps(self._pipeline.flush())

    def _maps(self, estimates: list[DepthEstimate]) -> Maps:
        for estimate in estimates:
            self.sequences.add(estimate.sequence)
            index = self._indices.pop(estimate.stamp_ns)
            disparity = estimate.disparity.float().cpu().numpy()
            if not self._metric:
                yield index, disparity
            elif estimate.depth is None:
                yield index, np.full_like(disparity, np.nan)
            else:
                yield index, estimate.depth.float().cpu().numpy()


class _Images:
    """Images at the size the pipeline would give to the regressor, and a session of that size."""

    def __init__(self, config: PipelineConfig, regressor: Regressor) -> None:
        self._regressor = regressor
        wanted, spec = config.regressor, regressor.spec
        self._box = (wanted.height or spec.box[0], wanted.width or spec.box[1])
        self._size: tuple[int, int] | None = None
        self._session: RegressorSession | None = None

    def take(self, rgb: np.ndarray) -> tuple[Tensor, RegressorSession]:
        height, width = rgb.shape[:2]
        size = cover_size(height, width, self._box, self._regressor.spec.size_multiple)
        if size != self._size or self._session is None:
            self._size, self._session = size, self._regressor.open(*size)
        return to_regressor(rgb, size, self._regressor.device), self._session


class PerFramePredictor:
    """Every image alone: the network without temporal context, nothing aligned."""

    def __init__(self, config: PipelineConfig, regressor: Regressor) -> None:
        self._images = _Images(config, regressor)

    def push(self, index: int, frame: SequenceFrame, given: np.ndarray | None) -> Maps:
        """See :class:`Predictor`."""
        image, session = self._images.take(frame.rgb)
        session.reset()
        with torch.inference_mode():
            run = session.push if session.next_group == 1 else session.preview
            group = run(image[None], 0)
        yield index, group.disparity[-1].float().cpu().numpy()

    def flush(self) -> Maps:
        """Nothing is held back."""
        return iter(())


class ChainingPredictor:
    """DVD's own way with long videos: separate windows, chained.

    Windows of 45 frames (or as many as the session can return at once) with 9 frames of overlap
    (at most half); each is aligned to the result so far by DVD's least squares on the overlap and
    blended into it linearly. Errors add up from window to window, and a frame is final only when
    the next window has been computed.
    """

    def __init__(self, config: PipelineConfig, regressor: Regressor) -> None:
        self._images = _Images(config, regressor)
        spec = regressor.spec
        most = min(_DVD_WINDOW, spec.max_overlap + spec.group)
        later = max(0, (most - spec.first_group) // spec.group)
        self._window = spec.first_group + later * spec.group
        self._overlap = min(_DVD_OVERLAP, self._window // 2)
        self._waiting: list[tuple[int, Tensor]] = []
        self._result: dict[int, np.ndarray] = {}
        self._session: RegressorSession | None = None
        self._fresh = 0  # frames in the buffer that no window has had yet

    def push(self, index: int, frame: SequenceFrame, given: np.ndarray | None) -> Maps:
        """See :class:`Predictor`."""
        image, self._session = self._images.take(frame.rgb)
        self._waiting.append((index, image))
        self._fresh += 1
        if len(self._waiting) == self._window:
            yield from self._run()

    def flush(self) -> Maps:
        """See :class:`Predictor`."""
        if self._fresh:
            yield from self._run()

    def _run(self) -> Maps:
        assert self._session is not None
        indices = [index for index, _ in self._waiting]
        images = torch.stack([image for _, image in self._waiting])
        current = dict(zip(indices, _whole_window(self._session, images), strict=False))
        shared = [index for index in current if index in self._result]
        scale, shift = 1.0, 0.0
        if shared:
            cur = np.stack([current[index] for index in shared])
            ref = np.stack([self._result[index] for index in shared])
            scale, shift = fit_dvd(cur, ref)
        weights = dict(zip(shared, np.linspace(0.0, 1.0, len(shared)), strict=True))
        for index in current:
            aligned = np.maximum(scale * current[index] + shift, 0.0)
            if index in weights:
                alpha = weights[index]
                aligned = (1.0 - alpha) * self._result[index] + alpha * aligned
            current[index] = aligned.astype(np.float32)
        self._waiting = self._waiting[-self._overlap :] if self._overlap else []
        self._result = {i: current[i] for i, _ in self._waiting if i in current}
        self._fresh = 0
        yield from current.items()


def _whole_window(session: RegressorSession, images: Tensor) -> list[np.ndarray]:
    """Disparity of all frames of a window as its last group sees them."""
    session.reset()
    maps: list[np.ndarray] = []
    start = 0
    with torch.inference_mode():
        while start < len(images):
            group = images[start : start + session.next_group]
            last = start + len(group) == len(images)
            run = session.push if len(group) == session.next_group else session.preview
            out = run(group, start if last else 0).disparity.float().cpu().numpy()
            start += len(group)
            # frames that the session can no longer return keep their causal version
            maps[max(0, start - len(out)) :] = list(out)
    return maps
