# SPDX-License-Identifier: Apache-2.0
"""Muon for matrices and AdamW for the rest, as one optimiser."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from video_depth_ros.errors import ConfigError
from video_depth_ros.training.optimisers import Optimiser

from .conftest import needs_muon


def _network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.Conv2d(16, 12, 3))


def _gradients(network: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for p in network.parameters():
        p.grad = torch.randn(p.shape, generator=generator)


def test_without_muon_it_is_torchs_adamw():
    ours, theirs = _network(), _network()
    optimiser = Optimiser(list(ours.parameters()), "adamw", 1e-2, 0.1)
    oracle = torch.optim.AdamW(theirs.parameters(), lr=1e-2, weight_decay=0.1)
    for step in range(3):
        _gradients(ours, step)
        _gradients(theirs, step)
        optimiser.step()
        oracle.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a, b)


@needs_muon
def test_muon_makes_the_update_of_a_convolution_orthogonal():
    network = _network()
    before = [p.detach().clone() for p in network.parameters()]
    optimiser = Optimiser(list(network.parameters()), "muon", 1e-2, 0.0)
    _gradients(network, 0)
    optimiser.step()
    first, bias, *_, last, _ = (
        p.detach() - b for p, b in zip(network.parameters(), before, strict=True)
    )
    for update in (first, last):
        matrix = update.flatten(1)
        # the size of AdamW's step, 0.2 per entry (Liu et al. 2025), in every singular direction
        sizes = torch.linalg.svdvals(matrix) / (1e-2 * 0.2 * max(matrix.shape) ** 0.5)
        assert sizes.min() > 0.6 and sizes.max() < 1.3
    assert torch.allclose(bias.abs(), torch.full_like(bias, 1e-2), rtol=1e-3)  # AdamW's first step


@needs_muon
def test_the_rate_and_the_gradients_are_those_of_all_parts():
    network = _network()
    optimiser = Optimiser(list(network.parameters()), "muon", 1e-2, 0.0)
    _gradients(network, 0)
    optimiser.set_rate(0.0)
    before = [p.detach().clone() for p in network.parameters()]
    optimiser.step()
    assert all(torch.equal(p, b) for p, b in zip(network.parameters(), before, strict=True))
    optimiser.zero_grad()
    assert all(p.grad is None for p in network.parameters())


@needs_muon
def test_a_state_of_another_optimiser_is_refused():
    network = _network()
    parameters = list(network.parameters())
    _gradients(network, 0)
    muon, adamw = (Optimiser(parameters, n, 1e-2, 0.0) for n in ("muon", "adamw"))
    muon.step()
    assert sum(1 for _ in muon.tensors()) > 0
    with pytest.raises(ConfigError, match=r"optimiser\.name"):
        adamw.load_state_dict(muon.state_dict())


def test_a_torch_without_muon_is_named(monkeypatch):
    monkeypatch.delattr(torch.optim, "Muon", raising=False)
    with pytest.raises(ConfigError, match=r"torch 2\.9"):
        Optimiser(list(_network().parameters()), "muon", 1e-2, 0.0)
