# SPDX-License-Identifier: Apache-2.0
"""The IMU as a source of scale: keyframes, a window of them, a fit when the motion allows one."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np

from video_depth_ros.camera import Camera
from video_depth_ros.metric.anchors import View
from video_depth_ros.metric.config import InertialConfig
from video_depth_ros.metric.fit import ScaleFit
from video_depth_ros.metric.flow import predicted, refine
from video_depth_ros.metric.inertial import (
    UNSEEN,
    InertialScale,
    VisualStep,
    align,
    gyro_bias,
)
from video_depth_ros.metric.parts import PARTS, part_of
from video_depth_ros.metric.poses import inverse
from video_depth_ros.metric.preintegration import InertialHistory, Preintegrated
from video_depth_ros.metric.reasons import Verdict
from video_depth_ros.metric.tracks import FeatureTracker, homogeneous, in_view, with_rays
from video_depth_ros.metric.visual import (
    PairSystem,
    common_offset,
    common_rate,
    neutral_disparity,
    pair_system,
    residuals,
    shape_error,
    solve_motion,
    steadied,
    unknown_motion,
)

_SIGMA_PIXEL = 0.3
_TOO_LONG = 2.5  # keyframes this many intervals apart break the window
_GOAL = 0.05  # relative deviation at which a window need not grow on
_FULL = 0.07  # and at which a window that cannot grow on is still of use
_LEAST_PAIRS = 8  # with fewer the deviation is hardly known itself
_BLIND = 3  # pairs in a row without enough features break the window
_CAUTION = 1.5  # on the formal deviation
_LEVEL = 0.02  # relative error of level and slope, at least
_RELIEF = 3.29  # 5 to 95 % range of a normal law over its standard deviation
_MEDIAN = 0.6745  # median size of a normal law's numbers over their standard deviation
_UNTOLD = 0.2  # error of shape where features do not tell it
_BIAS_MEMORY = 0.2


@dataclass(frozen=True)
class _Pair:
    """Features of a keyframe in the next one: rays (z = 1), disparity, the part of the view that
    each lies in, and what they tell."""

    first: np.ndarray
    second: np.ndarray
    disparity: np.ndarray
    part: np.ndarray
    R: np.ndarray
    system: PairSystem


class InertialSource:
    """Keyframes at a fixed rate, aligned over a window that starts anew after each success."""

    def __init__(self, config: InertialConfig) -> None:
        self.config = config
        self.samples = InertialHistory()
        self._tracker = FeatureTracker(config.features)
        self._T_imu_camera = np.eye(4)
        self._key: View | None = None
        self._key_image = np.zeros((0, 0), np.uint8)
        self._pairs: deque[tuple[_Pair | None, Preintegrated]] = deque(maxlen=config.keyframes)
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
            return self._restart(view, image, None)
        seconds = (view.stamp_ns - self._key.stamp_ns) * 1e-9
        if seconds < self.config.interval - 1e-3:
            return None
        if seconds > _TOO_LONG * self.config.interval:
            return self._restart(view, image, Verdict.FEW_TRACKS)
        part = self.samples.integrate(self._key.stamp_ns, view.stamp_ns, self._bias)
        if part is None:
            return None  # the IMU is behind, or silent: the pair grows too long
        pair = self._pair(camera, part, image)
        self._pairs.append((pair, part))
        if pair is None:  # blurred, dark, covered: what was seen before still counts
            if all(pair is None for pair, _ in list(self._pairs)[-_BLIND:]):
                return self._restart(view, image, Verdict.FEW_TRACKS)
            self._start_keyframe(view, image)
            return Verdict.FEW_TRACKS
        self._start_keyframe(view, image)
        return self._align()

    def _restart(self, view: View, image: np.ndarray, verdict: Verdict | None) -> Verdict | None:
        self._pairs.clear()
        self._start_keyframe(view, image)
        return verdict

    def _start_keyframe(self, view: View, image: np.ndarray) -> None:
        self._tracker.start_keyframe(view.stamp_ns)
        self._key, self._key_image = view, image

    def _pair(self, camera: Camera, part: Preintegrated, image: np.ndarray) -> _Pair | None:
        tracks = self._tracker.tracks
        if tracks is None or self._key is None or len(tracks.key) < self.config.min_tracks:
            return None
        tracks = with_rays(camera, tracks)
        d, step = self._key.sample(tracks.key)
        low, high = self._key.limits
        spread = float(self._key.quantiles[2] - self._key.quantiles[0])
        known = np.isfinite(d) & (d > low) & (d < high) & (step < 0.1 * max(spread, 1e-9))
        if known.sum() < self.config.min_tracks:
            return None
        R_ci = self._T_imu_camera[:3, :3].T
        R = R_ci @ part.R.T @ R_ci.T
        key, now, d = tracks.key[known], tracks.now[known], d[known].astype(np.float64)
        rough = self._told(camera, key, now, d, R)
        if rough is None:
            return None
        flow = predicted(camera, self._key.disparity, R, unknown_motion(rough.system))
        now, good = refine(self._key_image, image, flow, key, now)
        good &= in_view(camera, now)
        if good.sum() < self.config.min_tracks:
            return None
        return self._told(camera, key[good], now[good], d[good], R)

    def _told(
        self, camera: Camera, key: np.ndarray, now: np.ndarray, d: np.ndarray, R: np.ndarray
    ) -> _Pair | None:
        first, second = homogeneous(camera, key), homogeneous(camera, now)
        sigma = _SIGMA_PIXEL / math.sqrt(camera.fx * camera.fy)
        system = pair_system(first, second, d, R, sigma, self.config.sigma_rotation)
        part = part_of(key, (camera.height, camera.width))
        return None if system is None else _Pair(first, second, d, part, R, system)

    def _align(self) -> ScaleFit | Verdict | None:
        """Scale from the window, once it passes the gates."""
        pairs = [pair for pair, _ in self._pairs if pair is not None]
        if len(pairs) < _LEAST_PAIRS:
            return None
        inertial = [part for _, part in self._pairs]
        systems = self._steadied()
        offset = common_offset(systems)
        if offset is None:
            return Verdict.UNOBSERVABLE
        beta, sigma_beta = offset
        motions = [solve_motion(system, beta) for system in systems]
        rho = shape_error(
            [
                (residuals(p.first, p.second, p.disparity, p.R, tau, beta, w), p.part)
                for p, (tau, w, _) in zip(pairs, motions, strict=True)
            ]
        )
        rho = _UNTOLD if rho is None else rho
        stretch = rho / math.sqrt(PARTS)
        moved = iter(motions)
        steps = []
        for pair, _ in self._pairs:
            if pair is None:
                steps.append(UNSEEN)
                continue
            tau, w, covariance = next(moved)
            # X_now = R X_key + t: the camera has moved by -R' t in its frame at the keyframe
            back = pair.R.T
            steps.append(VisualStep(-back @ tau, back @ covariance @ back.T, w, True, stretch))
        found = align(steps, inertial, self._T_imu_camera, self.config)
        bias = gyro_bias(steps, inertial, self._T_imu_camera[:3, :3])
        full = len(self._pairs) == self.config.keyframes
        self._bias = self._bias + _BIAS_MEMORY * (bias - self._bias)
        if not found.observable:
            return Verdict.UNOBSERVABLE
        if found.sigma > (_FULL if full else _GOAL) * found.a:
            return Verdict.UNOBSERVABLE if full else None  # the window may still grow
        return self._fit(found, systems, beta, sigma_beta, rho)

    def _steadied(self) -> list[PairSystem]:
        """The pairs seen, their rotations known but for the gyro's noise and one common bias."""
        seen = [(pair.system, part) for pair, part in self._pairs if pair is not None]
        systems = [system for system, _ in seen]
        seconds = [part.seconds for _, part in seen]
        taken = [self._T_imu_camera[:3, :3].T @ part.gyro_bias for _, part in seen]
        rate = common_rate(systems, seconds, taken)
        steady = self._turning(systems, seconds, taken, rate)
        offset = common_offset(steady)
        if offset is None:
            return steady
        rate = common_rate(systems, seconds, taken, offset[0])
        return self._turning(systems, seconds, taken, rate)

    def _turning(
        self,
        systems: list[PairSystem],
        seconds: list[float],
        taken: list[np.ndarray],
        rate: np.ndarray,
    ) -> list[PairSystem]:
        sigma = self.config.sigma_gyroscope
        return [
            steadied(system, (rate - before) * duration, sigma)
            for system, duration, before in zip(systems, seconds, taken, strict=True)
        ]

    def _fit(
        self,
        found: InertialScale,
        systems: list[PairSystem],
        beta: float,
        sigma_beta: float,
        rho: float,
    ) -> ScaleFit | Verdict:
        """The map about the disparity where an error of the offset does not matter."""
        centre = neutral_disparity(systems, beta)
        level = found.a * (centre + beta)
        if not level > 0.0:
            return Verdict.UNOBSERVABLE
        relief = float(np.median([system.spread for system in systems])) / _RELIEF
        # errors of shape lean the map as they would a regression over so many parts
        lean = rho / math.sqrt(PARTS) * (centre + beta) / relief
        sigma_slope = _CAUTION * math.hypot(sigma_beta / (centre + beta), lean)
        self._pairs.clear()  # the next one is independent of this
        return ScaleFit(
            Verdict.ACCEPTED,
            slope=found.a,
            level=level,
            centre=centre,
            sigma_level=_LEVEL * level,
            sigma_slope=max(sigma_slope, _LEVEL) * found.a,
            common=_CAUTION * found.sigma / found.a,
            n=sum(system.n for system in systems),
            inlier_share=1.0,
            residual=_MEDIAN * rho,
            roughness=rho,
        )
