# SPDX-License-Identifier: Apache-2.0
"""Are the anchors where the extrinsics say? Recognised without knowing the scale.

With right extrinsics, order by measured inverse depth and order by disparity agree better in place
than with the anchors moved elsewhere in the image. If they agree markedly better elsewhere, the
sensor looks in another direction than its transform says.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from video_depth_ros.camera import Camera
from video_depth_ros.metric.anchors import Anchors, View

_SAMPLE = 300
_FEWEST = 30  # anchors whose order tells anything
_ANGLES = (6.0, 12.0, 20.0)  # degrees in which the anchors are moved
_ROLLS = (-20.0, -10.0, 10.0, 20.0)
PLACES = 8 * len(_ANGLES) + len(_ROLLS)  # each angle in eight directions
_MIN_SHARE = 0.5  # of the anchors that must stay in view when moved
_FOUND = 0.2  # 1 - rank correlation up to which another place shows where the sensor looks
_RELATED = 0.5  # 1 - rank correlation above which two orders have nothing in common
_RELIEF = 0.3  # share of the view's disparity range that is relief
_SURE = 0.02  # 1 - rank correlation below which there is no doubt
_WELL = 0.05  # 1 - rank correlation below which there is nothing to look for
_LEAST = 0.2  # ratio below which all scans count alike
_CHANCE = 0.6  # the poorer the agreement there, the more places are better by chance: see below


@dataclass(frozen=True)
class Agreement:
    """How well anchors agree with the disparity in place, and elsewhere.

    Attributes:
        in_place: 1 - rank correlation; NaN when there are too few anchors.
        spread: share of the view's disparity range that the anchors' places cover.
        elsewhere: float [places], disagreement in place over that at each other place, above 1:
            better there; NaN where too few anchors would be seen. None when nothing can be told.
            Of many places one is always best, and with a rough network by much: the disagreement
            there counts for more the larger it is, up to a quarter more.
    """

    in_place: float = math.nan
    spread: float = 0.0
    elsewhere: np.ndarray | None = None

    @property
    def sure(self) -> bool:
        """Whether the sensor is beyond doubt where its extrinsics say."""
        return self.in_place < _SURE

    @property
    def related(self) -> bool:
        """False when relief in the disparity is none in the measurements."""
        return not (self.in_place > _RELATED and self.spread > _RELIEF)


class Mounting:
    """Where else a sensor may be looking, over its scans.

    It looks the same way in every scan, and so it is the same place that agrees better each time.
    Of a rough network's errors now one place profits, now another: each place is averaged for
    itself, and the best of the averages counts.
    """

    def __init__(self) -> None:
        self._trend = np.full(PLACES, np.nan)  # logarithm of the averaged ratios

    @property
    def misalignment(self) -> float:
        """How much better the anchors agree at the best other place; NaN before any scan told."""
        return math.nan if np.isnan(self._trend).all() else math.exp(np.nanmax(self._trend))

    def add(self, elsewhere: np.ndarray, share: float) -> None:
        """What a scan tells.

        Args:
            elsewhere: float [places], of :class:`Agreement`.
            share: its weight in the averages, 0 to 1; the first scan that tells something has 1.
                At a place that a later one does not see, suspicion fades.
        """
        new = np.log(np.maximum(elsewhere, _LEAST))
        if math.isnan(self.misalignment):
            self._trend = new
            return
        new = np.where(np.isnan(new), np.minimum(self._trend, 0.0), new)
        old = np.nan_to_num(self._trend, nan=0.0)
        self._trend = old + share * (new - old)  # NaN where no scan has seen anything so far


def agreement(view: View, camera: Camera, anchors: Anchors) -> Agreement:
    """Compare the order of the anchors with that of the disparity.

    Args:
        view: the frame.
        camera: its model.
        anchors: anchors in it.
    """
    step = max(1, len(anchors) // _SAMPLE)
    uv, q = anchors.uv[::step], anchors.inverse_depth[::step]
    here, _ = view.sample(uv)
    order = np.argsort(q)
    order = order[np.isfinite(here[order])]  # by measurement: ranks of any part by counting
    uv, here = uv[order], here[order]
    if here.size < _FEWEST:
        return Agreement()
    low, high = np.quantile(here, (0.05, 0.95))
    spread = float((high - low) / max(view.quantiles[2] - view.quantiles[0], 1e-9))
    all_of_them = float(_disagreement(here[None], np.ones((1, here.size), dtype=bool))[0])
    if all_of_them < _WELL:
        return Agreement(all_of_them, spread, np.zeros(PLACES))
    moved = _elsewhere(uv, camera)
    seen = (moved >= 0).all(axis=2)
    seen &= (moved[..., 0] <= camera.width - 1) & (moved[..., 1] <= camera.height - 1)
    enough = seen.mean(axis=1) >= _MIN_SHARE
    moved, seen = moved[enough], seen[enough]
    there = view.sample(moved.reshape(-1, 2))[0].reshape(seen.shape)
    seen &= np.isfinite(there)
    there[seen.sum(axis=1) < _FEWEST] = np.nan
    seen &= np.isfinite(there)
    elsewhere = _disagreement(there, seen)
    in_place = _disagreement(np.broadcast_to(here, there.shape), seen)
    found = elsewhere <= _FOUND
    if not found.any():  # a network that is wrong everywhere says nothing about the extrinsics
        return Agreement(all_of_them, spread)
    there_at_least = np.maximum(elsewhere, _WELL)
    ratio = in_place / (there_at_least * (1.0 + (there_at_least - _WELL) / _CHANCE))
    ratio = np.where(found, ratio, np.minimum(ratio, 1.0))  # not found: it does not look there
    told = np.full(PLACES, np.nan)
    told[enough] = np.where(seen.any(axis=1), ratio, np.nan)
    return Agreement(all_of_them, spread, told)


def _elsewhere(uv: np.ndarray, camera: Camera) -> np.ndarray:
    """The anchors moved and turned in the image, float64 [places, N, 2]."""
    angles = np.tan(np.radians(_ANGLES))
    steps = np.array([(x, y) for x in (-1, 0, 1) for y in (-1, 0, 1) if x or y])
    shifts = (angles[:, None, None] * steps * [camera.fx, camera.fy]).reshape(-1, 1, 2)
    centre = np.array([camera.cx, camera.cy])
    c, s = np.cos(np.radians(_ROLLS)), np.sin(np.radians(_ROLLS))
    turns = np.stack([np.stack([c, s], axis=1), np.stack([-s, c], axis=1)], axis=1)
    return np.concatenate([uv + shifts, (uv - centre) @ turns + centre])


def _disagreement(d: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """1 - Spearman's rank correlation of each row with its index, over what is seen of it.

    Args:
        d: float [rows, N].
        seen: bool [rows, N].
    """
    order = np.argsort(np.where(seen, d, np.inf), axis=1)
    rank = np.empty(d.shape)
    np.put_along_axis(rank, order, np.broadcast_to(np.arange(d.shape[1]), d.shape), axis=1)
    n = seen.sum(axis=1)
    middle = 0.5 * (n - 1)[:, None]
    by_place = np.where(seen, rank - middle, 0.0)
    by_index = np.where(seen, np.cumsum(seen, axis=1) - 1 - middle, 0.0)
    return 1.0 - 12.0 * np.sum(by_place * by_index, axis=1) / np.maximum(n * (n * n - 1.0), 1.0)
