# SPDX-License-Identifier: Apache-2.0
"""The transformer compiled for full windows; while a window fills, it runs as it is.

Compilation is for one shape. A window that fills passes through as many shapes as it has latents,
each of which would be compiled for a single run, and after eight torch gives up and runs
everything uncompiled, the full window too.
"""

from __future__ import annotations

import torch
from torch import Tensor

from video_depth_ros.regressors.wan.rope import Rope
from video_depth_ros.regressors.wan.transformer import FoldedTransformer, KeysValues


def compile_full_windows(transformer: FoldedTransformer, window: int) -> None:
    """Compile what runs on windows of this many latents, in place.

    Exact mode has one such shape; cached mode has two, the newest latents behind kept ones and,
    for the refresh, the whole window. Compilation happens when a shape first comes.
    """
    plain, plain_cached = transformer.forward, transformer.forward_cached
    compiled = torch.compile(plain, dynamic=False)
    compiled_cached = torch.compile(plain_cached, dynamic=False)

    def forward(latents: Tensor, rope: Rope | None = None, block_causal: bool = False) -> Tensor:
        run = compiled if latents.shape[2] == window else plain
        return run(latents, rope, block_causal)

    def forward_cached(
        latents: Tensor, past: tuple[KeysValues, ...], rope: Rope
    ) -> tuple[Tensor, tuple[KeysValues, ...]]:
        full = len(past) + latents.shape[2] == window
        run = compiled_cached if full else plain_cached
        return run(latents, past, rope)

    transformer.forward = forward  # type: ignore[method-assign]
    transformer.forward_cached = forward_cached  # type: ignore[method-assign]
