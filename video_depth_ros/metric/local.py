# SPDX-License-Identifier: Apache-2.0
"""Local correction of inverse depth where anchors are dense.

What the global map leaves, log(q_measured / q_fitted), is smooth over a surface and jumps between
surfaces. It is regressed on coarse-to-fine bilateral grids in (v, u, log q) (Chen et al. 2007):
every level takes the kernel mean of what the coarser ones left, shrunk to zero where its anchors
are few. The non-learned counterpart of VI-Depth's scale map. It is used only where it lowers the
error at anchors that were left out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from video_depth_ros.metric.config import LocalConfig

_CLIP = 0.7  # largest |log correction| taken from or given to a pixel: a factor of two
_SURE = 0.05  # relative deviation of an anchor worth half a perfect one
_TUKEY = 4.685
_ALIKE = 0.05  # relative difference of inverse depth within which pixels share a correction
_LEFT_OUT = 0.25  # of the image's cells, to measure the error
_COVERED = 0.3  # anchors around a vertex at which it counts as half covered


@dataclass(frozen=True)
class LocalCorrection:
    """A correction of one frame.

    Attributes:
        grid: float64 [bins, rows, columns], log correction of inverse depth.
        cell: cell of the grid in the image [px].
        low, high: log inverse depth at the ends of the grid's first axis.
        gain: share by which the error at left-out anchors fell.
        errors: float64 [n], log error of the anchors that were left out, NaN for the others.
        coverage: float64 [rows, columns], 0 to 1: how well anchors cover the image there.
    """

    grid: np.ndarray
    cell: float
    low: float
    high: float
    gain: float
    errors: np.ndarray
    coverage: np.ndarray

    def apply(self, inverse_depth: Tensor) -> Tensor:
        """Corrected inverse depth, float [h, w]; NaN stays NaN.

        Every second pixel of every second row stands for its neighbours where they are at about
        its depth; across edges each pixel has its own correction.
        """
        height, width = inverse_depth.shape
        sparse = inverse_depth[::2, ::2]
        v = torch.arange(0, height, 2, device=sparse.device, dtype=sparse.dtype)
        u = torch.arange(0, width, 2, device=sparse.device, dtype=sparse.dtype)
        factor = self._factor(
            sparse, v[:, None].expand(sparse.shape), u[None].expand(sparse.shape)
        )
        factor = _doubled(factor, height, width)
        ratio = inverse_depth / _doubled(sparse, height, width)
        # NaN beside a known pixel counts as an edge
        v, u = torch.nonzero(~((ratio - 1.0).abs() < _ALIKE), as_tuple=True)
        factor[v, u] = self._factor(inverse_depth[v, u], v, u)
        return inverse_depth * factor

    def _factor(self, inverse_depth: Tensor, v: Tensor, u: Tensor) -> Tensor:
        """Correction of pixels (u, v) of any shape, trilinear in the grid."""
        _, rows, columns = self.grid.shape
        third = (inverse_depth.log() - self.low) / (self.high - self.low)
        at = torch.stack(
            [
                (2.0 / (columns - 1) / self.cell) * (u + 0.5) - 1.0,
                (2.0 / (rows - 1) / self.cell) * (v + 0.5) - 1.0,
                2.0 * torch.nan_to_num(third.clamp(0.0, 1.0), nan=0.0) - 1.0,
            ],
            dim=-1,
        )
        grid = torch.as_tensor(self.grid, dtype=at.dtype, device=at.device)
        value = F.grid_sample(
            grid[None, None], at.reshape(1, 1, 1, -1, 3), padding_mode="border", align_corners=True
        )
        return value.reshape(inverse_depth.shape).clamp(-_CLIP, _CLIP).exp()

    def covered(self, like: Tensor) -> Tensor:
        """Coverage at every pixel, float [h, w], of the shape and on the device of ``like``."""
        height, width = like.shape
        rows, columns = self.coverage.shape
        grid = torch.as_tensor(self.coverage, dtype=like.dtype, device=like.device)
        size = (math.ceil((rows - 1) * self.cell), math.ceil((columns - 1) * self.cell))
        image = F.interpolate(grid[None, None], size=size, mode="bilinear", align_corners=True)
        return image[0, 0, :height, :width]


def fit_local(
    uv: np.ndarray,
    fitted: np.ndarray,
    measured: np.ndarray,
    weight: np.ndarray,
    size: tuple[int, int],
    config: LocalConfig,
) -> LocalCorrection | None:
    """Fit a correction to the anchors of one frame.

    Args:
        uv: float [n, 2], pixels.
        fitted, measured: float [n] > 0, inverse depth by the global map and by the sensor.
        weight: float [n] in [0, 1], trust in each anchor.
        size: (height, width) of the frame.

    Returns:
        The correction, or None when anchors are too few or it does not lower the error of
        left-out anchors by ``min_gain``.
    """
    n = fitted.size
    if n < config.min_points:
        return None
    log_q = np.log(fitted)
    target = np.clip(np.log(measured) - log_q, -_CLIP, _CLIP)
    low, high = np.quantile(log_q, (0.01, 0.99))
    low, high = float(low), float(max(high, low + 0.1))
    third = np.clip((log_q - low) / (high - low), 0.0, 1.0)
    corners = _footprints(uv, third, size, config)
    left_out = _left_out(uv, max(1, config.cell // 2))
    if not left_out.any():
        return None
    _, value = _pyramid(corners, target, weight * ~left_out, config.ridge)
    errors = np.where(left_out, target - value, np.nan)
    before = float(np.mean(np.abs(target[left_out])))
    gain = 1.0 - float(np.mean(np.abs(errors[left_out]))) / max(before, 1e-12)
    if not gain >= config.min_gain:
        return None
    grid, _ = _pyramid(corners, target, weight, config.ridge)
    coverage = _coverage(corners[-1], weight)
    return LocalCorrection(grid, float(config.cell), low, high, gain, errors, coverage)


def _left_out(uv: np.ndarray, cell: int) -> np.ndarray:
    """The anchors of a quarter of the image cells, bool [n].

    Anchors of one ring lie pixel by pixel; left out singly, their neighbours would stand in for
    them, and the error would be that on the rings, not that between them. Were half of the cells
    left out, anchors that are sparse would lose most of their neighbours, and the error would be
    that of a sparser sensor.
    """
    cells = (np.maximum(uv, 0.0) / cell).astype(np.int64)
    chosen = np.random.default_rng(0).random((64, 64)) < _LEFT_OUT
    return np.asarray(chosen[cells[:, 1] % 64, cells[:, 0] % 64])


def trust(fitted: np.ndarray, measured: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Weight of each anchor in [0, 1]: low for imprecise ones, zero for gross outliers.

    Args:
        fitted, measured, sigma: float [n] > 0, inverse depths and the sensor's deviation.
    """
    error = np.log(measured / fitted)
    scale = max(1.4826 * float(np.median(np.abs(error))), _SURE)
    agree = np.square(np.maximum(0.0, 1.0 - np.square(error / (_TUKEY * scale))))
    return agree / (1.0 + np.square(sigma / (_SURE * measured)))


