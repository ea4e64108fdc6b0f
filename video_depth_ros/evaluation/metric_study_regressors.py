# SPDX-License-Identifier: Apache-2.0
"""What stands before the metric scale in its study: a network run once, or the truth, spoiled."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from scipy.interpolate import LinearNDInterpolator, NearestNDInterpolator
from torch import Tensor

from video_depth_ros.config import PipelineConfig
from video_depth_ros.errors import RegressorError
from video_depth_ros.evaluation.laboratory import (
    LaboratoryFaults,
    LaboratoryRegressor,
    read_index,
)
from video_depth_ros.evaluation.metric_study import Drive
from video_depth_ros.frames import DisparityGroup
from video_depth_ros.regressors.base import Regressor, RegressorSession, RegressorSpec
from video_depth_ros.regressors.preprocessing import cover_size
from video_depth_ros.settings import replace_flat

# Like DVD's: infinity lies above 0, the nearest 2 % of a drive's pixels are close to saturation.
INFINITY, NEAREST = 0.05, 0.85
SMOOTH, SOFT = 0.05, 1.0  # relative error of 1/Z over wide parts of the view; blur of edges [px]
FAULTS = LaboratoryFaults(scale_sigma=0.08, shift_sigma=0.03, noise=0.005, outliers=0.0)
NO_FAULTS = LaboratoryFaults(0.0, 0.0, 0.0, 0.0, saturate=False)
_GRID, _MEMORY = (5, 6), 0.95  # of the smooth error: cells, correlation from frame to frame
_MARK = 24  # pixels of the laboratory's index mark
_STAND_IN_BOX = (256, 832)


@dataclass(frozen=True)
class _State:
    """Where a stream is: what was pushed since its start, and the network's state there."""

    pushed: tuple[int, ...]
    inner: Any


class RememberedRegressor:
    """A regressor that computes every group once: the same pushes give the remembered groups.

    One network run thus serves every source of scale and both settings of the local correction.
    Everything is kept as long as this object; make a new one for every drive.
    """

    def __init__(self, regressor: Regressor) -> None:
        self._regressor = regressor
        self._memories: dict[tuple[int, int], _Memory] = {}

    @property
    def spec(self) -> RegressorSpec:
        """The regressor's own."""
        return self._regressor.spec

    @property
    def device(self) -> torch.device:
        """The regressor's own."""
        return self._regressor.device

    def open(self, height: int, width: int) -> RegressorSession:
        """A session; all of one size share what they remember."""
        size = height, width
        if size not in self._memories:
            self._memories[size] = _Memory(self._regressor.open(height, width))
        return _Remembered(self._memories[size], self.spec)


class _Memory:
    """One real session and all that it has given out, by what was pushed before."""

    def __init__(self, session: RegressorSession) -> None:
        self._session = session
        self.start = self._at = _State((), session.snapshot())
        self._known: dict[tuple[int, ...], tuple[DisparityGroup, _State]] = {}

    def push(self, state: _State, rgb: Tensor, overlap: int) -> tuple[DisparityGroup, _State]:
        """The group, and the state after it."""
        picture = rgb[..., ::3, ::3].cpu().numpy()
        pushed = (*state.pushed, hash((picture.tobytes(), overlap)))
        if pushed not in self._known:
            if self._at is not state:
                self._session.restore(state.inner)
            group = self._session.push(rgb, overlap)
            self._at = _State(pushed, self._session.snapshot())
            self._known[pushed] = group, self._at
        return self._known[pushed]


class _Remembered:
    """A session that asks the memory first; whole groups only."""

    def __init__(self, memory: _Memory, spec: RegressorSpec) -> None:
        self._memory = memory
        self._spec = spec
        self._state = memory.start

    @property
    def next_group(self) -> int:
        return self._spec.group if self._state.pushed else self._spec.first_group

    def push(self, rgb: Tensor, overlap: int) -> DisparityGroup:
        group, self._state = self._memory.push(self._state, rgb, overlap)
        return dataclasses.replace(group, disparity=group.disparity.clone())

    def preview(self, rgb: Tensor, overlap: int) -> DisparityGroup:
        raise RegressorError("remembered: set stream.latency to group")

    def snapshot(self) -> Any:
        return self._state

    def restore(self, state: Any) -> None:
        self._state = state

    def reset(self) -> None:
        self._state = self._memory.start


