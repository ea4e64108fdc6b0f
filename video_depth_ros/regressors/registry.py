# SPDX-License-Identifier: Apache-2.0
"""Regressors by name.

Built-in names and those that other packages add through the entry-point group
``video_depth_ros.regressors`` share one table. A factory takes a :class:`RegressorConfig` and
returns a :class:`~video_depth_ros.regressors.base.Regressor`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points

from video_depth_ros.errors import ConfigError, RegressorError
from video_depth_ros.regressors.base import Regressor
from video_depth_ros.settings import check, leaves, parameter

ENTRY_POINT_GROUP = "video_depth_ros.regressors"

# name -> "module:function"; imported only when asked for, so that listing costs nothing
BUILT_IN = {
    "nano": "video_depth_ros.regressors.wan.factory:nano",
    "dvd": "video_depth_ros.regressors.wan.factory:dvd",
}


@dataclass(frozen=True)
class RegressorConfig:
    """Which network, from which weights, where, and how it streams."""

    name: str = parameter(
        "nano",
        "Regressor: nano (embedded, Apache-2.0), dvd (DVD 1.3 B, weights CC BY-NC 4.0, not "
        "included), or a name added by another package.",
    )
    weights: str = parameter(
        "", "Path of the weight file; empty takes the regressor's own default."
    )
    device: str = parameter("auto", "torch device: auto, cpu, cuda, cuda:0 ...; auto takes CUDA.")
    dtype: str = parameter(
        "auto",
        "Arithmetic of the network; auto takes bfloat16 on CUDA and float32 on the CPU.",
        choices=("auto", "float32", "bfloat16", "float16"),
    )
    height: int = parameter(
        0, "Height of the box that the resized image covers; 0 = default.", unit="px", low=0
    )
    width: int = parameter(
        0, "Width of the box that the resized image covers; 0 = default.", unit="px", low=0
    )
    window: int = parameter(
        0,
        "Latents (groups) the network sees at once; 0 = the regressor's default (dvd 9, nano 3).",
        low=0,
        high=21,
    )
    window_start: str = parameter(
        "image",
        "Latents of a window in a long stream: image (the first is its last frame encoded alone, "
        "as the network was trained, the others come from the running encoder), stream (all "
        "from the running encoder; saves one image encoding per step), anew (the window's frames "
        "are encoded as a clip of their own: exact, dearest, not in cached mode). One and the "
        "same for nano, whose encoder has no memory.",
        choices=("image", "stream", "anew"),
    )
    mode: str = parameter(
        "exact",
        "exact: every window is computed whole; cached: keys and values of old latents are kept "
        "and only the newest are refreshed (faster, approximate).",
        choices=("exact", "cached"),
    )
    refresh: int = parameter(
        3,
        "cached mode: newest latents computed anew at each step; 1 leaves no overlap that is "
        "predicted again.",
        low=1,
        high=21,
    )
    full_refresh_every: int = parameter(
        8, "cached mode: latents between two windows computed whole; 0 = never.", low=0
    )
    sink: bool = parameter(
        True, "cached mode: the first latent of the last whole window stays visible."
    )
    hop: int = parameter(
        1,
        "Latents per step (groups are 4 * hop frames); more saves time, adds latency.",
        low=1,
        high=5,
    )
    decode: str = parameter(
        "auto",
        "window: decode the whole window from an empty decoder (exact, slowest); restart: decode "
        "the frames asked for and decode_lead latents before them; warm: continue the decoder of "
        "the step before (fastest, mixes features of two windows); auto: window for nano, restart "
        "for dvd.",
        choices=("auto", "window", "restart", "warm"),
    )
    decode_lead: int = parameter(
        1, "Latents decoded before the frames asked for in restart.", low=1, high=20
    )
    tiny_vae: str = parameter(
        "", "dvd: path of taew2_1 weights; decodes with this tiny VAE instead of Wan's own."
    )
    tiny_encoder: bool = parameter(False, "dvd: encode with the tiny VAE, too.")
    compile: bool = parameter(
        False,
        "torch.compile the network for full windows (while a window fills it runs uncompiled): "
        "when the node is configured if input.height and input.width are set, else when the "
        "first window is full.",
    )


def names() -> list[str]:
    """All known regressor names, built-in ones first."""
    return [*BUILT_IN, *sorted(e.name for e in entry_points(group=ENTRY_POINT_GROUP))]


def load(config: RegressorConfig) -> Regressor:
    """Build the regressor that ``config.name`` names, with its weights on its device.

    Raises:
        RegressorError: unknown name (the known ones are listed).
        CheckpointError: weights missing or not fitting.
        ConfigError: a value out of its range, or a factory that does not return a regressor.
    """
    for leaf in leaves(config):
        check(leaf, leaf.value)
    factory = _factory(config.name)
    regressor = factory(config)
    if not isinstance(regressor, Regressor):
        raise ConfigError(
            f"the factory of regressor {config.name!r} returned {type(regressor).__name__}; "
            "expected an object with spec, device and open()"
        )
    return regressor


def _factory(name: str) -> Callable[[RegressorConfig], Regressor]:
    if name in BUILT_IN:
        module, function = BUILT_IN[name].split(":")
        return getattr(importlib.import_module(module), function)  # type: ignore[no-any-return]
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        if entry.name == name:
            return entry.load()  # type: ignore[no-any-return]
    raise RegressorError(f"unknown regressor {name!r}; known are {', '.join(names())}")