def _footprints(
    uv: np.ndarray, third: np.ndarray, size: tuple[int, int], config: LocalConfig
) -> list[_Corners]:
    """Where the anchors lie in every grid, coarse to fine; cells halve from grid to grid."""
    levels = max(1, int(math.log2(max(max(size) / (2.0 * config.cell), 1.0))) + 1)
    return [
        _corners(uv, third, config.cell * 2.0**step, max(1, config.levels >> step) + 1, size)
        for step in reversed(range(levels))
    ]


def _pyramid(
    corners: list[_Corners], target: np.ndarray, weight: np.ndarray, ridge: float
) -> tuple[np.ndarray, np.ndarray]:
    """The sum of all levels on the finest grid, and at the points.

    Cells halve from level to level, so every coarse grid is exactly one on the finer.
    """
    rest, total = target.copy(), np.zeros_like(target)
    grid = np.zeros((2, 2, 2))
    for level, at in enumerate(corners):
        own = _regress(at, rest, weight, ridge)
        value = (own.reshape(-1)[at.index] * at.share).sum(axis=0)
        total += value
        rest -= value
        grid = own if level == 0 else own + _finer(grid, own.shape)
    return grid, total


def _coverage(corners: _Corners, weight: np.ndarray) -> np.ndarray:
    """Anchors at the finest grid's image vertices, as a share: n / (n + half)."""
    flat, share = corners.index.ravel(), (corners.share * weight).ravel()
    count = np.bincount(flat, share, math.prod(corners.shape)).reshape(corners.shape).sum(axis=0)
    count = 4.0 * _blur(count[None])[0]
    return count / (count + _COVERED)


