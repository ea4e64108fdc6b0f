# SPDX-License-Identifier: Apache-2.0
"""What a stage takes and what it leaves out: sizes of clips, windows, unknown pixels."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from video_depth_ros.errors import ConfigError
from video_depth_ros.training.batches import BatchSource
from video_depth_ros.training.initial import TINY, initial_model
from video_depth_ros.training.loop import Trainer
from video_depth_ros.training.losses import latent_known, latent_loss
from video_depth_ros.training.stages import LatentStage, PixelStage

from .conftest import Planes


def _trainer(config):
    return Trainer(initial_model(config), config)


def _batch(config):
    source = Planes(frames=config.batch.frames)
    return BatchSource((source,), (1.0,), config.batch, config.seed)[0]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"batch__frames": 6}, r"batch.frames: expected 1 \+ a multiple of 4.* got 6; take 9"),
        (
            {"batch__heights": (30,)},
            r"batch.heights: expected multiples of 16 px.* got 30; take 32",
        ),
        ({"batch__widths": (7,)}, r"batch.widths: expected multiples of 16 px.* got 7; take 16"),
        ({"stage": "pixel", "window": 2, "batch__frames": 13}, r"at most 9 .*raise window to 3"),
        ({"stage": "pixel", "batch__frames": 45}, r"at most 33 .*got 45; .*raise window to 7"),
    ],
)
def test_clips_that_do_not_fit_are_refused_before_training(small, changes, said):
    with pytest.raises(ConfigError, match=said):
        _trainer(small(**changes))


def test_clips_that_fit_are_taken(small):
    for changes in (
        {"batch__frames": 45},  # the latent stage has one window
        {"batch__frames": 6, "batch__image_share": 1.0},  # no clips at all
        {"stage": "pixel", "batch__frames": 45, "batch__image_share": 1.0, "validate_every": 1},
        {"stage": "pixel", "batch__frames": 33},
        {"stage": "pixel", "window": 7, "batch__frames": 45},
        {"stage": "vae", "window": 2, "batch__frames": 45},
    ):
        _trainer(small(**changes))


@pytest.mark.parametrize(("window", "frames", "shared"), [(2, 9, 1), (3, 13, 5)])
def test_two_windows_agree_where_they_overlap(small, window, frames, shared, monkeypatch):
    config = small(
        stage="pixel", window=window, batch__frames=frames, batch__image_share=0.0, tau=0.0
    )
    model = initial_model(config)
    stage = PixelStage(model, config.loss, window)
    length = (window - 1) * 4 + 1
    numbers = torch.arange(frames).float()

    def disparity(latents):  # frame numbers of the two windows, 0.25 apart in the overlap
        first, second = numbers[:length], numbers[frames - length :] + 0.25
        assert latents.shape[2] == window
        both = torch.stack((first, second))[..., None, None]
        return (both + 0 * latents.mean()).expand(-1, -1, 32, 48)

    monkeypatch.setattr(model, "disparity", disparity)
    loss, parts = stage(_batch(config))
    assert 2 * length - frames == shared
    assert float(parts["agree"].detach()) == pytest.approx(0.25)
    assert torch.isfinite(loss)


def test_a_latent_is_known_where_all_its_pixels_are():
    known = torch.ones(2, 9, 32, 48, dtype=torch.bool)
    known[0, 0, 3, 20] = False  # first frame, second column of latents
    known[0, 4, 31, 0] = False  # newest frame of the second group, second row
    known[1, 5, 0, 47] = False  # oldest frame of the third group, last column
    vae = TINY.vae
    assert (vae.temporal_stride, vae.spatial_stride) == (4, 16)
    expected = np.ones((2, 1, 3, 2, 3), bool)
    expected[0, 0, 0, 0, 1] = expected[0, 0, 1, 1, 0] = expected[1, 0, 2, 0, 2] = False
    np.testing.assert_array_equal(latent_known(known, vae).numpy(), expected)
    assert latent_known(known[:, :1], vae).shape == (2, 1, 1, 2, 3)  # an image
    # without memory a latent is its group's newest frame
    expected[1, 0, 2, 0, 2] = True
    image = dataclasses.replace(vae, image_encoder=True)
    np.testing.assert_array_equal(latent_known(known, image).numpy(), expected)


def test_masked_latent_loss_counts_known_latents_and_pairs_alone():
    generator = torch.Generator().manual_seed(0)
    p, z = (torch.randn(2, 3, 3, 4, 5, generator=generator).double() for _ in range(2))
    known = torch.rand(2, 1, 3, 4, 5, generator=generator) > 0.3
    total, parts = latent_loss(p, z, 0.5, known)
    error, mask = (p - z).numpy(), np.broadcast_to(known.numpy(), p.shape)
    assert float(parts["mse"]) == pytest.approx(np.mean(error[mask] ** 2))
    for name, axis in (("dt", 2), ("dh", 3), ("dw", 4)):
        steps = np.abs(np.diff(error, axis=axis))
        n = mask.shape[axis]
        pair = np.take(mask, range(1, n), axis) & np.take(mask, range(n - 1), axis)
        assert float(parts[name]) == pytest.approx(steps[pair].mean())
    spoiled = torch.where(known, p, 1e3 * torch.ones_like(p)).requires_grad_()
    other, _ = latent_loss(spoiled, z, 0.5, known)
    assert float(other.detach()) == pytest.approx(float(total))
    other.backward()
    assert spoiled.grad is not None and not (spoiled.grad * ~known).any()
    everything = latent_loss(p, z, 0.5, torch.ones_like(known))[0]
    assert float(everything) == pytest.approx(float(latent_loss(p, z, 0.5)[0]))
    nothing, _ = latent_loss(p, z, 0.5, torch.zeros_like(known))
    assert float(nothing) == 0.0
    image, _ = latent_loss(p[:, :, :1], z[:, :, :1], 0.5, known[:, :, :1])
    assert torch.isfinite(image)


@pytest.mark.parametrize("first", [0, 1])
def test_the_latent_stage_learns_nothing_from_unknown_pixels(small, first):
    config = small(batch__image_share=0.0, batch__frames=9)
    batch = _batch(config)
    model = initial_model(config)
    stage = LatentStage(model, 0.5)
    known = torch.ones_like(batch.known)
    _, parts = stage(batch._replace(known=known), first)
    assert float(parts["counted"]) == 1.0
    known[:, :, :, :16] = False
    regressed = []

    def keep(module, inputs, output):
        output.retain_grad()
        regressed.append(output)

    hook = model.transformer.register_forward_hook(keep)
    loss, parts = stage(batch._replace(known=known), first)
    loss.backward()
    hook.remove()
    assert float(parts["counted"]) == pytest.approx(2 / 3)
    gradient = regressed[0].grad
    assert not gradient[..., :1].any() and gradient[..., 1:].abs().sum() > 0
    loss, parts = stage(batch._replace(known=torch.zeros_like(known)), first)
    assert float(loss.detach()) == float(parts["counted"]) == 0.0
