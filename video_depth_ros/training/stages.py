# SPDX-License-Identifier: Apache-2.0
"""The three stages of training, each a module from a batch to its loss.

``vae``: the causal VAE learns to reproduce images and disparity (only for small models; DVD keeps
Wan's VAE). ``latent``: DVD's own stage, RGB latent to depth latent with LMR, VAE frozen.
``pixel``: everything end to end on disparity, in the windows of a streaming session.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from video_depth_ros.errors import ConfigError
from video_depth_ros.regressors.wan.sizes import ModelSize
from video_depth_ros.training.batches import Batch
from video_depth_ros.training.config import LossConfig, TrainConfig
from video_depth_ros.training.losses import (
    Parts,
    depth_offset,
    latent_known,
    latent_loss,
    pixel_loss,
    relative_weight,
)
from video_depth_ros.training.model import DepthModel, disparity_video

KL_WEIGHT = 1e-5  # holds the latent near unit size; small, the decoder must stay sharp


def check_clips(config: TrainConfig, size: ModelSize) -> None:
    """Refuse clips that the network, or the stage, cannot take.

    Raises:
        ConfigError: ``batch.frames`` is not 1 + a multiple of the temporal stride, or spans more
            than two windows of the pixel stage that overlap; ``batch.heights`` or
            ``batch.widths`` are no multiples of a token's side.
    """
    batch, stride = config.batch, size.vae.temporal_stride
    side = size.vae.spatial_stride * size.transformer.patch
    for name, sides in (("batch.heights", batch.heights), ("batch.widths", batch.widths)):
        wrong = [n for n in sides if n < side or n % side]
        if wrong:
            raise ConfigError(
                f"{name}: expected multiples of {side} px, the side of a token of this network, "
                f"got {wrong[0]}; take {max(1, round(wrong[0] / side)) * side}"
            )
    clips = batch.image_share < 1
    groups, rest = divmod(batch.frames - 1, stride)
    if rest and (clips or config.validate_every):
        raise ConfigError(
            f"batch.frames: expected 1 + a multiple of {stride}, the frames of a latent of this "
            f"network, got {batch.frames}; take {1 + stride * (groups + 1)}"
        )
    most = 2 * config.window - 1  # latents of two windows that share one
    if clips and config.stage == "pixel" and groups + 1 > most:
        raise ConfigError(
            f"batch.frames: expected at most {1 + stride * (most - 1)} in the pixel stage, whose "
            f"first and last window of {config.window} latents must overlap, got {batch.frames}; "
            f"lower it, or raise window to {(groups + 3) // 2} or more"
        )


class VaeStage(nn.Module):
    """Reconstruction (L1 and gradients) of images and of disparity, with a little KL."""

    def __init__(self, model: DepthModel) -> None:
        super().__init__()
        self.model = model
        model.transformer.requires_grad_(False)

    def forward(
        self, batch: Batch, first_group: int = 0, history: int = 0
    ) -> tuple[Tensor, Parts]:
        device = self.model.vae.latent_mean.device
        rgb = batch.images(device) * 2 - 1
        grey = disparity_video(batch.target.to(device))
        videos = torch.cat((rgb, grey))
        mean, log_variance, _ = self.model.vae.moments(videos)
        log_variance = log_variance.clamp(-20, 10)
        noise = torch.randn_like(mean)
        latent = self.model.vae.normalise(mean + (0.5 * log_variance).exp() * noise)
        error = self.model.vae.decode(latent)[0] - videos
        parts = {
            "l1": error.abs().mean(),
            "grad": error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean(),
            "kl": 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean(),
        }
        return parts["l1"] + 0.5 * parts["grad"] + KL_WEIGHT * parts["kl"], parts


class LatentStage(nn.Module):
    """DVD: depth latent from RGB latent, mean squared error plus latent manifold rectification.

    A latent counts where all of its pixels are known. Unknown pixels are black in the video that
    is encoded (infinitely far), so that the latents beside them see a little of that.
    """

    def __init__(self, model: DepthModel, lmr: float) -> None:
        super().__init__()
        self.model = model
        self.lmr = lmr
        model.vae.requires_grad_(False)

    def forward(
        self, batch: Batch, first_group: int = 0, history: int = 0
    ) -> tuple[Tensor, Parts]:
        device = self.model.vae.latent_mean.device
        with torch.no_grad():
            rgb = self.model.window(batch.images(device), first_group, history)
            frame = first_group * self.model.size.vae.temporal_stride
            truth = disparity_video(batch.target[:, frame:].to(device))
            depth = self.model.latents(truth)
            known = latent_known(batch.known[:, frame:].to(device), self.model.size.vae)
        loss, parts = latent_loss(self.model.regress(rgb), depth, self.lmr, known)
        parts["counted"] = known.float().mean()  # share of the latents; a log near 0 warns
        return loss, parts


class PixelStage(nn.Module):
    """End to end on disparity.

    A clip longer than ``window`` latents is seen through two windows, its first and its last, as
    a streaming session would see it, and their predictions are held to agree where they overlap:
    what differs there is what the alignment of windows has to repair.
    """

    def __init__(self, model: DepthModel, loss: LossConfig, window: int) -> None:
        super().__init__()
        self.model = model
        self.window = window
        self.consistency = loss.consistency
        self.weights = {
            "absolute": loss.absolute,
            "gradient": loss.gradient,
            "temporal": loss.temporal,
            "depth": loss.depth,
        }

    def forward(
        self, batch: Batch, first_group: int = 0, history: int = 0
    ) -> tuple[Tensor, Parts]:
        device = self.model.vae.latent_mean.device
        stride = self.model.size.vae.temporal_stride
        last = (batch.rgb.shape[1] - 1) // stride + 1 - self.window  # first group of the last one
        if last > 0:
            return self._two_windows(batch, last, history)
        predicted = self.model(batch.images(device), first_group, history).float()
        frame = first_group * self.model.size.vae.temporal_stride
        target = batch.target[:, frame:].to(device)
        known = batch.known[:, frame:].to(device)
        low, high = batch.low.to(device), batch.high.to(device)
        return self._loss(predicted, target, known, low, high)

    def _two_windows(self, batch: Batch, last: int, history: int) -> tuple[Tensor, Parts]:
        device = self.model.vae.latent_mean.device
        stride = self.model.size.vae.temporal_stride
        frame, length = last * stride, (self.window - 1) * stride + 1
        rgb = batch.images(device)
        stream = self.model.encode_late(rgb, history)
        image = self.model.encode(rgb[:, :, frame : frame + 1])
        first = stream[:, :, : self.window]
        second = torch.cat((image, stream[:, :, last + 1 :]), dim=2)
        predicted = self.model.disparity(self.model.regress(torch.cat((first, second)))).float()

        def both(values: Tensor) -> Tensor:
            values = values.to(device)
            return torch.cat((values[:, :length], values[:, frame:]))

        low, high = batch.low.to(device).repeat(2), batch.high.to(device).repeat(2)
        total, parts = self._loss(predicted, both(batch.target), both(batch.known), low, high)
        a, b = predicted.chunk(2)
        parts["agree"] = (a[:, frame:] - b[:, : length - frame]).abs().mean()
        return total + self.consistency * parts["agree"], parts

    def _loss(
        self, predicted: Tensor, target: Tensor, known: Tensor, low: Tensor, high: Tensor
    ) -> tuple[Tensor, Parts]:
        relative, offset = relative_weight(target, low, high), depth_offset(low, high)
        return pixel_loss(predicted, target, known, relative, offset=offset, **self.weights)


@torch.no_grad()
def measure_latents(model: DepthModel, batches: list[Batch]) -> None:
    """Set the VAE's normalisation to the statistics of RGB and depth latents of some batches.

    As in Wan's VAE, whose fixed per-channel mean and deviation bring latents to unit size.
    """
    vae = model.vae
    device = vae.latent_mean.device
    columns = []
    for batch in batches:
        for video in (batch.images(device) * 2 - 1, disparity_video(batch.target.to(device))):
            mean, _, _ = vae.moments(video)
            columns.append(mean.float().transpose(0, 1).flatten(1))
    values = torch.cat(columns, dim=1)
    vae.latent_mean.copy_(values.mean(dim=1))
    vae.latent_std.copy_(values.std(dim=1).clamp_min(1e-3))