def _finer(grid: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A grid resampled on one of half the cell, linear along each axis."""
    for axis, size in enumerate(shape):
        old = grid.shape[axis]
        at = np.arange(size) * (0.5 if axis or size > old else 1.0)
        low = np.minimum(at.astype(np.intp), old - 2)
        share = np.minimum(at - low, 1.0).reshape([-1 if k == axis else 1 for k in range(3)])
        below, above = np.take(grid, low, axis), np.take(grid, low + 1, axis)
        grid = below + share * (above - below)
    return grid


@dataclass(frozen=True)
class _Corners:
    """Trilinear footprint of points in a grid."""

    index: np.ndarray  # [8, n]
    share: np.ndarray  # [8, n]
    shape: tuple[int, int, int]


def _corners(
    uv: np.ndarray, third: np.ndarray, cell: float, bins: int, size: tuple[int, int]
) -> _Corners:
    rows, columns = (max(2, math.ceil(extent / cell) + 1) for extent in size)
    u = np.clip((uv[:, 0] + 0.5) / cell, 0.0, columns - 1.001)
    v = np.clip((uv[:, 1] + 0.5) / cell, 0.0, rows - 1.001)
    k = np.clip(third * (bins - 1), 0.0, bins - 1.001)
    u0, v0, k0 = u.astype(np.intp), v.astype(np.intp), k.astype(np.intp)
    fu, fv, fk = u - u0, v - v0, k - k0
    index, share = [], []
    for dk, wk in ((0, 1 - fk), (1, fk)):
        for dv, wv in ((0, 1 - fv), (1, fv)):
            for du, wu in ((0, 1 - fu), (1, fu)):
                index.append(((k0 + dk) * rows + v0 + dv) * columns + u0 + du)
                share.append(wk * wv * wu)
    return _Corners(np.stack(index), np.stack(share), (bins, rows, columns))


def _regress(corners: _Corners, rest: np.ndarray, weight: np.ndarray, ridge: float) -> np.ndarray:
    """Kernel mean at every vertex, shrunk towards zero by ``ridge`` pseudo-anchors."""
    share = corners.share * weight
    cells = math.prod(corners.shape)
    flat = corners.index.ravel()
    above = np.bincount(flat, (share * rest).ravel(), cells).reshape(corners.shape)
    below = np.bincount(flat, share.ravel(), cells).reshape(corners.shape)
    return _blur(above) / (_blur(below) + max(ridge, 1e-9))  # some vertices have no anchor


def _blur(grid: np.ndarray) -> np.ndarray:
    """[1 2 1] / 4 along each axis, edges repeated."""
    for axis in range(3):
        padded = np.concatenate([grid.take([0], axis), grid, grid.take([-1], axis)], axis)
        n = grid.shape[axis]
        pairs = padded.take(range(n + 1), axis) + padded.take(range(1, n + 2), axis)
        grid = 0.25 * (pairs.take(range(n), axis) + pairs.take(range(1, n + 1), axis))
    return grid


def _doubled(image: Tensor, height: int, width: int) -> Tensor:
    """Every pixel four times, cut to the size."""
    wide = image.repeat_interleave(2, dim=1)[:, :width]
    return wide.repeat_interleave(2, dim=0)[:height]
