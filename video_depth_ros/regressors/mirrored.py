# SPDX-License-Identifier: Apache-2.0
"""A regressor that sees every image and its mirror image, and answers with the mean.

A depth network should give a mirrored scene the mirrored depth, and a small one does not quite:
the two answers err partly on their own, so that their mean errs less (Godard et al. 2017 do this
with the disparity of single images). It costs twice the computing. Any regressor can be wrapped:
two of its sessions run side by side, one on the images, one on their mirror images.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from video_depth_ros.errors import RegressorError
from video_depth_ros.frames import DisparityGroup
from video_depth_ros.regressors.base import Regressor, RegressorSession, RegressorSpec


@dataclass(frozen=True)
class MirroredRegressor:
    """The mean of a regressor's answers to images and to their mirror images.

    Attributes:
        inner: the regressor asked twice.
    """

    inner: Regressor

    @property
    def spec(self) -> RegressorSpec:
        """That of the inner regressor."""
        return self.inner.spec

    @property
    def device(self) -> torch.device:
        """That of the inner regressor."""
        return self.inner.device

    def open(self, height: int, width: int) -> MirroredSession:
        """See :meth:`Regressor.open`."""
        return MirroredSession(self.inner.open(height, width), self.inner.open(height, width))


class MirroredSession:
    """A :class:`~video_depth_ros.regressors.base.RegressorSession` of two of another regressor.

    Args:
        seen: takes the images as they are.
        mirrored: takes them mirrored; a session of the same regressor, of the same size.
    """

    def __init__(self, seen: RegressorSession, mirrored: RegressorSession) -> None:
        self._seen = seen
        self._mirrored = mirrored

    @property
    def next_group(self) -> int:
        """Frames that the next :meth:`push` must bring."""
        return self._seen.next_group

    def push(self, rgb: Tensor, overlap: int) -> DisparityGroup:
        """See :meth:`RegressorSession.push`. Either both sessions take the group or neither."""
        before = self._seen.snapshot()
        seen = self._seen.push(rgb, overlap)
        try:
            return _mean(seen, self._mirrored.push(rgb.flip(-1), overlap))
        except Exception:
            self._seen.restore(before)
            raise

    def preview(self, rgb: Tensor, overlap: int) -> DisparityGroup:
        """See :meth:`RegressorSession.preview`."""
        seen = self._seen.preview(rgb, overlap)
        return _mean(seen, self._mirrored.preview(rgb.flip(-1), overlap))

    def snapshot(self) -> tuple[Any, Any]:
        """The states of both sessions."""
        return self._seen.snapshot(), self._mirrored.snapshot()

    def restore(self, state: Any) -> None:
        """See :meth:`RegressorSession.restore`."""
        if not (isinstance(state, tuple) and len(state) == 2):
            raise RegressorError(
                f"restore: expected what snapshot() gave, got {type(state).__name__}"
            )
        self._seen.restore(state[0])
        self._mirrored.restore(state[1])

    def reset(self) -> None:
        """See :meth:`RegressorSession.reset`."""
        self._seen.reset()
        self._mirrored.reset()


def _mean(seen: DisparityGroup, mirrored: DisparityGroup) -> DisparityGroup:
    """Mean of two answers for the same frames, the second to mirrored images."""
    disparity = (seen.disparity + mirrored.disparity.flip(-1)).mul_(0.5)
    return replace(seen, disparity=disparity)
