# SPDX-License-Identifier: Apache-2.0
"""An encoder without memory: the latent of a group is the image latent of its newest frame.

On images the causal convolutions use their newest taps alone; the other taps learn from clips,
of which a small training has few. Without them a window's latents are as good as those of images,
the encoder has no state that could drift, and a clip costs one image per group in training.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from video_depth_ros.regressors.wan.vae_layers import CausalConv3d, Downsample
from video_depth_ros.training.model import DepthModel


@torch.no_grad()
def set_encoder(model: DepthModel, kind: str) -> None:
    """``video``: the encoder has a memory; ``image``: it is switched off.

    What becomes of single images stays as it is. Switched on again, the memory starts to learn
    from nothing.
    """
    image = kind == "image"
    size = replace(model.size.vae, image_encoder=image)
    model.size = replace(model.size, vae=size)
    model.vae.config = size
    if not image:
        return
    for module in model.vae.encoder.modules():
        if isinstance(module, CausalConv3d):
            module.weight[:, :, :-1] = 0.0
        elif isinstance(module, Downsample) and module.temporal:
            weight = module.time_conv.weight
            weight.zero_()
            weight[:, :, -1, 0, 0] = torch.eye(len(weight), device=weight.device)
            assert module.time_conv.bias is not None
            module.time_conv.bias.zero_()


def freeze_steps_in_time(model: DepthModel) -> None:
    """Exclude from training what halves the frames; the other old taps see no gradient."""
    for module in model.vae.encoder.modules():
        if isinstance(module, Downsample) and module.temporal:
            module.time_conv.requires_grad_(False)
