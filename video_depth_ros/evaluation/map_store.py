# SPDX-License-Identifier: Apache-2.0
"""Predicted maps of one video between the two passes of evaluation, on disk."""

from __future__ import annotations

import tempfile
from types import TracebackType

import numpy as np


class MapStore:
    """float32 maps of one size by frame index, in a temporary file; a map may be put again."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (closed by __exit__)
        self._slots: dict[int, int] = {}
        self._shape: tuple[int, ...] | None = None

    def __enter__(self) -> MapStore:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def put(self, index: int, values: np.ndarray) -> None:
        """Keep the map [h, w] of a frame."""
        if self._shape is None:
            self._shape = values.shape
        if values.shape != self._shape:
            raise ValueError(f"maps of one video: expected {self._shape}, got {values.shape}")
        slot = self._slots.setdefault(index, len(self._slots))
        self._file.seek(slot * values.size * 4)
        self._file.write(np.ascontiguousarray(values, dtype=np.float32).tobytes())

    def get(self, index: int) -> np.ndarray | None:
        """The map of a frame; None when it has none."""
        if index not in self._slots or self._shape is None:
            return None
        size = int(np.prod(self._shape)) * 4
        self._file.seek(self._slots[index] * size)
        return np.frombuffer(self._file.read(size), np.float32).reshape(self._shape)

    def __len__(self) -> int:
        return len(self._slots)
