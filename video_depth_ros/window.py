# SPDX-License-Identifier: Apache-2.0
"""The causal sliding window: a preallocated ring on the device, and the phases of its groups."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from video_depth_ros.errors import RegressorError


class TensorRing:
    """The newest ``capacity`` entries of a stream of equal tensors, in one allocation.

    ``view`` returns the entries oldest first. Each entry is written twice, at i and i + capacity,
    so that the newest ``n`` entries are always one contiguous slice: no copy, no roll.
    """

    def __init__(self, capacity: int, like: Tensor) -> None:
        """``like``: one entry (shape, dtype, device), without the leading ring dimension."""
        if capacity < 1:
            raise RegressorError(f"ring: expected a capacity of at least 1, got {capacity}")
        self._capacity = capacity
        self._data = torch.empty((2 * capacity, *like.shape), dtype=like.dtype, device=like.device)
        self._written = 0

    def __len__(self) -> int:
        return min(self._written, self._capacity)

    @property
    def written(self) -> int:
        """Entries taken since the last reset; the newest has this index minus one."""
        return self._written

    def append(self, entry: Tensor) -> None:
        """Take one entry; beyond the capacity the oldest is overwritten."""
        slot = self._written % self._capacity
        self._data[slot] = entry
        self._data[slot + self._capacity] = entry
        self._written += 1

    def view(self, count: int | None = None) -> Tensor:
        """The newest ``count`` entries (default all), oldest first: [count, ...], not a copy."""
        count = len(self) if count is None else count
        if not 0 <= count <= len(self):
            raise RegressorError(f"ring: expected 0 to {len(self)} entries, asked for {count}")
        end = (self._written - 1) % self._capacity + 1 + self._capacity if self._written else 0
        return self._data[end - count : end]

    def clear(self) -> None:
        """Forget everything; the memory stays."""
        self._written = 0


@dataclass(frozen=True)
class GroupPhase:
    """Which frames of a stream form which group: ``first`` frames, then ``group`` each.

    For DVD (1, 4): group 0 is frame 0, group g is frames 4g-3 .. 4g.
    """

    first: int
    group: int

    def size(self, index: int) -> int:
        """Frames in group ``index``."""
        return self.first if index == 0 else self.group

    def frames(self, groups: int) -> int:
        """Frames in the first ``groups`` groups together."""
        return 0 if groups == 0 else self.first + (groups - 1) * self.group

    def group_of(self, frame: int) -> int:
        """Index of the group that holds ``frame``."""
        return 0 if frame < self.first else 1 + (frame - self.first) // self.group
