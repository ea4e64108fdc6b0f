# SPDX-License-Identifier: Apache-2.0
"""Layers of the causal VAE. What a layer must remember goes through a :class:`Tape`."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

State = tuple[Tensor, ...]
HISTORY = 2  # input frames that a convolution over three frames must remember


class Tape:
    """Reads the memories of the last chunk in the layers' order and takes down the new ones."""

    def __init__(self, state: State | None) -> None:
        self._old: Iterator[Tensor] | None = None if state is None else iter(state)
        self._new: list[Tensor] = []

    def read(self) -> Tensor | None:
        """This layer's memory; None in the first chunk of a stream."""
        return None if self._old is None else next(self._old)

    def write(self, memory: Tensor) -> None:
        """Keep ``memory`` for the next chunk; copied, so that it does not hold the whole chunk."""
        self._new.append(memory.clone())

    def written(self) -> State:
        """The state after this chunk."""
        return tuple(self._new)


class RmsNorm(nn.Module):
    """x / |x| * sqrt(C) * gamma over the channels, dimension 1."""

    def __init__(self, channels: int, images: bool = False) -> None:
        super().__init__()
        self.scale = channels**0.5
        self.gamma = nn.Parameter(torch.ones(channels, 1, 1, *(() if images else (1,))))

    def forward(self, x: Tensor) -> Tensor:
        return functional.normalize(x, dim=1) * (self.scale * self.gamma)


class CausalConv3d(nn.Conv3d):
    """3x3x3 convolution that looks at this frame and the two before it (zeros at the start)."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__(channels, out, 3, padding=(0, 1, 1))

    def forward(self, x: Tensor, tape: Tape) -> Tensor:  # type: ignore[override]
        past = tape.read()
        if past is None and x.shape[2] == 1:
            # An image: zero history, so only the newest frame's taps act (a third of the work).
            tape.write(functional.pad(x, (0, 0, 0, 0, HISTORY - 1, 0)))
            image = functional.conv2d(x[:, :, 0], self.weight[:, :, -1], self.bias, padding=1)
            return image[:, :, None]
        x = _after(past, x)
        tape.write(x[:, :, -HISTORY:])
        return _convolve(x, self)


class ResidualBlock(nn.Module):
    """Norm, SiLU, convolution, twice, beside a shortcut."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.residual = nn.ModuleDict(
            {
                "0": RmsNorm(channels),
                "2": CausalConv3d(channels, out),
                "3": RmsNorm(out),
                "6": CausalConv3d(out, out),
            }
        )
        self.shortcut = nn.Conv3d(channels, out, 1) if channels != out else nn.Identity()

    def forward(self, x: Tensor, tape: Tape) -> Tensor:
        y = self.residual["2"](functional.silu(self.residual["0"](x)), tape)
        y = self.residual["6"](functional.silu(self.residual["3"](y)), tape)
        return y + self.shortcut(x)


