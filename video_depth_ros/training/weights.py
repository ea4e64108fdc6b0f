# SPDX-License-Identifier: Apache-2.0
"""Random weights to start from: unit-size signals at the entrance, quiet residual branches.

torch's defaults let the signal of a token drown in the biases and in what its branches add; from
there a small network on a small budget of steps does not find its way. Projections into residual
streams are scaled down with depth (GPT-2), the token embedding keeps the latents' size.
"""

from __future__ import annotations

import torch
from torch import nn

from video_depth_ros.regressors.wan.transformer import FoldedTransformer
from video_depth_ros.regressors.wan.vae_layers import CausalConv3d, ResidualBlock
from video_depth_ros.training.model import DepthModel


@torch.no_grad()
def initialise(model: DepthModel) -> None:
    """Draw the weights of a model anew, from torch's generator."""
    for module in model.vae.modules():
        if isinstance(module, (nn.Conv2d, nn.Conv3d)):
            _convolution(module)
    for module in model.vae.modules():
        if isinstance(module, ResidualBlock):
            last = module.residual["6"]
            assert isinstance(last, CausalConv3d)
            last.weight.mul_(0.5)
    if isinstance(model.transformer, FoldedTransformer):
        _transformer(model.transformer)


def _convolution(module: nn.Conv2d | nn.Conv3d) -> None:
    """Variance kept from input to output when all the taps that act see independent values.

    In a causal convolution only the newest frame's taps start at full size: on images the others
    see zeros.
    """
    taps = module.weight[0].numel()
    if isinstance(module, CausalConv3d):
        taps //= module.weight.shape[2]
    module.weight.normal_(std=taps**-0.5)
    if isinstance(module, CausalConv3d):
        module.weight[:, :, :-1].mul_(0.1)
    if module.bias is not None:
        module.bias.zero_()


def _transformer(transformer: FoldedTransformer) -> None:
    """Close to the identity: the embedding is orthogonal, the head its inverse, branches quiet."""
    depth = 2 * len(transformer.blocks)
    for name, module in transformer.named_modules():
        if isinstance(module, nn.Linear):
            gain = 0.2 * depth**-0.5 if name.endswith(("out", "ffn_out")) else 1.0
            module.weight.normal_(std=gain * module.in_features**-0.5)
            module.bias.zero_()
    embedding, head = transformer.patch_embedding, transformer.head
    nn.init.orthogonal_(embedding.weight)
    if head.weight.shape == embedding.weight.t().shape:
        # the norm before the head brings the embedded latent to unit size per number
        head.weight.copy_(embedding.weight.t() * (head.out_features / head.in_features) ** 0.5)
