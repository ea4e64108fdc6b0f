# SPDX-License-Identifier: Apache-2.0
"""The tiny VAE for Wan 2.1 latents (TAEHV, ``taew2_1``, MIT), streaming.

A distilled stand-in for the Wan VAE at a few percent of its cost, on the same normalised latents.
Layers are 2-D; time enters only through memory blocks, which see the frame before, and through
4:1 pooling and growing of frames. Parameter names are those of the public file. Images are [0, 1]
inside the public network; here [-1, 1] outside, as for the Wan VAE.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from video_depth_ros.regressors.wan.folded_file import require_shapes
from video_depth_ros.regressors.wan.tensor_file import open_tensors
from video_depth_ros.regressors.wan.vae_layers import State, Tape

GROUP = 4  # frames per latent


class MemoryBlock(nn.Module):
    """Residual block on a frame beside the frame before it (zeros before the first)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(2 * width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )

    def forward(self, x: Tensor, tape: Tape) -> Tensor:
        before = tape.read()
        if before is None:
            before = torch.zeros_like(x[:1])
        tape.write(x[-1:])
        past = torch.cat((before, x[:-1]))
        return functional.relu(self.conv(torch.cat((x, past), dim=1)) + x)


class TimePool(nn.Module):
    """``stride`` frames become one."""

    def __init__(self, width: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv = nn.Conv2d(width * stride, width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x.unflatten(0, (-1, self.stride)).flatten(1, 2))


class TimeGrow(nn.Module):
    """One frame becomes ``stride``."""

    def __init__(self, width: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv = nn.Conv2d(width, width * stride, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).unflatten(1, (self.stride, -1)).flatten(0, 1)


class Soft(nn.Module):
    """Smooth clamp of latents to (-3, 3)."""

    def forward(self, x: Tensor) -> Tensor:
        return 3 * torch.tanh(x / 3)


class TinyVae(nn.Module):
    """Encoder and decoder as (chunk, state) -> (output, state), batch 1.

    The first latent of a stream is one frame, later ones are of four. The public encoder was
    trained to give the latent that ends with frame 4 k, as Wan's does, from the frames 4 k to
    4 k + 3, and at the end of a video repeats the last one. A stream always ends with its newest
    frame: that one is taken four times, from the memory of the frames before, and again in its own
    place once the three that follow have come. The decoder drops the first three of the four
    frames that it makes of the first latent.
    """

    def __init__(
        self, widths: tuple[int, int, int, int] = (256, 128, 64, 64), z: int = 16
    ) -> None:
        super().__init__()
        thin = widths[3]
        encoder: list[nn.Module] = [nn.Conv2d(3, thin, 3, padding=1), nn.ReLU()]
        for stride in (2, 2, 1):
            encoder += [
                TimePool(thin, stride),
                nn.Conv2d(thin, thin, 3, stride=2, padding=1, bias=False),
                *(MemoryBlock(thin) for _ in range(3)),
            ]
        encoder.append(nn.Conv2d(thin, z, 3, padding=1))
        self.encoder = nn.ModuleList(encoder)
        decoder: list[nn.Module] = [Soft(), nn.Conv2d(z, widths[0], 3, padding=1), nn.ReLU()]
        for stride, (into, out) in zip((1, 2, 2), pairwise(widths), strict=True):
            decoder += [
                *(MemoryBlock(into) for _ in range(3)),
                nn.Upsample(scale_factor=2),
                TimeGrow(into, stride),
                nn.Conv2d(into, out, 3, padding=1, bias=False),
            ]
        decoder += [nn.ReLU(), nn.Conv2d(thin, 3, 3, padding=1)]
        self.decoder = nn.ModuleList(decoder)

    def encode(self, images: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """[1, 3, T, H, W] in [-1, 1] to normalised latents [1, z, T', H/8, W/8]."""
        x = images[0].transpose(0, 1) * 0.5 + 0.5
        memory: State | None = None
        if state is not None:
            *remembered, newest = state  # the newest frame has no place in the memory yet
            memory, x = tuple(remembered) or None, torch.cat((newest, x))
        latents = []
        for at in range(0 if state is None else GROUP, len(x), GROUP):
            if at:
                _, memory = _run(self.encoder, x[at - GROUP : at], memory)
            repeated = x[at : at + 1].expand(GROUP, -1, -1, -1)
            latents.append(_run(self.encoder, repeated, memory)[0])
        return torch.cat(latents, dim=2), (*(memory or ()), x[-1:].clone())

    def decode(self, latents: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Normalised latents to [1, 3, T, H, W] in about [-1, 1]."""
        x, new = _run(self.decoder, latents[0].transpose(0, 1), state)
        x = x[:, :, GROUP - 1 :] if state is None else x
        return x * 2 - 1, new


def load_tiny_vae(path: Path | str, device: torch.device, dtype: torch.dtype) -> TinyVae:
    """The tiny VAE from the public ``taew2_1`` file (.pth or .safetensors).

    Raises:
        CheckpointError: missing, damaged or of another model.
    """
    source = open_tensors(path)
    with torch.device("meta"):
        model = TinyVae()
    expected = {name: tuple(t.shape) for name, t in model.state_dict().items()}
    require_shapes(source.path, expected, source.shapes)
    tensors = {name: source.read(name).to(device, dtype) for name in expected}
    model.load_state_dict(tensors, assign=True)
    return model.eval().requires_grad_(False)


def _run(layers: nn.ModuleList, x: Tensor, state: State | None) -> tuple[Tensor, State]:
    tape = Tape(state)
    for layer in layers:
        x = layer(x, tape) if isinstance(layer, MemoryBlock) else layer(x)
    return x.transpose(0, 1)[None], tape.written()
