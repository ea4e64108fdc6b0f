# SPDX-License-Identifier: Apache-2.0
"""Three-dimensional rotary position embedding (RoPE) of the Wan transformer.

The pairs of a head are split over frame, row and column: with D the head dimension, 2 * (D // 6)
numbers each turn with row and column, the rest with the frame. Angles are position * 10000^(-2j/d)
within each part. Only differences of positions matter, so every window may start at 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Rope = tuple[Tensor, Tensor]  # cosine and sine, each [tokens, head_dim / 2]


def split(head_dim: int) -> tuple[int, int, int]:
    """Numbers of a head that turn with (frame, row, column); Wan: 128 -> (44, 42, 42)."""
    side = 2 * (head_dim // 6)
    return head_dim - 2 * side, side, side


def table(
    head_dim: int,
    frames: int | Sequence[int],
    rows: int,
    columns: int,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Rope:
    """Cosines and sines for tokens in (frame, row, column) order; angles in float64.

    A float32 table turns tensors of lower precision in float32 and gives back their own type.

    Args:
        frames: number of latents (positions 0, 1, ...) or their positions.
    """
    where = (
        range(frames) if isinstance(frames, int) else frames,
        range(rows),
        range(columns),
    )
    angles = []
    for axis, (positions, size) in enumerate(zip(where, split(head_dim), strict=True)):
        rate = 10000.0 ** (-torch.arange(0, size, 2, dtype=torch.float64) / size)
        angle = torch.tensor(list(positions), dtype=torch.float64)[:, None] * rate
        shape = [1, 1, 1, size // 2]
        shape[axis] = len(positions)
        angles.append(
            angle.view(shape).expand(*(len(w) for w in where), size // 2).reshape(-1, size // 2)
        )
    angle = torch.cat(angles, dim=1)
    return angle.cos().to(device, dtype), angle.sin().to(device, dtype)


def rotate_halves(x: Tensor, rope: Rope) -> Tensor:
    """Turn x [..., tokens, D] whose pairs are (i, i + D/2): the folded layout."""
    cosine, sine = rope
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cosine - b * sine, a * sine + b * cosine), dim=-1).to(x.dtype)


def rotate_pairs(x: Tensor, rope: Rope) -> Tensor:
    """Turn x [..., tokens, D] whose pairs are (2i, 2i + 1): the layout of the public weights."""
    cosine, sine = rope
    a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
    return (
        torch.stack((a * cosine - b * sine, a * sine + b * cosine), dim=-1).flatten(-2).to(x.dtype)
    )


def halves_from_pairs(heads: int, head_dim: int) -> Tensor:
    """Row order that brings q/k rows from the pair layout to the half layout, [heads * D]."""
    within = torch.arange(head_dim).view(-1, 2).t().reshape(-1)
    return (torch.arange(heads)[:, None] * head_dim + within).reshape(-1)
