# SPDX-License-Identifier: Apache-2.0
"""Odometry to anchors: features triangulated over a metric baseline.

For a feature seen at x1 in the keyframe and at x2 now, with X = R x1 + q1 t the point scaled by
its inverse depth q1 in the keyframe, x2 ~ X is linear in q1: (r - x2 r_z) + q1 (t - x2 t_z) = 0
with r = R x1, in x and y. Two equations, one unknown: the rest is the reprojection error.
"""

from __future__ import annotations

import math

import numpy as np

from video_depth_ros.camera import Camera
from video_depth_ros.metric.anchors import Anchors, View
from video_depth_ros.metric.config import OdometryConfig
from video_depth_ros.metric.poses import PoseHistory, inverse, rotation
from video_depth_ros.metric.reasons import Verdict
from video_depth_ros.metric.tracks import FeatureTracker, Tracks, epipolar_rotation, homogeneous
from video_depth_ros.metric.visual import free_rotation, pair_system

_ROTATION_LEFT = 0.3  # share of the rotation's error that the correction leaves
_FADING = 0.5  # share of features below which half the parallax must do
_MIN_SURVIVAL = 0.3  # share of the keyframe's features below which it is given up
_MAX_SIGMA = 0.3  # share of the median inverse depth at which a triangulation tells nothing


class OdometrySource:
    """Features from a keyframe until the robot has moved far enough, then anchors."""

    def __init__(self, config: OdometryConfig) -> None:
        self.config = config
        self.poses = PoseHistory()
        self._tracker = FeatureTracker(config.features)
        self._T_camera_base = np.eye(4)
        self._key: View | None = None

    def add(self, T_odom_base: np.ndarray, stamp_ns: int, T_camera_base: np.ndarray) -> None:
        """Take a pose."""
        self._T_camera_base = T_camera_base
        self.poses.add(stamp_ns, T_odom_base)

    def clear(self) -> None:
        """Forget the features; the poses stay."""
        self._tracker.clear()
        self._key = None

    def motion(self, from_ns: int, to_ns: int) -> np.ndarray | None:
        """T_camera(to)_camera(from), float64 [4, 4], or None where poses are missing."""
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
            return self._start_keyframe(view, None)
        enough = len(tracks.key) >= self.config.min_tracks
        T = self.motion(tracks.key_ns, stamp_ns) if enough else None
        if T is not None and np.linalg.norm(T[:3, 3]) >= self.config.min_baseline:
            d, _ = self._key.sample(tracks.key)
            found, parallax = triangulate(camera, tracks, d, T, self.config)
            wanted = math.radians(self.config.min_parallax)
            if parallax >= wanted or (parallax >= 0.5 * wanted and tracker.survival < _FADING):
                few = len(found) < self.config.min_tracks
                self._start_keyframe(view, None)
                return Verdict.FEW_TRACKS if few else found
        if not enough or tracker.survival < _MIN_SURVIVAL:
            return self._start_keyframe(view, Verdict.FEW_TRACKS)
        if (stamp_ns - tracks.key_ns) * 1e-9 > self.config.max_age:
            return self._start_keyframe(view, Verdict.SHORT_BASELINE)
        return None

    def _start_keyframe(self, view: View, verdict: Verdict | None) -> Verdict | None:
        self._tracker.start_keyframe(view.stamp_ns)
        self._key = view
        return verdict


def triangulate(
    camera: Camera,
    tracks: Tracks,
    disparity: np.ndarray,
    T_now_key: np.ndarray,
    config: OdometryConfig,
) -> tuple[Anchors, float]:
    """Triangulate features over a known motion.

    Odometers know translation better than rotation, and at one degree of parallax a milliradian
    is worth six percent of depth. The rotation is corrected first: by the features with the shape
    that the disparity tells, then by their epipolar lines.

    Args:
        camera: model of both frames.
        tracks: features.
        disparity: float [N], at the features in the keyframe, NaN unknown.
        T_now_key: float64 [4, 4], metres.
        config: gates and noise.

    Returns:
        Anchors in the newest frame, and the median parallax of all features [rad].
    """
    t = T_now_key[:3, 3]
    focal = math.sqrt(camera.fx * camera.fy)
    first, second = homogeneous(camera, tracks.key), homogeneous(camera, tracks.now)
    R = T_now_key[:3, :3]
    known = np.isfinite(disparity)
    system = None
    if known.sum() >= config.min_tracks:
        d = disparity[known].astype(np.float64)
        sigma_ray = config.sigma_pixel / focal
        system = pair_system(first[known], second[known], d, R, sigma_ray, config.sigma_rotation)
    if system is not None:
        R = R @ rotation(free_rotation(system))
    R = epipolar_rotation(camera, tracks, R, t, 0.2 * config.sigma_rotation)
    turned, seen = first @ R.T, second[:, :2]
    A = turned[:, :2] - seen * turned[:, 2:]
    B = t[:2] - seen * t[2]
    size = np.maximum((B * B).sum(axis=1), 1e-18)
    q_key = -(A * B).sum(axis=1) / size
    z = turned[:, 2] + q_key * t[2]  # depth now over depth in the keyframe
    parallax = float(np.median(np.abs(q_key) * np.sqrt(size)))
    with np.errstate(all="ignore"):
        error = np.linalg.norm(A + q_key[:, None] * B, axis=1) / z * focal
        q = q_key / z
        sigma = config.sigma_pixel / focal * np.abs(z) / np.sqrt(size) * turned[:, 2] / z**2
    front = (q_key > 0.0) & (z > 0.05)
    keep = front & (error < config.max_reprojection)
    if keep.any():
        # never by a point's own parallax: that would keep the far points measured too near
        keep &= sigma < _MAX_SIGMA * float(np.median(q[keep]))
    common = math.hypot(
        config.sigma_scale,
        config.sigma_position / float(np.linalg.norm(t)),
        _ROTATION_LEFT * config.sigma_rotation / max(parallax, 1e-6),
    )
    return Anchors(tracks.now[keep], q[keep], sigma[keep], common), parallax
