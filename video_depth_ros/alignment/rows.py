# SPDX-License-Identifier: Apache-2.0
"""Frames of one window that do not quite share one affine frame.

Alignment rests on all frames of a window having one scale and shift. A network does not keep to
that exactly: the newest frames of a window, say, come with a few percent more contrast than the
same frames one window later, further from its end. A chain of windows multiplies that at every
link: 4 % are a factor of six after 160 frames, on a camera that stands still.

How the frames of a window differ can be measured without truth: in a picture that stands still,
all of them must be alike. Now and then the newest image is therefore shown to the network as a
video of its own, and a robust fit per row of the window gives the map that makes the row like the
others; where no row is off by more than its noise, none is changed. The maps depend on the scene
(the embedded model's differ by some percent between scenes, by some tenths within one), hence the
repetition.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import numpy as np
import torch
from torch import Tensor

from video_depth_ros.alignment.config import AlignmentConfig
from video_depth_ros.alignment.fit import fit_affine
from video_depth_ros.alignment.verdicts import USABLE, FitLimits
from video_depth_ros.frames import DisparityGroup
from video_depth_ros.regressors.base import RegressorSession, RegressorSpec

_SETTLED = 4  # pushes beyond those that fill the overlap until a still window stays as it is
_SAMPLES = 4800  # of one row, about
_UNCHANGED = (1.0, 0.0)
_SIGNIFICANT = 5.0  # sigmas by which a row must be off, for errors are not independent
_LINKS, _PULL = 6, 0.02  # links that go one way, and how far in log scale, make it measure early
_REST = 12  # groups at least between the starts of two measurements
_RANGE = 1.5  # a row farther off than this factor is no matter of calibration


class RowMaps:
    """Keeps the maps of a stream's windows, and measures them when it is time.

    One owner; not thread-safe. It borrows the stream's own session, whose state is put back.
    """

    def __init__(self, config: AlignmentConfig, spec: RegressorSpec) -> None:
        self._every = config.still_every if config.method == "robust" else 0
        self._overlap = min(config.overlap, spec.max_overlap)
        self._limits = FitLimits.of(config)
        self._range = (config.floor, config.saturation)
        self._pushes = self._overlap // spec.group + _SETTLED
        self._known: list[np.ndarray] = []  # [rows, 2] per push since the start of a stream
        self.forget()

    def forget(self) -> None:
        """Another scene: measure anew, all at once, before the next group."""
        self._known = []
        self._waited = self._every
        self._first = True
        self._image: Tensor | None = None
        self._state: Any = None
        self._measured: list[np.ndarray] = []
        self._logs: deque[float] = deque(maxlen=_LINKS + 1)

    def observe(self, session: RegressorSession, image: Tensor, scale: float = 1.0) -> None:
        """To be called before every whole group is pushed.

        A measurement costs as many pushes as fill a window and some; the first of a segment is
        made at once, later ones push by push between the stream's own.

        Args:
            session: of the stream, full ``overlap`` as configured; comes back as it was.
            image: float32 [3, h, w], the newest.
            scale: of the newest window into the running frame. Where it has moved the same way
                for some windows in a row, the maps are no longer right and are measured early.
        """
        if self._every == 0:
            return
        self._waited += 1
        self._logs.append(math.log(scale))
        if self._image is None:
            if self._waited <= self._every and not (self._waited > _REST and self._pulled()):
                return
            self._image, self._state, self._measured, self._waited = image, None, [], 0
        for _ in range(self._pushes if self._first else 1):
            self._measured.append(self._step(session, self._image))
        if len(self._measured) == self._pushes:
            self._image, self._state, self._first = None, None, False
            maps = [self._fit(rows) for rows in self._measured]
            self._measured = []
            if all(each is not None for each in maps):
                self._known = [each for each in maps if each is not None]

    def of(self, group: DisparityGroup, number: int) -> np.ndarray | None:
        """Maps (scale, shift) of the rows of a window: float64 [T, 2], None to leave it as it is.

        Args:
            group: as a session returned it, whole or partial.
            number: pushes before it since the start of the stream.
        """
        if not self._known:
            return None
        maps = self._known[min(number, len(self._known) - 1)][: group.disparity.shape[0]]
        if len(maps) != group.disparity.shape[0] or (maps == _UNCHANGED).all():
            return None
        return maps

    def _pulled(self) -> bool:
        """Whether the last links all went one way, further than chance would have it."""
        steps = np.diff(self._logs)
        one_way = bool((steps > 0.0).all() or (steps < 0.0).all())
        return len(steps) == _LINKS and one_way and abs(float(steps.sum())) > _PULL

    def _step(self, session: RegressorSession, image: Tensor) -> np.ndarray:
        """One push of the still picture; rows as samples [T, p]."""
        stream = session.snapshot()
        try:
            if self._state is None:
                session.reset()
            else:
                session.restore(self._state)
            still = image[None].expand(session.next_group, -1, -1, -1)
            disparity = session.push(still, self._overlap).disparity
            self._state = session.snapshot()
        finally:
            session.restore(stream)
        stride = max(1, round((disparity.shape[1] * disparity.shape[2] / _SAMPLES) ** 0.5))
        return (
            disparity[:, ::stride, ::stride].flatten(1).detach().to("cpu", torch.float64).numpy()
        )

    def _fit(self, rows: np.ndarray) -> np.ndarray | None:
        """Maps of the rows onto their median; None where the picture does not tell."""
        low, high = self._range
        good = ((rows > low) & (rows < high)).all(axis=0)
        middle = np.median(rows, axis=0)
        maps, places, sigmas = [], [], []
        at_centre = np.array([float(np.median(middle[good])) if good.any() else 0.0, 1.0])
        for row in rows:
            fit = fit_affine(row[good], middle[good], limits=self._limits)
            if fit.verdict not in USABLE or not 1.0 / _RANGE < fit.scale < _RANGE:
                return None
            maps.append((fit.scale, fit.shift))
            places.append((fit.scale, float(at_centre @ maps[-1])))
            sigmas.append((fit.covariance[0, 0], at_centre @ fit.covariance @ at_centre))
        # what all rows have in common (the median is less noisy than each) is no difference
        apart = np.abs(np.array(places) - np.mean(places, axis=0))
        beyond_noise = (apart > _SIGNIFICANT * np.sqrt(sigmas)).any()
        # an error of these maps enters every link until they are measured again
        return np.array(maps) if beyond_noise else np.tile(_UNCHANGED, (len(rows), 1))


def level_rows(group: DisparityGroup, maps: np.ndarray, saturation: float) -> DisparityGroup:
    """The window with all its rows in one affine frame.

    Saturated pixels ('nearer than this') become one value that no other exceeds.
    """
    scale, shift = (
        torch.as_tensor(column, dtype=torch.float32, device=group.disparity.device)[:, None, None]
        for column in maps.T
    )
    highest = float((maps[:, 0] * saturation + maps[:, 1]).max())
    level = group.disparity * scale + shift
    level = torch.where(group.disparity >= saturation, highest, level)
    return DisparityGroup(level, group.first_index, group.new)
