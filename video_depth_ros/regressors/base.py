# SPDX-License-Identifier: Apache-2.0
"""The contract of a regressor: groups of images in, affine-invariant disparity out.

A :class:`Regressor` holds weights and is shared; a :class:`RegressorSession` is one stream with
its own explicit state. Sessions are deterministic, and neither their cost nor their memory grows
with the length of the stream.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from video_depth_ros.frames import DisparityGroup


@dataclass(frozen=True)
class RegressorSpec:
    """What a caller must know to feed a regressor.

    Attributes:
        name: registry name.
        licence: SPDX identifier or short name of the weights' licence, shown to the user.
        first_group: frames in the first group of a stream (DVD: 1).
        group: frames in each later group (DVD: 4, the temporal stride of its VAE).
        size_multiple: height and width must be multiples of this (DVD: 16).
        box: (height, width) that the resized image covers by default (DVD: 480, 640).
        max_overlap: most earlier frames a session can return again beside the newest group.
        homing: share of the way per group that the stream should go back to the network's own
            affine frame (``alignment.homing``): for a network whose windows agree badly.
        warm_up: groups from the start of a stream until no later one pays for something that is
            made on first use (compilation, allocation).
    """

    name: str
    licence: str
    first_group: int
    group: int
    size_multiple: int
    box: tuple[int, int]
    max_overlap: int
    homing: float = 0.0
    warm_up: int = 1


@runtime_checkable
class RegressorSession(Protocol):
    """One stream. Input: float32 [T, 3, h, w] in [0, 1], RGB, on ``device``, h and w as opened."""

    @property
    def next_group(self) -> int:
        """Frames that the next :meth:`push` must bring."""

    def push(self, rgb: Tensor, overlap: int) -> DisparityGroup:
        """Take one whole group and return its disparity with up to ``overlap`` earlier frames.

        Fewer overlap frames come back near the start of a stream.

        Raises:
            RegressorError: wrong number of frames or size, or non-finite output.
        """

    def preview(self, rgb: Tensor, overlap: int) -> DisparityGroup:
        """Disparity of a partial group (1 .. next_group frames), leaving the state untouched.

        The last frame is repeated to fill the group, which is DVD's own padding rule; ``new`` is
        the number of frames given.
        """

    def snapshot(self) -> Any:
        """The state as an opaque value, cheap (no copy of tensors that are never written)."""

    def restore(self, state: Any) -> None:
        """Return to a state taken by :meth:`snapshot` of this session."""

    def reset(self) -> None:
        """Forget the stream: the next push brings a first group."""


@runtime_checkable
class Regressor(Protocol):
    """Weights on a device, from which any number of sessions can be opened."""

    @property
    def spec(self) -> RegressorSpec:
        """Groups, sizes and licence."""

    @property
    def device(self) -> torch.device:
        """Where sessions expect their input and leave their output."""

    def open(self, height: int, width: int) -> RegressorSession:
        """A session for images of this size (multiples of ``spec.size_multiple``).

        Raises:
            RegressorError: size not a multiple, or too small for the network.
        """
