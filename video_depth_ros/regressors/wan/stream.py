# SPDX-License-Identifier: Apache-2.0
"""How a video is fed through the window: options, and the state of one stream.

Vocabulary: latent j of a stream covers frame 0 (j = 0) or frames 4j-3 .. 4j, so its last frame is
4j; a window holds the newest W latents; a push brings ``hop`` of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from video_depth_ros.errors import ConfigError
from video_depth_ros.regressors.wan.transformer import KeysValues
from video_depth_ros.regressors.wan.vae_layers import State

_REFRESH_AWAITED = 64  # latents; rarer refreshes are made on the stream, the first at full cost


@dataclass(frozen=True)
class StreamOptions:
    """How windows are formed, computed and decoded.

    Attributes:
        window: latents the network sees at once.
        hop: latents per push after the first frame.
        cached: keep keys and values of old latents and compute only the newest ``refresh``.
        refresh: cached: newest latents computed at each push (at least ``hop`` are).
        full_refresh_every: cached: latents between two windows computed whole; 0 = never.
        sink: cached: the first latent of the last whole window stays visible until the next one.
        start: what the first latent of a window is once the stream is longer than the window:
            ``image``, its last frame encoded alone, as in every window the network was trained
            on; ``stream``, the latent of the running encoder (saves one image encoding); or
            ``anew``: all latents of the window are encoded anew from its frames, as a clip of
            its own, so that no history reaches further back than in training (exact mode only).
        decode: ``window``: all latents of the window from an empty decoder; ``restart``: only
            the latents asked for and ``lead`` before them, from an empty decoder; ``warm``: only
            the latents asked for, continuing the decoder's state of the push before.
        lead: latents before those asked for that warm an empty decoder up. At least one: an empty
            decoder makes one frame of its first latent, not the latent's four.
        image_latents: the encoder makes every latent of one image
            (:attr:`VaeConfig.image_encoder`): all three ways to start a window are then one.
    """

    window: int = 9
    hop: int = 1
    cached: bool = False
    refresh: int = 3
    full_refresh_every: int = 8
    sink: bool = True
    start: str = "image"
    decode: str = "restart"
    lead: int = 1
    image_latents: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.hop < self.window:
            raise ConfigError(
                f"expected a window longer than the hop, got window {self.window} and "
                f"hop {self.hop} groups; raise the window or lower the hop"
            )
        if self.cached and not self.hop <= self.refresh <= self.window:
            raise ConfigError(
                f"cached mode: expected hop <= refresh <= window, got {self.hop}, {self.refresh} "
                f"and {self.window} groups"
            )
        if self.start not in ("image", "stream", "anew"):
            raise ConfigError(f"window start: expected image, stream or anew, got {self.start!r}")
        if self.start == "anew" and self.cached:
            raise ConfigError(
                "window start: anew encodes every window anew, cached mode keeps old latents; "
                "take image or stream, or exact mode"
            )
        if self.decode not in ("window", "restart", "warm"):
            raise ConfigError(f"decode: expected window, restart or warm, got {self.decode!r}")
        if self.lead < 1:
            raise ConfigError(
                f"decode lead: expected at least 1 latent, got {self.lead}; without one the "
                "decoder cannot make all frames that are asked for"
            )

    @property
    def begin(self) -> str:
        """``start``, or ``stream`` where it makes no difference: nothing is encoded twice."""
        return "stream" if self.image_latents else self.start

    @property
    def image_first(self) -> bool:
        """Whether every window starts with the latent of a single frame."""
        return self.image_latents or self.start != "stream"

    @property
    def settled(self) -> int:
        """Pushes from the start of a stream until every kind of step has been made: a full window,
        and in cached mode a refresh of it."""
        full = 1 + math.ceil((self.window - 1) / self.hop)
        if not self.cached:
            return full
        return full + math.ceil(min(self.full_refresh_every, _REFRESH_AWAITED) / self.hop)

    def max_overlap(self, stride: int) -> int:
        """Frames before the newest group that a full window can return, ``stride`` per latent."""
        # The window's first latent may be that of one frame, and starts the decoder.
        most = self.window - 1 - self.hop
        if self.cached:
            # Only what this push computed anew; with nothing to spare, one kept latent.
            most = min(most, max(self.refresh - self.hop, 1))
        return stride * most


@dataclass(frozen=True)
class StreamState:
    """Everything a stream remembers. Tensors in it are never written: a copy is a reference.

    Attributes:
        latents: number of latents so far.
        encoder: state of the streaming encoder.
        window: the newest RGB latents [1, C, 1, h, w], oldest first; none if encoded anew.
        lasts: the last frame [1, 3, 1, H, W] of each of these latents, in [-1, 1]; all frames
            [1, 3, stride, H, W] of each latent if they are encoded anew.
        depths: cached mode: the newest prediction for each latent of the window.
        memory: cached mode: keys and values of each latent of the window.
        whole: cached mode: latents since the last window computed whole.
        decoder: warm decoding: (first latent that is not in it, state of the decoder).
    """

    latents: int = 0
    encoder: State | None = None
    window: tuple[Tensor, ...] = ()
    lasts: tuple[Tensor, ...] = ()
    depths: tuple[Tensor, ...] = ()
    memory: tuple[KeysValues, ...] = ()
    whole: int = 0
    decoder: tuple[int, State] | None = None

    def elements(self) -> int:
        """Numbers held by all tensors of the state: constant once the window is full."""
        tensors = [*(self.encoder or ()), *self.window, *self.lasts, *self.depths]
        for entry in self.memory:
            tensors += [entry.keys, entry.values]
        if self.decoder is not None:
            tensors += self.decoder[1]
        return sum(t.numel() for t in tensors)