class AttentionBlock(nn.Module):
    """One-head attention over the positions of each frame; nothing to remember."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = RmsNorm(channels, images=True)
        self.to_qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.proj = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, tape: Tape) -> Tensor:
        b, c, t, h, w = x.shape
        frames = as_frames(x)
        # Fused attention kernels on CUDA want each position's channels side by side.
        qkv = self.to_qkv(self.norm(frames)).flatten(2).transpose(1, 2).contiguous()
        q, k, v = qkv[:, None].chunk(3, dim=-1)
        y = functional.scaled_dot_product_attention(q, k, v)
        y = y[:, 0].transpose(1, 2).reshape(b * t, c, h, w)
        return x + as_clip(self.proj(y), b)


class Downsample(nn.Module):
    """Half the height and width, and with ``temporal`` half the frames after the first."""

    def __init__(self, channels: int, temporal: bool) -> None:
        super().__init__()
        self.resample = nn.ModuleDict({"1": nn.Conv2d(channels, channels, 3, stride=2)})
        if temporal:
            self.time_conv = nn.Conv3d(channels, channels, (3, 1, 1), stride=(2, 1, 1))
        self.temporal = temporal

    def forward(self, x: Tensor, tape: Tape) -> Tensor:
        b = x.shape[0]
        frames = functional.pad(as_frames(x), (0, 1, 0, 1))  # one row and column at the far end
        x = as_clip(self.resample["1"](frames), b)
        if not self.temporal:
            return x
        last = tape.read()
        tape.write(x[:, :, -1:])
        if last is not None:
            return _convolve(torch.cat((last, x), dim=2), self.time_conv)
        if x.shape[2] == 1:
            return x  # the first frame of a stream is a latent of its own
        return torch.cat((x[:, :, :1], _convolve(x, self.time_conv)), dim=2)


class Upsample(nn.Module):
    """Twice the height and width, half the channels; ``temporal`` doubles the later frames."""

    def __init__(self, channels: int, temporal: bool) -> None:
        super().__init__()
        self.resample = nn.ModuleDict({"1": nn.Conv2d(channels, channels // 2, 3, padding=1)})
        if temporal:
            self.time_conv = nn.Conv3d(channels, 2 * channels, (3, 1, 1))
        self.temporal = temporal

    def forward(self, x: Tensor, tape: Tape) -> Tensor:
        b = x.shape[0]
        if self.temporal:
            x = self._double(x, tape)
        frames = functional.interpolate(as_frames(x), scale_factor=2.0, mode="nearest")
        return as_clip(self.resample["1"](frames), b)

    def _double(self, x: Tensor, tape: Tape) -> Tensor:
        """Every frame but the first of a stream becomes two; history starts after the first."""
        past = tape.read()
        first = x[:, :, :0]
        if past is None:
            first, x = x[:, :, :1], x[:, :, 1:]
        padded = _after(past, x)
        tape.write(padded[:, :, -HISTORY:])
        if x.shape[2] == 0:
            return first
        # 2C channels of a frame are two frames of C; pixels stay innermost (channels_last_3d)
        y = _convolve(padded, self.time_conv).unflatten(1, (2, -1)).permute(0, 3, 1, 4, 5, 2)
        return torch.cat((first, y.flatten(1, 2).permute(0, 4, 1, 2, 3)), dim=2)


def _after(past: Tensor | None, x: Tensor) -> Tensor:
    """The history and then x; zeros before the start. Keeps x's memory format."""
    if past is None:
        return functional.pad(x, (0, 0, 0, 0, HISTORY, 0))
    return torch.cat((past, x), dim=2)


def _convolve(x: Tensor, conv: nn.Conv3d) -> Tensor:
    """A convolution over three frames, x [B, C, T, H, W] with its history in front.

    On CPUs conv3d is 5 to 15 times slower than a 2-D convolution over three frames' channels side
    by side, which is the same sum: ``channels_last`` 2-D kernels are the tuned ones there. x is
    best in ``channels_last_3d``, and so is the result.
    """
    if x.device.type != "cpu":
        return functional.conv3d(x, conv.weight, conv.bias, conv.stride, conv.padding)
    pixels = x.permute(0, 2, 3, 4, 1)
    step, last = conv.stride[0], x.shape[2] - HISTORY
    triples = torch.cat([pixels[:, i : i + last : step] for i in range(HISTORY + 1)], dim=-1)
    flat = conv.weight.transpose(1, 2).flatten(1, 2)
    flat = flat.contiguous(memory_format=torch.channels_last)
    images = triples.flatten(0, 1).permute(0, 3, 1, 2)
    return as_clip(
        functional.conv2d(images, flat, conv.bias, padding=conv.padding[1:]), x.shape[0]
    )


def as_frames(x: Tensor) -> Tensor:
    """[B, C, T, H, W] to [B * T, C, H, W]."""
    return x.transpose(1, 2).flatten(0, 1)


def as_clip(frames: Tensor, batch: int) -> Tensor:
    """The inverse of :func:`as_frames`."""
    return frames.unflatten(0, (batch, -1)).transpose(1, 2)
