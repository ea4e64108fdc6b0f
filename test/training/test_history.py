# SPDX-License-Identifier: Apache-2.0
"""Clips met in the middle of a stream: the encoder has a past, the window begins with an image."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from video_depth_ros.training.initial import TINY, initial_model
from video_depth_ros.training.loop import Trainer
from video_depth_ros.training.model import DepthModel, mirrored


@pytest.fixture
def model():
    torch.manual_seed(0)
    return DepthModel(TINY, None)


def test_a_clip_is_mirrored_so_that_every_frame_follows_its_neighbour():
    assert mirrored(3, 5) == [0, 1, 2, 1, 0]
    assert mirrored(1, 4) == [0, 0, 0, 0]
    path = mirrored(13, 65)
    assert path[-1] == 0 and len(path) == 65
    assert all(abs(a - b) == 1 for a, b in pairwise(path))


@pytest.mark.parametrize("history", [1, 4])
def test_later_latents_are_those_of_one_long_video(model, history):
    rgb = torch.rand(2, 3, 9, 32, 32)
    long = torch.cat((rgb[:, :, mirrored(9, 1 + 4 * history)], rgb[:, :, 1:]), dim=2)
    late = model.encode_late(rgb, history)
    assert late.shape == model.encode(rgb).shape
    torch.testing.assert_close(late[:, :, 1:], model.encode(long)[:, :, history + 1 :])
    torch.testing.assert_close(late[:, :, :1], model.encode(rgb[:, :, :1]))
    assert not torch.allclose(late[:, :, 1:], model.encode(rgb)[:, :, 1:])


@pytest.mark.parametrize("frames", [1, 9])
def test_group_by_group_without_gradient_is_the_clip_at_once(model, frames):
    rgb = torch.rand(2, 3, frames, 32, 32)
    whole = model.encode(rgb)
    disparity = model.disparity(whole)
    with torch.no_grad():
        torch.testing.assert_close(model.encode(rgb), whole)
        torch.testing.assert_close(model.disparity(whole), disparity)
    assert whole.requires_grad and disparity.shape == (2, frames, 32, 32)


def test_the_past_takes_no_gradient(model):
    rgb = torch.rand(1, 3, 5, 32, 32, requires_grad=True)
    (whole,) = torch.autograd.grad(model.encode_late(rgb, 2)[:, :, 1:].square().sum(), rgb)
    assert whole[:, :, 0].abs().max() == 0  # the first frame is past for the second latent
    assert whole[:, :, 1:].abs().amax(dim=(1, 3, 4)).min() > 0


def test_training_with_a_past_is_reproducible_and_differs(small, planes):
    def curve(history):
        config = small(
            stage="pixel", tau=0.0, window=2, history=history, steps=3, batch__image_share=0.0
        )
        return [log["loss"] for log in Trainer(initial_model(config), config).run(planes(config))]

    assert curve(6) == curve(6)
    assert curve(6) != curve(0)
