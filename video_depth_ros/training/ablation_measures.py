# SPDX-License-Identifier: Apache-2.0
"""How the variants of an ablation are judged: DVD's protocol on short held-out clips.

All figures but the temporal ones are means over frames, then over clips. Depth p of a prediction
is what one scale and shift per clip in disparity makes of it, z is the truth.

abs_rel, delta1, boundary_f1 (against the truth's own edges): as in :mod:`evaluation`.
flicker: mean change of ln(p/z) between frames, in pixels whose true depth hardly changes.
temporal_difference: root mean square of p1/p0 - z1/z0.
gradient: sum of |differences of 1/p - 1/z between neighbours| over that of |those of 1/z|, both
    along rows and columns: 0 is exact, a flat prediction has 1.
latent_mse, latent_differences: what the latent stage minimises, the second without its weight.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from video_depth_ros.evaluation.affine import AffineFit, affine_depth
from video_depth_ros.evaluation.baselines import SpatialFit
from video_depth_ros.evaluation.boundary import depth_boundary_f1
from video_depth_ros.evaluation.metrics import (
    DepthRange,
    MeanOfFrames,
    depth_errors,
    mean_of_videos,
)
from video_depth_ros.evaluation.temporal import (
    correspond_in_place,
    flicker,
    relative_temporal_difference,
)
from video_depth_ros.training.augment import AugmentConfig, augment
from video_depth_ros.training.clips import Clip, ClipSource
from video_depth_ros.training.losses import latent_loss
from video_depth_ros.training.model import DepthModel, disparity_video
from video_depth_ros.training.targets import normalised_disparity

PLAIN = AugmentConfig(flip=False, crop=1.0, aspect=1.0, roll=0.0, colour=0.0)
Figures = dict[str, float]
# disparity float [T, H, W] of a clip in any affine frame, and figures of the predictor's own
Predict = Callable[[Clip], tuple[np.ndarray, Figures]]


def measure(predict: Predict, held: ClipSource, frames: int, size: tuple[int, int]) -> Figures:
    """Mean figures over the clips of a source, each cut to ``frames`` and ``size``."""
    videos = []
    for index in range(len(held)):
        clip = held.clip(index)
        cut = Clip(clip.rgb[:frames], clip.depth[:frames])
        view = augment(cut, size, PLAIN, np.random.default_rng(0))
        disparity, own = predict(view)
        videos.append({**clip_figures(disparity, view), **own})
    return mean_of_videos(videos)


@torch.no_grad()
def predicted(model: DepthModel, clip: Clip) -> tuple[np.ndarray, Figures]:
    """The network's disparity of a clip and its errors in latent space."""
    latents = model.regress(model.encode(_images(clip, model)))
    _, parts = latent_loss(latents, _depth_latents(clip, model))
    differences = parts["dt"] + parts["dh"] + parts["dw"]
    own = {"latent_mse": float(parts["mse"]), "latent_differences": float(differences)}
    return _numpy(model.disparity(latents)), own


@torch.no_grad()
def decoded_truth(model: DepthModel, clip: Clip) -> tuple[np.ndarray, Figures]:
    """The true disparity through encoder and decoder: what the VAE leaves of it."""
    return _numpy(model.disparity(_depth_latents(clip, model))), {}


def ramp(clip: Clip) -> tuple[np.ndarray, Figures]:
    """The disparity a + b v that fits the clip's truth best: knowing nothing of the image."""
    height, width = clip.depth.shape[1:]
    fit = SpatialFit("ramp", height, width)
    for truth in clip.depth:
        fit.add(truth, DepthRange().valid(truth))
    return np.broadcast_to(fit.disparity(), clip.depth.shape), {}


def clip_figures(disparity: np.ndarray, clip: Clip) -> Figures:
    """All figures of one clip.

    Args:
        disparity: float [T, H, W], near = large, one affine frame.
        clip: images and truth of the same size.
    """
    reach = DepthRange()
    valid = [reach.valid(truth) for truth in clip.depth]
    fit = AffineFit()
    for d, truth, known in zip(disparity, clip.depth, valid, strict=True):
        fit.add(d, truth, known)
    scale, shift = fit.solve()
    depths = [affine_depth(d, scale, shift, reach) for d in disparity]
    truths = [
        np.where(known, truth, np.nan) for known, truth in zip(valid, clip.depth, strict=True)
    ]
    mean = MeanOfFrames()
    for p, z, known in zip(depths, truths, valid, strict=True):
        errors = depth_errors(p, z, known)
        f1 = depth_boundary_f1(p, z)
        mean.add({name: errors[name] for name in ("abs_rel", "delta1") if name in errors})
        mean.add({} if f1 is None else {"boundary_f1": f1})
        mean.add({"gradient": _gradient_error(p, z)})
    for t in range(1, len(depths)):
        pair = (depths[t - 1], depths[t], truths[t - 1], truths[t])
        both = valid[t - 1] & valid[t]
        same = correspond_in_place(truths[t - 1], truths[t], both)
        mean.add(
            {
                "flicker": flicker(*pair, same),
                "temporal_difference": relative_temporal_difference(*pair, both),
            }
        )
    return mean.mean()


def _gradient_error(p: np.ndarray, z: np.ndarray) -> float:
    wrong = true = 0.0
    for axis in (0, 1):
        difference = np.diff(1.0 / z, axis=axis)
        wrong += float(np.nansum(np.abs(np.diff(1.0 / p, axis=axis) - difference)))
        true += float(np.nansum(np.abs(difference)))
    return wrong / true if true else float("nan")


def _depth_latents(clip: Clip, model: DepthModel) -> Tensor:
    target = torch.from_numpy(normalised_disparity(clip.depth).disparity)[None]
    return model.vae.encode(disparity_video(target.to(model.vae.latent_mean.device)))[0]


def _images(clip: Clip, model: DepthModel) -> Tensor:
    rgb = torch.from_numpy(clip.rgb).to(model.vae.latent_mean.device)
    return rgb.permute(3, 0, 1, 2)[None].float() / 255.0


def _numpy(disparity: Tensor) -> np.ndarray:
    return disparity[0].float().cpu().numpy()
