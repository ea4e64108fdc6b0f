# SPDX-License-Identifier: Apache-2.0
"""LoRA in DVD's layout: what is trained, and that merging it gives the trained network."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from video_depth_ros.errors import ConfigError
from video_depth_ros.regressors.wan import naming
from video_depth_ros.training.export import folded_transformer
from video_depth_ros.training.initial import initial_model, lora_scaling, size_of, trained_model
from video_depth_ros.training.loop import Trainer
from video_depth_ros.training.lora import add_lora, merge_lora, trainable
from video_depth_ros.training.model import DepthModel
from video_depth_ros.training.origin import DVD


def _latents(model, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, model.size.vae.z_dim, 3, 4, 6, generator=generator)


@pytest.fixture
def dvd_file(small, tmp_path):
    """A file laid out like the public DVD checkpoint (raw, LoRA unmerged), tiny and random."""
    torch.manual_seed(11)
    model = DepthModel(size_of(small()), 0.5, text_dim=8)
    tensors = {}
    for name, tensor in model.transformer.state_dict().items():
        layer = naming.lora_layer(name)
        if layer is None:
            tensors[naming.DVD_TRANSFORMER + name] = tensor.contiguous()
            continue
        stem = naming.DVD_TRANSFORMER + layer[0]
        tensors[f"{stem}.base_layer.{layer[1]}"] = tensor.contiguous()
        if layer[1] == "weight":
            tensors[f"{stem}.lora_A.default.weight"] = torch.randn(2, tensor.shape[1]) * 0.1
            tensors[f"{stem}.lora_B.default.weight"] = torch.randn(tensor.shape[0], 2) * 0.1
    for name, tensor in model.vae.state_dict().items():
        if not name.startswith("latent_"):
            tensors[naming.DVD_VAE + name] = tensor.contiguous()
    path = tmp_path / "model.safetensors"
    save_file(tensors, path)
    return path


def test_adapters_start_as_nothing_and_only_they_are_trained(small):
    config = small(lora_rank=3)
    plain = initial_model(small())
    adapted = initial_model(config)
    latents = _latents(plain)
    with torch.no_grad():
        torch.testing.assert_close(adapted.regress(latents), plain.regress(latents))
    names = [n for n, p in adapted.named_parameters() if p.requires_grad]
    assert names and all(".lora_" in name for name in names)
    layers = size_of(config).transformer.layers
    assert len(trainable(adapted)) == layers * 10 * 2  # q k v o twice, two of the ffn; A and B


def test_fine_tune_dvd_from_its_checkpoint_then_merge_is_what_was_trained(
    small, planes, dvd_file, tmp_path
):
    config = small(lora_rank=4, lora_alpha=8.0, steps=6, optimiser__rate=1e-2, optimiser__ema=0.0)
    model = initial_model(config, dvd_file)
    assert model.origin == DVD
    start = initial_model(small(), dvd_file)
    trainer = Trainer(model, config, tmp_path / "run")
    trainer.run(planes(config))
    assert lora_scaling(config) == 2.0

    merged, _, steps = trained_model(tmp_path / "run")
    assert steps == 6
    latents = _latents(model)
    with torch.no_grad():
        trained = model.regress(latents)
        torch.testing.assert_close(merged.regress(latents), trained, rtol=1e-4, atol=1e-5)
        folded = folded_transformer(merged)
        torch.testing.assert_close(folded(latents), trained, rtol=1e-4, atol=1e-5)
        assert float((trained - start.regress(latents)).abs().max()) > 1e-3
    # what was frozen has not moved
    for name, tensor in start.vae.state_dict().items():
        assert torch.equal(tensor, model.vae.state_dict()[name]), name


def test_merge_is_base_plus_scaled_product():
    generator = torch.Generator().manual_seed(0)
    w, a, b = (torch.randn(*s, generator=generator) for s in ((5, 4), (2, 4), (5, 2)))
    state = {
        "q.base_layer.weight": w,
        "q.base_layer.bias": torch.ones(5),
        "q.lora_A.default.weight": a,
        "q.lora_B.default.weight": b,
        "norm.weight": torch.ones(3),
    }
    merged = merge_lora(state, scaling=0.5)
    assert list(merged) == ["q.weight", "q.bias", "norm.weight"]
    torch.testing.assert_close(merged["q.weight"], w + 0.5 * b @ a)


def test_lora_that_cannot_be(small):
    with pytest.raises(ConfigError, match="unfolded"):
        initial_model(small(tau=0.0, lora_rank=2))
    with pytest.raises(ConfigError, match="vae stage"):
        initial_model(small(stage="vae", lora_rank=2))
    with pytest.raises(ConfigError, match="rank"):
        add_lora(initial_model(small()).transformer, 0, 1.0)
