# SPDX-License-Identifier: Apache-2.0
"""The transformer, unfolded and folded, against diffusers and against itself."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from video_depth_ros.errors import ConfigError
from video_depth_ros.regressors.wan import rope as rotary
from video_depth_ros.regressors.wan.folding import fold
from video_depth_ros.regressors.wan.naming import transformer_to_diffusers
from video_depth_ros.regressors.wan.transformer import (
    FoldedTransformer,
    TransformerConfig,
    patchify,
    unpatchify,
)
from video_depth_ros.regressors.wan.unfolded import UnfoldedTransformer

from .conftest import fill

CONFIG = TransformerConfig(dim=32, heads=2, layers=2, ffn=48)
TEXT_DIM, TEXT_LENGTH = 24, 7


def unfolded(config: TransformerConfig = CONFIG, text_length: int = TEXT_LENGTH):
    return fill(UnfoldedTransformer(config, TEXT_DIM, text_length), seed=5, std=0.15)


def folded(model: UnfoldedTransformer) -> FoldedTransformer:
    result = FoldedTransformer(model.config)
    result.load_state_dict(fold(model.state_dict(), model.config))
    return result.eval().requires_grad_(False)


def latents(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(6))


def oracle(model: UnfoldedTransformer, x: torch.Tensor, tau: float = 0.5) -> torch.Tensor:
    """diffusers' transformer with the same weights, given zeros for text."""
    diffusers = pytest.importorskip("diffusers")
    c = model.config
    other = diffusers.WanTransformer3DModel(
        num_attention_heads=c.heads,
        attention_head_dim=c.head_dim,
        in_channels=c.in_channels,
        out_channels=c.out_channels,
        text_dim=model.text_dim,
        ffn_dim=c.ffn,
        num_layers=c.layers,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
    ).to(x.dtype)
    renamed = {transformer_to_diffusers(k): v for k, v in model.state_dict().items()}
    other.load_state_dict(renamed, strict=True)
    text = torch.zeros(x.shape[0], model.text_length, model.text_dim, dtype=x.dtype)
    timestep = torch.full((x.shape[0],), 1000.0 * tau, dtype=x.dtype)
    with torch.no_grad():
        return other(x, timestep, text, return_dict=False)[0]


@pytest.mark.parametrize("tau", [0.5, 0.25])
def test_equals_diffusers(tau):
    torch.set_default_dtype(torch.float32)
    model = unfolded()
    x = latents(2, 16, 3, 4, 6)
    expected = oracle(model, x, tau)
    error = (model(x, tau) - expected).abs().max() / expected.abs().max()
    assert error < 1e-5


def test_folded_equals_unfolded():
    model = unfolded()
    x = latents(2, 16, 3, 4, 6)
    expected = model(x)
    got = folded(model)(x)
    assert expected.abs().max() > 0.1
    assert (got - expected).abs().max() / expected.abs().max() < 1e-12


def test_text_length_does_not_matter():
    x = latents(1, 16, 2, 4, 4)
    torch.testing.assert_close(unfolded(text_length=1)(x), unfolded(text_length=9)(x))


def test_patch_of_one_and_other_channels():
    config = TransformerConfig(
        in_channels=5, out_channels=3, dim=36, heads=2, layers=1, ffn=20, patch=1
    )
    model = unfolded(config)
    x = latents(1, 5, 2, 3, 5)
    got = folded(model)(x)
    assert got.shape == (1, 3, 2, 3, 5)
    torch.testing.assert_close(got, model(x), rtol=1e-11, atol=1e-11)


def test_checkpointing_changes_no_gradient():
    x = latents(1, 16, 2, 4, 4)
    gradients = []
    for checkpointing in (False, True):
        for model in (unfolded(), folded(unfolded())):
            model.train().requires_grad_(True)
            model.checkpointing = checkpointing
            model(x).square().mean().backward()
            gradient = next(model.parameters()).grad
            assert gradient is not None and gradient.abs().max() > 0
            gradients.append(gradient)
    torch.testing.assert_close(gradients[0], gradients[2])
    torch.testing.assert_close(gradients[1], gradients[3])


