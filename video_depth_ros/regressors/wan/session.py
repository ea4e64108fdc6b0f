# SPDX-License-Identifier: Apache-2.0
"""One stream through VAE and transformer: the regressor contract on explicit, immutable state."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor

from video_depth_ros.errors import RegressorError
from video_depth_ros.frames import DisparityGroup
from video_depth_ros.regressors.wan.rope import Rope
from video_depth_ros.regressors.wan.stream import StreamOptions, StreamState
from video_depth_ros.regressors.wan.transformer import FoldedTransformer, KeysValues
from video_depth_ros.regressors.wan.vae_layers import State
from video_depth_ros.window import GroupPhase


class LatentEncoder(Protocol):
    """[1, 3, T, H, W] in [-1, 1] to normalised latents; ``None`` starts a stream."""

    def encode(self, images: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Latents of a chunk and the state after it."""


class LatentDecoder(Protocol):
    """Normalised latents to [1, 1 or 3, T, H, W] in about [-1, 1]; ``None`` starts a stream."""

    def decode(self, latents: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Frames of a chunk and the state after it."""


class WanSession:
    """A :class:`~video_depth_ros.regressors.base.RegressorSession` of a Wan-like model.

    Every push encodes the new frames (or, ``anew``, the window's), runs the transformer on the
    window (whole, or in cached mode its newest latents) and decodes the newest frames with the
    overlap. A push is a pure step from one :class:`StreamState` to the next, so a preview is a
    step whose new state is let go, a snapshot is the state itself.
    """

    def __init__(
        self,
        encoder: LatentEncoder,
        transformer: FoldedTransformer,
        decoder: LatentDecoder,
        options: StreamOptions,
        size: tuple[int, int],
        stride: int,
    ) -> None:
        """``size``: height and width of the images; ``stride``: frames per latent."""
        self._encoder = encoder
        self._transformer = transformer
        self._decoder = decoder
        self._options = options
        self._size = size
        self._stride = stride
        self._phase = GroupPhase(1, stride * options.hop)
        weight = next(transformer.parameters())
        self._device, self._dtype = weight.device, weight.dtype
        self._ropes: dict[int, Rope] = {}  # by number of latents; constants
        self._start: tuple[int, Tensor] | None = None  # newest image latent, by its latent index
        self._state = StreamState()

    @property
    def next_group(self) -> int:
        """Frames that the next :meth:`push` must bring."""
        return self._phase.size(0 if self._state.latents == 0 else 1)

    @property
    def state(self) -> StreamState:
        """The stream so far; to look at, in tests and for accounting of memory."""
        return self._state

    def push(self, rgb: Tensor, overlap: int) -> DisparityGroup:
        """See :meth:`RegressorSession.push`."""
        if rgb.shape[0] != self.next_group:
            raise RegressorError(
                f"expected a group of {self.next_group} frames, got {rgb.shape[0]}; push whole "
                "groups, or preview a partial one"
            )
        self._state, group = self._run(rgb, overlap)
        return group

    def preview(self, rgb: Tensor, overlap: int) -> DisparityGroup:
        """See :meth:`RegressorSession.preview`."""
        if not 1 <= rgb.shape[0] <= self.next_group:
            raise RegressorError(
                f"preview: expected 1 to {self.next_group} frames, got {rgb.shape[0]}"
            )
        return self._run(rgb, overlap)[1]

    def snapshot(self) -> StreamState:
        """The state itself: nothing in it is ever written again."""
        return self._state

    def restore(self, state: Any) -> None:
        """See :meth:`RegressorSession.restore`."""
        if not isinstance(state, StreamState):
            raise RegressorError(
                f"restore: expected what snapshot() gave, got {type(state).__name__}"
            )
        self._state = state
        self._start = None  # may belong to frames that have been taken back

    def reset(self) -> None:
        """See :meth:`RegressorSession.reset`."""
        self.restore(StreamState())

    def _run(self, rgb: Tensor, overlap: int) -> tuple[StreamState, DisparityGroup]:
        """One step; the disparity leaves inference mode, so that callers may write into it."""
        with torch.inference_mode():
            state, group = self._step(rgb, overlap)
        return state, replace(group, disparity=group.disparity.clone())

    def _step(self, rgb: Tensor, overlap: int) -> tuple[StreamState, DisparityGroup]:
        """From the committed state over these frames to the next state and its disparity."""
        if tuple(rgb.shape[1:]) != (3, *self._size):
            raise RegressorError(
                f"expected images [3, {self._size[0]}, {self._size[1]}], got "
                f"{list(rgb.shape[1:])}; open a new session when the size changes"
            )
        if not rgb.is_floating_point():
            raise RegressorError(
                f"expected images in [0, 1], floating point, got {rgb.dtype}; divide by 255"
            )
        old = self._state
        images = self._prepare(rgb)
        state = self._encode(old, images)
        new = state.latents - old.latents
        if self._options.cached:
            state, depths, whole = self._cached(old, state, new)
        else:
            depths, whole = self._transform(self._whole_window(state)), True
        frames, first, decoder = self._decode(depths, old, state, overlap, whole)
        state = replace(state, decoder=decoder)
        padded = images.shape[2] - rgb.shape[0]
        frames = frames[: frames.shape[0] - padded] if padded else frames
        if not bool(torch.isfinite(frames).all()):
            raise RegressorError(
                "the network's output is not finite; use dtype bfloat16 or float32, or check "
                "the weight file"
            )
        return state, DisparityGroup(frames, first, rgb.shape[0])

    def _prepare(self, rgb: Tensor) -> Tensor:
        """[T, 3, H, W] in [0, 1] to [1, 3, T', H, W] in [-1, 1], padded to whole latents."""
        images = rgb.to(self._device, torch.float32) * 2.0 - 1.0
        missing = -rgb.shape[0] % self._stride if self._state.latents else 0
        if missing:
            images = torch.cat((images, images[-1:].expand(missing, -1, -1, -1)))
        images = images.to(self._dtype).transpose(0, 1)[None]
        if self._device.type == "cpu":
            images = images.contiguous(memory_format=torch.channels_last_3d)
        return images

    def _encode(self, old: StreamState, images: Tensor) -> StreamState:
        """The state with the latents of these frames [1, 3, T, H, W], or with the frames."""
        keep, start = self._options.window, self._options.begin
        new = images.shape[2] // self._stride if old.latents else 1
        step = images.shape[2] // new
        if start == "anew":
            chunks = tuple(chunk.clone() for chunk in images.split(step, dim=2))
            return StreamState(old.latents + new, lasts=(*old.lasts, *chunks)[-keep:])
        latents, encoder = self._encoder.encode(images, old.encoder)
        lasts: tuple[Tensor, ...] = ()
        if start == "image":
            ends = range(step - 1, step * new, step)
            lasts = tuple(images[:, :, i : i + 1].clone() for i in ends)
        return StreamState(
            latents=old.latents + new,
            encoder=encoder,
            window=(*old.window, *latents.split(1, dim=2))[-keep:],
            lasts=(*old.lasts, *lasts)[-keep:],
        )

    def _whole_window(self, state: StreamState) -> Tensor:
        """The window's RGB latents [1, C, n, h, w], as a window of its own would have them."""
        if self._options.begin == "anew":
            frames = torch.cat((state.lasts[0][:, :, -1:], *state.lasts[1:]), dim=2)
            if frames.device.type == "cpu":
                frames = frames.contiguous(memory_format=torch.channels_last_3d)
            return self._encoder.encode(frames)[0]
        index = state.latents - len(state.window)  # of the window's first latent
        if index == 0 or self._options.begin != "image":
            return torch.cat(state.window, dim=2)
        if self._start is None or self._start[0] != index:
            self._start = (index, self._encoder.encode(state.lasts[0])[0])
        return torch.cat((self._start[1], *state.window[1:]), dim=2)

    def _rope(self, count: int, like: Tensor) -> Rope:
        if count not in self._ropes:
            height, width = like.shape[-2:]
            self._ropes[count] = self._transformer.rope(count, height, width, self._device)
        return self._ropes[count]

    def _transform(self, latents: Tensor) -> Tensor:
        return self._transformer(latents, self._rope(latents.shape[2], latents))

    def _cached(
        self, old: StreamState, state: StreamState, new: int
    ) -> tuple[StreamState, Tensor, bool]:
        """Depth latents of the window, of which only the newest are computed anew.

        Returns the state with its memory, the depth latents [1, C, n, h, w] and whether the
        window was computed whole.
        """
        options, count = self._options, len(state.window)
        due = 0 < options.full_refresh_every <= old.whole + new and count == options.window
        fresh = min(max(options.refresh, new), count)
        if due or fresh == count:
            latents = self._whole_window(state)
            past: tuple[KeysValues, ...] = ()
            kept: tuple[Tensor, ...] = ()
        else:
            latents = torch.cat(state.window[-fresh:], dim=2)
            past = _forget(
                old.memory[: len(old.memory) - (fresh - new)],
                options.window - fresh,
                options.sink,
            )
            kept = old.depths[: len(old.depths) - (fresh - new)]
        rope = self._rope(len(past) + latents.shape[2], latents)
        depths, memory = self._transformer.forward_cached(latents, past, rope)
        all_depths = (*kept, *(d.clone() for d in depths.split(1, dim=2)))[-count:]
        whole = not past
        state = replace(
            state,
            memory=(*past, *memory),
            depths=all_depths,
            whole=0 if whole else old.whole + new,
        )
        return state, torch.cat(all_depths, dim=2), whole

    def _decode(
        self,
        depths: Tensor,
        old: StreamState,
        state: StreamState,
        overlap: int,
        whole: bool,
    ) -> tuple[Tensor, int, tuple[int, State] | None]:
        """Newest frames with the overlap, float32 [T, H, W]; index of the first; decoder state.

        ``depths`` are the window's depth latents; ``whole`` if they come from one whole window.
        """
        options, stride = self._options, self._stride
        end = state.latents  # latents are counted from the start of the stream
        start = end - depths.shape[2]
        wanted = min(max(overlap, 0), options.max_overlap(stride))
        back = -(-wanted // stride)  # latents of the overlap
        first = max(start, old.latents - back)

        decoder: State | None = None
        if options.decode == "window":
            begin = start
        elif options.decode == "warm" and old.decoder is not None and old.decoder[0] == first:
            begin, decoder = old.decoder[0], old.decoder[1]
        else:
            begin = max(start, first - options.lead)
        cold = decoder is None

        # Warm: the next push will start ``back`` latents before its own; keep the state there.
        cut = end - back if options.decode == "warm" and end - back > begin else end
        frames, decoder = self._decoder.decode(depths[:, :, begin - start : cut - start], decoder)
        kept = (cut, decoder) if options.decode == "warm" and cut == end - back else None
        if cut < end:
            rest, _ = self._decoder.decode(depths[:, :, cut - start :], decoder)
            frames = torch.cat((frames, rest), dim=2)

        # From an empty decoder the first latent gives one frame, which is a real prediction only
        # if the latent is that of a single frame.
        image = begin == 0 or (whole and begin == start and options.image_first)
        usable = frames.shape[2] - (1 if cold and not image else 0)
        pushed = stride * (end - old.latents) if old.latents else 1
        count = min(pushed + wanted, usable)
        disparity = frames[0, :, frames.shape[2] - count :].float().mean(dim=0)
        disparity = disparity.mul_(0.5).add_(0.5).clamp_(0.0, 1.0)
        return disparity, stride * (end - 1) + 1 - count, kept


def _forget(memory: tuple[KeysValues, ...], keep: int, sink: bool) -> tuple[KeysValues, ...]:
    """The entries that stay in sight: the newest ``keep``, the first of them given to the sink."""
    if len(memory) <= keep:
        return memory
    if sink and keep > 1:
        return (*memory[:1], *memory[len(memory) - keep + 1 :])
    return memory[len(memory) - keep :]
