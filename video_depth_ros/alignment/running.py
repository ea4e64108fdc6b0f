# SPDX-License-Identifier: Apache-2.0
"""The running estimate: every new window in the one affine frame of the stream.

A new window sees frames that were published before (the overlap); it is brought into the running
frame by the affine map that makes both versions of these frames agree. What has been published is
never rewritten. Of the past only a coarse grid of samples of the last frames is kept, so cost and
memory do not grow with the stream. When no map can be trusted the stream says so: the last map is
held, or a new segment starts (``sequence`` grows).
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from video_depth_ros.alignment.config import AlignmentConfig
from video_depth_ros.alignment.fit import fit_affine, fit_dvd
from video_depth_ros.alignment.motion import CameraMotion, predict_samples
from video_depth_ros.alignment.references import Reference, sample_stride, sigma_map
from video_depth_ros.alignment.rows import level_rows
from video_depth_ros.alignment.scene_cut import is_scene_cut
from video_depth_ros.alignment.verdicts import USABLE, AffineFit, FitLimits, FitVerdict
from video_depth_ros.errors import InputError
from video_depth_ros.frames import DisparityGroup

_STEP = 0.1  # of the spread, most that homing moves the running frame at once
_CUTS = frozenset({FitVerdict.INVERTED, FitVerdict.UNRELATED, FitVerdict.SCENE_CUT})
_HELD = frozenset({FitVerdict.TOO_FEW, FitVerdict.OUTLIERS, FitVerdict.FLAT})


@dataclass(frozen=True)
class AlignedGroup:
    """The newest frames in the stream's one affine frame.

    Attributes:
        disparity: float32 [new, h, w] on the group's device, near = large.
        sigma: float32 [new, h, w], standard deviation of the disparity from the disagreement of
            windows on the overlap, units of the running frame; None at the start of a segment.
        fit: how the window was aligned: running = scale * d + shift.
        sequence: grows by one whenever a new segment, i.e. a new affine frame, starts.
        window: as it was aligned, all of its rows in one affine frame.
    """

    disparity: Tensor
    sigma: Tensor | None
    fit: AffineFit
    sequence: int
    window: DisparityGroup


class RunningEstimate:
    """One affine frame for a stream of disparity groups. One owner; not thread-safe."""

    def __init__(self, config: AlignmentConfig) -> None:
        self.config = config
        self._limits = replace(
            FitLimits.of(config), scale_low=config.scale_low, scale_high=config.scale_high
        )
        self._sequence = 0
        self._scale, self._shift = 1.0, 0.0
        self._variance: np.ndarray | None = None  # [gh, gw] disagreement of windows
        self._range = (config.floor, config.saturation)  # of the newest window's values
        self._forget()

    @property
    def sequence(self) -> int:
        """Number of the current segment."""
        return self._sequence

    @property
    def scale(self) -> float:
        """Of the newest window into the running frame."""
        return self._scale

    def reset(self) -> None:
        """Start a new segment with the next group."""
        if self._started:
            self._sequence += 1
        self._forget()

    def align(
        self,
        group: DisparityGroup,
        motion: CameraMotion | None = None,
        row_maps: np.ndarray | None = None,
        whole: bool = True,
    ) -> AlignedGroup:
        """The group's new frames in the running frame.

        Rows before the new ones are matched by their index to what was published; frames that
        were not published, or are no longer kept, are not used.

        Args:
            group: a window's disparity, overlap first.
            motion: of the camera, where it is known: one more constraint on the fit.
            row_maps: float64 [T, 2], (scale, shift) that bring the rows into one affine frame,
                where the regressor does not; see ``rows.py``.
            whole: whether the group is whole. A preview of one that still fills is no group to
                ``homing``, ``max_held`` and ``max_clipped``, however many come of it.

        Raises:
            InputError: ``disparity``: not [T, h, w], or fewer rows than new frames.
        """
        stride = _check(group)
        grid = self._sample(group, stride)
        usable = self._usable(grid)
        self._range = (self.config.floor, self.config.saturation)
        if row_maps is not None:
            ends = row_maps[:, :1] * np.array(self._range) + row_maps[:, 1:]
            self._range = (float(ends[:, 0].max()), float(ends[:, 1].min()))
            group = level_rows(group, row_maps, self.config.saturation)
            grid = self._sample(group, stride)
        if self._references and self._references[-1].samples.shape != grid.shape[1:]:
            self.reset()  # the image changed its size
        fit = self._fit(group, grid, usable, motion)
        if whole:
            fit = self._count(fit)
        if fit.verdict in _CUTS or fit.verdict is FitVerdict.LOST:
            self.reset()
        if fit.verdict not in USABLE and fit.verdict is not FitVerdict.FLAT:
            fit = replace(fit, scale=self._scale, shift=self._shift)
        self._scale, self._shift = fit.scale, fit.shift
        self._started = True
        sigma = self._compare(group, grid, usable, fit)
        self._remember(group, grid, usable, fit)
        disparity = group.disparity[group.overlap :] * fit.scale + fit.shift
        if self.config.method == "dvd":
            disparity = disparity.clamp_min_(0.0)
        if whole and self.config.homing > 0.0 and not self.config.keyframes.every:
            self._go_home(grid[usable])
        spread = None if sigma is None else sigma_map(sigma, group.disparity[group.overlap :])
        return AlignedGroup(disparity, spread, fit, self._sequence, group)

    def _go_home(self, values: np.ndarray) -> None:
        """A small step towards the network's own frame, for the next group.

        The chain is right over short times, what the network makes of each window by itself over
        long ones. At home scale is 1 and shift 0.
        """
        if self.config.method != "robust" or values.size == 0:
            return
        low, high = np.quantile(values[:: max(1, values.size // 2048)], (0.1, 0.9))
        away = max(abs((1.0 - self._scale) * end - self._shift) for end in (low, high))
        unit = max(self._scale * float(high - low), 1e-9)
        share = min(self.config.homing, _STEP * unit / max(away, 1e-12))
        scale = self._scale**-share
        self.correct(scale, (1.0 - share) * self._shift - scale * self._shift)

    def correct(self, scale: float, shift: float) -> None:
        """Move the running frame: what comes next is scale * X + shift of what it would have been.

        For drift control, in steps too small to be seen as a seam.
        """
        for reference in self._references:
            reference.samples = scale * reference.samples + shift
            reference.low = scale * reference.low + shift
            reference.high = scale * reference.high + shift
        self._scale, self._shift = scale * self._scale, scale * self._shift + shift
        if self._variance is not None:
            self._variance = scale**2 * self._variance

    def samples(self, index: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Samples of a published frame in the running frame: values [gh, gw] and usable.

        Every ``sample_stride``-th pixel, averaged over all windows that saw the frame. None when
        the frame is not, or no longer, kept.
        """
        for reference in self._references:
            if reference.index == index:
                return reference.samples.copy(), reference.usable.copy()
        return None

    @property
    def oldest_index(self) -> int:
        """Stream index of the oldest frame that is kept, -1 when none is."""
        return self._references[0].index if self._references else -1

    def _forget(self) -> None:
        self._references: deque[Reference] = deque(maxlen=self.config.overlap)
        self._scale, self._shift = 1.0, 0.0
        self._covariance = np.zeros((2, 2))  # of (log scale, shift)
        self._variance = None
        self._held = 0
        self._clipped: deque[bool] = deque(maxlen=2 * self.config.max_clipped)
        self._started = False

    @staticmethod
    def _sample(group: DisparityGroup, stride: int) -> np.ndarray:
        rows = group.disparity[:, ::stride, ::stride]
        return rows.detach().to("cpu", torch.float64).numpy()

    def _usable(self, grid: np.ndarray) -> np.ndarray:
        # comparisons with NaN are false
        return (grid > self.config.floor) & (grid < self.config.saturation)

    def _fit(
        self,
        group: DisparityGroup,
        grid: np.ndarray,
        usable: np.ndarray,
        motion: CameraMotion | None,
    ) -> AffineFit:
        if not self._references:
            return _without_fit(FitVerdict.START)
        pairs = self._pairs(group)
        if motion is not None and self.config.method == "robust":
            pairs.append((grid.shape[0] - 1, self._predict(group, motion)))
        if not pairs:
            return _without_fit(FitVerdict.TOO_FEW)
        if self.config.method == "dvd":
            return self._fit_dvd(pairs, grid)
        if is_scene_cut(grid, group.overlap, self.config):
            return _without_fit(FitVerdict.SCENE_CUT)
        # every step-th sample of the overlap, a different one in every frame
        step = max(1, -(-len(pairs) * grid[0].size // self.config.samples))
        parts = []
        for row, reference in pairs:
            every = slice(row % step, None, step)
            good = (usable[row] & reference.usable).ravel()[every]
            parts.append(
                [
                    values.ravel()[every][good]
                    for values in (grid[row], reference.samples, reference.views)
                ]
            )
        cur, ref, views = (np.concatenate(part) for part in zip(*parts, strict=True))
        ratio = float(np.mean(1.0 / views)) if views.size else 1.0
        prior = (self._scale, self._shift)
        fit = fit_affine(
            cur,
            ref,
            prior=prior,
            limits=self._limits,
            noise_ratio=ratio,
            cur_range=self._range,
            ref_range=(
                max(reference.low for _, reference in pairs),
                min(reference.high for _, reference in pairs),
            ),
        )
        most = self.config.max_total_scale
        if fit.verdict in USABLE and not 1.0 / most < fit.scale < most:
            return replace(fit, verdict=FitVerdict.LOST)
        return self._filter(fit) if fit.verdict is FitVerdict.ACCEPTED else fit

    def _count(self, fit: AffineFit) -> AffineFit:
        """The fit of a whole group, LOST where there were too many like it.

        One clipped scale is a change of scene; many of them compound to a flat or endless depth,
        and say that the network's windows are not one affine map apart.
        """
        if fit.verdict in USABLE:
            self._held = 0
            self._clipped.append(fit.verdict is FitVerdict.CLIPPED)
        elif fit.verdict in _HELD:
            self._held += 1
        lost = self._held > self.config.max_held or sum(self._clipped) > self.config.max_clipped
        return replace(fit, verdict=FitVerdict.LOST) if lost else fit

    def _predict(self, group: DisparityGroup, motion: CameraMotion) -> Reference:
        """The newest published frame as the newest frame of the group should see it."""
        newest = self._references[-1]
        stride = sample_stride(*group.disparity.shape[1:])
        samples, known = predict_samples(newest.samples, newest.usable, stride, motion)
        index = group.first_index + group.disparity.shape[0] - 1
        return replace(newest, index=index, samples=samples, usable=known)

    def _fit_dvd(self, pairs: list[tuple[int, Reference]], grid: np.ndarray) -> AffineFit:
        cur = np.stack([grid[row] for row, _ in pairs])
        ref = np.stack([reference.samples for _, reference in pairs])
        good = np.isfinite(cur) & np.isfinite(ref)
        if not good.any():
            return _without_fit(FitVerdict.TOO_FEW)
        scale, shift = fit_dvd(cur[good], ref[good], self.config.scale_low, self.config.scale_high)
        sigma = float(np.std(scale * cur[good] + shift - ref[good]))
        return AffineFit(
            scale, shift, np.zeros((2, 2)), 1.0, int(good.sum()), sigma, 1.0, FitVerdict.ACCEPTED
        )

    def _filter(self, fit: AffineFit) -> AffineFit:
        """Kalman update of (log scale, shift), a random walk from window to window."""
        config = self.config
        state = np.array([math.log(self._scale), self._shift])
        predicted = self._covariance + np.diag([config.process_scale**2, config.process_shift**2])
        jacobian = np.diag([1.0 / fit.scale, 1.0])
        noise = jacobian @ fit.covariance @ jacobian + np.diag(
            [config.measurement_scale**2, config.measurement_shift**2]
        )
        gain = predicted @ np.linalg.inv(predicted + noise)
        state = state + gain @ (np.array([math.log(fit.scale), fit.shift]) - state)
        keep = np.eye(2) - gain
        self._covariance = keep @ predicted @ keep.T + gain @ noise @ gain.T
        scale, shift = math.exp(state[0]), float(state[1])
        back = np.diag([scale, 1.0])
        return replace(fit, scale=scale, shift=shift, covariance=back @ self._covariance @ back)

    def _pairs(self, group: DisparityGroup) -> list[tuple[int, Reference]]:
        """(row, reference) of every overlap row that is still kept."""
        rows = ((ref.index - group.first_index, ref) for ref in self._references)
        return [(row, ref) for row, ref in rows if 0 <= row < group.overlap]

    def _compare(
        self, group: DisparityGroup, grid: np.ndarray, usable: np.ndarray, fit: AffineFit
    ) -> np.ndarray | None:
        """Disagreement on the overlap [gh, gw]; also takes the new view into the references."""
        total, count = np.zeros(grid.shape[1:]), 0
        for row, reference in self._pairs(group):
            samples = grid[row] * fit.scale + fit.shift
            innovation = np.where(np.isfinite(samples), samples - reference.samples, 0.0)
            # Var(cur - mean of m) = Var(cur) (1 + 1/m)
            total += np.square(innovation) / (1.0 + 1.0 / reference.views)
            count += 1
            if fit.verdict in USABLE and self.config.method == "robust":
                reference.take(samples, usable[row], fit)
        if not count:
            return self._variance
        newest = total / count
        old = self._variance
        self._variance = newest if old is None else 0.5 * old + 0.5 * newest
        return self._variance

    def _remember(
        self, group: DisparityGroup, grid: np.ndarray, usable: np.ndarray, fit: AffineFit
    ) -> None:
        low, high = (fit.scale * end + fit.shift for end in self._range)
        for row in range(group.overlap, grid.shape[0]):
            samples = grid[row] * fit.scale + fit.shift
            if self.config.method == "dvd":
                samples = np.maximum(samples, 0.0)
            self._references.append(
                Reference(
                    index=group.first_index + row,
                    samples=samples,
                    usable=usable[row].copy(),
                    views=np.ones(samples.shape),
                    low=low,
                    high=high,
                )
            )


def _without_fit(verdict: FitVerdict) -> AffineFit:
    return AffineFit(1.0, 0.0, np.zeros((2, 2)), 0.0, 0, 0.0, 0.0, verdict)


def _check(group: DisparityGroup) -> int:
    """The stride of the grid of samples."""
    shape = tuple(group.disparity.shape)
    if len(shape) != 3 or not 1 <= group.new <= shape[0]:
        raise InputError(
            "disparity",
            f"expected a disparity [T, h, w] with at least {group.new} rows, got {list(shape)}; "
            "the regressor breaks its contract",
        )
    return sample_stride(shape[1], shape[2])