def test_only_differences_of_positions_matter(transformer):
    x = latents(1, 16, 4, 4, 6)
    head_dim = transformer.config.head_dim
    here = transformer(x, rotary.table(head_dim, range(4), 2, 3, dtype=torch.float64))
    there = transformer(x, rotary.table(head_dim, range(1000, 1004), 2, 3, dtype=torch.float64))
    torch.testing.assert_close(here, there, rtol=1e-9, atol=1e-9)
    spread = transformer(x, rotary.table(head_dim, range(0, 8, 2), 2, 3, dtype=torch.float64))
    assert (spread - here).abs().max() > 1e-4


@settings(deadline=None, max_examples=25)
@given(heads=st.integers(1, 4), half=st.integers(3, 20), seed=st.integers(0, 999))
def test_halves_are_pairs_in_another_order(heads, half, seed):
    """Rotation in the folded layout is that of the public layout, rows reordered."""
    d = 2 * half
    x = torch.randn(5, heads * d, generator=torch.Generator().manual_seed(seed))
    rope = rotary.table(d, 5, 1, 1, dtype=torch.float64)
    order = rotary.halves_from_pairs(heads, d)
    assert sorted(order.tolist()) == list(range(heads * d))
    pairs = rotary.rotate_pairs(x.view(5, heads, d).transpose(0, 1), rope)
    halves = rotary.rotate_halves(x[:, order].view(5, heads, d).transpose(0, 1), rope)
    torch.testing.assert_close(
        pairs.transpose(0, 1).reshape(5, -1)[:, order], halves.transpose(0, 1).reshape(5, -1)
    )


def test_patches_come_back():
    x = latents(2, 3, 2, 4, 6)
    tokens = patchify(x, 2)
    assert tokens.shape == (2, 2 * 2 * 3, 12)
    swapped = tokens.unflatten(-1, (3, 2, 2)).permute(0, 1, 3, 4, 2).flatten(2)
    torch.testing.assert_close(unpatchify(swapped, 2, (2, 4, 6)), x)


def test_cached_rollout_equals_block_causal_forward(transformer):
    x = latents(1, 16, 5, 4, 6)
    expected = transformer(x, block_causal=True)
    past: tuple = ()
    outputs = []
    for i in range(5):
        rope = transformer.rope(i + 1, 4, 6)
        out, new = transformer.forward_cached(x[:, :, i : i + 1], past, rope)
        past += new
        outputs.append(out)
    torch.testing.assert_close(torch.cat(outputs, dim=2), expected, rtol=1e-10, atol=1e-10)
    assert (transformer(x) - expected).abs().max() > 1e-3  # the mask does something


def test_cached_without_past_is_the_whole_window(transformer):
    x = latents(1, 16, 3, 4, 6)
    got, memory = transformer.forward_cached(x, (), transformer.rope(3, 4, 6))
    torch.testing.assert_close(got, transformer(x), rtol=1e-11, atol=1e-11)
    assert [m.keys.shape for m in memory] == [(2, 1, 2, 6, 16)] * 3


@pytest.mark.parametrize(
    "change",
    [{"dim": 30, "heads": 4}, {"layers": 0}, {"dim": 8, "heads": 2}, {"dim": 21, "heads": 3}],
)
def test_impossible_sizes(change):
    with pytest.raises(ConfigError, match="transformer: expected"):
        TransformerConfig(**{**CONFIG.__dict__, **change})


@pytest.mark.slow
def test_full_width_equals_diffusers_and_folds():
    """Two layers of the public model's true width, in float32."""
    torch.set_default_dtype(torch.float32)
    config = TransformerConfig(layers=2)
    model = fill(UnfoldedTransformer(config, text_length=16), seed=5, std=0.02)
    x = latents(1, 16, 2, 6, 8)
    expected = oracle(model, x)
    scale = expected.abs().max()
    assert (model(x) - expected).abs().max() / scale < 1e-5
    small = FoldedTransformer(config)
    small.load_state_dict(fold(model.state_dict(), config))
    assert (small(x) - expected).abs().max() / scale < 1e-5
