# SPDX-License-Identifier: Apache-2.0
"""The folded transformer: RGB latents in, depth latents out, one pass.

At a fixed timestep and a fixed (zero) context the Wan 2.1 transformer's modulation terms and
cross-attention are constants; :mod:`folding` puts them into the weights. What is left is a plain
pre-norm transformer with three-dimensional RoPE, the same class for the 1.3 B model and the small
embedded one. Shapes are static per window, so torch.compile and CUDA graphs apply.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from video_depth_ros.errors import ConfigError
from video_depth_ros.regressors.wan import rope as rotary
from video_depth_ros.regressors.wan.rope import Rope

EPSILON = 1e-6  # of LayerNorm and of the query/key RMS norm


@dataclass(frozen=True)
class TransformerConfig:
    """Sizes of a transformer; the defaults are Wan 2.1 T2V 1.3B.

    Attributes:
        in_channels, out_channels: channels of the RGB and of the depth latent.
        dim: width; heads must divide it, and dim / heads must be even and at least 6.
        ffn: hidden width of the feed-forward part.
        patch: rows and columns of the latent per token.
    """

    in_channels: int = 16
    out_channels: int = 16
    dim: int = 1536
    heads: int = 12
    layers: int = 30
    ffn: int = 8960
    patch: int = 2

    def __post_init__(self) -> None:
        if min(self.__dict__.values()) < 1:
            raise ConfigError(f"transformer: expected positive sizes, got {self}")
        if self.dim % self.heads or self.head_dim % 2 or self.head_dim < 6:
            raise ConfigError(
                "transformer: expected heads that divide dim into even parts of at least 6, "
                f"got dim {self.dim} and {self.heads} heads"
            )

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.dim // self.heads


class KeysValues(NamedTuple):
    """Keys (normalised, before RoPE) and values of one latent, [layers, B, heads, tokens, D].

    Keys are kept before RoPE so that positions can start at 0 in every window: tables and shapes
    stay static, and a latent (a sink) may be moved to another place.
    """

    keys: Tensor
    values: Tensor


def patchify(latents: Tensor, patch: int) -> Tensor:
    """[B, C, T, h, w] to tokens [B, T * h/p * w/p, C * p * p], features in (c, py, px) order."""
    b, c, t, h, w = latents.shape
    x = latents.reshape(b, c, t, h // patch, patch, w // patch, patch)
    return x.permute(0, 2, 3, 5, 1, 4, 6).reshape(b, -1, c * patch * patch)


def unpatchify(tokens: Tensor, patch: int, shape: tuple[int, int, int]) -> Tensor:
    """Tokens [B, N, p * p * C], features in (py, px, c) order, to [B, C, T, h, w]."""
    t, h, w = shape
    b = tokens.shape[0]
    x = tokens.reshape(b, t, h // patch, w // patch, patch, patch, -1)
    return x.permute(0, 6, 1, 2, 4, 3, 5).reshape(b, -1, t, h, w)


def block_causal_mask(frames: int, tokens: int, device: torch.device) -> Tensor:
    """True where a query may look: own and earlier latents; [frames * tokens] squared."""
    frame = torch.arange(frames, device=device).repeat_interleave(tokens)
    return frame[:, None] >= frame[None, :]


class FoldedBlock(nn.Module):
    """x += attention(norm(x)); x += ffn(norm(x)), with every constant folded in."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.qkv = nn.Linear(config.dim, 3 * config.dim)
        self.norm_q = nn.Parameter(torch.ones(config.dim))
        self.norm_k = nn.Parameter(torch.ones(config.dim))
        self.out = nn.Linear(config.dim, config.dim)
        self.ffn_in = nn.Linear(config.dim, config.ffn)
        self.ffn_out = nn.Linear(config.ffn, config.dim)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys (normalised over the full width) and values, [B, heads, N, D]."""
        dim = x.shape[-1]
        u = functional.layer_norm(x, (dim,), eps=EPSILON)
        q, k, v = self.qkv(u).chunk(3, dim=-1)
        q = functional.rms_norm(q, (dim,), self.norm_q, EPSILON)
        k = functional.rms_norm(k, (dim,), self.norm_k, EPSILON)
        return tuple(y.unflatten(-1, (self.heads, -1)).transpose(1, 2) for y in (q, k, v))  # type: ignore[return-value]

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """Residual of the attention [B, heads, N, D], then the feed-forward part."""
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        u = functional.layer_norm(x, x.shape[-1:], eps=EPSILON)
        return x + self.ffn_out(functional.gelu(self.ffn_in(u), approximate="tanh"))

    def forward(self, x: Tensor, rope: Rope, mask: Tensor | None = None) -> Tensor:
        q, k, v = self.project(x)
        q, k = rotary.rotate_halves(q, rope), rotary.rotate_halves(k, rope)
        return self.finish(x, functional.scaled_dot_product_attention(q, k, v, attn_mask=mask))


class FoldedTransformer(nn.Module):
    """RGB latents [B, C, T, h, w] to depth latents [B, C', T, h, w] (normalised, both)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embedding = nn.Linear(config.in_channels * config.patch**2, config.dim)
        self.blocks = nn.ModuleList(FoldedBlock(config) for _ in range(config.layers))
        self.head = nn.Linear(config.dim, config.out_channels * config.patch**2)
        self.checkpointing = False  # recompute blocks in the backward pass to save memory

    def rope(
        self,
        frames: int,
        height: int,
        width: int,
        device: torch.device | str | None = None,
    ) -> Rope:
        """The table for a window of latents of this size; build it once per session."""
        weight = self.head.weight
        p = self.config.patch
        return rotary.table(
            self.config.head_dim,
            frames,
            height // p,
            width // p,
            weight.device if device is None else device,
            torch.promote_types(weight.dtype, torch.float32),
        )

    def forward(
        self, latents: Tensor, rope: Rope | None = None, block_causal: bool = False
    ) -> Tensor:
        """Every latent sees every other one, or with ``block_causal`` only itself and earlier."""
        t, h, w = latents.shape[-3:]
        if rope is None:
            rope = self.rope(t, h, w, latents.device)
        x = self.patch_embedding(patchify(latents, self.config.patch))
        mask = block_causal_mask(t, x.shape[1] // t, x.device) if block_causal else None
        for block in self.blocks:
            if self.checkpointing and self.training:
                x = checkpoint(block, x, rope, mask, use_reentrant=False)
            else:
                x = block(x, rope, mask)
        return self._head(x, (t, h, w))

    def forward_cached(
        self, latents: Tensor, past: tuple[KeysValues, ...], rope: Rope
    ) -> tuple[Tensor, tuple[KeysValues, ...]]:
        """Compute only ``latents``, which follow the latents of ``past``.

        Args:
            latents: [B, C, m, h, w], the newest ones.
            past: keys and values of the latents before them, oldest first.
            rope: table for len(past) + m latents.

        Returns:
            Depth latents [B, C', m, h, w] and the m new keys and values.
        """
        m, h, w = latents.shape[-3:]
        x = self.patch_embedding(patchify(latents, self.config.patch))
        tokens = x.shape[1]
        newest = (rope[0][-tokens:], rope[1][-tokens:])
        keys, values = [], []
        for index, block in enumerate(self.blocks):
            q, k, v = block.project(x)  # type: ignore[operator]
            keys.append(k)
            values.append(v)
            k = torch.cat([*(p.keys[index] for p in past), k], dim=2)
            v = torch.cat([*(p.values[index] for p in past), v], dim=2)
            attended = functional.scaled_dot_product_attention(
                rotary.rotate_halves(q, newest), rotary.rotate_halves(k, rope), v
            )
            x = block.finish(x, attended)  # type: ignore[operator]
        # One tensor per latent, so that old latents can be let go of one by one.
        fresh = zip(
            torch.stack(keys).chunk(m, dim=3), torch.stack(values).chunk(m, dim=3), strict=True
        )
        new = tuple(KeysValues(k.contiguous(), v.contiguous()) for k, v in fresh)
        return self._head(x, (m, h, w)), new

    def _head(self, x: Tensor, shape: tuple[int, int, int]) -> Tensor:
        x = self.head(functional.layer_norm(x, x.shape[-1:], eps=EPSILON))
        return unpatchify(x, self.config.patch, shape)
