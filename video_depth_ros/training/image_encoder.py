# SPDX-License-Identifier: Apache-2.0
"""An encoder without memory: the latent of a group is the image latent of its newest frame.

On images the causal convolutions use their newest taps alone; the other taps learn from clips,
of which a small training has few. Without them a window's latents are as good as those of images,
the encoder has no state that could drift, and a clip costs one image per group in training.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

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
    for step in _steps_in_time(model):
        step.weight.zero_()
        step.weight[:, :, -1, 0, 0] = torch.eye(len(step.weight), device=step.weight.device)
        assert step.bias is not None
        step.bias.zero_()


def freeze_steps_in_time(model: DepthModel) -> None:
    """Exclude from training what halves the frames; the other old taps see no gradient."""
    for step in _steps_in_time(model):
        step.requires_grad_(False)


def _steps_in_time(model: DepthModel) -> list[nn.Conv3d]:
    layers = model.vae.encoder.downsamples
    return [m.time_conv for m in layers if isinstance(m, Downsample) and m.temporal]
