# SPDX-License-Identifier: Apache-2.0
"""Bounded look-ahead: frames are held back until later windows have seen them, too.

A frame that is published at once is the one window's that made it, and where the next window takes
over there is a seam. The next windows see the newest frames again (their overlap). Held back until
then, a frame is blended from all windows that saw it, with DepthCrafter's and DVD's linear
cross-fade; what was given out is never touched again. The price is latency: every group held back
is a group's time. Memory is that of the frames held back.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from video_depth_ros.alignment.config import AlignmentConfig
from video_depth_ros.alignment.running import AlignedGroup
from video_depth_ros.alignment.verdicts import USABLE, FitVerdict
from video_depth_ros.regressors.base import RegressorSpec

# Only a window whose place in the running frame is known may change what another one said.
_BLENDED = USABLE | {FitVerdict.FLAT}


@dataclass(frozen=True)
class AlignedFrame:
    """One frame, ready to be published.

    Attributes:
        index: in the stream, as in the groups' ``first_index``.
        disparity: float32 [h, w] in the running frame.
        sigma: float32 [h, w], of the window that made the frame, or None.
        sequence: of its segment.
    """

    index: int
    disparity: Tensor
    sigma: Tensor | None
    sequence: int


class LookAhead:
    """Holds the newest frames back and blends them. One owner; not thread-safe."""

    def __init__(self, frames: int, lowest: float | None = None) -> None:
        """
        Args:
            frames: held back; 0 gives every frame out at once.
            lowest: blended values are not below it; None: no limit.
        """
        self._frames = frames
        self._lowest = lowest
        self._held: deque[AlignedFrame] = deque()

    @classmethod
    def of(cls, config: AlignmentConfig, spec: RegressorSpec) -> LookAhead:
        """As configured, but no longer than windows of this regressor see a frame again."""
        overlap = min(config.overlap, spec.max_overlap)
        useful = -(-overlap // spec.group)
        return cls(
            min(config.look_ahead, useful) * spec.group,
            lowest=0.0 if config.method == "dvd" else None,
        )

    def __len__(self) -> int:
        """Frames that are held back now."""
        return len(self._held)

    def push(self, aligned: AlignedGroup) -> list[AlignedFrame]:
        """Take an aligned window; returns what nothing can change any more.

        Args:
            aligned: what :meth:`RunningEstimate.align` made of a window; frames come once as new
                ones, by rising index.

        Returns:
            Frames in the order of the stream. A new segment sends out all frames of the old one
            as they are: they are in another affine frame.
        """
        ready: list[AlignedFrame] = []
        if self._held and self._held[0].sequence != aligned.sequence:
            ready = self.flush()
        elif aligned.fit.verdict in _BLENDED:
            self._blend(aligned)
        group = aligned.window
        first = group.first_index + group.overlap
        for row in range(group.new):
            sigma = None if aligned.sigma is None else aligned.sigma[row]
            self._held.append(
                AlignedFrame(first + row, aligned.disparity[row], sigma, aligned.sequence)
            )
        while len(self._held) > self._frames:
            ready.append(self._held.popleft())
        return ready

    def flush(self) -> list[AlignedFrame]:
        """All that is held back, as it is: at the end of a stream, or before it starts anew."""
        ready = list(self._held)
        self._held.clear()
        return ready

    def _blend(self, aligned: AlignedGroup) -> None:
        """Cross-fade to the new window over the held frames that it sees again.

        Its weight rises linearly towards the newest of them and never quite reaches 0 or 1.
        """
        group = aligned.window
        rows = [frame.index - group.first_index for frame in self._held]
        seen = [place for place, row in enumerate(rows) if 0 <= row < group.overlap]
        for order, place in enumerate(seen, start=1):
            frame = self._held[place]
            again = group.disparity[rows[place]] * aligned.fit.scale + aligned.fit.shift
            if self._lowest is not None:
                again = again.clamp_min_(self._lowest)
            blended = torch.lerp(frame.disparity, again, order / (len(seen) + 1.0))
            self._held[place] = replace(frame, disparity=blended)
