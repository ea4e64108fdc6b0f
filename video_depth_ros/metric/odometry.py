# SPDX-License-Identifier: Apache-2.0
"""Odometry to anchors: features triangulated over a metric baseline.

A keyframe's features are followed until the motion since then is known well enough for their
depth: a milliradian of rotation is worth 6 % of depth at one degree of parallax, and a centimetre
of position 10 % of it over ten. The odometer's motion is corrected by the features' epipolar lines
(:mod:`two_view`); what these leave open is stated as an error common to all anchors.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import cv2
import numpy as np

from video_depth_ros.camera import Camera
from video_depth_ros.metric.anchors import Anchors, View
from video_depth_ros.metric.config import OdometryConfig
from video_depth_ros.metric.flow import predicted, refine
from video_depth_ros.metric.poses import PoseHistory, inverse, rotation_vector
from video_depth_ros.metric.reasons import Verdict
from video_depth_ros.metric.tracks import FeatureTracker, Tracks, homogeneous, with_rays
from video_depth_ros.metric.two_view import Motion, common_error, correct, triangulate
from video_depth_ros.metric.waiting import LONGEST

_FADING = 0.5  # share of features below which a less certain motion must do
_ENOUGH_FADING = 3.0  # times max_sigma that then is enough
_FEWEST = 8  # features that make a motion's error meaningful
_MIN_SURVIVAL = 0.3  # share of the keyframe's features below which it is given up
_MAX_SIGMA = 0.3  # share of the median inverse depth at which a triangulation tells nothing
_WINDOW = 7  # px; a feature may be at any depth within
_EDGE = 0.15  # relative range of inverse depth within, above which a feature lies on an edge
_ALIKE = 0.3  # of the disagreement of disparity and features that is common to all of them
_LASTING = 2.0  # s that it lasts: traffic, repeated texture, a network's error of shape
_LEAST = 0.5  # s between measurements that the filter holds apart itself
# Shares of max_correction: where the mean correction begins, and above which it is too large.
_EXPECTED, _ON_AVERAGE = 0.25, 0.45
_TREND = 0.3  # weight of a new correction in the mean


class OdometrySource:
    """Features from a keyframe until the robot has moved far enough, then anchors.

    Attributes:
        contradicted: whether the features have been contradicting the odometer for a while: its
            mounting is wrong, or it is worse than it says, and what it gave before is in doubt.
    """

    def __init__(self, config: OdometryConfig) -> None:
        self.config = config
        self.poses = PoseHistory()
        self._tracker = FeatureTracker(config.features)
        self._T_camera_base = np.eye(4)
        self._key: View | None = None
        self._key_image = np.zeros((0, 0), np.uint8)
        self._given_ns: int | None = None
        self._mean_correction = _EXPECTED * config.max_correction

    @property
    def contradicted(self) -> bool:
        """See above."""
        return self._mean_correction > _ON_AVERAGE * self.config.max_correction

    def add(self, T_odom_base: np.ndarray, stamp_ns: int, T_camera_base: np.ndarray) -> None:
        """Take a pose."""
        self._T_camera_base = T_camera_base
        self.poses.add(stamp_ns, T_odom_base)

    def clear(self) -> None:
        """Forget the features; the poses stay."""
        self._tracker.clear()
        self._key = None
        self._given_ns = None

    def motion(self, from_ns: int, to_ns: int) -> np.ndarray | None:
        """T_camera(to)_camera(from), float64 [4, 4].

        None where poses are missing, or where the newest is so far ahead that these cannot be of
        the same clock.
        """
        newest = self.poses.newest_ns
        if newest is not None and (newest - to_ns) * 1e-9 > LONGEST:
            return None
        first, second = self.poses.at(from_ns), self.poses.at(to_ns)
        if first is None or second is None:
            return None
        T_camera_base = self._T_camera_base
        return T_camera_base @ inverse(second) @ first @ inverse(T_camera_base)

    def anchors(self, image: np.ndarray, view: View, camera: Camera) -> Anchors | Verdict | None:
        """Follow the features into a frame; None while the baseline is still growing.

        Args:
            image: uint8 [h, w].
            view: the frame.
            camera: its model.
        """
        tracker, stamp_ns = self._tracker, view.stamp_ns
        tracker.follow(image)
        tracks = tracker.tracks
        if tracks is None or self._key is None:
            return self._start_keyframe(image, view, None)
        tracks = with_rays(camera, tracks, self._key.camera)
        enough = len(tracks.key) >= self.config.min_tracks
        T = self.motion(tracks.key_ns, stamp_ns) if enough else None
        if T is not None and np.linalg.norm(T[:3, 3]) >= self.config.min_baseline:
            found = self._triangulated(image, view, camera, tracks, T)
            if isinstance(found, Verdict):
                return self._start_keyframe(image, view, found)
            if found is not None:
                few = len(found) < self.config.min_tracks
                self._start_keyframe(image, view, None)
                if few:
                    return Verdict.FEW_TRACKS
                self._given_ns = stamp_ns
                return found
        if not enough or tracker.survival < _MIN_SURVIVAL:
            return self._start_keyframe(image, view, Verdict.FEW_TRACKS)
        if (stamp_ns - tracks.key_ns) * 1e-9 > self.config.max_age:
            return self._start_keyframe(image, view, Verdict.SHORT_BASELINE)
        return None

    def _start_keyframe(
        self, image: np.ndarray, view: View, verdict: Verdict | None
    ) -> Verdict | None:
        self._tracker.start_keyframe(view.stamp_ns)
        self._key, self._key_image = view, image
        return verdict

    def _triangulated(
        self, image: np.ndarray, view: View, camera: Camera, tracks: Tracks, T: np.ndarray
    ) -> Anchors | Verdict | None:
        """Anchors over the motion so far; None where a longer one would tell more.

        CONTRADICTED is a motion that the features refute, however short it is, or one of several
        that they have to correct more than an odometer needs on average.
        """
        assert self._key is not None
        config = self.config
        fading = self._tracker.survival < _FADING
        limit = config.max_sigma * (_ENOUGH_FADING if fading else 1.0)
        seen = triangulated(camera, tracks, self._key, T, config)
        if 0.0 < config.max_correction < seen.motion.correction:
            return self._judged(seen.motion)
        if (
            len(seen.anchors) < config.min_tracks
            or seen.parallax < math.radians(config.min_parallax)
            or seen.anchors.common > limit
        ):
            return None
        if self._judged(seen.motion) is Verdict.CONTRADICTED:
            return Verdict.CONTRADICTED
        if seen.slope > 0.0:
            tau = np.outer([seen.slope, seen.shift], seen.motion.t).ravel()
            motion = np.concatenate([tau, np.zeros(3)])
            key_camera = self._key.camera
            flow = predicted(camera, self._key.disparity, seen.motion.R, motion, key_camera)
            now, found = refine(self._key_image, image, flow, tracks.key, tracks.now)
            kept = Tracks(tracks.key_ns, tracks.key[found], now[found])
            again = with_rays(camera, kept, key_camera)
            if len(again.key) >= config.min_tracks:
                seen = triangulated(camera, again, self._key, T, config)
        if len(seen.anchors) < config.min_tracks:
            return seen.anchors
        since = math.inf
        if self._given_ns is not None:
            since = (view.stamp_ns - self._given_ns) * 1e-9
        lasting = math.sqrt(max(1.0, _LASTING / max(since, _LEAST)))
        common = math.hypot(seen.anchors.common, _ALIKE * seen.disagreement * lasting)
        return off_edges(
            dataclasses.replace(seen.anchors, common=common), view, seen.slope, config.min_tracks
        )

    def _judged(self, motion: Motion) -> Verdict | None:
        """CONTRADICTED when the features refute a motion, alone or with those before."""
        most = self.config.max_correction
        if most <= 0.0:
            return None
        new = min(motion.correction, most)
        self._mean_correction += _TREND * (new - self._mean_correction)
        return Verdict.CONTRADICTED if new >= most or self.contradicted else None


@dataclass(frozen=True)
class Seen:
    """Features triangulated over an odometer's motion.

    Attributes:
        anchors: in the newest frame; ``common`` is what the motion's errors leave.
        motion: the odometer's, corrected by the features.
        parallax: its median over the anchors [rad], 0 without any.
        slope, shift: the map from the keyframe's disparity to inverse depth, roughly.
        disagreement: relative deviation of the features from that map beyond their own noise.
    """

    anchors: Anchors
    motion: Motion
    parallax: float = 0.0
    slope: float = 0.0
    shift: float = 0.0
    disagreement: float = 0.0


def triangulated(
    camera: Camera, tracks: Tracks, key: View, T_now_key: np.ndarray, config: OdometryConfig
) -> Seen:
    """Correct the odometer's motion by the features, and triangulate them over it.

    Args:
        camera: model of the newest frame.
        tracks: features.
        key: the keyframe, with its own camera: a lens may have zoomed since.
        T_now_key: float64 [4, 4], metres.
        config: gates, noise of odometer and features.
    """
    first = homogeneous(key.camera or camera, tracks.key)
    second = homogeneous(camera, tracks.now)
    focal = math.sqrt(camera.fx * camera.fy)
    turn = float(np.linalg.norm(rotation_vector(T_now_key[:3, :3])))
    way = float(np.linalg.norm(T_now_key[:3, 3]))
    motion = correct(
        first,
        second,
        T_now_key,
        config.sigma_pixel / focal,
        math.hypot(config.sigma_rotation, config.sigma_turn * math.sqrt(turn)),
        math.hypot(config.sigma_position, config.sigma_distance * math.sqrt(way)),
    )
    points = triangulate(first, second, motion)
    d, _ = key.sample(tracks.key)
    good = points.front & (points.error * focal < config.max_reprojection) & np.isfinite(d)
    if good.any():
        # never by a point's own parallax: that would keep the far points measured too near
        good &= points.sigma < _MAX_SIGMA * float(np.median(points.now[good]))
    now, sigma = points.now[good], points.sigma[good]
    if len(now) < _FEWEST:
        return Seen(Anchors(tracks.now[good], now, sigma), motion)
    error = common_error(now, sigma, points.jacobian[good], motion.covariance)
    q = points.key[good]
    slope, shift = resistant_line(d[good], q)
    residual = 1.4826 * float(np.median(np.abs(q - slope * d[good] - shift) / q))
    noise = float(np.median(sigma / now))
    return Seen(
        Anchors(tracks.now[good], now, sigma, math.hypot(config.sigma_scale, error)),
        motion,
        float(np.median(points.parallax[good])),
        slope,
        shift,
        math.sqrt(max(residual**2 - noise**2, 0.0)),
    )


def off_edges(anchors: Anchors, view: View, slope: float, fewest: int) -> Anchors:
    """Anchors on even ground, at least the ``fewest`` on the most even, the rest less certain.

    A feature on an edge belongs to the nearer side, whatever lies at its pixel: it would read too
    near.

    Args:
        anchors: at least ``fewest``.
        view: their frame.
        slope: inverse depth per disparity, roughly.
        fewest: to be left.
    """
    known = np.isfinite(view.disparity)
    if not known.any():
        return anchors
    d = np.where(known, view.disparity, np.median(view.disparity[known]))
    smooth = cv2.medianBlur(np.asarray(d, np.float32), 3)
    kernel = np.ones((_WINDOW, _WINDOW), np.uint8)
    spread = cv2.dilate(smooth, kernel) - cv2.erode(smooth, kernel)
    height, width = spread.shape
    u, v = np.clip(np.rint(anchors.uv), 0, (width - 1, height - 1)).astype(np.intp).T
    relief = max(slope, 0.0) * spread[v, u].astype(np.float64)
    uneven = relief / anchors.inverse_depth
    even = uneven <= max(_EDGE, float(np.sort(uneven)[fewest - 1]))
    return dataclasses.replace(anchors, sigma=np.hypot(anchors.sigma, 0.5 * relief)).take(even)


def resistant_line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Slope and offset through the medians of the outer thirds (Tukey, 1977).

    It stands up to nearly a sixth of wrong points wherever they lie; nothing but a prediction and
    a measure of disagreement is made of it.
    """
    order = np.argsort(x)
    third = max(1, len(x) // 3)
    low, high = order[:third], order[-third:]
    run = float(np.median(x[high]) - np.median(x[low]))
    slope = float(np.median(y[high]) - np.median(y[low])) / run if run > 0.0 else 0.0
    return slope, float(np.median(y - slope * x))
