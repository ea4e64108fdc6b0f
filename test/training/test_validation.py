# SPDX-License-Identifier: Apache-2.0
"""What is watched while training, and the averages that are kept: known answers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from video_depth_ros.training.clips import Clip
from video_depth_ros.training.ema import Ema
from video_depth_ros.training.losses import fit_affine
from video_depth_ros.training.validate import Validation

SIZE = (48, 64)


class Shown:
    """Clips whose grey value is their disparity: 0 at ``far``, 255 at ``near`` [1/m]."""

    far, near = 0.1, 0.9
    frames = 5

    def __init__(self, curved: float) -> None:
        self.curved = curved

    def __len__(self) -> int:
        return 3

    def clip(self, index: int) -> Clip:
        v, u = np.meshgrid(np.linspace(0, 1, SIZE[0]), np.linspace(0, 1, SIZE[1]), indexing="ij")
        plane = 0.35 + 0.3 * v + 0.1 * u * (index - 1)
        disparity = plane + self.curved * np.sin(9.0 * u) * np.sin(7.0 * v)
        grey = np.rint(255.0 * (disparity - self.far) / (self.near - self.far)).astype(np.uint8)
        rgb = np.repeat(np.repeat(grey[None, ..., None], 3, axis=3), 5, axis=0)
        depth = np.repeat((1.0 / disparity)[None], 5, axis=0).astype(np.float32)
        return Clip(rgb, depth)


class Reader:
    """A model that reads the disparity off the picture, or sees nothing."""

    vae = SimpleNamespace(latent_mean=torch.zeros(1))

    def __init__(self, blind: bool = False) -> None:
        self.blind, self.shapes = blind, set[tuple[int, ...]]()

    def __call__(self, rgb: Tensor) -> Tensor:
        self.shapes.add(tuple(rgb.shape))
        assert float(rgb.min()) >= 0.0 and float(rgb.max()) <= 1.0
        return torch.full_like(rgb[:, 0], 0.5) if self.blind else rgb.mean(dim=1)


def figures(curved: float, model: Any) -> dict[str, float]:
    return Validation(Shown(curved), count=2, frames=3, size=SIZE)(model)


def test_who_reads_the_disparity_makes_no_error() -> None:
    model = Reader()
    found = figures(0.08, model)
    assert found["abs_rel"] < 0.02
    assert 0.05 < found["ramp"] < 0.3  # a plane is far from these
    assert model.shapes == {(1, 3, 3, *SIZE)}  # no more frames than asked for


def test_a_plane_is_all_of_a_flat_scene_and_who_sees_nothing_is_worse() -> None:
    found = figures(0.0, Reader(blind=True))
    assert found["ramp"] < 0.01
    assert found["abs_rel"] > 0.1


def test_the_affine_fit_is_the_weighted_least_squares_one() -> None:
    generator = torch.Generator().manual_seed(0)
    predicted, noise, weight = torch.rand(3, 2, 4, 30, 40, generator=generator)
    target = 1.7 * predicted - 0.4 + 0.2 * noise
    scale, shift = fit_affine(predicted, target, weight)
    for k in range(2):
        p, t, w = (x[k].flatten().numpy() for x in (predicted, target, weight))
        expected = np.polyfit(p, t, 1, w=np.sqrt(w))
        assert float(scale[k]) == pytest.approx(expected[0], rel=3e-3)  # a small ridge
        assert float(shift[k]) == pytest.approx(expected[1], abs=3e-3)
    flat, shift = fit_affine(torch.full_like(predicted, 0.3), target, weight)
    assert float(flat.abs().max()) < 1e-2
    assert torch.isfinite(shift).all()


def test_the_average_forgets_the_random_start_soon_and_then_decays_as_asked() -> None:
    module = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        module.weight.fill_(100.0)
    ema = Ema(module, 0.5)
    expected = 100.0
    for n in range(12):
        decay = min(0.5, (1 + n) / (10 + n))
        with torch.no_grad():
            module.weight.fill_(float(n))
        ema.update(module)
        expected = decay * expected + (1.0 - decay) * n
        assert float(ema.average["weight"]) == pytest.approx(expected, rel=1e-5)
    with ema.applied(module):
        assert float(module.weight.detach()) == pytest.approx(expected, rel=1e-5)
    assert float(module.weight.detach()) == 11.0
