# SPDX-License-Identifier: Apache-2.0
"""A small exact world for the training tests: tilted textured planes, no renderer needed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from video_depth_ros.settings import replace_flat
from video_depth_ros.training.batches import BatchSource
from video_depth_ros.training.clips import Clip
from video_depth_ros.training.config import TrainConfig

needs_muon = pytest.mark.skipif(
    not hasattr(torch.optim, "Muon"), reason="torch has Muon since 2.9"
)
SMALL = {
    "size": "tiny",
    "stage": "latent",
    "steps": 12,
    "workers": 0,
    "save_every": 4,
    "seed": 5,
    "batch.images": 2,
    "batch.videos": 1,
    "batch.frames": 5,
    "batch.image_share": 0.5,
    "batch.heights": (32,),
    "batch.widths": (48,),
    "optimiser.rate": 1e-3,
}


@dataclass(frozen=True)
class Planes:
    """Planes 1 / Z = a + b u + c v under a moving grating."""

    frames: int = 7
    count: int = 20

    def __len__(self) -> int:
        return self.count

    def clip(self, index: int) -> Clip:
        rng = np.random.default_rng(index)
        v, u = np.mgrid[0:40, 0:56] / 40.0
        inverse = 0.2 + 0.5 * rng.random() * u + 0.5 * rng.random() * v
        depth = np.broadcast_to((1 / inverse).astype(np.float32), (self.frames, 40, 56))
        shift = np.arange(self.frames)[:, None, None] * 0.05
        grating = 0.5 + 0.5 * np.sin(20 * (u + shift) * inverse)
        rgb = (grating[..., None] * rng.uniform(80, 255, 3)).astype(np.uint8)
        return Clip(rgb, depth.copy())


@pytest.fixture
def small():
    """A tiny config; call it with changes."""

    def make(**changes):
        values = {**SMALL, **{k.replace("__", "."): v for k, v in changes.items()}}
        return replace_flat(TrainConfig(), values)

    return make


@pytest.fixture
def planes():
    """Batches of planes for a config."""

    def make(config, **ranks):
        return BatchSource((Planes(),), (1.0,), config.batch, config.seed, **ranks)

    return make
