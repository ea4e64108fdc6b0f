# SPDX-License-Identifier: Apache-2.0
"""The Wan 2.1 video VAE, streaming first.

Encoder and decoder are pure functions (chunk, state) -> (output, state). A state is a tuple of
tensors that are never written again, so that keeping one is a snapshot and going back to it a
rollback. ``None`` is the state before the first frame. Any cut of a clip into chunks gives the
same numbers, so a whole clip is simply one large chunk:

    first chunk 1 + 4k frames (k >= 0), later chunks 4k frames (k >= 1);
    one latent for the first frame, then one per 4 frames

with 4 the product of the temporal strides. Memory of a stream is the state: the last two input
frames of every causal convolution. Parameter names are those of the public weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional

from video_depth_ros.errors import ConfigError
from video_depth_ros.regressors.wan.vae_layers import (
    AttentionBlock,
    CausalConv3d,
    Downsample,
    ResidualBlock,
    RmsNorm,
    State,
    Tape,
    Upsample,
    as_clip,
    as_frames,
)

WAN_LATENT_MEAN = (
    -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508,
    0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921,
)  # fmt: skip
WAN_LATENT_STD = (
    2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743,
    3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160,
)  # fmt: skip


@dataclass(frozen=True)
class VaeConfig:
    """Sizes of a VAE; the defaults are Wan 2.1.

    Attributes:
        out_channels: 3, or 1 for a decoder that gives disparity directly.
        dim: width at full resolution.
        z_dim: channels of the latent.
        multipliers: width of each resolution as a multiple of ``dim``, finest first.
        res_blocks: residual blocks per resolution (the decoder has one more).
        temporal: whether the step after each resolution but the last also halves time.
        patch: pixels are gathered patch x patch into channels before the encoder and spread again
            after the decoder (1 = not at all).
        image_encoder: a latent is the image latent of its group's newest frame; the encoder
            remembers nothing and skips the other frames.
    """

    in_channels: int = 3
    out_channels: int = 3
    dim: int = 96
    z_dim: int = 16
    multipliers: tuple[int, ...] = (1, 2, 4, 4)
    res_blocks: int = 2
    temporal: tuple[bool, ...] = (False, True, True)
    patch: int = 1
    image_encoder: bool = False

    def __post_init__(self) -> None:
        sizes = (self.in_channels, self.out_channels, self.dim, self.z_dim, self.res_blocks)
        if min(*sizes, self.patch, *self.multipliers) < 1:
            raise ConfigError(f"VAE: expected positive sizes, got {self}")
        if len(self.temporal) != len(self.multipliers) - 1:
            raise ConfigError(
                f"VAE: expected one temporal flag between two resolutions, got {self.temporal} "
                f"for {len(self.multipliers)} resolutions"
            )

    @property
    def spatial_stride(self) -> int:
        """Pixels per latent cell, each way."""
        return self.patch * 2 ** len(self.temporal)

    @property
    def temporal_stride(self) -> int:
        """Frames per latent after the first."""
        return int(prod(2 if t else 1 for t in self.temporal))


class Encoder(nn.Module):
    """Frames to the two halves (mean, log variance) of the latent's distribution."""

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        widths = [config.dim * m for m in (1, *config.multipliers)]
        self.conv1 = CausalConv3d(config.in_channels * config.patch**2, widths[0])
        layers: list[nn.Module] = []
        for index, (into, out) in enumerate(pairwise(widths)):
            layers += [
                ResidualBlock(into if i == 0 else out, out) for i in range(config.res_blocks)
            ]
            if index < len(config.temporal):
                layers.append(Downsample(out, temporal=config.temporal[index]))
        self.downsamples = nn.ModuleList(layers)
        self.middle = _middle(widths[-1])
        self.head = _head(widths[-1], 2 * config.z_dim)

    def forward(self, x: Tensor, tape: Tape) -> Tensor:
        x = self.conv1(x, tape)
        for layer in (*self.downsamples, *self.middle):
            x = layer(x, tape)
        return _apply_head(self.head, x, tape)


class Decoder(nn.Module):
    """Latents to frames."""

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        widths = [config.dim * m for m in (config.multipliers[-1], *config.multipliers[::-1])]
        self.conv1 = CausalConv3d(config.z_dim, widths[0])
        self.middle = _middle(widths[0])
        steps = config.temporal[::-1]
        layers: list[nn.Module] = []
        for index, (into, out) in enumerate(pairwise(widths)):
            into = into if index == 0 else into // 2  # the step before has halved the width
            layers += [
                ResidualBlock(into if i == 0 else out, out) for i in range(config.res_blocks + 1)
            ]
            if index < len(steps):
                layers.append(Upsample(out, temporal=steps[index]))
        self.upsamples = nn.ModuleList(layers)
        self.head = _head(widths[-1], config.out_channels * config.patch**2)

    def forward(self, z: Tensor, tape: Tape) -> Tensor:
        x = self.conv1(z, tape)
        for layer in (*self.middle, *self.upsamples):
            x = layer(x, tape)
        return _apply_head(self.head, x, tape)


