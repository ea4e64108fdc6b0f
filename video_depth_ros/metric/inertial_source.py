# SPDX-License-Identifier: Apache-2.0
"""The IMU as a source of scale: keyframes, a window of them, a fit when the motion allows one."""

from __future__ import annotations

import math
from collections import deque

import numpy as np

from video_depth_ros.camera import Camera
from video_depth_ros.metric.anchors import View
from video_depth_ros.metric.config import InertialConfig
from video_depth_ros.metric.fit import ScaleFit
from video_depth_ros.metric.inertial import UNSEEN, VisualStep, align, gyro_bias
from video_depth_ros.metric.poses import inverse
from video_depth_ros.metric.preintegration import InertialHistory, Preintegrated
from video_depth_ros.metric.reasons import Verdict
from video_depth_ros.metric.tracks import FeatureTracker, homogeneous
from video_depth_ros.metric.visual import PairSystem, common_offset, pair_system, solve_motion

_SIGMA_PIXEL = 0.3
_TOO_LONG = 2.5  # keyframes this many intervals apart break the window
_EARLY = 0.75  # share of the largest usable deviation at which a window need not grow on
_BLIND = 3  # pairs in a row without enough features break the window
_MAX_LEVEL_SIGMA = 0.2
_CAUTION = 1.5  # on the formal deviation
_SHAPE = 0.05  # relative error of the slope from a network's errors of shape
_LEVEL = 0.02  # and of the level
_BIAS_MEMORY = 0.2


class InertialSource:
    """Keyframes at a fixed rate, aligned over a window that starts anew after each success."""

    def __init__(self, config: InertialConfig) -> None:
        self.config = config
        self.samples = InertialHistory()
        self._tracker = FeatureTracker(config.features)
        self._T_imu_camera = np.eye(4)
        self._key: View | None = None
        self._pairs: deque[tuple[PairSystem | None, Preintegrated]] = deque(
            maxlen=config.keyframes
        )
        self._bias = np.zeros(3)

    def add(
        self, gyro: np.ndarray, force: np.ndarray, stamp_ns: int, T_camera_imu: np.ndarray
    ) -> None:
        """Take a sample."""
        self._T_imu_camera = inverse(T_camera_imu)
        self.samples.add(stamp_ns, gyro, force)

    def clear(self) -> None:
        """Forget the window; samples and the gyro's bias stay."""
        self._tracker.clear()
        self._key = None
        self._pairs.clear()

    def measure(self, image: np.ndarray, view: View, camera: Camera) -> ScaleFit | Verdict | None:
        """Follow the features into a frame; None between keyframes.

        Args:
            image: uint8 [h, w].
            view: the frame.
            camera: its model.
        """
        self._tracker.follow(image)
        if self._key is None:
            return self._restart(view, None)
        seconds = (view.stamp_ns - self._key.stamp_ns) * 1e-9
        if seconds < self.config.interval - 1e-3:
            return None
        if seconds > _TOO_LONG * self.config.interval:
            return self._restart(view, Verdict.FEW_TRACKS)
        part = self.samples.integrate(self._key.stamp_ns, view.stamp_ns, self._bias)
        if part is None:
            return None  # the IMU is behind, or silent: the pair grows too long
        pair = self._pair(camera, part)
        self._pairs.append((pair, part))
        if pair is None:  # blurred, dark, covered: what was seen before still counts
            if all(pair is None for pair, _ in list(self._pairs)[-_BLIND:]):
                return self._restart(view, Verdict.FEW_TRACKS)
            self._start_keyframe(view)
            return Verdict.FEW_TRACKS
        self._start_keyframe(view)
        return self._align()

    def _restart(self, view: View, verdict: Verdict | None) -> Verdict | None:
        self._pairs.clear()
        self._start_keyframe(view)
        return verdict

    def _start_keyframe(self, view: View) -> None:
        self._tracker.start_keyframe(view.stamp_ns)
        self._key = view

    def _pair(self, camera: Camera, part: Preintegrated) -> PairSystem | None:
        tracks = self._tracker.tracks
        if tracks is None or self._key is None or len(tracks.key) < self.config.min_tracks:
            return None
        d, step = self._key.sample(tracks.key)
        low, high = self._key.limits
        spread = float(self._key.quantiles[2] - self._key.quantiles[0])
        known = np.isfinite(d) & (d > low) & (d < high) & (step < 0.1 * max(spread, 1e-9))
        if known.sum() < self.config.min_tracks:
            return None
        R_ci = self._T_imu_camera[:3, :3].T
        return pair_system(
            homogeneous(camera, tracks.key[known]),
            homogeneous(camera, tracks.now[known]),
            d[known].astype(np.float64),
            R_ci @ part.R.T @ R_ci.T,
            _SIGMA_PIXEL / math.sqrt(camera.fx * camera.fy),
            self.config.sigma_rotation,
        )

    def _align(self) -> ScaleFit | Verdict | None:
        """Scale from the window, once it passes the gates."""
        pairs = [pair for pair, _ in self._pairs if pair is not None]
        if len(pairs) < 5:
            return None
        inertial = [part for _, part in self._pairs]
        offset = common_offset(pairs)
        if offset is None:
            return Verdict.UNOBSERVABLE
        beta, sigma_beta = offset
        steps = []
        for pair, part in self._pairs:
            if pair is None:
                steps.append(UNSEEN)
                continue
            tau, w, covariance = solve_motion(pair, beta)
            R_now_key = self._T_imu_camera[:3, :3].T @ part.R.T @ self._T_imu_camera[:3, :3]
            # X_now = R X_key + t: the camera has moved by -R' t in its frame at the keyframe
            back = R_now_key.T
            steps.append(VisualStep(-back @ tau, back @ covariance @ back.T, w))
        found = align(steps, inertial, self._T_imu_camera, self.config)
        bias = gyro_bias(steps, inertial, self._T_imu_camera[:3, :3])
        full = len(self._pairs) == self.config.keyframes
        self._bias = self._bias + _BIAS_MEMORY * (bias - self._bias)
        if not found.observable:
            return Verdict.UNOBSERVABLE
        if not full and found.sigma > _EARLY * self.config.max_sigma * found.a:
            return None  # the window may still grow
        centre = float(np.median([pair.centre for pair in pairs]))
        level = found.a * (centre + beta)
        sigma_level = math.hypot(found.a * sigma_beta, _LEVEL * level)
        if not level > 0.0 or sigma_level > _MAX_LEVEL_SIGMA * level:
            return Verdict.UNOBSERVABLE
        self._pairs.clear()  # the next one is independent of this
        return ScaleFit(
            Verdict.ACCEPTED,
            slope=found.a,
            level=level,
            centre=centre,
            sigma_level=sigma_level,
            sigma_slope=_SHAPE * found.a,
            common=_CAUTION * found.sigma / found.a,
            n=sum(pair.n for pair in pairs),
            inlier_share=1.0,
        )
