# SPDX-License-Identifier: Apache-2.0
"""What :mod:`video_depth_ros.evaluation.stability` measures, on stored maps of several ways."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import cv2
import numpy as np

from video_depth_ros.evaluation.affine import AffineFit, affine_depth
from video_depth_ros.evaluation.map_store import MapStore
from video_depth_ros.evaluation.meters import TrueFrame, TruePair
from video_depth_ros.evaluation.metrics import resize_to
from video_depth_ros.evaluation.temporal import flicker
from video_depth_ros.evaluation.videos import Video

PARTS = 10
STILL = 0.8  # share of unchanged pixels from which the camera is taken to stand still
_PER_PART = 40  # most frames of a part that its medians are taken over
_UNCHANGED = 2.0  # grey levels after smoothing, between two frames
_SAME = 4.0  # the same between the medians of two parts
_FEW = 50  # pixels


@dataclass
class Figures:
    """What is collected of one way; NaN where it has no meaning.

    Attributes:
        changes: per pair of frames, the mean change.
        at_seam: per pair, whether a new window takes over between the two.
        unit: of the changes.
        drift, worst, series: as in the result.
    """

    changes: list[float] = field(default_factory=list)
    at_seam: list[bool] = field(default_factory=list)
    unit: float = 1.0
    drift: float = float("nan")
    worst: float = float("nan")
    series: list[float] = field(default_factory=list)

    def flicker(self) -> float:
        """Mean change of all pairs."""
        return self._mean(np.ones(len(self.changes), dtype=bool))

    def seams(self) -> float:
        """Mean change of the pairs at a seam."""
        return self._mean(np.array(self.at_seam, dtype=bool))

    def _mean(self, chosen: np.ndarray) -> float:
        values = np.array(self.changes)[chosen]
        values = values[np.isfinite(values)]
        return float(values.mean()) / self.unit if len(values) else float("nan")


class StillPairs:
    """Pixels of consecutive frames whose image did not change."""

    def __init__(self, greys: MapStore, count: int) -> None:
        self._greys = greys
        shares = [float(mask.mean()) for _, mask in self._masks(range(1, count))]
        self._indices = [i for i, share in enumerate(shares, start=1) if share > STILL]
        self.share = float(np.median(shares)) if shares else 0.0

    def masks(self) -> Iterator[tuple[int, np.ndarray]]:
        """(index of the later frame, bool [h, w]) of pairs that are still enough."""
        return self._masks(self._indices)

    def _masks(self, indices: Iterable[int]) -> Iterator[tuple[int, np.ndarray]]:
        for index in indices:
            before, after = self._greys.get(index - 1), self._greys.get(index)
            assert before is not None and after is not None
            yield index, np.abs(after - before) <= _UNCHANGED


def against_itself(
    stores: dict[str, MapStore],
    greys: MapStore,
    pairs: StillPairs,
    is_seam: Callable[[int], bool],
) -> dict[str, Figures]:
    """A camera that stands still."""
    figures = {name: Figures() for name in stores}
    for index, unchanged in pairs.masks():
        for name, store in stores.items():
            before, after = store.get(index - 1), store.get(index)
            if before is None or after is None:
                continue
            good = unchanged & np.isfinite(before) & np.isfinite(after)
            change = float(np.abs(after - before)[good].mean()) if good.any() else float("nan")
            figures[name].changes.append(change)
            figures[name].at_seam.append(is_seam(index))
    grey_parts = _part_medians(greys)
    for name, store in stores.items():
        each = figures[name]
        parts = _part_medians(store)
        first = parts[0]
        each.unit = max(_mean_spread(store), 1e-12)
        changes = []
        for part, grey in zip(parts, grey_parts, strict=True):
            same = np.abs(grey - grey_parts[0]) <= _SAME
            change = np.abs(part - first)[same]
            enough = change.size >= _FEW
            changes.append(float(np.median(change)) / each.unit if enough else float("nan"))
        each.drift, each.worst = changes[-1], float(np.nanmax(changes))
        background = np.abs(grey_parts - grey_parts[0]).max(axis=0) <= _SAME
        if np.count_nonzero(background) < _FEW:
            background[:] = True
        for index in range(len(greys)):
            values = store.get(index)
            here = float("nan")
            if values is not None:
                here = float(np.median((values - first)[background])) / each.unit
            each.series.append(here)
    return figures


def against_truth(
    video: Video, stores: dict[str, MapStore], is_seam: Callable[[int], bool]
) -> dict[str, Figures]:
    """After one affine fit of the whole video per way."""
    fits = {name: AffineFit() for name in stores}
    for now in _true_frames(video):
        if now.truth is None:
            continue
        for name, store in stores.items():
            values = store.get(now.index)
            if values is not None:
                values = resize_to(values, (now.truth.shape[0], now.truth.shape[1]))
                fits[name].add(values, now.truth, np.isfinite(now.truth) & np.isfinite(values))
    figures = {name: Figures() for name in stores}
    last: dict[str, np.ndarray | None] = dict.fromkeys(stores)
    before: TrueFrame | None = None
    for now in _true_frames(video):
        pair = TruePair.of(before, now, video.camera) if before is not None else None
        for name, store in stores.items():
            each, values, earlier = figures[name], store.get(now.index), last[name]
            last[name], log_scale = None, float("nan")
            if values is not None and now.truth is not None:
                values = resize_to(values, (now.truth.shape[0], now.truth.shape[1]))
                depth = affine_depth(values, *fits[name].solve(), video.protocol.depth_range)
                last[name] = depth
                known = np.isfinite(depth) & np.isfinite(now.truth)
                if known.any():
                    log_scale = float(np.log(np.median(now.truth[known] / depth[known])))
                if pair is not None and earlier is not None:
                    change = flicker(earlier, depth, pair.first, pair.second, pair.points)
                    each.changes.append(change)
                    each.at_seam.append(is_seam(now.index))
            each.series.append(log_scale)
        before = now
    for each in figures.values():
        parts = np.array([np.nanmean(part) for part in np.array_split(each.series, PARTS)])
        each.drift, each.worst = abs(parts[-1] - parts[0]), float(np.abs(parts - parts[0]).max())
        each.series = list(np.array(each.series) - parts[0])
    return figures


def _true_frames(video: Video) -> Iterator[TrueFrame]:
    for index, frame in enumerate(video.frames()):
        truth = frame.depth
        if truth is not None:
            truth = np.where(video.protocol.valid(truth), truth, np.float32(np.nan))
        yield TrueFrame(index, frame, truth)


def grey_of(rgb: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Smoothed grey values float32 at the size of the maps."""
    grey = cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2GRAY)
    grey = cv2.resize(grey, (size[1], size[0]), interpolation=cv2.INTER_AREA)
    return cv2.GaussianBlur(grey.astype(np.float32), (5, 5), 0)


def _part_medians(store: MapStore) -> np.ndarray:
    """Median map of every part of a video [parts, h, w]."""
    medians = []
    for part in np.array_split(np.arange(len(store)), min(PARTS, len(store))):
        chosen = part[:: max(1, -(-len(part) // _PER_PART))]
        medians.append(np.median([store.get(int(index)) for index in chosen], axis=0))
    return np.array(medians)


def _mean_spread(store: MapStore) -> float:
    """Mean over (some of) the frames of the 2-98 % spread."""
    chosen = np.unique(np.linspace(0, len(store) - 1, 100).astype(int))
    maps = (store.get(int(index)) for index in chosen)
    known = [np.nanquantile(values, (0.02, 0.98)) for values in maps if values is not None]
    return float(np.mean([high - low for low, high in known]))
