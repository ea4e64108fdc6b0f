# SPDX-License-Identifier: Apache-2.0
"""All measures of one way of predicting, over one video, frame by frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from video_depth_ros.bags.formats.base import SequenceFrame
from video_depth_ros.camera import Camera
from video_depth_ros.evaluation.affine import metric_frame
from video_depth_ros.evaluation.boundary import BoundaryMeter, depth_boundary_f1
from video_depth_ros.evaluation.metrics import MeanOfFrames
from video_depth_ros.evaluation.protocols import Protocol
from video_depth_ros.evaluation.temporal import (
    Correspondence,
    ScaleDrift,
    StaticFlicker,
    correspond_by_pose,
    correspond_in_place,
    flicker,
    relative_temporal_difference,
    temporal_alignment_error,
)


@dataclass(frozen=True)
class TrueFrame:
    """One frame as the measures see it.

    Attributes:
        index: in the video.
        frame: image and pose.
        truth: float [H, W] in metres, NaN wherever it does not count; None without truth.
    """

    index: int
    frame: SequenceFrame
    truth: np.ndarray | None


@dataclass(frozen=True)
class TruePair:
    """Two consecutive frames with truth, and the pixels that see the same points."""

    first: np.ndarray
    second: np.ndarray
    T_1_0: np.ndarray | None
    points: Correspondence
    camera: Camera | None

    @staticmethod
    def of(before: TrueFrame, after: TrueFrame, camera: Camera | None) -> TruePair | None:
        """The pair, by poses where both frames and the camera have them; None without truth."""
        z0, z1 = before.truth, after.truth
        if z0 is None or z1 is None or z0.shape != z1.shape or after.index != before.index + 1:
            return None
        pose0, pose1 = before.frame.T_world_camera, after.frame.T_world_camera
        if pose0 is None or pose1 is None or camera is None:
            points = correspond_in_place(z0, z1, np.isfinite(z0) & np.isfinite(z1))
            return TruePair(z0, z1, None, points, camera)
        T_1_0 = np.linalg.inv(pose1) @ pose0
        points = correspond_by_pose(camera, z0, z1, T_1_0, np.isfinite(z0))
        return TruePair(z0, z1, T_1_0, points, camera)


class VideoMeter:
    """Takes the maps of one predictor and ends with its table row."""

    def __init__(
        self,
        protocol: Protocol,
        to_depth: Callable[[np.ndarray, tuple[int, int]], np.ndarray] | None,
        over_time: bool = True,
        metric: bool = False,
    ) -> None:
        """
        Args:
            protocol: depth range.
            to_depth: (map, (H, W)) to metric depth float [H, W]; None where there is no truth to
                align to: then only what needs none is measured.
            over_time: also measure boundaries and behaviour over time.
            metric: the maps are depth in metres, not disparity.
        """
        self._range = protocol.depth_range
        self._to_depth = to_depth
        self._over_time = over_time
        self._metric = metric
        self._mean = MeanOfFrames()
        self._boundary = BoundaryMeter()
        self._drift = ScaleDrift()
        self._static = StaticFlicker()
        self._last: np.ndarray | None = None
        self.frames = 0
        self.series: dict[str, list[float]] = {}

    def add(
        self, values: np.ndarray | None, now: TrueFrame, pair: TruePair | None
    ) -> np.ndarray | None:
        """Take a frame's map (None: there is none); returns its metric depth, if there is any."""
        before, self._last = self._last, None
        if values is None:
            if now.truth is not None and np.isfinite(now.truth).any():
                self._mean.add({"coverage": 0.0})
            return None
        self.frames += 1
        if self._over_time:
            self._static.add(1.0 / values if self._metric else values, now.frame.rgb)
        if self._to_depth is None:
            return None
        height, width = now.frame.rgb.shape[:2]
        depth = self._last = self._to_depth(values, (height, width))
        if self._over_time and now.truth is not None and np.isfinite(depth).any():
            self._boundary.add(depth, now.frame.rgb, np.isfinite(now.truth))
            f1 = depth_boundary_f1(depth, now.truth)
            self._mean.add({} if f1 is None else {"depth_boundary_f1": f1})
        if now.truth is not None:
            self._against_truth(depth, now.truth)
        if pair is not None and before is not None and self._over_time:
            self._against_pair(before, depth, pair)
        return depth

    def result(self) -> dict[str, float]:
        """Every measure that is defined for this video, by name."""
        measured = {
            **self._mean.mean(),
            **self._boundary.result(),
            **self._static.result(),
        }
        if self._over_time:
            measured.update(self._drift.result())
        return measured

    def _against_truth(self, depth: np.ndarray, truth: np.ndarray) -> None:
        errors = metric_frame(depth, truth, self._range)
        self._mean.add(errors)
        log_scale = float("nan")
        if self._over_time:
            log_scale = self._drift.add(depth, truth, np.isfinite(truth) & np.isfinite(depth))
        for name, value in (("abs_rel", errors.get("abs_rel", np.nan)), ("log_scale", log_scale)):
            self.series.setdefault(name, []).append(float(value))

    def _against_pair(self, before: np.ndarray, depth: np.ndarray, pair: TruePair) -> None:
        known = np.isfinite(pair.first) & np.isfinite(pair.second)
        known &= np.isfinite(before) & np.isfinite(depth)
        self._mean.add(
            {
                "relative_temporal_difference": relative_temporal_difference(
                    before, depth, pair.first, pair.second, known
                ),
                "flicker": flicker(before, depth, pair.first, pair.second, pair.points),
            }
        )
        if pair.T_1_0 is not None and pair.camera is not None:
            error = temporal_alignment_error(pair.camera, before, depth, pair.T_1_0, pair.points)
            self._mean.add({"temporal_alignment_error": error})
