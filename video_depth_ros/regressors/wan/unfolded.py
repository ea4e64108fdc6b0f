# SPDX-License-Identifier: Apache-2.0
"""The Wan 2.1 transformer as DVD trains it, in the public weights' own names.

Timestep embedding, modulation and cross-attention are computed, not folded: this is the form to
fine-tune and the reference that :mod:`folding` is checked against. Its input is the RGB latent in
place of noise, its output the depth latent itself; the context is all zeros (no text).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from video_depth_ros.regressors.wan import rope as rotary
from video_depth_ros.regressors.wan.rope import Rope
from video_depth_ros.regressors.wan.transformer import (
    EPSILON,
    TransformerConfig,
    block_causal_mask,
    unpatchify,
)

DVD_TAU = 0.5  # DVD's one timestep; the network is given 1000 * tau
TIME_FREQUENCIES = 256
TEXT_DIM = 4096
TEXT_LENGTH = 512


def timestep_features(tau: float) -> Tensor:
    """[cos(1000 tau w_i), sin(1000 tau w_i)], w_i = 10000^(-i/128): float64 [1, 256]."""
    half = TIME_FREQUENCIES // 2
    rate = torch.exp(-math.log(10000.0) * torch.arange(half, dtype=torch.float64) / half)
    angle = 1000.0 * tau * rate
    return torch.cat((angle.cos(), angle.sin()))[None]


class RmsNorm(nn.Module):
    """x / rms(x) * weight over the whole width, all heads together."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return functional.rms_norm(x, x.shape[-1:], self.weight, EPSILON)


class Attention(nn.Module):
    """Multi-head attention with normalised queries and keys; self or cross."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(dim, dim)
        self.k = nn.Linear(dim, dim)
        self.v = nn.Linear(dim, dim)
        self.o = nn.Linear(dim, dim)
        self.norm_q = RmsNorm(dim)
        self.norm_k = RmsNorm(dim)

    def forward(
        self,
        x: Tensor,
        context: Tensor | None = None,
        rope: Rope | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """x [B, N, dim] looks at ``context`` [B, M, dim], or at itself."""
        source = x if context is None else context
        parts = (self.norm_q(self.q(x)), self.norm_k(self.k(source)), self.v(source))
        q, k, v = (y.unflatten(-1, (self.heads, -1)).transpose(1, 2) for y in parts)
        if rope is not None:
            q, k = rotary.rotate_pairs(q, rope), rotary.rotate_pairs(k, rope)
        attended = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.o(attended.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Self-attention, cross-attention and feed-forward part, modulated by the timestep."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        dim = config.dim
        self.modulation = nn.Parameter(torch.randn(1, 6, dim) / dim**0.5)
        self.self_attn = Attention(dim, config.heads)
        self.cross_attn = Attention(dim, config.heads)
        self.norm3 = nn.LayerNorm(dim, eps=EPSILON)
        self.ffn = nn.Sequential(
            nn.Linear(dim, config.ffn), nn.GELU(approximate="tanh"), nn.Linear(config.ffn, dim)
        )

    def forward(
        self, x: Tensor, time: Tensor, context: Tensor, rope: Rope, mask: Tensor | None
    ) -> Tensor:
        """``time`` [B, 6, dim], ``context`` [B, text length, dim]."""
        shift1, scale1, gate1, shift2, scale2, gate2 = (self.modulation + time).chunk(6, dim=1)
        u = functional.layer_norm(x, x.shape[-1:], eps=EPSILON) * (1 + scale1) + shift1
        x = x + gate1 * self.self_attn(u, rope=rope, mask=mask)
        x = x + self.cross_attn(self.norm3(x), context)
        u = functional.layer_norm(x, x.shape[-1:], eps=EPSILON) * (1 + scale2) + shift2
        return x + gate2 * self.ffn(u)


class Head(nn.Module):
    """Modulated last norm and projection to the values of a patch."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.modulation = nn.Parameter(torch.randn(1, 2, config.dim) / config.dim**0.5)
        self.head = nn.Linear(config.dim, config.out_channels * config.patch**2)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """``time`` [B, 1, dim]."""
        shift, scale = (self.modulation + time).chunk(2, dim=1)
        u = functional.layer_norm(x, x.shape[-1:], eps=EPSILON) * (1 + scale) + shift
        return self.head(u)


class UnfoldedTransformer(nn.Module):
    """RGB latents [B, C, T, h, w] to depth latents [B, C', T, h, w] (normalised, both).

    Args:
        config: sizes.
        text_dim: width of the (zero) context; 4096 in the public weights.
        text_length: rows of the context. All rows are equal, so any number gives the same
            output; 512 is what DVD computes, 1 is what a training from scratch should take.
    """

    def __init__(
        self,
        config: TransformerConfig,
        text_dim: int = TEXT_DIM,
        text_length: int = TEXT_LENGTH,
    ) -> None:
        super().__init__()
        self.config = config
        self.text_dim = text_dim
        self.text_length = text_length
        self.checkpointing = False  # recompute blocks in the backward pass to save memory
        dim, patch = config.dim, (1, config.patch, config.patch)
        self.patch_embedding = nn.Conv3d(config.in_channels, dim, patch, stride=patch)
        self.text_embedding = nn.Sequential(
            nn.Linear(text_dim, dim), nn.GELU(approximate="tanh"), nn.Linear(dim, dim)
        )
        self.time_embedding = nn.Sequential(
            nn.Linear(TIME_FREQUENCIES, dim), nn.SiLU(), nn.Linear(dim, dim)
        )
        self.time_projection = nn.Sequential(nn.SiLU(), nn.Linear(dim, 6 * dim))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.head = Head(config)

    def forward(self, latents: Tensor, tau: float = DVD_TAU, block_causal: bool = False) -> Tensor:
        """Every latent sees every other one, or with ``block_causal`` only itself and earlier."""
        b, _, t, h, w = latents.shape
        p = self.config.patch
        features = timestep_features(tau).to(latents)
        time = self.time_embedding(features)[:, None]
        time6 = self.time_projection(time).unflatten(-1, (6, -1))[:, 0]
        zeros = latents.new_zeros(1, self.text_length, self.text_dim)
        context = self.text_embedding(zeros).expand(b, -1, -1)
        precision = torch.promote_types(latents.dtype, torch.float32)
        rope = rotary.table(self.config.head_dim, t, h // p, w // p, latents.device, precision)
        x = self.patch_embedding(latents).flatten(2).transpose(1, 2)
        mask = block_causal_mask(t, x.shape[1] // t, x.device) if block_causal else None
        for block in self.blocks:
            if self.checkpointing and self.training:
                x = checkpoint(block, x, time6, context, rope, mask, use_reentrant=False)
            else:
                x = block(x, time6, context, rope, mask)
        return unpatchify(self.head(x, time), p, (t, h, w))
