# SPDX-License-Identifier: Apache-2.0
"""What stands before the metric scale in its study: a network run once, or the truth, spoiled."""

from __future__ import annotations

import dataclasses
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


class RememberedRegressor:
    """A regressor that computes every group once; later passes over the same images repeat it.

    One network run thus serves every source of scale and both settings of the local correction.
    Call :meth:`rewind` before each pass.
    """

    def __init__(self, regressor: Regressor) -> None:
        self._regressor = regressor
        self._sessions: list[_Remembered] = []
        self._opened = 0

    @property
    def spec(self) -> RegressorSpec:
        """The regressor's own."""
        return self._regressor.spec

    @property
    def device(self) -> torch.device:
        """The regressor's own."""
        return self._regressor.device

    def open(self, height: int, width: int) -> RegressorSession:
        """The session that was opened as the same one of the first pass, or a new one."""
        if self._opened == len(self._sessions):
            session = self._regressor.open(height, width)
            self._sessions.append(_Remembered(session, self.spec))
        self._opened += 1
        return self._sessions[self._opened - 1]

    def rewind(self) -> None:
        """Start the next pass."""
        self._opened = 0
        for session in self._sessions:
            session.rewind()


class _Remembered:
    """One session and what it has given out; whole groups of an uninterrupted stream only."""

    def __init__(self, session: RegressorSession, spec: RegressorSpec) -> None:
        self._session = session
        self._spec = spec
        self._groups: list[tuple[float, DisparityGroup]] = []
        self._at = 0

    @property
    def next_group(self) -> int:
        return self._spec.first_group if self._at == 0 else self._spec.group

    def push(self, rgb: Tensor, overlap: int) -> DisparityGroup:
        if self._at == len(self._groups):
            group = self._session.push(rgb, overlap)
            self._groups.append((float(rgb.double().mean()), group))
        mean, group = self._groups[self._at]
        if abs(mean - float(rgb.double().mean())) > 1e-9:
            raise RegressorError("remembered: the images differ from those of the first pass")
        self._at += 1
        return dataclasses.replace(group, disparity=group.disparity.clone())

    def preview(self, rgb: Tensor, overlap: int) -> DisparityGroup:
        raise RegressorError("remembered: set stream.latency to group")

    def snapshot(self) -> Any:
        return self._at

    def restore(self, state: Any) -> None:
        self._at = state

    def reset(self) -> None:
        if self._at:
            raise RegressorError("remembered: the stream was interrupted")

    def rewind(self) -> None:
        self._at = 0


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
