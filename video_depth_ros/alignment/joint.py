# SPDX-License-Identifier: Apache-2.0
"""Offline: the affine frames of all windows of a recording at once.

Two passes over the recording. The first runs the regressor, at dilation 1 and, if wanted, on every
10th and 25th frame (RollingDepth's dilations), and reduces every pair of windows that share frames
to one robust fit; of the pixels only a coarse grid of the last ``horizon`` frames is kept, so
memory does not grow but for a few numbers per pair. The graph of fits is then solved as a whole
(``graph.py``). The second pass brings every window into the common frame and cross-fades
neighbours linearly over their overlap (DepthCrafter's and DVD's seam).
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from video_depth_ros.alignment.config import AlignmentConfig
from video_depth_ros.alignment.fit import fit_affine
from video_depth_ros.alignment.graph import AffineEdge, edge_from_fit, solve_affine_graph
from video_depth_ros.alignment.recording import Window, cross_fade, run_windows
from video_depth_ros.alignment.verdicts import USABLE, FitLimits
from video_depth_ros.errors import InputError
from video_depth_ros.regressors.base import Regressor

_GRID = 1200  # most samples of one frame
_NEIGHBOURS = 4  # fits of a new window to earlier ones, per dilation


@dataclass
class _Samples:
    number: int
    indices: tuple[int, ...]
    dilation: int
    values: np.ndarray  # float32 [T, p]
    usable: np.ndarray  # bool [T, p]


class JointAlignment:
    """Collects the windows of a recording in the order of their newest frame, then solves."""

    def __init__(
        self, config: AlignmentConfig, horizon: int = 512, depth_term: bool = False
    ) -> None:
        """
        Args:
            config: limits of the fits.
            horizon: frames for which the samples of a window are kept to meet later ones.
            depth_term: weigh pixels as if RollingDepth's depth residual were added to the
                disparity residual: far pixels count more.
        """
        self._limits = FitLimits.of(config)
        self._range = (config.floor, config.saturation)
        self._horizon = horizon
        self._depth_term = depth_term
        self._recent: deque[_Samples] = deque()
        self._initial: list[tuple[float, float]] = []
        self._edges: list[AffineEdge] = []

    def __len__(self) -> int:
        return len(self._initial)

    @property
    def edges(self) -> int:
        """Pairs of windows that were fitted."""
        return len(self._edges)

    def add(self, window: Window) -> int:
        """Take one window; returns its number, the row of :meth:`solve`.

        Raises:
            InputError: ``disparity``: indices and rows do not fit together.
        """
        if window.disparity.dim() != 3 or window.disparity.shape[0] != len(window.indices):
            raise InputError(
                "disparity",
                f"expected a window [{len(window.indices)}, h, w], got "
                f"{list(window.disparity.shape)}",
            )
        new = self._sample(window)
        while self._recent and self._recent[0].indices[-1] < new.indices[-1] - self._horizon:
            self._recent.popleft()
        best: tuple[int, tuple[float, float]] | None = None
        for old, shared in self._neighbours(new):
            prior = best[1] if best else (1.0, 0.0)
            if best:  # what the best neighbour says, in the frame of this one
                prior = _relative(self._initial[old.number], best[1])
            edge = self._pair(new, old, shared, prior)
            if edge is None:
                continue
            self._edges.append(edge)
            if best is None:
                scale, shift = self._initial[old.number]
                offset = edge.centre_j - edge.scale * edge.centre_i
                best = (old.number, (scale * edge.scale, scale * offset + shift))
        # a window that fits nothing starts where the one before it is: the graph's priors hold it
        unknown = self._initial[-1] if self._initial else (1.0, 0.0)
        self._initial.append(best[1] if best else unknown)
        self._recent.append(new)
        return new.number

    def solve(self) -> np.ndarray:
        """(scale, shift) of every window, X = scale * d + shift: [n, 2], the first 1, 0."""
        if not self._initial:
            return np.zeros((0, 2))
        return solve_affine_graph(np.array(self._initial), self._edges, fixed=0)

    def _sample(self, window: Window) -> _Samples:
        height, width = window.disparity.shape[1:]
        stride = max(1, int(np.ceil(np.sqrt(height * width / _GRID))))
        grid = window.disparity[:, stride // 2 :: stride, stride // 2 :: stride]
        values = grid.detach().to("cpu", torch.float32).flatten(1).numpy().copy()
        usable = (values > self._range[0]) & (values < self._range[1])
        return _Samples(len(self._initial), window.indices, window.dilation, values, usable)

    def _neighbours(self, new: _Samples) -> list[tuple[_Samples, list[tuple[int, int]]]]:
        """Earlier windows with shared frames as (row in new, row in old), newest first."""
        rows = {index: row for row, index in enumerate(new.indices)}
        count: defaultdict[int, int] = defaultdict(int)
        found = []
        for old in reversed(self._recent):
            if count[old.dilation] >= _NEIGHBOURS:
                continue
            shared = [(rows[index], row) for row, index in enumerate(old.indices) if index in rows]
            if shared:
                count[old.dilation] += 1
                found.append((old, shared))
        return found

    def _pair(
        self,
        new: _Samples,
        old: _Samples,
        shared: list[tuple[int, int]],
        prior: tuple[float, float],
    ) -> AffineEdge | None:
        here, there = [row for row, _ in shared], [row for _, row in shared]
        mask = new.usable[here] & old.usable[there]
        cur, ref = new.values[here][mask], old.values[there][mask]
        fit = fit_affine(
            cur,
            ref,
            weights=self._weights(cur, ref, prior) if self._depth_term else None,
            prior=prior,
            limits=self._limits,
            cur_range=self._range,
            ref_range=self._range,
        )
        if fit.verdict not in USABLE:
            return None
        return edge_from_fit(new.number, old.number, fit)

    @staticmethod
    def _weights(cur: np.ndarray, ref: np.ndarray, prior: tuple[float, float]) -> np.ndarray:
        """1 / mean(D)^2 + 1 / (mean(1/D)^2 D^4), both residuals relative to their means.

        D is the mean of both versions, so that neither's noise is preferred, and at least a
        quarter of its median: a fourth power of noise around zero is no weight.
        """
        if cur.size == 0:
            return cur
        value = 0.5 * (ref + prior[0] * cur + prior[1])
        value = np.maximum(value, max(0.25 * float(np.median(value)), 1e-3))
        weight = 1.0 / value.mean() ** 2 + 1.0 / ((1.0 / value).mean() ** 2 * value**4)
        return np.asarray(weight / weight.max())


def align_recording(
    regressor: Regressor,
    frames: Callable[[], Iterable[Tensor]],
    config: AlignmentConfig,
    dilations: Sequence[int] = (1, 10, 25),
) -> Iterator[tuple[int, Tensor]]:
    """Disparity of every frame of a recording in one affine frame, aligned as a whole.

    The recording is read twice and the network is run twice: storing all windows instead would
    need the disk that the second run saves.

    Args:
        regressor: deterministic, as its contract says.
        frames: called twice; float32 [3, h, w] each.
        config: overlap and limits of the fits.
        dilations: must begin with 1; the others only add constraints.

    Yields:
        (index, disparity float32 [h, w]) by rising index.

    Raises:
        InputError: ``dilations``: the first is not 1.
    """
    if not dilations or dilations[0] != 1:
        raise InputError("dilations", f"expected dilations that begin with 1, got {dilations}")
    overlap = min(config.overlap, regressor.spec.max_overlap)
    joint = JointAlignment(config, horizon=16 * (overlap + regressor.spec.group))
    numbers = []  # of the windows of dilation 1
    for window in run_windows(regressor, frames(), overlap, dilations, config):
        number = joint.add(window)
        if window.dilation == 1:
            numbers.append(number)
    solution = joint.solve()

    def aligned() -> Iterator[tuple[Sequence[int], Tensor]]:
        again = run_windows(regressor, frames(), overlap, config=config)
        for number, window in zip(numbers, again, strict=True):
            scale, shift = solution[number]
            yield window.indices, window.disparity * float(scale) + float(shift)

    yield from cross_fade(aligned())


def _relative(old: tuple[float, float], new: tuple[float, float]) -> tuple[float, float]:
    """Map from the new window into the old, both given into the common frame."""
    return new[0] / old[0], (new[1] - old[1]) / old[0]
