# SPDX-License-Identifier: Apache-2.0
"""The causal VAE against diffusers, and chunks against the whole clip."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from video_depth_ros.errors import ConfigError
from video_depth_ros.regressors.wan.naming import vae_to_diffusers
from video_depth_ros.regressors.wan.tiny_vae import MemoryBlock, TinyVae
from video_depth_ros.regressors.wan.vae import CausalVae, VaeConfig
from video_depth_ros.regressors.wan.vae_layers import AttentionBlock, Tape

from .conftest import fill

PUBLIC = VaeConfig(dim=4, z_dim=16, multipliers=(1, 2, 2, 2), res_blocks=2)
PATCHED = VaeConfig(
    dim=4, z_dim=6, multipliers=(1, 2), res_blocks=1, temporal=(True,), patch=4, out_channels=1
)
MODELS: dict[str, Callable[[], Any]] = {
    "public": lambda: fill(CausalVae(PUBLIC), seed=1),
    "patched": lambda: fill(CausalVae(PATCHED), seed=1),
    "tiny": lambda: fill(TinyVae(widths=(8, 8, 8, 8)), seed=1),
}
STRIDE = {"public": 4, "patched": 2, "tiny": 4}


def clip(frames: int, batch: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(4)
    return torch.rand(batch, 3, frames, 16, 24, generator=generator) * 2 - 1


def test_equals_diffusers():
    diffusers = pytest.importorskip("diffusers")
    torch.set_default_dtype(torch.float32)
    vae = MODELS["public"]()
    other = diffusers.AutoencoderKLWan(
        base_dim=PUBLIC.dim,
        z_dim=PUBLIC.z_dim,
        dim_mult=list(PUBLIC.multipliers),
        num_res_blocks=PUBLIC.res_blocks,
        temperal_downsample=list(PUBLIC.temporal),
    ).eval()
    native = {k: v for k, v in vae.state_dict().items() if not k.startswith("latent_")}
    renamed = {vae_to_diffusers(k, PUBLIC): v for k, v in native.items()}
    other.load_state_dict(renamed, strict=True)
    images = clip(9)
    with torch.no_grad():
        posterior = other.encode(images).latent_dist
        mean, log_variance, _ = vae.moments(images)
        torch.testing.assert_close(mean, posterior.mean, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(log_variance, posterior.logvar, rtol=1e-5, atol=1e-5)
        latents, _ = vae.encode(images)
        torch.testing.assert_close(vae.denormalise(latents), mean, rtol=1e-5, atol=1e-5)
        decoded = other.decode(mean).sample
        frames, _ = vae.decode(latents)
    assert frames.shape == images.shape
    # diffusers clamps the decoder's output
    torch.testing.assert_close(frames.clamp(-1, 1), decoded, rtol=1e-5, atol=1e-5)
    assert (decoded.abs() < 1).any()


@pytest.mark.parametrize("name", MODELS)
@settings(deadline=None, max_examples=8)
@given(cuts=st.lists(st.integers(1, 3), min_size=1, max_size=3), lead=st.integers(0, 2))
def test_any_chunks_equal_the_whole_clip(name, cuts, lead):
    """First chunk 1 + k strides, later ones any number of strides; likewise for latents."""
    model, stride = MODELS[name](), STRIDE[name]
    chunks = [1 + lead * stride, *(c * stride for c in cuts)]
    images = clip(sum(chunks))
    whole, end = model.encode(images)
    parts, state = [], None
    for part in images.split(chunks, dim=2):
        z, state = model.encode(part, state)
        parts.append(z)
    torch.testing.assert_close(torch.cat(parts, dim=2), whole, rtol=1e-12, atol=1e-12)
    assert whole.shape[2] == 1 + lead + sum(cuts)
    for a, b in zip(state or (), end, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)

    frames, _ = model.decode(whole)
    assert frames.shape[2] == images.shape[2]
    parts, state = [], None
    for part in whole.split([1 + lead, *cuts], dim=2):
        y, state = model.decode(part, state)
        parts.append(y)
    torch.testing.assert_close(torch.cat(parts, dim=2), frames, rtol=1e-12, atol=1e-12)


def test_the_tiny_encoder_sees_groups_as_the_public_one_was_trained_to():
    """The public code pads a video's end to whole groups of four by its last frame, in [0, 1]."""
    model = MODELS["tiny"]()
    images = clip(13)
    latents, _ = model.encode(images)
    for k in range(4):
        video = images[0, :, : 4 * k + 1].transpose(0, 1) * 0.5 + 0.5
        x, tape = torch.cat((video, video[-1:].expand(3, -1, -1, -1))), Tape(None)
        for layer in model.encoder:
            x = layer(x, tape) if isinstance(layer, MemoryBlock) else layer(x)
        torch.testing.assert_close(latents[0, :, k], x[k], rtol=1e-12, atol=1e-12)


