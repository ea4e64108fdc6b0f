# SPDX-License-Identifier: Apache-2.0
"""From a trained model to the package's weight file: folded, one channel, half precision."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from video_depth_ros.regressors.wan.folded_file import FoldedInfo, save_folded
from video_depth_ros.regressors.wan.folding import fold
from video_depth_ros.regressors.wan.sizes import ModelSize
from video_depth_ros.regressors.wan.transformer import FoldedTransformer
from video_depth_ros.regressors.wan.unfolded import UnfoldedTransformer
from video_depth_ros.regressors.wan.vae import CausalVae
from video_depth_ros.training.lora import merge_lora
from video_depth_ros.training.model import DepthModel


def folded_transformer(model: DepthModel, lora_scaling: float = 1.0) -> FoldedTransformer:
    """The transformer with adapters merged and constants folded in, on the CPU, float32."""
    if not isinstance(model.transformer, UnfoldedTransformer):
        return copy.deepcopy(model.transformer).cpu().float()
    assert model.tau is not None
    state = {k: v.detach().cpu() for k, v in model.transformer.state_dict().items()}
    result = FoldedTransformer(model.size.transformer)
    folded = fold(merge_lora(state, lora_scaling), model.size.transformer, model.tau)
    result.load_state_dict({name: tensor.float() for name, tensor in folded.items()})
    return result


def folded_model(model: DepthModel, lora_scaling: float = 1.0) -> DepthModel:
    """The same network without its timestep, for the end-to-end stage; weights are copied."""
    result = DepthModel(model.size, tau=None)
    result.vae.load_state_dict({k: v.detach().cpu() for k, v in model.vae.state_dict().items()})
    result.transformer = folded_transformer(model, lora_scaling)
    result.origin = model.origin
    return result


def one_channel_vae(vae: CausalVae) -> CausalVae:
    """The VAE with the decoder's three output filters replaced by their mean, which is exact."""
    config = vae.config
    state = {k: v.detach().cpu().float() for k, v in vae.state_dict().items()}
    if config.out_channels > 1:
        for name in ("decoder.head.2.weight", "decoder.head.2.bias"):
            # channels are (colour, py, px), colour slowest
            parts = state[name].unflatten(0, (config.out_channels, -1))
            state[name] = parts.mean(dim=0)
    result = CausalVae(dataclasses.replace(config, out_channels=1))
    result.load_state_dict(state)
    return result


def export(
    model: DepthModel,
    path: Path,
    *,
    name: str,
    licence: str,
    window: int,
    box: tuple[int, int],
    notes: Mapping[str, Any],
    dtype: torch.dtype = torch.float16,
    lora_scaling: float = 1.0,
) -> None:
    """Write the folded file that the regressors load.

    Args:
        window: latents per window that the model is best used with.
        box: (height, width) that images should cover by default.
        notes: how it was trained (commit, stages, steps ...), stored as JSON.
    """
    vae = one_channel_vae(model.vae)
    size = ModelSize(vae.config, model.size.transformer)
    text = json.dumps(dict(notes), sort_keys=True)
    info = FoldedInfo(name, licence, size, window, box, {}, text)
    save_folded(path, info, vae, folded_transformer(model, lora_scaling), dtype)
