# SPDX-License-Identifier: Apache-2.0
"""Regressors from a :class:`RegressorConfig`: the embedded model and DVD."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from video_depth_ros.errors import CheckpointError, ConfigError
from video_depth_ros.regressors.registry import RegressorConfig
from video_depth_ros.regressors.wan.checkpoints import load_model
from video_depth_ros.regressors.wan.folded_file import FoldedInfo, empty_models
from video_depth_ros.regressors.wan.regressor import WanRegressor
from video_depth_ros.regressors.wan.sizes import ModelSize
from video_depth_ros.regressors.wan.steady import compile_full_windows
from video_depth_ros.regressors.wan.stream import StreamOptions
from video_depth_ros.regressors.wan.tiny_vae import load_tiny_vae
from video_depth_ros.regressors.wan.transformer import FoldedTransformer
from video_depth_ros.regressors.wan.vae import CausalVae, normalisation

NANO_WEIGHTS = Path(__file__).with_name("nano.safetensors")


def nano(config: RegressorConfig) -> WanRegressor:
    """The small embedded model.

    Raises:
        CheckpointError: the weight file is missing or damaged.
    """
    path = Path(config.weights) if config.weights else NANO_WEIGHTS
    if not path.is_file():
        raise CheckpointError(
            f"nano: no weight file {path}; it comes with the package: install it again, train it "
            "by `video_depth train`, or name another file in regressor.weights"
        )
    return _from_file(config, path)


def dvd(config: RegressorConfig) -> WanRegressor:
    """DVD, from a folded file or straight from the public checkpoint.

    Raises:
        CheckpointError: no weights named, missing, damaged or of another model.
    """
    if not config.weights:
        raise CheckpointError(
            "dvd: regressor.weights is empty and the package brings no DVD weights (CC BY-NC "
            "4.0); run `video_depth download dvd-1.1 --accept-license`, then "
            "`video_depth fold IN OUT.safetensors`, and name OUT in regressor.weights"
        )
    return _from_file(config, Path(config.weights))


def with_random_weights(
    config: RegressorConfig, size: ModelSize, name: str, seed: int = 0
) -> WanRegressor:
    """A model of this size with random weights: for benchmarks and tests, not for depth."""
    device, dtype = choose_device(config), choose_dtype(config)
    vae, transformer = empty_models(size)
    fill_random(vae, device, dtype, seed)
    fill_random(transformer, device, dtype, seed + 1)
    info = FoldedInfo(f"{name} with random weights", "none", size)
    return _build(config, info, vae, transformer)


def fill_random(
    module: nn.Module, device: torch.device, dtype: torch.dtype, seed: int = 0
) -> None:
    """Random weights for a module on the meta device: activations keep their size."""
    generator = torch.Generator(device).manual_seed(seed)
    module.to(dtype).to_empty(device=device).eval().requires_grad_(False)
    for name, tensor in module.named_parameters():
        if "norm" in name or "gamma" in name:
            tensor.fill_(1.0)
        elif tensor.dim() == 1:
            tensor.zero_()
        else:  # keeps the variance from layer to layer
            tensor.normal_(std=tensor[0].numel() ** -0.5, generator=generator)
    if isinstance(module, CausalVae):
        mean, std = normalisation(module.config)
        module.latent_mean, module.latent_std = mean.to(device), std.to(device)


def _from_file(config: RegressorConfig, path: Path) -> WanRegressor:
    info, vae, transformer = load_model(path, choose_device(config), choose_dtype(config))
    return _build(config, info, vae, transformer)


def _build(
    config: RegressorConfig, info: FoldedInfo, vae: CausalVae, transformer: FoldedTransformer
) -> WanRegressor:
    options = stream_options(config, info)
    if config.compile:
        compile_full_windows(transformer, options.window)
    tiny = None
    if config.tiny_vae:
        tiny = load_tiny_vae(config.tiny_vae, choose_device(config), choose_dtype(config))
    elif config.tiny_encoder:
        raise ConfigError("regressor.tiny_encoder is set but regressor.tiny_vae names no file")
    return WanRegressor(
        info,
        vae,
        transformer,
        options,
        box=(config.height or info.box[0], config.width or info.box[1]),
        encoder=tiny if config.tiny_encoder else None,
        decoder=tiny,
        warm_up=options.settled if config.compile else 1,
    )


def stream_options(config: RegressorConfig, info: FoldedInfo) -> StreamOptions:
    """Options of the stream; what the configuration leaves open follows from the model.

    Raises:
        ConfigError: window, hop and refresh that do not go together.
    """
    # Encoding and decoding whole windows is exact, and cheap only where pixels are gathered
    # before the VAE.
    gathers, cached = info.size.vae.patch > 1, config.mode == "cached"
    decode = "window" if gathers else "restart"
    return StreamOptions(
        window=config.window or info.window,
        hop=config.hop,
        cached=cached,
        refresh=config.refresh,
        full_refresh_every=config.full_refresh_every,
        sink=config.sink,
        start=config.window_start,
        decode=decode if config.decode == "auto" else config.decode,
        lead=config.decode_lead,
        image_latents=info.size.vae.image_encoder and not config.tiny_encoder,
    )


def choose_device(config: RegressorConfig) -> torch.device:
    """The device that ``config.device`` names; auto takes CUDA where there is one.

    Raises:
        ConfigError: no such device, or CUDA asked for where there is none.
    """
    if config.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(config.device)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"regressor.device {config.device!r} cannot be used "
            f"({str(error).splitlines()[0]}); expected auto, cpu, or a CUDA device that exists"
        ) from None
    return device


def choose_dtype(config: RegressorConfig) -> torch.dtype:
    """The arithmetic that ``config.dtype`` names; auto: bfloat16 on CUDA, else float32."""
    if config.dtype == "auto":
        return torch.bfloat16 if choose_device(config).type == "cuda" else torch.float32
    return {
        "float32": torch.float32,
        "bfloat16": torch.bfloat16,
        "float16": torch.float16,
    }[config.dtype]
