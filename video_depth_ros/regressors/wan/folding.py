# SPDX-License-Identifier: Apache-2.0
"""Constants of the Wan transformer into its weights, exactly.

With tau and the zero context fixed, per block: the scale and shift of a modulated norm go
into the next linear layer (W' = W diag(1 + s), b' = b + W t), a gate into the rows of the layer
before it (W' = diag(g) W, b' = g b), and cross-attention, whose context rows are all the same, is
the constant o(v(c)), which goes into the bias of the attention's output. All in float64.
Rows of q and k are reordered so that RoPE turns contiguous halves; dot products do not change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor
from torch.nn import functional

from video_depth_ros.regressors.wan.rope import halves_from_pairs
from video_depth_ros.regressors.wan.transformer import TransformerConfig
from video_depth_ros.regressors.wan.unfolded import DVD_TAU, timestep_features

Read = Callable[[str], Tensor]  # name -> float64 tensor


def fold(
    state: Mapping[str, Tensor], config: TransformerConfig, tau: float = DVD_TAU
) -> dict[str, Tensor]:
    """The folded state dict (float64) of an unfolded one in native Wan names, LoRA merged."""
    return dict(fold_each(lambda name: state[name].double(), config, tau))


def fold_each(
    read: Read, config: TransformerConfig, tau: float = DVD_TAU
) -> Iterator[tuple[str, Tensor]]:
    """Folded tensors one after the other, reading each source tensor when its turn comes.

    Only the tensors of one layer are alive at a time, so that files larger than memory can be
    folded from a memory map.
    """
    yield "patch_embedding.weight", read("patch_embedding.weight").flatten(1)
    yield "patch_embedding.bias", read("patch_embedding.bias")
    time, modulation = _time(read, tau)
    context = _context(read)
    order = halves_from_pairs(config.heads, config.head_dim)
    for index in range(config.layers):
        for name, tensor in _block(read, f"blocks.{index}.", modulation, context, order):
            yield f"blocks.{index}.{name}", tensor
    shift, scale = (read("head.modulation")[0] + time).unbind(0)
    weight, bias = _modulated(read("head.head.weight"), read("head.head.bias"), scale, shift)
    yield "head.weight", weight
    yield "head.bias", bias


def _time(read: Read, tau: float) -> tuple[Tensor, Tensor]:
    """The timestep's embedding [1, dim] and its six modulation rows [6, dim]."""
    t = _linear(read, "time_embedding.0", timestep_features(tau))
    t = _linear(read, "time_embedding.2", functional.silu(t))
    rows = _linear(read, "time_projection.1", functional.silu(t))
    return t, rows.view(6, -1)


def _context(read: Read) -> Tensor:
    """The embedding of a zero text row, [dim]."""
    hidden = functional.gelu(read("text_embedding.0.bias"), approximate="tanh")
    return _linear(read, "text_embedding.2", hidden)


def _block(
    read: Read, prefix: str, modulation: Tensor, context: Tensor, order: Tensor
) -> Iterator[tuple[str, Tensor]]:
    def pair(name: str) -> tuple[Tensor, Tensor]:
        return read(f"{prefix}{name}.weight"), read(f"{prefix}{name}.bias")

    shift1, scale1, gate1, shift2, scale2, gate2 = (
        read(f"{prefix}modulation")[0] + modulation
    ).unbind(0)

    weights, biases = [], []
    for name in ("q", "k", "v"):
        weight, bias = _modulated(*pair(f"self_attn.{name}"), scale1, shift1)
        weights.append(weight if name == "v" else weight[order])
        biases.append(bias if name == "v" else bias[order])
    yield "qkv.weight", torch.cat(weights)
    yield "qkv.bias", torch.cat(biases)
    del weights, biases
    yield "norm_q", read(f"{prefix}self_attn.norm_q.weight")[order]
    yield "norm_k", read(f"{prefix}self_attn.norm_k.weight")[order]

    constant = _linear(
        read, f"{prefix}cross_attn.o", _linear(read, f"{prefix}cross_attn.v", context)
    )
    weight, bias = pair("self_attn.o")
    yield "out.weight", gate1[:, None] * weight
    yield "out.bias", gate1 * bias + constant

    weight, bias = _modulated(*pair("ffn.0"), scale2, shift2)
    yield "ffn_in.weight", weight
    yield "ffn_in.bias", bias
    weight, bias = pair("ffn.2")
    yield "ffn_out.weight", gate2[:, None] * weight
    yield "ffn_out.bias", gate2 * bias


def _linear(read: Read, name: str, x: Tensor) -> Tensor:
    return functional.linear(x, read(f"{name}.weight"), read(f"{name}.bias"))


def _modulated(
    weight: Tensor, bias: Tensor, scale: Tensor, shift: Tensor
) -> tuple[Tensor, Tensor]:
    """The layer after norm(x) * (1 + scale) + shift, taking norm(x) itself."""
    return weight * (1 + scale), bias + weight @ shift