class CausalVae(nn.Module):
    """Encoder and decoder with the normalisation of the latent in between.

    Images are [B, 3, T, H, W] in [-1, 1], latents [B, z_dim, T', H/s, W/s], normalised to zero
    mean and unit deviation per channel by the buffers ``latent_mean`` and ``latent_std``.
    """

    latent_mean: Tensor
    latent_std: Tensor

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.conv1 = nn.Conv3d(2 * config.z_dim, 2 * config.z_dim, 1)
        self.conv2 = nn.Conv3d(config.z_dim, config.z_dim, 1)
        self.decoder = Decoder(config)
        mean, std = normalisation(config)
        self.register_buffer("latent_mean", mean)
        self.register_buffer("latent_std", std)

    def moments(self, images: Tensor, state: State | None = None) -> tuple[Tensor, Tensor, State]:
        """Mean and log variance of the latents (not normalised), and the state after them."""
        x, state = self._encoded(images, state)
        mean, log_variance = self.conv1(x).chunk(2, dim=1)
        return mean, log_variance, state

    def encode(self, images: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Normalised latents (the distribution's mean) of a chunk, and the state after it."""
        x, state = self._encoded(images, state)
        # Only the mean's half of the last 1x1x1 convolution is computed.
        z = self.config.z_dim
        mean = functional.conv3d(x, self.conv1.weight[:z], self.conv1.bias[:z])  # type: ignore[index]
        return self.normalise(mean), state

    def _encoded(self, images: Tensor, state: State | None) -> tuple[Tensor, State]:
        if not self.config.image_encoder:
            tape = Tape(state)
            return self.encoder(_gather(images, self.config.patch), tape), tape.written()
        stride = self.config.temporal_stride
        newest = images[:, :, 0 if state is None else stride - 1 :: stride]
        frames = as_frames(newest)[:, :, None]  # each a clip of its own
        x = self.encoder(_gather(frames, self.config.patch), Tape(None))
        return as_clip(x[:, :, 0], len(images)), ()

    def decode(self, latents: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Frames (not clamped) of a chunk of normalised latents, and the state after it."""
        tape = Tape(state)
        x = self.decoder(self.conv2(self.denormalise(latents)), tape)
        return _spread(x, self.config.patch), tape.written()

    def normalise(self, mean: Tensor) -> Tensor:
        """Latents as the transformer sees them."""
        return (mean - _channels(self.latent_mean, mean)) / _channels(self.latent_std, mean)

    def denormalise(self, latents: Tensor) -> Tensor:
        """The inverse of :meth:`normalise`."""
        return latents * _channels(self.latent_std, latents) + _channels(self.latent_mean, latents)


def normalisation(config: VaeConfig) -> tuple[Tensor, Tensor]:
    """Mean and deviation per channel: the public constants for Wan's latents, else 0 and 1."""
    if config.z_dim == len(WAN_LATENT_MEAN) and config.patch == 1:
        return torch.tensor(WAN_LATENT_MEAN), torch.tensor(WAN_LATENT_STD)
    return torch.zeros(config.z_dim), torch.ones(config.z_dim)


def _middle(width: int) -> nn.ModuleList:
    return nn.ModuleList(
        [ResidualBlock(width, width), AttentionBlock(width), ResidualBlock(width, width)]
    )


def _head(width: int, out: int) -> nn.ModuleDict:
    return nn.ModuleDict({"0": RmsNorm(width), "2": CausalConv3d(width, out)})


def _apply_head(head: nn.ModuleDict, x: Tensor, tape: Tape) -> Tensor:
    return head["2"](functional.silu(head["0"](x)), tape)  # type: ignore[no-any-return]


def _channels(values: Tensor, like: Tensor) -> Tensor:
    return values.to(like.dtype).view(1, -1, 1, 1, 1)


def _gather(images: Tensor, patch: int) -> Tensor:
    """[B, C, T, H, W] to [B, C * p * p, T, H/p, W/p], channels in (c, py, px) order."""
    if patch == 1:
        return images
    b, c, t, h, w = images.shape
    x = images.reshape(b, c, t, h // patch, patch, w // patch, patch)
    return x.permute(0, 1, 4, 6, 2, 3, 5).reshape(b, -1, t, h // patch, w // patch)


def _spread(x: Tensor, patch: int) -> Tensor:
    """The inverse of :func:`_gather`."""
    if patch == 1:
        return x
    b, _, t, h, w = x.shape
    x = x.reshape(b, -1, patch, patch, t, h, w).permute(0, 1, 4, 5, 2, 6, 3)
    return x.reshape(b, -1, t, h * patch, w * patch)
