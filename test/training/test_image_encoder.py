# SPDX-License-Identifier: Apache-2.0
"""encoder=image: a group's latent is the image latent of its newest frame, in streams, too."""

from __future__ import annotations

import pytest
import torch

from video_depth_ros.errors import ConfigError
from video_depth_ros.regressors.wan.vae_layers import CausalConv3d
from video_depth_ros.training.image_encoder import set_encoder
from video_depth_ros.training.initial import TINY, initial_model, trained_model
from video_depth_ros.training.loop import Trainer
from video_depth_ros.training.model import DepthModel

from .conftest import needs_muon


@pytest.fixture
def model():
    torch.manual_seed(0)
    return DepthModel(TINY, None)


@pytest.fixture
def image(small):
    def config(**more):
        return small(**{"stage": "pixel", "tau": 0.0, "window": 2, "encoder": "image"} | more)

    return config


@torch.no_grad()
def test_the_stream_gives_the_image_latents_of_the_newest_frames(model):
    clip = torch.rand(2, 3, 9, 32, 32)
    before = [model.encode(clip[:, :, i : i + 1]) for i in (0, 4, 8)]
    assert not torch.allclose(model.encode(clip)[:, :, 1:2], before[1], atol=1e-2)
    set_encoder(model, "image")
    for got, image in zip(model.encode(clip).split(1, dim=2), before, strict=True):
        torch.testing.assert_close(got, image)
    # the streaming class itself, in chunks
    first, state = model.vae.encode(clip[:, :, :5] * 2 - 1)
    second, _ = model.vae.encode(clip[:, :, 5:] * 2 - 1, state)
    torch.testing.assert_close(torch.cat((first, second), dim=2), torch.cat(before, dim=2))
    torch.testing.assert_close(model.encode_late(clip, 3), torch.cat(before, dim=2))
    torch.testing.assert_close(model.window(clip, 1), torch.cat(before[1:], dim=2))


@pytest.mark.parametrize("optimiser", ["adamw", pytest.param("muon", marks=needs_muon)])
def test_training_leaves_the_memory_switched_off(image, planes, tmp_path, optimiser):
    config = image(steps=4, optimiser__name=optimiser, optimiser__rate=1e-2)
    model = initial_model(config)
    start = {name: value.clone() for name, value in model.vae.encoder.state_dict().items()}
    Trainer(model, config, tmp_path).run(planes(config))
    loaded, _, _ = trained_model(tmp_path)
    assert loaded.vae.config.image_encoder
    for name, module in loaded.vae.encoder.named_modules():
        if isinstance(module, CausalConv3d):
            assert not module.weight[:, :, :-1].any()
            assert not torch.equal(module.weight, start[f"{name}.weight"])  # but it has learned
    for name, value in loaded.vae.encoder.state_dict().items():
        if "time_conv" in name:
            assert torch.equal(value, start[name])
    # and it may be switched on again: the taps start from nothing
    video = initial_model(image(encoder="video"), tmp_path)
    assert not video.vae.config.image_encoder
    assert all(p.requires_grad for p in video.parameters())


def test_the_stage_that_trains_the_video_encoder_refuses(small):
    with pytest.raises(ConfigError, match="vae stage trains the video encoder"):
        initial_model(small(stage="vae", encoder="image"))
