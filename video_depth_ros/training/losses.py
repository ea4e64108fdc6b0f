# SPDX-License-Identifier: Apache-2.0
"""Losses: DVD's in latent space, and affine-invariant ones in pixel space.

Latent: mean squared error plus latent manifold rectification (LMR), the L1 distance of first
differences along latent time, rows and columns, each term its own mean, weight 0.5 (DVD).
Pixel: each clip's prediction is brought to the target by its own least-squares scale and shift
(as the evaluation does), then L1, multi-scale gradients (MiDaS) and temporal differences.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from video_depth_ros.regressors.wan.vae import VaeConfig

Parts = dict[str, Tensor]
GRADIENT_SCALES = (1, 2, 4)
SCALES = (0.5, 2.0)  # of the alignment inside the pixel loss
FARTHEST = 4.0  # a depth that is this many times too far counts no more than that


def latent_loss(
    predicted: Tensor, target: Tensor, lmr: float = 0.5, known: Tensor | None = None
) -> tuple[Tensor, Parts]:
    """DVD's loss between latents [B, C, T, h, w]; the time term is 0 for images (T = 1).

    Args:
        known: bool [B, 1, T, h, w], the latents that count (see :func:`latent_known`); a
            difference counts where both of its latents do. None counts all.
    """
    error = predicted - target
    parts = {"mse": _latent_mean(error.square(), known)}
    for name, dim in (("dt", 2), ("dh", 3), ("dw", 4)):
        pairs = None
        if known is not None:
            length = known.shape[dim] - 1
            pairs = known.narrow(dim, 1, length) & known.narrow(dim, 0, length)
        parts[name] = _latent_mean(error.diff(dim=dim).abs(), pairs)
    total = parts["mse"] + lmr * (parts["dt"] + parts["dh"] + parts["dw"])
    return total, parts


def latent_known(known: Tensor, vae: VaeConfig) -> Tensor:
    """The latents all of whose own pixels are known, bool [B, 1, T', H / s, W / s].

    A latent's pixels are its s x s square in its group's frames: the first frame alone, then
    groups of ``temporal_stride`` frames. An encoder without memory sees the newest of them only.

    Args:
        known: bool [B, T, H, W], T = 1 + a multiple of the temporal stride.
    """
    stride, side = vae.temporal_stride, vae.spatial_stride
    unknown = functional.max_pool2d((~known).float(), side)  # 1 where any pixel is unknown
    if vae.image_encoder:
        groups = unknown[:, ::stride]
    else:
        later = unknown[:, 1:].unflatten(1, (-1, stride)).amax(dim=2)
        groups = torch.cat((unknown[:, :1], later), dim=1)
    return (groups == 0)[:, None]


def _latent_mean(values: Tensor, counted: Tensor | None) -> Tensor:
    """Mean over all channels of the counted latents; 0 where there are none."""
    if not values.numel():
        return values.new_zeros(())
    if counted is None:
        return values.mean()
    channels = values.shape[1]
    return (values * counted).sum() / (channels * counted.sum()).clamp_min(1)


def fit_affine(predicted: Tensor, target: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Scale and shift [B, 1, 1, 1] that minimise sum w (s * predicted + t - target)^2 per clip.

    All [B, T, H, W]. A flat prediction gets scale 0: a small ridge keeps the division finite.
    """
    dims = (1, 2, 3)
    total = weight.sum(dims, keepdim=True).clamp_min(1e-6)
    mean_p = (weight * predicted).sum(dims, keepdim=True) / total
    mean_t = (weight * target).sum(dims, keepdim=True) / total
    p, t = predicted - mean_p, target - mean_t
    covariance = (weight * p * t).sum(dims, keepdim=True) / total
    variance = (weight * p * p).sum(dims, keepdim=True) / total
    scale = covariance / (variance + 1e-4)
    return scale, mean_t - scale * mean_p


def pixel_loss(
    predicted: Tensor,
    target: Tensor,
    known: Tensor,
    relative: Tensor,
    *,
    offset: Tensor | None = None,
    absolute: float = 2.0,
    gradient: float = 0.5,
    temporal: float = 0.5,
    depth: float = 0.0,
) -> tuple[Tensor, Parts]:
    """Affine-invariant loss between disparities [B, T, H, W].

    Args:
        known: weights 0 or 1, pixels with truth.
        relative: [B, T, H, W], how much an error of disparity counts relative to the metric
            disparity itself (see :func:`relative_weight`).
        absolute: weight of the squared error without alignment. It holds the output in the range
            of the target, so that consecutive windows agree before any alignment, and it is what
            a training from scratch starts by: L1 alone is content with a flat prediction.
        gradient, temporal: weights of the difference terms.
        offset: [B], normalised disparity plus this is proportional to 1 / Z (see
            :func:`depth_offset`); needed if ``depth`` is not 0.
        depth: weight of the relative error of depth (see :func:`depth_loss`).
    """
    known = known.to(predicted.dtype)
    scale, shift = _alignment(predicted.detach(), target, known)
    aligned = scale * predicted + shift
    error = (aligned - target) * known
    count = known.sum().clamp_min(1.0)
    parts = {
        "l1": (error.abs() * relative).sum() / count,
        "raw": ((predicted - target).square() * known).sum() / count,
        "grad": _spatial(error, known),
        "temp": _temporal(error, known),
    }
    total = parts["l1"] + absolute * parts["raw"]
    if depth > 0:
        assert offset is not None
        parts["depth"] = depth_loss(aligned, target, known, offset)
        total = total + depth * parts["depth"]
    return total + gradient * parts["grad"] + temporal * parts["temp"], parts


def _alignment(predicted: Tensor, target: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Scale within :data:`SCALES` and its best shift, as constants of the loss.

    Bounded, because an early prediction is as often correlated the wrong way round: an alignment
    free to turn it over would reward that, and one free to blow up a flat one drowns every other
    gradient.
    """
    scale = fit_affine(predicted, target, weight)[0].clamp(*SCALES)
    dims = (1, 2, 3)
    total = weight.sum(dims, keepdim=True).clamp_min(1e-6)
    shift = (weight * (target - scale * predicted)).sum(dims, keepdim=True) / total
    return scale, shift


def depth_offset(low: Tensor, high: Tensor) -> Tensor:
    """What normalised disparity lacks of being proportional to 1 / Z: low / (high - low), [B]."""
    return low / (high - low).clamp_min(1e-6)


def depth_loss(aligned: Tensor, target: Tensor, known: Tensor, offset: Tensor) -> Tensor:
    """Mean |Z' - Z| / Z of depth, the error that the evaluation reports as AbsRel.

    Unlike a relative error of disparity it is lopsided: twice too far costs 1, twice too near
    0.5. What minimises errors of disparity therefore does not minimise it; where the network is
    unsure, it should rather say near. Depth more than :data:`FARTHEST` times too far gives no
    gradient; the other terms see it. The sky (target 0) is left out.

    Args:
        aligned, target: [B, T, H, W] normalised disparity in one affine frame.
        known: weights 0 or 1.
        offset: [B], see :func:`depth_offset`.
    """
    offset = offset.clamp_min(1e-3).view(-1, 1, 1, 1)
    truth = target + offset
    predicted = torch.maximum(aligned + offset, truth / FARTHEST)
    counted = known * (target > 0)
    return ((truth / predicted - 1).abs() * counted).sum() / counted.sum().clamp_min(1.0)


def relative_weight(target: Tensor, low: Tensor, high: Tensor, floor: float = 0.1) -> Tensor:
    """Half uniform, half the weight that turns an error of disparity into a relative one.

    An error e of normalised disparity is a relative error e / (d + low / (high - low)) of the
    metric disparity. ``floor`` bounds it where the truth is far. The mean is 1 per clip.

    Args:
        target: [B, T, H, W] normalised disparity.
        low, high: [B] the quantiles of the normalisation.
    """
    offset = depth_offset(low, high).clamp_min(floor).view(-1, 1, 1, 1)
    weight = 1.0 / (target + offset)
    return 0.5 + 0.5 * weight / weight.mean((1, 2, 3), keepdim=True)


def _spatial(error: Tensor, known: Tensor) -> Tensor:
    total = error.new_zeros(())
    for scale in GRADIENT_SCALES:
        if min(error.shape[-2:]) < 2 * scale:
            break
        e = functional.avg_pool2d(error, scale) if scale > 1 else error
        m = (functional.avg_pool2d(known, scale) > 0.999).to(e.dtype) if scale > 1 else known
        for dim in (2, 3):
            pairs = m.narrow(dim, 1, m.shape[dim] - 1) * m.narrow(dim, 0, m.shape[dim] - 1)
            total = total + (e.diff(dim=dim).abs() * pairs).sum() / pairs.sum().clamp_min(1.0)
    return total


def _temporal(error: Tensor, known: Tensor) -> Tensor:
    if error.shape[1] < 2:
        return error.new_zeros(())
    pairs = known[:, 1:] * known[:, :-1]
    return (error.diff(dim=1).abs() * pairs).sum() / pairs.sum().clamp_min(1.0)


def affine_abs_rel(
    predicted: Tensor,
    target: Tensor,
    known: Tensor,
    low: Tensor,
    high: Tensor,
    max_depth: float = 80.0,
) -> Tensor:
    """Mean |Z' - Z| / Z per clip after the affine fit in disparity, [B]; for monitoring.

    Args:
        predicted, target: [B, T, H, W], target normalised by the quantiles low and high [B].
        known: pixels with truth; those beyond ``max_depth`` or outside the quantiles (where the
            target is clipped) are left out.
        max_depth: aligned depth is limited to this [m], as in DVD's evaluation.
    """
    low, span = low.view(-1, 1, 1, 1), (high - low).view(-1, 1, 1, 1)
    truth = low + target * span
    mask = (known > 0) & (target > 0) & (target < 1) & (truth > 1 / max_depth)
    weight = mask.to(predicted.dtype)
    scale, shift = fit_affine(predicted, target, weight)
    aligned = (low + (scale * predicted + shift) * span).clamp_min(1 / max_depth)
    relative = (truth / aligned - 1.0).abs() * weight
    return relative.sum((1, 2, 3)) / weight.sum((1, 2, 3)).clamp_min(1.0)


def fold_parts(parts: Parts) -> dict[str, float]:
    """Detached numbers for the log."""
    return {name: float(torch.as_tensor(value).detach()) for name, value in parts.items()}
