# SPDX-License-Identifier: Apache-2.0
"""A regressor without a network: true disparity, spoiled in known ways.

It stands behind the same contract as a real one, so that everything after the network can be
measured alone: every window comes in its own random affine frame, with noise, with blocks of wrong
values, and saturated like DVD's output. Nothing here is random across runs: every window is drawn
from its own seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from video_depth_ros.errors import RegressorError
from video_depth_ros.frames import DisparityGroup
from video_depth_ros.regressors.base import RegressorSpec

_BITS = 24  # pixels of the index mark


@dataclass(frozen=True)
class LaboratoryFaults:
    """What spoils the truth; all in units of the truth's disparity.

    Attributes:
        scale_sigma: standard deviation of log scale, drawn per window, at most twice that.
        shift_sigma: standard deviation of the shift, drawn per window, at most twice that.
        noise: standard deviation of Gaussian noise per pixel and window.
        outliers: share of the pixels replaced, per frame and window, by uniform random values.
        block: edge of the square blocks in which they are replaced [px].
        saturate: whether the output is clipped to [0, 1].
        seed: of all draws.
    """

    scale_sigma: float = 0.08
    shift_sigma: float = 0.03
    noise: float = 0.01
    outliers: float = 0.3
    block: int = 4
    saturate: bool = True
    seed: int = 0


class LaboratoryRegressor:
    """Truth by frame index behind the regressor contract; groups of 1, 4, 4, ... like DVD's."""

    def __init__(
        self,
        disparity_source: Callable[[int], Tensor],
        faults: LaboratoryFaults | None = None,
        window: int = 5,
        index_of: Callable[[Tensor], int] | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        """
        Args:
            disparity_source: frame index -> true disparity float32 [h, w], within [0, 1].
            faults: what spoils it.
            window: groups that a window sees.
            index_of: image float32 [3, h, w] -> frame index (:func:`read_index`); None: the
                frames of a session are 0, 1, 2, ... in the order in which they are pushed.
            device: where disparity is returned.
        """
        self.disparity_source = disparity_source
        self.faults = faults or LaboratoryFaults()
        self.window = window
        self.index_of = index_of
        self._device = torch.device(device)
        self._spec = RegressorSpec(
            name="laboratory",
            licence="Apache-2.0",
            first_group=1,
            group=4,
            size_multiple=1,
            box=(60, 80),
            max_overlap=1 + 4 * (window - 1) - 4 if window > 1 else 0,
        )

    @property
    def spec(self) -> RegressorSpec:
        """Groups like DVD's; any size."""
        return self._spec

    @property
    def device(self) -> torch.device:
        """Where disparity is returned."""
        return self._device

    def open(self, height: int, width: int) -> LaboratorySession:
        """A session for images of the truth's size.

        Raises:
            RegressorError: another size than the truth's.
        """
        shape = tuple(self.disparity_source(0).shape)
        if shape != (height, width):
            raise RegressorError(
                f"laboratory: the truth has {shape[1]}x{shape[0]} px, asked for {width}x{height}"
            )
        return LaboratorySession(self, height, width)


class LaboratorySession:
    """One stream of spoiled truth."""

    def __init__(self, regressor: LaboratoryRegressor, height: int, width: int) -> None:
        self._regressor = regressor
        self._shape = (height, width)
        self._frames: tuple[int, ...] = ()  # truth indices of the frames in the window
        self._pushed = 0  # frames since open or reset
        self._windows = 0  # windows since open: the seed; not reset, so no window repeats
        self._affine = (1.0, 0.0)

    @property
    def next_group(self) -> int:
        """1 for the first group, then 4."""
        spec = self._regressor.spec
        return spec.first_group if self._pushed == 0 else spec.group

    @property
    def true_affine(self) -> tuple[float, float]:
        """(scale, shift) of the newest window: truth = scale * d + shift."""
        return self._affine

    def push(self, rgb: Tensor, overlap: int) -> DisparityGroup:
        """See :class:`~video_depth_ros.regressors.base.RegressorSession`."""
        if rgb.shape[0] != self.next_group:
            raise RegressorError(
                f"laboratory: expected a group of {self.next_group} frames, got {rgb.shape[0]}"
            )
        group = self.preview(rgb, overlap)
        self._frames = (*self._frames, *self._indices(rgb))[-self._capacity :]
        self._pushed += int(rgb.shape[0])
        self._windows += 1
        return group

    def preview(self, rgb: Tensor, overlap: int) -> DisparityGroup:
        """See :class:`~video_depth_ros.regressors.base.RegressorSession`."""
        self._check(rgb)
        new = int(rgb.shape[0])
        overlap = min(overlap, len(self._frames), self._regressor.spec.max_overlap)
        indices = (*self._frames[len(self._frames) - overlap :], *self._indices(rgb))
        source = self._regressor.disparity_source
        truth = torch.stack([source(index) for index in indices])
        spoiled, self._affine = spoil(truth, self._regressor.faults, self._windows)
        return DisparityGroup(spoiled.to(self._regressor.device), self._pushed - overlap, new)

    def snapshot(self) -> Any:
        """Frames in the window and counters."""
        return self._frames, self._pushed, self._windows, self._affine

    def restore(self, state: Any) -> None:
        """Return to a snapshot."""
        self._frames, self._pushed, self._windows, self._affine = state

    def reset(self) -> None:
        """Forget the stream."""
        self._frames, self._pushed = (), 0

    @property
    def _capacity(self) -> int:
        return max(1, self._regressor.spec.max_overlap)

    def _indices(self, rgb: Tensor) -> tuple[int, ...]:
        index_of = self._regressor.index_of
        if index_of is None:
            return tuple(range(self._pushed, self._pushed + int(rgb.shape[0])))
        return tuple(index_of(image) for image in rgb)

    def _check(self, rgb: Tensor) -> None:
        if rgb.dim() != 4 or tuple(rgb.shape[1:]) != (3, *self._shape):
            raise RegressorError(
                f"laboratory: expected images [T, 3, {self._shape[0]}, {self._shape[1]}], "
                f"got {list(rgb.shape)}"
            )
        if not 1 <= rgb.shape[0] <= self.next_group:
            raise RegressorError(
                f"laboratory: expected 1 to {self.next_group} frames, got {rgb.shape[0]}"
            )


def spoil(
    truth: Tensor, faults: LaboratoryFaults, window: int
) -> tuple[Tensor, tuple[float, float]]:
    """One window of truth [T, h, w] in a random affine frame with noise, outliers, saturation.

    Returns:
        The spoiled disparity and (scale, shift) with truth = scale * spoiled + shift.
    """
    generator = torch.Generator().manual_seed(faults.seed * 1_000_003 + window)
    draw = torch.randn(2, generator=generator, dtype=torch.float64).clamp_(-2.0, 2.0)
    scale = math.exp(float(draw[0]) * faults.scale_sigma)
    shift = float(draw[1]) * faults.shift_sigma
    frames, height, width = truth.shape
    disparity = (truth.cpu() - shift) / scale
    if faults.noise > 0.0:
        disparity = disparity + faults.noise * torch.randn(truth.shape, generator=generator)
    if faults.outliers > 0.0:
        edge = max(1, faults.block)
        rows, columns = -(-height // edge), -(-width // edge)
        wrong = torch.rand((frames, rows, columns), generator=generator) < faults.outliers
        value = torch.rand((frames, rows, columns), generator=generator)
        wrong, value = (
            tensor.repeat_interleave(edge, 1).repeat_interleave(edge, 2)[:, :height, :width]
            for tensor in (wrong, value)
        )
        disparity = torch.where(wrong, value, disparity)
    if faults.saturate:
        disparity = disparity.clamp(0.0, 1.0)
    return disparity, (scale, shift)


def write_index(image: Tensor, index: int) -> Tensor:
    """A copy of an image float32 [3, h, w] with the index in its first pixels, as black and white.

    The mark survives uint8 but not resizing.
    """
    if image.shape[1] * image.shape[2] < _BITS or not 0 <= index < 1 << _BITS:
        raise RegressorError(f"laboratory: cannot write index {index} into {list(image.shape)}")
    bits = torch.tensor([float(index >> bit & 1) for bit in range(_BITS)])
    marked = image.clone(memory_format=torch.contiguous_format)
    marked.view(3, -1)[:, :_BITS] = bits.to(image)  # may wrap over rows
    return marked


def read_index(image: Tensor) -> int:
    """The index written by :func:`write_index`."""
    bits = image.reshape(3, -1)[0, :_BITS].cpu().tolist()
    return sum(1 << place for place, bit in enumerate(bits) if bit > 0.5)


class SyntheticDisparity:
    """A cheap endless video of true disparity: a corridor of floating boxes, by frame index.

    Disparity is 1 / depth in 1/m: a floor and a far wall, and boxes that the camera passes. Two
    slow waves move the camera nearer and farther, so that the range of depths changes over time.
    """

    def __init__(self, height: int = 60, width: int = 80, boxes: int = 10, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self._v = torch.linspace(-0.75, 0.75, height)[:, None]
        self._u = torch.linspace(-1.0, 1.0, width)[None, :]
        draw = torch.rand((boxes, 6), generator=generator)
        side = 2.0 * draw[:, 0] - 1.0
        self._side = side.sign() * (1.0 + 2.0 * side.abs())  # x of a box [m]: beside the path
        self._height = (draw[:, 1] - 0.5) * 3.0
        self._size = 0.2 + 0.4 * draw[:, 2]
        self._phase = draw[:, 3] * 18.0
        self._speed = 0.02 + 0.04 * draw[:, 4]  # metres per frame
        self._slope = 0.6 * (draw[:, 5] - 0.5)

    def __call__(self, index: int) -> Tensor:
        """True disparity float32 [h, w] of frame ``index``, in 1/m, within (0, 1)."""
        wall = 14.0 + 5.0 * math.sin(index / 311.0) + 2.0 * math.sin(index / 37.0)
        bob = 1.5 + 0.2 * math.sin(index / 11.0)
        disparity = torch.full((self._v.shape[0], self._u.shape[1]), 1.0 / wall)
        disparity = torch.maximum(disparity, self._v / bob)  # floor: 1/Z = v / height
        for box in range(self._side.numel()):
            depth = 1.3 + (float(self._phase[box]) - index * float(self._speed[box])) % 18.0
            centre_u, centre_v = float(self._side[box]) / depth, float(self._height[box]) / depth
            half = float(self._size[box]) / depth
            inside = ((self._u - centre_u).abs() < half) & ((self._v - centre_v).abs() < half)
            face = (1.0 + float(self._slope[box]) * (self._u - centre_u)) / depth
            disparity = torch.where(inside, torch.maximum(disparity, face), disparity)
        return disparity.clamp(0.0, 0.95)
