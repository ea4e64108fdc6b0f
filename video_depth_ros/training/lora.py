# SPDX-License-Identifier: Apache-2.0
"""Low-rank adaptation (LoRA, Hu et al. 2022) of the unfolded transformer, in DVD's layout.

W + (alpha / rank) B A on q, k, v, o of both attentions and on both feed-forward layers; A starts
random, B at zero. Names are DVD's (``base_layer.weight``, ``lora_A.default.weight``, ...), so that
a trained adapter is a file that every reader of DVD's own checkpoints can take.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from video_depth_ros.errors import ConfigError

TARGETS = ("q", "k", "v", "o", "ffn.0", "ffn.2")


class _Default(nn.Module):
    """One adapter matrix under the name ``default``."""

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self.default = nn.Linear(columns, rows, bias=False)


class LoraLinear(nn.Module):
    """A frozen linear layer plus a trainable low-rank one."""

    def __init__(self, base: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        self.base_layer = base
        self.lora_A = _Default(rank, base.in_features)
        self.lora_B = _Default(base.out_features, rank)
        nn.init.kaiming_uniform_(self.lora_A.default.weight, a=math.sqrt(5))
        nn.init.zeros_(self.lora_B.default.weight)
        self.lora_A.to(base.weight)
        self.lora_B.to(base.weight)
        self.scaling = alpha / rank
        base.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        low = functional.linear(x, self.lora_A.default.weight)
        return self.base_layer(x) + self.scaling * functional.linear(
            low, self.lora_B.default.weight
        )


def add_lora(transformer: nn.Module, rank: int, alpha: float) -> list[str]:
    """Freeze ``transformer`` and give its target layers adapters; returns the adapted names.

    Raises:
        ConfigError: the module has none of the target layers (it is folded, say).
    """
    if rank < 1:
        raise ConfigError(f"expected a LoRA rank of at least 1, got {rank}")
    transformer.requires_grad_(False)
    adapted = [name for name, module in transformer.named_modules() if _is_target(name, module)]
    if not adapted:
        raise ConfigError(
            "LoRA: expected the unfolded transformer with layers named q, k, v, o, ffn.0, ffn.2; "
            "set tau above 0"
        )
    for name in adapted:
        parent, leaf = name.rpartition(".")[::2]
        owner = transformer.get_submodule(parent)
        setattr(owner, leaf, LoraLinear(transformer.get_submodule(name), rank, alpha))  # type: ignore[arg-type]
    return adapted


def merge_lora(state: Mapping[str, Tensor], scaling: float = 1.0) -> dict[str, Tensor]:
    """Plain names and merged weights of a state dict with adapters, computed in float64."""
    return dict(_merged(state, scaling))


def _merged(state: Mapping[str, Tensor], scaling: float) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in state.items():
        if ".lora_" in name:
            continue
        if name.endswith(".base_layer.weight"):
            stem = name.removesuffix(".base_layer.weight")
            a = state[f"{stem}.lora_A.default.weight"].double()
            b = state[f"{stem}.lora_B.default.weight"].double()
            merged = (tensor.double() + scaling * (b @ a)).to(tensor.dtype)
            yield f"{stem}.weight", merged
        else:
            yield name.replace(".base_layer.", "."), tensor


def _is_target(name: str, module: nn.Module) -> bool:
    return (
        isinstance(module, nn.Linear)
        and name.startswith("blocks.")
        and any(name.endswith(f".{target}") for target in TARGETS)
    )


def trainable(module: nn.Module) -> list[nn.Parameter]:
    """Parameters that the optimiser shall change."""
    return [p for p in module.parameters() if p.requires_grad]


def count(parameters: list[nn.Parameter]) -> int:
    """How many numbers they hold."""
    return sum(p.numel() for p in parameters if isinstance(p, torch.Tensor))