def test_the_tiny_decoder_gives_images_as_the_others_do():
    """The public decoder's images lie in [0, 1], ours in [-1, 1]."""
    model = MODELS["tiny"]()
    last = model.decoder[-1]
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(torch.tensor([0.0, 0.25, 1.0]))
    latents, _ = model.encode(clip(5))
    frames, _ = model.decode(latents)
    expected = torch.tensor([-1.0, -0.5, 1.0], dtype=frames.dtype)
    assert torch.equal(frames[0].amax((1, 2, 3)), expected)
    assert torch.equal(frames[0].amin((1, 2, 3)), expected)


@pytest.mark.parametrize("name", MODELS)
def test_rollback_leaves_no_trace(name):
    model, stride = MODELS[name](), STRIDE[name]
    images = clip(1 + 2 * stride)
    _, state = model.encode(images[:, :, : 1 + stride])
    before = [t.clone() for t in state]
    expected, _ = model.encode(images[:, :, 1 + stride :], state)
    model.encode(torch.zeros_like(images[:, :, 1 + stride :]), state)  # another future
    again, _ = model.encode(images[:, :, 1 + stride :], state)
    assert torch.equal(again, expected)
    assert all(torch.equal(a, b) for a, b in zip(state, before, strict=True))


@pytest.mark.parametrize("name", ["public", "patched"])
def test_causal_and_every_frame_counts(name):
    model, stride = MODELS[name](), STRIDE[name]
    images = clip(1 + 2 * stride)
    changed = images.clone()
    changed[:, :, stride + 1] += 0.5  # first frame of the third latent
    difference = (model.encode(images)[0] - model.encode(changed)[0]).abs().amax((0, 1, 3, 4))
    assert difference[:2].max() == 0
    assert difference[2] > 0


def test_batch_is_independent():
    model = MODELS["public"]()
    images = clip(5, batch=3)
    z, _ = model.encode(images)
    alone = torch.cat([model.encode(images[i : i + 1])[0] for i in range(3)])
    torch.testing.assert_close(z, alone)
    together, _ = model.decode(z)
    torch.testing.assert_close(together[1:2], model.decode(z[1:2])[0])


def test_gradients_reach_the_first_frame():
    model = MODELS["patched"]().requires_grad_(True)
    images: Any = clip(5).requires_grad_(True)
    frames, _ = model.decode(model.encode(images)[0])
    frames[:, :, -1].sum().backward()
    assert images.grad[:, :, 0].abs().max() > 0
    assert model.encoder.conv1.weight.grad.abs().max() > 0


def test_two_dimensional_form_is_the_three_dimensional_convolution():
    conv = MODELS["public"]().encoder.conv1
    x = clip(6, batch=2)
    padded = torch.cat((torch.zeros(2, 3, 2, 16, 24), x), dim=2)
    expected = torch.nn.functional.conv3d(padded, conv.weight, conv.bias, padding=(0, 1, 1))
    torch.testing.assert_close(conv(x, Tape(None)), expected)


def test_normalisation_of_the_public_latents():
    vae = MODELS["public"]()
    assert vae.latent_mean[:2].tolist() == pytest.approx([-0.7571, -0.7089])
    assert vae.latent_std[-1].item() == pytest.approx(1.9160)
    mean = torch.randn(1, 16, 1, 2, 2)
    torch.testing.assert_close(vae.denormalise(vae.normalise(mean)), mean)


@pytest.mark.parametrize(
    "change", [{"temporal": (True,)}, {"dim": 0}, {"multipliers": (1, 0, 1, 1)}]
)
def test_impossible_sizes(change):
    with pytest.raises(ConfigError, match="VAE: expected"):
        VaeConfig(**{**PUBLIC.__dict__, **change})


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_attention_gets_the_channels_of_a_position_side_by_side(layout, monkeypatch):
    """As the fused kernels on CUDA demand, whatever the memory format of the images."""
    block = fill(AttentionBlock(8))
    frames = torch.randn(2, 8, 3, 5).to(memory_format=layout)
    attend = torch.nn.functional.scaled_dot_product_attention
    seen: list[torch.Tensor] = []

    def watch(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        seen.extend((q, k, v))
        return attend(q, k, v)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", watch)
    out = block(frames[None].transpose(1, 2), Tape(None))
    assert [tuple(x.shape) for x in seen] == [(2, 1, 15, 8)] * 3
    assert {x.stride(-1) for x in seen} == {1}
    plain = block.to_qkv(block.norm(frames)).flatten(2).transpose(1, 2)
    q, k, v = plain.chunk(3, dim=-1)
    mean = torch.softmax(q @ k.transpose(1, 2) / 8**0.5, dim=-1) @ v
    expected = frames + block.proj(mean.transpose(1, 2).unflatten(2, (3, 5)))
    torch.testing.assert_close(out[0].transpose(0, 1), expected)
