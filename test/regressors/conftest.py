# SPDX-License-Identifier: Apache-2.0
"""Tiny models with random weights, in float64 where exactness is what is tested."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeVar

import pytest
import torch
from torch import nn

from video_depth_ros.regressors.wan.folded_file import FoldedInfo
from video_depth_ros.regressors.wan.sizes import ModelSize
from video_depth_ros.regressors.wan.transformer import FoldedTransformer, TransformerConfig
from video_depth_ros.regressors.wan.vae import CausalVae, VaeConfig

Module = TypeVar("Module", bound=nn.Module)

# As the public model, but narrow; heads of 16 keep all three parts of RoPE.
TINY = ModelSize(
    VaeConfig(dim=4, z_dim=16, multipliers=(1, 2, 2, 2), res_blocks=1, out_channels=1),
    TransformerConfig(dim=32, heads=2, layers=2, ffn=48),
)


def fill(module: Module, seed: int = 0, std: float = 0.25) -> Module:
    """Random values in every parameter, also in those that start as ones or zeros."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.data.normal_(std=std, generator=generator)
    return module.eval().requires_grad_(False)


@pytest.fixture(autouse=True)
def _float64():
    """These tests compute in float64 unless they say otherwise."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.fixture
def size() -> ModelSize:
    return TINY


@pytest.fixture
def vae(size) -> CausalVae:
    return fill(CausalVae(size.vae), seed=1)


@pytest.fixture
def transformer(size) -> FoldedTransformer:
    return fill(FoldedTransformer(size.transformer), seed=2)


@pytest.fixture
def info(size) -> FoldedInfo:
    return FoldedInfo(name="tiny", licence="Apache-2.0", size=size, window=4, box=(32, 48))


@pytest.fixture
def video() -> torch.Tensor:
    """[T, 3, 32, 48] in [0, 1]."""
    return torch.rand(33, 3, 32, 48, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def keys() -> Path:
    """Folder of the public files' key lists."""
    root = Path(__file__).parents[2]
    shared = Path(os.environ.get("VIDEO_DEPTH_SHARED", root.parent / "shared"))
    folder = shared / "reference" / "keys"
    if not folder.is_dir():
        pytest.skip(f"key lists of the public checkpoints not found at {folder}")
    return folder


def read_keys(path: Path) -> dict[str, tuple[int, ...]]:
    """Lines "name<tab>(shape)" of a key list."""
    result = {}
    for line in path.read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            name, shape = line.split("\t")
            result[name] = tuple(int(n) for n in shape.strip("()").split(",") if n.strip())
    return result
