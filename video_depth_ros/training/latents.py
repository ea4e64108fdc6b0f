# SPDX-License-Identifier: Apache-2.0
"""Latents made once: the latent stage at a fraction of its price, for studies of the recipe.

The VAE is frozen in that stage, so what it makes of a fixed set of augmented images and clips can
be kept, and many short runs share it. Loss, optimiser, schedule and average are the stage's own;
what differs from :class:`~video_depth_ros.training.loop.Trainer` is that the views repeat and that
every window starts with its clip.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from video_depth_ros.training.batches import BatchSource
from video_depth_ros.training.config import TrainConfig
from video_depth_ros.training.ema import Ema
from video_depth_ros.training.loop import rate_at
from video_depth_ros.training.losses import latent_loss
from video_depth_ros.training.model import DepthModel, disparity_video
from video_depth_ros.training.optimisers import Optimiser

Report = Callable[[int, float], None]  # number of the step, its loss


class Pairs(NamedTuple):
    """Latents of one length: ``rgb`` and ``depth`` float32 [N, C, T, h, w]."""

    rgb: Tensor
    depth: Tensor


class Latents(NamedTuple):
    """What a study trains on."""

    images: Pairs
    videos: Pairs


@torch.no_grad()
def make_latents(model: DepthModel, data: BatchSource, images: int, videos: int) -> Latents:
    """The latents of at least ``images`` augmented images and ``videos`` augmented clips."""
    config = data.config
    made = []
    for share, count, each in (
        (1.0, images, config.images),
        (0.0, videos, config.videos),
    ):
        source = dataclasses.replace(data, config=dataclasses.replace(config, image_share=share))
        parts = [_encoded(model, source, step) for step in range(-(-count // each))]
        made.append(Pairs(*(torch.cat(column) for column in zip(*parts, strict=True))))
    return Latents(*made)


def _encoded(model: DepthModel, source: BatchSource, step: int) -> Pairs:
    batch = source[step]
    device = model.vae.latent_mean.device
    depth = model.vae.encode(disparity_video(batch.target.to(device)))[0]
    return Pairs(model.encode(batch.images(device)), depth)


def train_on_latents(
    model: DepthModel, config: TrainConfig, latents: Latents, report: Report | None = None
) -> Ema:
    """The latent stage on kept latents: changes ``model`` and returns its averaged weights.

    Which latents a step takes is a function of (seed, step) and of the image share alone.
    """
    model.requires_grad_(False)
    model.transformer.requires_grad_(True)
    o = config.optimiser
    parameters = list(model.transformer.parameters())
    optimiser = Optimiser(parameters, o.name, o.rate, o.weight_decay)
    average = Ema(model, o.ema)
    model.train()
    for step in range(config.steps):
        rgb, depth = _draw(latents, config, step)
        optimiser.set_rate(rate_at(config, step))
        optimiser.zero_grad()
        loss, _ = latent_loss(model.regress(rgb), depth, config.loss.lmr)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, o.clip or float("inf"))
        optimiser.step()
        average.update(model)
        if report is not None and (step + 1) % config.log_every == 0:
            report(step + 1, float(loss.detach()))
    model.eval()
    return average


def _draw(latents: Latents, config: TrainConfig, step: int) -> Pairs:
    rng = np.random.default_rng((config.seed, step))
    image = rng.random() < config.batch.image_share
    pairs, count = (
        (latents.images, config.batch.images) if image else (latents.videos, config.batch.videos)
    )
    index = torch.from_numpy(rng.integers(len(pairs.rgb), size=count))
    return Pairs(pairs.rgb[index], pairs.depth[index])
