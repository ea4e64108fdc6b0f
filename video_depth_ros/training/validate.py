# SPDX-License-Identifier: Apache-2.0
"""Figures to watch while training: affine-invariant error on clips that are never trained on.

Small and quick on purpose. The figures to publish come from ``video_depth evaluate``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from video_depth_ros.training.augment import AugmentConfig, augment
from video_depth_ros.training.clips import ClipSource
from video_depth_ros.training.losses import affine_abs_rel
from video_depth_ros.training.model import DepthModel
from video_depth_ros.training.targets import normalised_disparity

PLAIN = AugmentConfig(flip=False, crop=1.0, aspect=1.0, roll=0.0, colour=0.0)


@dataclass(frozen=True)
class Validation:
    """Held-out clips at one size; call it with a model to get its figures.

    ``abs_rel``: mean relative depth error after one affine fit per clip; ``ramp``: the same for
    the best disparity plane in (u, v), what knowing nothing of the image can reach.
    """

    source: ClipSource
    count: int
    frames: int
    size: tuple[int, int]

    @torch.no_grad()
    def __call__(self, model: DepthModel) -> dict[str, float]:
        device = model.vae.latent_mean.device
        errors, ramps = [], []
        for index in range(min(self.count, len(self.source))):
            clip = self.source.clip(index)
            cut = type(clip)(clip.rgb[: self.frames], clip.depth[: self.frames])
            view = augment(cut, self.size, PLAIN, np.random.default_rng(0))
            target = normalised_disparity(view.depth)
            rgb = torch.from_numpy(view.rgb).to(device).permute(3, 0, 1, 2)[None] / 255.0
            truth = torch.from_numpy(target.disparity).to(device)[None]
            known = torch.from_numpy(target.known).to(device)[None]
            low, high = (torch.tensor([q], device=device) for q in (target.low, target.high))
            predicted = model(rgb.float()).clamp(0, 1)
            errors.append(float(affine_abs_rel(predicted, truth, known, low, high)))
            ramps.append(float(affine_abs_rel(_best_plane(truth, known), truth, known, low, high)))
        return {"abs_rel": _mean(errors), "ramp": _mean(ramps)}


def _best_plane(truth: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """The plane a + b u + c v nearest to the truth [1, T, H, W] of the whole clip."""
    _, t, h, w = truth.shape
    v, u = torch.meshgrid(torch.linspace(-1, 1, h), torch.linspace(-1, 1, w), indexing="ij")
    columns = torch.stack((torch.ones_like(u), u, v), dim=-1).expand(t, h, w, 3).to(truth)
    mask = known[0] & (truth[0] > 0) & (truth[0] < 1)
    fit = torch.linalg.lstsq(columns[mask], truth[0][mask][:, None]).solution
    return (columns @ fit)[..., 0][None]


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")
