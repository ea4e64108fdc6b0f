# SPDX-License-Identifier: Apache-2.0
"""What the fast modes of a Wan-like regressor change, against exact windows decoded whole."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from video_depth_ros.errors import InputError
from video_depth_ros.regressors.wan.regressor import WanRegressor
from video_depth_ros.regressors.wan.stream import StreamOptions

# What is compared, as changes of the exact mode's options.
VARIANTS: tuple[tuple[str, dict[str, object]], ...] = (
    ("exact, decode window", {}),
    ("exact, decode restart, lead 1", {"decode": "restart", "lead": 1}),
    ("exact, decode restart, lead 2", {"decode": "restart", "lead": 2}),
    ("exact, decode warm", {"decode": "warm"}),
    ("exact, window start stream", {"start": "stream"}),
    ("cached, refresh 1", {"cached": True, "refresh": 1}),
    ("cached, refresh 2", {"cached": True, "refresh": 2}),
    ("cached, refresh 3", {"cached": True, "refresh": 3}),
    ("cached, refresh 3, no sink", {"cached": True, "refresh": 3, "sink": False}),
    (
        "cached, refresh 3, never whole",
        {"cached": True, "refresh": 3, "full_refresh_every": 0},
    ),
)


@dataclass(frozen=True)
class Fidelity:
    """One variant.

    Attributes:
        name: which.
        push: mean seconds of a push with a full window (refreshes included).
        error: median over pushes of the RMS difference to the exact disparity of the new frames,
            as a share of that disparity's standard deviation, after the best scale and shift
            (alignment removes these anyway).
        worst: the largest over pushes.
    """

    name: str
    push: float
    error: float
    worst: float


def compare(regressor: WanRegressor, video: Tensor, overlap: int) -> Iterator[Fidelity]:
    """Run every variant that the window allows over ``video``, float32 [T, 3, h, w] in [0, 1].

    Raises:
        InputError: ``too_short``: the video does not outlast the window.
    """
    window = regressor.options.window
    stride = regressor.spec.group // regressor.options.hop
    if video.shape[0] <= 1 + stride * window:
        raise InputError(
            "too_short",
            f"expected more than {1 + stride * window} frames for a window of {window} latents, "
            f"got {video.shape[0]}",
        )
    exact, _ = _play(regressor, StreamOptions(window=window, decode="window"), video, overlap)
    for name, changes in VARIANTS:
        if int(changes.get("refresh", 0)) >= window:  # type: ignore[call-overload]
            continue
        options = dataclasses.replace(
            StreamOptions(window=window, decode="window"),
            **changes,  # type: ignore[arg-type]
        )
        got, seconds = _play(regressor, options, video, overlap)
        full = range(window, len(exact))
        errors = [affine_residual(got[i], exact[i]) for i in full]
        yield Fidelity(
            name=name,
            push=statistics.mean(seconds[window:]),
            error=statistics.median(errors),
            worst=max(errors),
        )


def affine_residual(got: Tensor, expected: Tensor) -> float:
    """RMS of expected - (s * got + t) at the best s, t, over expected's standard deviation."""
    x, y = got.double().flatten(), expected.double().flatten()
    x, y = x - x.mean(), y - y.mean()
    scale = (x @ y) / (x @ x).clamp_min(1e-30)
    return float((y - scale * x).norm() / y.norm().clamp_min(1e-30))


def _play(
    regressor: WanRegressor, options: StreamOptions, video: Tensor, overlap: int
) -> tuple[list[Tensor], list[float]]:
    """The new frames' disparity of every push, and its seconds."""
    variant = WanRegressor(regressor.info, regressor.vae, regressor.transformer, options)
    session = variant.open(*video.shape[2:])
    video = video.to(regressor.device)
    pushed, seconds, start = [], [], 0
    while start + session.next_group <= video.shape[0]:
        end = start + session.next_group
        began = time.perf_counter()
        group = session.push(video[start:end], overlap)  # waits for the device by its own check
        seconds.append(time.perf_counter() - began)
        pushed.append(group.disparity[-group.new :].cpu())
        start = end
    return pushed, seconds
