# SPDX-License-Identifier: Apache-2.0
"""How fast a Wan-like regressor is, stage by stage, and how much faster than the plain procedure.

The plain procedure is what the public code does for the same output: at every hop encode all
frames of the window again, run the unfolded transformer with its text context, and decode the
whole window with the three-channel decoder.
"""

from __future__ import annotations

import dataclasses
import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from video_depth_ros.regressors.wan.factory import fill_random
from video_depth_ros.regressors.wan.regressor import WanRegressor
from video_depth_ros.regressors.wan.session import WanSession
from video_depth_ros.regressors.wan.sizes import ModelSize
from video_depth_ros.regressors.wan.unfolded import UnfoldedTransformer
from video_depth_ros.regressors.wan.vae import CausalVae

Clock = Callable[[], float]
STAGES = ("encode", "transformer", "decode")


@dataclass(frozen=True)
class Timing:
    """What one configuration costs.

    Attributes:
        frames: new frames per push.
        push: median seconds of a push, with the overlap decoded, full window.
        stages: median seconds of each of :data:`STAGES` in a push, measured in a second pass.
        reference: median seconds of the plain procedure for the same new frames, or None.
        memory: peak bytes: of the device's allocator on CUDA, else of the whole process.
        state: numbers that the session keeps between pushes.
    """

    frames: int
    push: float
    stages: dict[str, float]
    reference: float | None
    memory: int
    state: int

    @property
    def fps(self) -> float:
        """New frames per second."""
        return self.frames / self.push

    @property
    def ratio(self) -> float | None:
        """How many times faster than the plain procedure."""
        return None if self.reference is None else self.reference / self.push


def measure(
    regressor: WanRegressor,
    size: tuple[int, int],
    overlap: int,
    pushes: int,
    with_reference: bool = True,
    clock: Clock = time.perf_counter,
) -> Timing:
    """Time pushes of a full window at ``size`` = (height, width).

    Args:
        clock: ``time.process_time`` instead counts this process's CPU time, on one thread a fair
            measure on a machine that is busy with other things.
    """
    device = regressor.device
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    session = regressor.open(*size)
    generator = torch.Generator(device).manual_seed(0)
    frames = regressor.spec.group
    clip = torch.rand(frames, 3, *size, generator=generator, device=device)
    fill = 2 + regressor.options.window // regressor.options.hop
    seconds = _pushes(session, clip, overlap, fill, pushes, clock)
    memory = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else _process_peak()
    return Timing(
        frames=frames,
        push=statistics.median(seconds),
        stages=_stages(regressor, size, clip, overlap, fill, pushes, clock),
        reference=_reference(regressor, size, pushes, clock) if with_reference else None,
        memory=memory,
        state=session.state.elements(),
    )


def _pushes(
    session: WanSession, clip: Tensor, overlap: int, fill: int, pushes: int, clock: Clock
) -> list[float]:
    session.push(clip[:1], overlap)
    for _ in range(fill):
        session.push(clip, overlap)
    return [_timed(lambda: session.push(clip, overlap), clip.device, clock) for _ in range(pushes)]


def _stages(
    regressor: WanRegressor,
    size: tuple[int, int],
    clip: Tensor,
    overlap: int,
    fill: int,
    pushes: int,
    clock: Clock,
) -> dict[str, float]:
    """A second pass with the clock stopped around every stage (which forbids overlapping them)."""
    spent: dict[str, float] = dict.fromkeys(STAGES, 0.0)
    session = regressor.open(*size)
    device = clip.device
    session._encoder = _Clocked(session._encoder, "encode", "encode", spent, device, clock)
    session._decoder = _Clocked(session._decoder, "decode", "decode", spent, device, clock)
    plain = session._transformer
    cached = _Clocked(plain, "forward_cached", "transformer", spent, device, clock)
    session._transformer = _Clocked(cached, "__call__", "transformer", spent, device, clock)  # type: ignore[assignment]
    session.push(clip[:1], overlap)
    for _ in range(fill):
        session.push(clip, overlap)
    rounds: list[dict[str, float]] = []
    for _ in range(pushes):
        spent.update(dict.fromkeys(STAGES, 0.0))
        session.push(clip, overlap)
        rounds.append(dict(spent))
    return {stage: statistics.median(r[stage] for r in rounds) for stage in STAGES}


class _Clocked:
    """Stands for an object; calls of one of its methods are added up in ``spent[stage]``."""

    def __init__(
        self,
        inner: Any,
        method: str,
        stage: str,
        spent: dict[str, float],
        device: torch.device,
        clock: Clock,
    ) -> None:
        self._inner, self._method, self._stage = inner, method, stage
        self._spent, self._device, self._time = spent, device, clock

    def __call__(self, *args: Any) -> Any:
        return self._clock(self._inner, *args)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name != self._method:
            return found
        return lambda *args: self._clock(found, *args)

    def _clock(self, function: Callable[..., Any], *args: Any) -> Any:
        result: list[Any] = []
        self._spent[self._stage] += _timed(
            lambda: result.append(function(*args)), self._device, self._time
        )
        return result[0]


@torch.inference_mode()
def _reference(regressor: WanRegressor, size: tuple[int, int], pushes: int, clock: Clock) -> float:
    """Median seconds of the plain procedure for one window, with weights of no meaning."""
    weight = next(regressor.transformer.parameters())
    device, dtype = weight.device, weight.dtype
    public = ModelSize(
        dataclasses.replace(regressor.info.size.vae, out_channels=3),
        regressor.info.size.transformer,
    )
    with torch.device("meta"):
        vae, transformer = CausalVae(public.vae), UnfoldedTransformer(public.transformer)
    fill_random(vae, device, dtype)
    fill_random(transformer, device, dtype)
    frames = public.vae.temporal_stride * (regressor.options.window - 1) + 1
    images = torch.rand(1, 3, frames, *size, device=device).to(dtype)
    if device.type == "cpu":
        images = images.contiguous(memory_format=torch.channels_last_3d)

    def window() -> None:
        latents, _ = vae.encode(images)
        vae.decode(transformer(latents))

    window()
    return statistics.median(_timed(window, device, clock) for _ in range(max(1, pushes // 2)))


def _timed(function: Callable[[], object], device: torch.device, clock: Clock) -> float:
    """Seconds of a call, everything it queued on the device included."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = clock()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock() - start


def _process_peak() -> int:
    """Peak resident memory of this process in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
