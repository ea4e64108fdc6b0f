# SPDX-License-Identifier: Apache-2.0
"""What a run starts from: random weights, an earlier stage, a folded file, or DVD's checkpoint."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from torch import Tensor

from video_depth_ros.errors import CheckpointError, ConfigError
from video_depth_ros.regressors.wan.checkpoints import (
    kind_of,
    read_transformer,
    read_vae,
    transformer_shapes,
    vae_shapes,
)
from video_depth_ros.regressors.wan.folded_file import load_folded
from video_depth_ros.regressors.wan.sizes import SIZES, ModelSize
from video_depth_ros.regressors.wan.tensor_file import open_tensors
from video_depth_ros.regressors.wan.transformer import TransformerConfig
from video_depth_ros.regressors.wan.vae import VaeConfig
from video_depth_ros.training import checkpoint
from video_depth_ros.training.config import TrainConfig
from video_depth_ros.training.export import folded_model
from video_depth_ros.training.image_encoder import set_encoder
from video_depth_ros.training.lora import add_lora, merge_lora
from video_depth_ros.training.model import DepthModel
from video_depth_ros.training.origin import DVD, Origin
from video_depth_ros.training.weights import initialise

# For tests: every kind of layer, a second of work.
TINY = ModelSize(
    VaeConfig(dim=4, z_dim=4, multipliers=(1, 1, 2), res_blocks=1, temporal=(True, True), patch=4),
    TransformerConfig(in_channels=4, out_channels=4, dim=24, heads=2, layers=2, ffn=48, patch=1),
)

# For studies of the recipe on one CPU core: learns something in minutes.
MICRO = ModelSize(
    VaeConfig(
        dim=16, z_dim=16, multipliers=(1, 2, 3), res_blocks=1, temporal=(True, True), patch=4
    ),
    TransformerConfig(
        in_channels=16, out_channels=16, dim=96, heads=4, layers=4, ffn=384, patch=1
    ),
)


def size_of(config: TrainConfig) -> ModelSize:
    """The named sizes with a decoder of three channels, which training needs."""
    size = {**SIZES, "micro": MICRO, "tiny": TINY}[config.size]
    return dataclasses.replace(size, vae=dataclasses.replace(size.vae, out_channels=3))


def initial_model(
    config: TrainConfig, start: Path | None = None, vae: Path | None = None
) -> DepthModel:
    """The model before the first step, LoRA added if the config asks for it.

    Args:
        start: None for random weights seeded by ``config.seed``; a run's folder or its
            ``checkpoint.pt``; a folded safetensors file; or the weights of DVD or Wan 2.1.
        vae: the VAE's file where ``start`` holds a transformer alone.

    Raises:
        CheckpointError: missing, damaged, or of another model.
        ConfigError: settings that do not go together.
    """
    torch.manual_seed(config.seed)
    if start is None:
        model = DepthModel(size_of(config), config.tau or None, config.text_dim)
        initialise(model)
    elif start.is_dir() or start.suffix == ".pt":
        model = _from_run(config, start / checkpoint.NAME if start.is_dir() else start)
    else:
        model = _from_weights(config, start, vae)
    if config.encoder == "image" and config.stage == "vae":
        raise ConfigError("encoder: image: the vae stage trains the video encoder")
    set_encoder(model, config.encoder)
    if config.lora_rank:
        if config.stage == "vae":
            raise ConfigError("lora_rank: LoRA adapts the transformer; the vae stage trains none")
        model.vae.requires_grad_(False)
        add_lora(model.transformer, config.lora_rank, config.lora_alpha or config.lora_rank)
    if config.stage == "vae" and model.size.vae.out_channels != 3:
        raise ConfigError(
            "the vae stage reproduces colour images: expected a decoder of 3 channels, got "
            f"{model.size.vae.out_channels}; start from a training checkpoint, not an export"
        )
    return model


def lora_scaling(config: TrainConfig) -> float:
    """Factor on B A."""
    return (config.lora_alpha or config.lora_rank) / max(config.lora_rank, 1)


def trained_model(path: Path) -> tuple[DepthModel, TrainConfig, int]:
    """Averaged weights of a run with its adapters merged, its config, its number of steps."""
    snapshot = checkpoint.load(path / checkpoint.NAME if path.is_dir() else path)
    config = checkpoint.config_of(snapshot)
    state: dict[str, Tensor] = {**snapshot.model, **snapshot.ema.get("average", {})}
    plain = dict(state)
    if config.lora_rank:
        plain = merge_lora(state, lora_scaling(config))
    folded = "transformer.patch_embedding.weight"
    if folded not in plain:
        raise CheckpointError(f"expected a training checkpoint of this package, got {path}")
    tau = None if plain[folded].dim() == 2 else config.tau
    size = size_of(config)
    channels = plain["vae.decoder.head.2.weight"].shape[0] // size.vae.patch**2
    size = dataclasses.replace(size, vae=dataclasses.replace(size.vae, out_channels=channels))
    text_dim = 1 if tau is None else plain["transformer.text_embedding.0.weight"].shape[1]
    model = DepthModel(size, tau, text_dim)
    checkpoint.fill(model, plain, path)
    set_encoder(model, config.encoder)
    model.origin = checkpoint.origin_of(snapshot)
    return model, config, snapshot.step


def exported_model(path: Path) -> DepthModel:
    """A folded file as a model to train or to average.

    Raises:
        CheckpointError: missing, damaged, or no folded file.
    """
    info, vae, transformer = load_folded(path, torch.device("cpu"), torch.float32)
    model = DepthModel(info.size, None)
    model.vae, model.transformer = vae, transformer
    model.origin = Origin(info.name, info.licence)
    return model.requires_grad_(True)


def _from_run(config: TrainConfig, path: Path) -> DepthModel:
    model, _, _ = trained_model(path)
    if model.size.transformer != size_of(config).transformer:
        raise CheckpointError(
            f"expected a checkpoint of size {config.size}, got {path} of another size"
        )
    if config.tau == 0 and model.tau is not None:
        return folded_model(model)
    if config.tau > 0 and model.tau is None:
        raise ConfigError(
            f"tau: the checkpoint {path} is folded and has no timestep; set tau to 0"
        )
    if model.tau is not None:
        model.tau = config.tau
    return model


def _from_weights(config: TrainConfig, path: Path, vae_path: Path | None) -> DepthModel:
    source = open_tensors(path)
    if kind_of(source) == "folded":
        if config.tau > 0:
            raise ConfigError(f"tau: {path} is folded and has no timestep; set tau to 0")
        return exported_model(path)
    size = size_of(config)
    read = read_transformer(source, size.transformer)
    text_dim = read("text_embedding.0.weight").shape[1]
    model = DepthModel(size, config.tau or 0.5, text_dim)
    # other names may hold DVD merged or Wan itself, and nothing tells which: the stricter licence
    model.origin = DVD
    names = transformer_shapes(size.transformer, text_dim)
    model.transformer.load_state_dict({name: read(name).float() for name in names})
    read_part = read_vae(source if vae_path is None else open_tensors(vae_path), size.vae)
    state = {name: read_part(name).float() for name in vae_shapes(size.vae)}
    model.vae.load_state_dict(state, strict=False)  # the normalisation constants are the class's
    return model if config.tau > 0 else folded_model(model)