def laboratory(
    drive: Drive, config: PipelineConfig, seed: int
) -> tuple[Drive, PipelineConfig, LaboratoryRegressor]:
    """The drive with the truth, spoiled, in place of a network.

    1/Z is blurred by one pixel, gets a smooth relative error of 5 % that changes slowly, then goes
    through the laboratory: a random affine map per window, pixel noise, saturation. Images carry
    their index in the first pixels.
    """
    rng = np.random.default_rng((seed, 31))
    truth = drive.truth.astype(np.float32)
    inverse = np.where(np.isfinite(truth), 1.0 / np.maximum(truth, 1e-3), 0.0).astype(np.float32)
    near = float(np.quantile(inverse[:, ::4, ::4], 0.98))
    field = rng.normal(size=_GRID)
    maps = []
    for q in inverse:
        field = _MEMORY * field + np.sqrt(1.0 - _MEMORY**2) * rng.normal(size=_GRID)
        error = _enlarged(field - field.mean(), q.shape)
        q = cv2.GaussianBlur(q, (0, 0), SOFT) * np.exp(SMOOTH * error)
        maps.append(np.minimum(INFINITY + (NEAREST - INFINITY) / near * q, 1.0))
    faults = dataclasses.replace(FAULTS, seed=seed)
    return _behind_truth(drive, config, maps, faults)


def stand_in(
    drive: Drive, config: PipelineConfig, points: list[tuple[np.ndarray, np.ndarray]]
) -> tuple[Drive, PipelineConfig, LaboratoryRegressor]:
    """The drive with its interpolated scans in place of a network.

    The scans are interpolated linearly, blurred by 1.5 px, with smooth errors of 10 % in all (8 %
    that stay, 5 %, 3 % and 2 % of ever smaller parts that change from frame to frame) and a bent
    scale, q^0.9: about what a good network does, with truth where a scan says nothing.

    Args:
        drive: to put it before.
        config: of the pipeline.
        points: of every frame, all that the scan saw: pixels float [N, 2] as shares of the image's
            width and height, and depth [N].
    """
    height, width = cover_size(drive.rgb.shape[1], drive.rgb.shape[2], _STAND_IN_BOX, 1)
    constant = _enlarged(np.random.default_rng(5).normal(size=_cells(height, width, 96)),
                         (height, width))  # fmt: skip
    maps = []
    for k, (uv, z) in enumerate(points):
        pixels = uv * (width, height) - 0.5
        v, u = np.mgrid[0:height, 0:width]
        dense = LinearNDInterpolator(pixels, 1.0 / z)(u, v)
        dense = np.where(np.isnan(dense), NearestNDInterpolator(pixels, 1.0 / z)(u, v), dense)
        q = cv2.GaussianBlur(dense.astype(np.float32), (0, 0), 1.5)
        rng, error = np.random.default_rng(100 + k), 0.08 * constant
        for size, cell in ((0.05, 64), (0.03, 24), (0.02, 8)):
            field = rng.normal(size=_cells(height, width, cell))
            error = error + size * _enlarged(field, (height, width))
        maps.append((q * np.exp(error) * (q / 0.1) ** -0.1 - 0.01) / 0.5)
    return _behind_truth(_resized(drive, height, width), config, maps, NO_FAULTS)


def _behind_truth(
    drive: Drive, config: PipelineConfig, maps: list[np.ndarray], faults: LaboratoryFaults
) -> tuple[Drive, PipelineConfig, LaboratoryRegressor]:
    """Images with index marks, a pipeline that does not resize them, and the regressor."""
    tensors = [torch.from_numpy(np.ascontiguousarray(d, dtype=np.float32)) for d in maps]
    rgb = drive.rgb.copy()
    for index, image in enumerate(rgb):
        bits = np.array([index >> bit & 1 for bit in range(_MARK)], np.uint8)
        image.reshape(-1, 3)[:_MARK] = 255 * bits[:, None]
    height, width = rgb.shape[1:3]
    config = replace_flat(config, {"regressor.height": height, "regressor.width": width})
    regressor = LaboratoryRegressor(lambda k: tensors[k], faults, index_of=read_index)
    return dataclasses.replace(drive, rgb=rgb), config, regressor


def _resized(drive: Drive, height: int, width: int) -> Drive:
    """The drive with images of another size; its truth stays."""
    rgb = [cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA) for image in drive.rgb]
    camera = drive.camera.resized(width, height)
    return dataclasses.replace(drive, rgb=np.array(rgb), camera=camera)


def _cells(height: int, width: int, cell: int) -> tuple[int, int]:
    return height // cell + 2, width // cell + 2


def _enlarged(field: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A coarse field at full size, float32."""
    size = (int(shape[1]), int(shape[0]))
    return cv2.resize(field.astype(np.float32), size, interpolation=cv2.INTER_CUBIC)
