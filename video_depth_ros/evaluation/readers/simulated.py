# SPDX-License-Identifier: Apache-2.0
"""Videos of the simulation: worlds by seed, of a split that training never sees."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import numpy as np

from video_depth_ros.bags.formats.base import FIRST_STAMP_NS, SequenceFrame
from video_depth_ros.simulation.clip import Clip, random_clip


class Simulated:
    """One clip, rendered when it is first read and kept as long as this object."""

    format = "simulated"

    def __init__(
        self, seed: int, frames: int, height: int, width: int, split: str = "heldout"
    ) -> None:
        self.seed = seed
        self.frame_count = frames
        self._size = (height, width)
        self._split = split

    @cached_property
    def _clip(self) -> Clip:
        return random_clip(self.seed, self.frame_count, *self._size, split=self._split)

    @property
    def camera(self):  # type: ignore[no-untyped-def]
        """The clip's camera."""
        return self._clip.camera

    def frames(self) -> Iterator[SequenceFrame]:
        """Images with exact depth (NaN in the sky) and pose."""
        clip = self._clip
        for rgb, depth, pose, stamp in zip(
            clip.rgb, clip.depth, clip.T_world_camera, clip.stamps_ns, strict=True
        ):
            known = np.where(np.isfinite(depth), depth, np.float32(np.nan))
            yield SequenceFrame(FIRST_STAMP_NS + int(stamp), rgb, known, pose)
