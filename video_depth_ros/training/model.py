# SPDX-License-Identifier: Apache-2.0
"""The network in training: causal VAE and transformer, on whole clips.

Exactly what a streaming session computes, with gradients: the same classes, the same causal state,
the window that starts with an image latent and takes its later latents from the running stream.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from video_depth_ros.errors import ConfigError
from video_depth_ros.regressors.wan.sizes import ModelSize
from video_depth_ros.regressors.wan.transformer import FoldedTransformer
from video_depth_ros.regressors.wan.unfolded import TEXT_DIM, UnfoldedTransformer
from video_depth_ros.regressors.wan.vae import CausalVae
from video_depth_ros.regressors.wan.vae_layers import State
from video_depth_ros.training.origin import Origin

Step = Callable[[Tensor, State | None], tuple[Tensor, State]]  # of the VAE, on one chunk

SMALL_TEXT_DIM = 16  # width of the zero context when training from scratch: only its bias acts


class DepthModel(nn.Module):
    """RGB clips to disparity clips.

    Args:
        size: sizes of both networks.
        tau: timestep of DVD's structural anchor, in (0, 1]; None trains the folded network
            directly, which has no timestep at all.
        text_dim: width of the zero context of the unfolded network; 4096 in the public weights.

    Attributes:
        origin: whose weights these are made from; nobody's where they are random.
    """

    def __init__(
        self, size: ModelSize, tau: float | None = 0.5, text_dim: int = SMALL_TEXT_DIM
    ) -> None:
        super().__init__()
        if size.transformer.in_channels != size.vae.z_dim:
            raise ConfigError(
                f"expected a transformer for {size.vae.z_dim} latent channels, got "
                f"{size.transformer.in_channels}"
            )
        self.size = size
        self.tau = tau
        self.origin = Origin()
        self.vae = CausalVae(size.vae)
        self.transformer: FoldedTransformer | UnfoldedTransformer
        if tau is None:
            self.transformer = FoldedTransformer(size.transformer)
        else:
            length = 512 if text_dim == TEXT_DIM else 1
            self.transformer = UnfoldedTransformer(size.transformer, text_dim, length)

    def regress(self, latents: Tensor) -> Tensor:
        """RGB latents [B, C, T', h, w] to depth latents of the same shape."""
        if isinstance(self.transformer, UnfoldedTransformer):
            assert self.tau is not None
            return self.transformer(latents, self.tau)
        return self.transformer(latents)

    def encode(self, rgb: Tensor) -> Tensor:
        """Images [B, 3, T, H, W] in [0, 1] to latents [B, C, T', h, w], T = 1 + stride * n."""
        return self.latents(rgb * 2 - 1)

    def latents(self, video: Tensor) -> Tensor:
        """:meth:`encode` for values in [-1, 1]."""
        return _streamed(self.vae.encode, video, self.size.vae.temporal_stride)

    def encode_late(self, rgb: Tensor, history: int) -> Tensor:
        """Latents of a clip that is met ``history`` latents after the start of a stream.

        The first one is the image latent of the first frame (empty history), as a window begins;
        the others come from an encoder that has run for a while. What it saw before the clip is
        the clip itself, mirrored in time again and again, and takes no gradient.
        """
        if history == 0 or self.vae.config.image_encoder:
            return self.encode(rgb)
        frames = 1 + history * self.size.vae.temporal_stride
        with torch.no_grad():
            past = rgb[:, :, mirrored(rgb.shape[2], frames)]
            _, state = self.vae.encode(past * 2 - 1)
        # until the end of 2025 PyTorch's autocast kept what it had cast without gradient for the
        # pass with one (issue 112583): the encoder's weights would not learn
        torch.clear_autocast_cache()
        later, _ = self.vae.encode(rgb[:, :, 1:] * 2 - 1, state)
        return torch.cat((self.encode(rgb[:, :, :1]), later), dim=2)

    def window(self, rgb: Tensor, first_group: int, history: int = 0) -> Tensor:
        """Latents of the window that starts at group ``first_group`` of a clip, as in a stream.

        The first latent is the image latent of that group's last frame (empty history); the
        others come from the running stream, whose history reaches back before the window and,
        with ``history``, before the clip (:meth:`encode_late`).
        """
        stream = self.encode_late(rgb, history)
        if first_group == 0:
            return stream
        frame = first_group * self.size.vae.temporal_stride
        image = self.encode(rgb[:, :, frame : frame + 1])
        return torch.cat((image, stream[:, :, first_group + 1 :]), dim=2)

    def disparity(self, latents: Tensor) -> Tensor:
        """Depth latents to disparity [B, T, H, W], not clamped; the mean of the channels."""
        return _streamed(self.vae.decode, latents, 1).mean(dim=1) * 0.5 + 0.5

    def forward(self, rgb: Tensor, first_group: int = 0, history: int = 0) -> Tensor:
        """Images [B, 3, T, H, W] in [0, 1] to disparity of the window's frames [B, T', H, W].

        With ``first_group`` = g the window's frames are those from g * stride on.
        """
        return self.disparity(self.regress(self.window(rgb, first_group, history)))


def _streamed(step: Step, x: Tensor, stride: int) -> Tensor:
    """Encoder or decoder over a whole clip.

    Without gradients it goes as a stream does, the first frame or latent and then ``stride`` at a
    time: a whole clip of DVD's size needs several times the memory that its groups do.
    """
    if torch.is_grad_enabled():
        return step(x, None)[0]
    parts, state = [], None
    for end in range(1, x.shape[2] + 1, stride):
        part, state = step(x[:, :, max(end - stride, 0) : end], state)
        parts.append(part)
    return torch.cat(parts, dim=2)


def mirrored(length: int, frames: int) -> list[int]:
    """Indices of ``frames`` frames that lead to frame 0, back and forth through a clip.

    Five of a clip of 3: 0 1 2 1 0.
    """
    period = max(2 * length - 2, 1)
    return [min(k % period, period - k % period) for k in range(frames - 1, -1, -1)]


def disparity_video(target: Tensor) -> Tensor:
    """Normalised disparity [B, T, H, W] as the grey video in [-1, 1] that the VAE takes."""
    return (target * 2 - 1)[:, None].expand(-1, 3, -1, -1, -1)
