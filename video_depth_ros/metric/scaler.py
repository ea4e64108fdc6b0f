# SPDX-License-Identifier: Apache-2.0
"""Metric scale of a stream: measurements in, (a, b) and metric depth out."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from video_depth_ros.camera import Camera
from video_depth_ros.errors import InputError
from video_depth_ros.frames import UNSCALED, MetricScale, ScaleState
from video_depth_ros.metric.anchors import Anchors, View
from video_depth_ros.metric.config import ScaleConfig
from video_depth_ros.metric.fit import ScaleFit, fit_scale
from video_depth_ros.metric.inertial_source import InertialSource
from video_depth_ros.metric.lidar import depth_to_anchors, points_to_anchors
from video_depth_ros.metric.local import LocalCorrection, fit_local, trust
from video_depth_ros.metric.misalignment import Agreement, agreement
from video_depth_ros.metric.odometry import OdometrySource
from video_depth_ros.metric.reasons import USABLE, PointTimes, Verdict
from video_depth_ros.metric.report import ScaleReport, SourceRecord
from video_depth_ros.metric.scale_filter import ScaleFilter
from video_depth_ros.metric.spread import ResidualSpread
from video_depth_ros.metric.sweep import Sweep, sweep_of

_PLACED = ("lidar", "sparse_depth")  # sources whose extrinsics can be checked
_VIEWS = 16  # frames kept for measurements that arrive late
_PENDING = 16  # measurements kept per source until their frame comes
_SKY = 0.2  # inverse depth this far below zero, as a share of the level, may still be sky
_CLEARED = 1.0  # misalignment at which a misaligned source is used again
_TREND = 0.5  # weight of a new scan in the average misalignment
_LEAST = 0.2  # misalignment below which all scans count alike
_HALF_PERIOD = 0.05  # assumed half frame period before two frames were seen [s]


@dataclass(frozen=True)
class _Measurement:
    """A stamped measurement that becomes anchors once its frame is known."""

    source: str
    stamp_ns: int
    anchors: Callable[[View], Anchors | Verdict]


@dataclass(frozen=True)
class _Fused:
    """Anchors that entered the filter, with the disparity at each."""

    stamp_ns: int
    anchors: Anchors
    disparity: np.ndarray


class MetricScaler:
    """Metric anchors from every source, one filter, one scale.

    Measurements may come before or after the frame of their stamp; each is used once, against the
    nearest frame. Nothing blocks; all buffers are bounded. Not thread-safe: one owner calls it.
    """

    def __init__(self, config: ScaleConfig) -> None:
        self.config = config
        self._filter = ScaleFilter(config.filter)
        self._spread = ResidualSpread()
        self._local_spread = ResidualSpread()
        self._odometry = OdometrySource(config.odometry)
        self._inertial = InertialSource(config.imu)
        self._sources: dict[str, SourceRecord] = {}
        self._last_reject = ""
        self._reinitialised = 0
        self._views: deque[View] = deque(maxlen=_VIEWS)
        self._pending: deque[_Measurement] = deque(maxlen=_PENDING * 5)
        self._sequence: int | None = None
        self._time_ns: int | None = None
        self._supported_ns: int | None = None
        self._state = ScaleState.UNSCALED
        self._published: tuple[float, float] | None = None
        self._relative_sigma = math.inf
        self._fused: list[_Fused] = []  # of the newest frame that had any
        self._local: LocalCorrection | None = None
        self._corrected_ns: int | None = None

    def add_points(
        self,
        points: np.ndarray,
        stamp_ns: int,
        T_camera_sensor: np.ndarray,
        offset_s: np.ndarray | None = None,
    ) -> None:
        """A LiDAR scan or any registered cloud.

        Args:
            points: float [N, 3], metres, in the sensor's frame; non-finite ones are passed over.
            stamp_ns: time of the scan.
            T_camera_sensor: float [4, 4], sensor to the camera's optical frame.
            offset_s: float [N], seconds from ``stamp_ns`` to each point, where they are known.

        Raises:
            InputError: ``points`` or ``transform``, when the shapes or numbers cannot be that.
        """
        if points.ndim != 2 or points.shape[1] != 3:
            raise InputError("points", f"expected points [N, 3], got {list(points.shape)}")
        if offset_s is not None and offset_s.shape != (len(points),):
            raise InputError(
                "points", f"expected {len(points)} times of points, got {list(offset_s.shape)}"
            )
        T = _rigid(T_camera_sensor)
        config = self.config.lidar

        def anchors(view: View) -> Anchors | Verdict:
            sweep = self._sweep(offset_s, T, stamp_ns, view)
            self._account("lidar").point_times = (
                PointTimes.PER_POINT if isinstance(sweep, Sweep) else sweep
            )
            if isinstance(sweep, Sweep):
                return points_to_anchors(points, T, view, config, sweep)
            return points_to_anchors(points, self._moved(T, stamp_ns, view), view, config)

        self._put("lidar", stamp_ns, anchors)

    def add_sparse_depth(self, depth: np.ndarray, stamp_ns: int, camera: Camera) -> None:
        """A depth image with gaps, registered to the camera's optical frame.

        Args:
            depth: float32 [H, W], metres, NaN or 0 unknown.
            stamp_ns: its stamp.
            camera: model of the depth image, size [H, W].

        Raises:
            InputError: ``size`` when image and model differ in size.
        """
        if depth.shape != (camera.height, camera.width):
            raise InputError(
                "size",
                f"expected sparse depth of {camera.width}x{camera.height} px, got "
                f"{list(depth.shape)}; give the model of the depth image itself",
            )
        config = self.config.lidar
        self._put(
            "sparse_depth", stamp_ns, lambda view: depth_to_anchors(depth, camera, view, config)
        )

    def add_range(
        self, distance: float, sigma: float, stamp_ns: int, T_camera_sensor: np.ndarray
    ) -> None:
        """One range along the sensor's x axis [m] (sensor_msgs/Range), with its deviation.

        Raises:
            InputError: ``transform`` when the transform is none.
        """
        T = _rigid(T_camera_sensor)
        config = dataclasses.replace(self.config.lidar, occlusion_margin=0.0)
        points = np.array([[distance, 0.0, 0.0]])

        def anchors(view: View) -> Anchors | Verdict:
            found = points_to_anchors(points, self._moved(T, stamp_ns, view), view, config)
            if isinstance(found, Verdict):
                return found
            return dataclasses.replace(found, sigma=sigma * found.inverse_depth**2)

        self._put("range", stamp_ns, anchors)

    def add_odometry(
        self, T_odom_base: np.ndarray, stamp_ns: int, T_camera_base: np.ndarray
    ) -> None:
        """A metric pose of the robot.

        Args:
            T_odom_base: float [4, 4], base in a fixed frame that does not jump.
            stamp_ns: its stamp.
            T_camera_base: float [4, 4], base to the camera's optical frame.

        Raises:
            InputError: ``transform`` when a transform is none.
        """
        pose, mounting = _rigid(T_odom_base), _rigid(T_camera_base)
        self._account("odometry").received += 1
        self._odometry.add(pose, stamp_ns, mounting)  # also compensates motion, if no source

    def add_imu(
        self,
        angular_velocity: np.ndarray,
        linear_acceleration: np.ndarray,
        stamp_ns: int,
        T_camera_imu: np.ndarray,
    ) -> None:
        """One inertial sample: [rad/s] and specific force [m/s^2] in the IMU's frame (REP-145).

        Args:
            angular_velocity, linear_acceleration: float [3].
            stamp_ns: its stamp.
            T_camera_imu: float [4, 4], IMU to the camera's optical frame.

        Raises:
            InputError: ``transform``, or ``imu`` when a number is not finite.
        """
        mounting = _rigid(T_camera_imu)
        gyro = np.asarray(angular_velocity, dtype=np.float64).reshape(-1)
        force = np.asarray(linear_acceleration, dtype=np.float64).reshape(-1)
        if gyro.shape != (3,) or force.shape != (3,) or not np.isfinite([gyro, force]).all():
            raise InputError(
                "imu", "expected two finite vectors [3] from the IMU; check its driver"
            )
        self._account("imu").received += 1
        self._inertial.add(gyro, force, stamp_ns, mounting)

    def update(
        self,
        disparity: Tensor,
        rgb: Tensor,
        camera: Camera | None,
        stamp_ns: int,
        sequence: int,
    ) -> MetricScale:
        """The scale of one frame. Called for every frame, in the order of stamps.

        Args:
            disparity: float32 [h, w] in the running affine frame, NaN unknown.
            rgb: uint8 [h, w, 3].
            camera: model at [h, w], or None.
            stamp_ns: stamp of the frame.
            sequence: number of the affine frame; a new one starts (a, b) anew.
        """
        if sequence != self._sequence:
            self._restart(sequence)
        if self._time_ns is not None:
            self._filter.predict((stamp_ns - self._time_ns) * 1e-9)
        view = View(stamp_ns, disparity.detach().cpu().numpy(), camera)
        self._views.append(view)
        jumped = self._take_measurements()
        jumped |= self._use_motion(view, rgb)
        scale = self._publish(view, stamp_ns, jumped)
        self._correct(view, scale)
        self._time_ns = stamp_ns
        return scale

    def depth(
        self, disparity: Tensor, scale: MetricScale, sigma_disparity: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Metric depth of the frame last given to :meth:`update`.

        Args:
            disparity: float32 [h, w], running frame.
            scale: what :meth:`update` returned for it.
            sigma_disparity: float32 [h, w], standard deviation of the disparity, or None.

        Returns:
            depth and its standard deviation, float32 [h, w], metres; NaN where unknown, nearer
            than ``min_depth`` or beyond ``max_depth``.
        """
        if scale.state is ScaleState.UNSCALED:
            unknown = torch.full_like(disparity, math.nan)
            return unknown, unknown.clone()
        q = scale.a * disparity + scale.b
        low, high = 1.0 / self.config.max_depth, 1.0 / self.config.min_depth
        q = torch.where((q >= low) & (q <= high), q, math.nan)
        relative2 = self._spread.at(q) ** 2
        if self._local is not None:
            near = self._local.covered(q)
            q = self._local.apply(q)
            relative2 = near * self._local_spread.at(q) ** 2 + (1.0 - near) * relative2
        C = scale.covariance
        variance = (C[0, 0] * disparity + 2.0 * C[0, 1]) * disparity + C[1, 1]
        variance = variance.clamp_min(0.0) + relative2 * q * q
        if sigma_disparity is not None:
            variance = variance + (scale.a * sigma_disparity) ** 2
        depth = 1.0 / q
        return depth, variance.sqrt() * depth * depth

    def reset(self) -> None:
        """Forget scale, frames and waiting measurements; the counts stay."""
        self._restart(None)
        self._filter.reset()
        self._pending.clear()
        self._odometry.poses.clear()
        self._inertial.samples.clear()
        self._time_ns = None

    def report(self, now_ns: int) -> ScaleReport:
        """State for diagnostics; ages are taken against ``now_ns``."""
        C = self._filter.covariance
        supported = self._supported_ns
        return ScaleReport(
            state=self._state,
            a=self._filter.a,
            b=self._filter.b,
            sigma_a=math.sqrt(max(C[0, 0], 0.0)),
            sigma_b=math.sqrt(max(C[1, 1], 0.0)),
            relative_sigma=self._relative_sigma,
            age=math.inf if supported is None else (now_ns - supported) * 1e-9,
            sources=copy.deepcopy(self._sources),
            local=self._local is not None,
            local_gain=math.nan if self._local is None else self._local.gain,
            last_reject=self._last_reject,
            reinitialised=self._reinitialised,
        )

    def _account(self, source: str) -> SourceRecord:
        return self._sources.setdefault(source, SourceRecord())

    def _put(
        self, source: str, stamp_ns: int, anchors: Callable[[View], Anchors | Verdict]
    ) -> None:
        record = self._account(source)
        record.received += 1
        if source not in self.config.sources:
            self._count(source, Verdict.DISABLED)
            return
        self._pending.append(_Measurement(source, stamp_ns, anchors))

    def _restart(self, sequence: int | None) -> None:
        self._sequence = sequence
        self._filter.restart()
        self._views.clear()
        self._spread.reset()
        self._local_spread.reset()
        self._published = None
        self._supported_ns = None
        self._state = ScaleState.UNSCALED
        self._relative_sigma = math.inf
        self._fused.clear()
        self._local = None
        self._odometry.clear()
        self._inertial.clear()

    def _take_measurements(self) -> bool:
        """Fit every waiting measurement whose frame is known; whether the scale may jump."""
        waiting, jumped = list(self._pending), False
        self._pending.clear()
        for measurement in waiting:
            view = self._view_of(measurement.stamp_ns)
            if view is None:
                self._pending.append(measurement)
                continue
            offset = abs(view.stamp_ns - measurement.stamp_ns) * 1e-9
            if offset > self.config.lidar.max_time_offset:
                self._count(measurement.source, Verdict.TIME_OFFSET)
                continue
            anchors = measurement.anchors(view)
            if isinstance(anchors, Verdict):
                self._count(measurement.source, anchors)
                continue
            verdict = self._fuse(measurement.source, view, anchors)
            jumped |= verdict is Verdict.REINITIALISED
        return jumped

    def _use_motion(self, view: View, rgb: Tensor) -> bool:
        """Features with odometry and with the IMU; whether the scale may jump."""
        camera = view.camera
        odometry = "odometry" in self.config.sources and len(self._odometry.poses) > 0
        inertial = "imu" in self.config.sources and len(self._inertial.samples) > 0
        if camera is None or not (odometry or inertial):
            return False
        image = cv2.cvtColor(rgb.cpu().numpy(), cv2.COLOR_RGB2GRAY)
        verdict = None
        if odometry:
            anchors = self._odometry.anchors(image, view, camera)
            if isinstance(anchors, Verdict):
                self._count("odometry", anchors)
            elif anchors is not None:
                verdict = self._fuse("odometry", view, anchors)
        jumped = verdict is Verdict.REINITIALISED
        if inertial:
            fit = self._inertial.measure(image, view, camera)
            if isinstance(fit, Verdict):
                self._count("imu", fit)
            elif fit is not None:
                jumped |= self._filter_in("imu", view, fit) is Verdict.REINITIALISED
        return jumped

    def _moved(self, T_camera_sensor: np.ndarray, stamp_ns: int, view: View) -> np.ndarray:
        """Sensor at its stamp to the camera at the frame's, where odometry tells the motion."""
        if stamp_ns == view.stamp_ns:
            return T_camera_sensor
        motion = self._odometry.motion(stamp_ns, view.stamp_ns)
        return T_camera_sensor if motion is None else motion @ T_camera_sensor

    def _sweep(
        self, offset_s: np.ndarray | None, T: np.ndarray, stamp_ns: int, view: View
    ) -> Sweep | PointTimes:
        """The motion within a scan, or why its points are taken as simultaneous."""
        if offset_s is None or not offset_s.size:
            return PointTimes.NOT_GIVEN
        if not self.config.lidar.deskew:
            return PointTimes.SWITCHED_OFF
        return sweep_of(offset_s, T, stamp_ns, view.stamp_ns, self._odometry.motion)

    def _view_of(self, stamp_ns: int) -> View | None:
        """The nearest frame; None when a nearer one is still to come."""
        newest = self._views[-1]
        half = int(_HALF_PERIOD * 1e9)
        if len(self._views) > 1:
            half = (newest.stamp_ns - self._views[-2].stamp_ns) // 2
        if stamp_ns > newest.stamp_ns + half:
            return None
        return min(self._views, key=lambda view: abs(view.stamp_ns - stamp_ns))

    def _fuse(self, source: str, view: View, anchors: Anchors) -> Verdict:
        """Fit anchors of one frame and take the fit into the filter."""
        d, _ = view.sample(anchors.uv)
        known = np.isfinite(d)
        d, anchors = d[known], anchors.take(known)
        agreed = self._agreement(source, view, anchors)
        if self._misaligned(source, agreed):
            self._distrust(source)
            self._count(source, Verdict.MISALIGNED)
            return Verdict.MISALIGNED
        prior = (self._filter.a, self._filter.b) if self._filter.known else None
        if prior is None and len(anchors) == 1:
            prior = (1.0, 0.0)
        fit = fit_scale(
            d, anchors.inverse_depth, anchors.sigma, self.config.fit, prior, anchors.common
        )
        if fit.verdict is Verdict.LEVEL_ONLY and not agreed.related:
            # not a scene at one depth: the sensor does not see what the camera sees
            fit = dataclasses.replace(fit, verdict=Verdict.UNRELATED)
        sure = agreed.sure or source not in _PLACED
        verdict = self._filter_in(source, view, fit, sure)
        if self._filter.known and len(anchors):
            fitted = self._filter.a * d + self._filter.b
            residual = np.median(np.abs(fitted / anchors.inverse_depth - 1.0))
            self._account(source).residual = float(residual)
        if verdict in USABLE or verdict is Verdict.REINITIALISED:
            if self._fused and self._fused[0].stamp_ns != view.stamp_ns:
                self._fused.clear()
            self._fused.append(_Fused(view.stamp_ns, anchors, d))
        return verdict

    def _agreement(self, source: str, view: View, anchors: Anchors) -> Agreement:
        """How a sensor with extrinsics agrees with the frame."""
        if view.camera is None or source not in _PLACED:
            return Agreement()
        return agreement(view, view.camera, anchors)

    def _misaligned(self, source: str, agreed: Agreement) -> bool:
        """Whether a sensor has looked elsewhere, on average of its scans."""
        limit = self.config.lidar.max_misalignment
        if limit <= 0.0:
            return False
        record = self._account(source)
        if not math.isnan(agreed.misalignment):
            new, old = max(agreed.misalignment, _LEAST), record.misalignment
            mean = new if math.isnan(old) else old ** (1.0 - _TREND) * new**_TREND
            record.misalignment = mean
        # once under suspicion, only clear agreement in place clears it
        if record.last is Verdict.MISALIGNED:
            limit = min(limit, _CLEARED)
        return record.misalignment > limit

    def _distrust(self, source: str) -> None:
        """A sensor turns out to look elsewhere: so did it before, when it was believed."""
        record = self._account(source)
        if record.last is Verdict.MISALIGNED or record.used_ns is None:
            return
        if all(other.used_ns is None for name, other in self._sources.items() if name != source):
            self._filter.reset()

    def _filter_in(self, source: str, view: View, fit: ScaleFit, sure: bool = True) -> Verdict:
        """Take a fit into the filter and account for it."""
        if fit.verdict in USABLE and not self._positive(view, fit):
            fit = dataclasses.replace(fit, verdict=Verdict.NON_POSITIVE)
        record = self._account(source)
        last = record.used_ns
        since_last = math.inf if last is None else abs(view.stamp_ns - last) * 1e-9
        verdict = self._filter.update(fit, since_last, sure)
        record.anchors, record.inlier_share = fit.n, fit.inlier_share
        if fit.verdict in USABLE:
            record.innovation = self._filter.innovation
        self._count(source, verdict)
        if verdict in USABLE or verdict is Verdict.REINITIALISED:
            record.used_ns = view.stamp_ns
            self._supported_ns = max(view.stamp_ns, self._supported_ns or 0)
        self._reinitialised += verdict is Verdict.REINITIALISED
        return verdict

    def _positive(self, view: View, fit: ScaleFit) -> bool:
        """Whether the map keeps nearly all pixels from beyond infinity; the sky lies about it."""
        q = fit.slope * view.sampled + fit.shift
        return bool(np.mean(q > -_SKY * fit.level) >= self.config.fit.min_positive)

    def _count(self, source: str, verdict: Verdict) -> None:
        self._account(source).count(verdict)
        if verdict not in USABLE:
            self._last_reject = f"{source}: {verdict.value}"

    def _publish(self, view: View, stamp_ns: int, jumped: bool) -> MetricScale:
        """State machine and slew limit."""
        self._relative_sigma = max(
            (self._filter.relative_sigma(float(d)) for d in view.quantiles[1:]), default=math.inf
        )
        age = math.inf
        if self._supported_ns is not None:
            age = (stamp_ns - self._supported_ns) * 1e-9
        self._state = self._next_state(age)
        if self._state is ScaleState.UNSCALED:
            self._published = None
            if age > self.config.lost_after:
                self._filter.reset()
            return UNSCALED
        a, b = self._filter.a, self._filter.b
        if self._published is not None and not jumped and self.config.slew > 0.0:
            a, b = self._slewed(a, b, (stamp_ns - (self._time_ns or stamp_ns)) * 1e-9)
        self._published = (a, b)
        # what the slew limit holds back is part of the uncertainty
        behind = np.array([self._filter.a - a, self._filter.b - b])
        covariance = self._filter.covariance + np.outer(behind, behind)
        return MetricScale(self._state, a, b, covariance, self._supported_ns or 0)

    def _correct(self, view: View, scale: MetricScale) -> None:
        """Local correction and residual spread under the published map.

        A correction is kept for the frames until the next scan, for ``max_time_offset``.
        """
        if scale.state is ScaleState.UNSCALED or not self._fused:
            self._local = None
            return
        stamp_ns = self._fused[0].stamp_ns
        if abs(view.stamp_ns - stamp_ns) * 1e-9 > self.config.lidar.max_time_offset:
            self._local = None
            return
        if self._corrected_ns == stamp_ns:
            return
        self._corrected_ns = stamp_ns
        fitted = np.concatenate([scale.a * f.disparity + scale.b for f in self._fused])
        measured = np.concatenate([f.anchors.inverse_depth for f in self._fused])
        usable = fitted > 1e-4
        fitted, measured = fitted[usable], measured[usable]
        self._local = None
        if self.config.local.enabled:
            uv = np.concatenate([f.anchors.uv for f in self._fused])[usable]
            sigma = np.concatenate([f.anchors.sigma for f in self._fused])[usable]
            size = (int(view.disparity.shape[0]), int(view.disparity.shape[1]))
            weight = trust(fitted, measured, sigma)
            self._local = fit_local(uv, fitted, measured, weight, size, self.config.local)
        self._spread.add(fitted, measured / fitted)
        if self._local is not None:
            self._local_spread.add(fitted, np.exp(self._local.errors))

    def _next_state(self, age: float) -> ScaleState:
        if age > self.config.lost_after or not self._filter.known:
            return ScaleState.UNSCALED
        if self._state is ScaleState.UNSCALED:
            sure = self._relative_sigma <= self.config.filter.max_sigma and self._filter.confirmed
            return ScaleState.METRIC if sure else ScaleState.UNSCALED
        return ScaleState.STALE if age > self.config.stale_after else ScaleState.METRIC

    def _slewed(self, a: float, b: float, seconds: float) -> tuple[float, float]:
        """The filtered map, approached from the published one no faster than ``slew``."""
        old_a, old_b = self._published or (a, b)
        limit = self.config.slew * max(seconds, 0.0)
        change = max(abs(math.log(a / old_a)), abs(b - old_b) / max(abs(old_b), 0.1 * old_a))
        share = 1.0 if change <= limit else limit / change
        return old_a * (a / old_a) ** share, old_b + share * (b - old_b)


def _rigid(T: np.ndarray) -> np.ndarray:
    """A checked rigid transform, float64 [4, 4].

    Raises:
        InputError: ``transform``.
    """
    T = np.asarray(T, dtype=np.float64)
    if T.shape != (4, 4) or not np.isfinite(T).all():
        raise InputError("transform", f"expected a finite 4x4 transform, got {list(T.shape)}")
    if not np.allclose(T[:3, :3] @ T[:3, :3].T, np.eye(3), atol=1e-3):
        raise InputError("transform", "expected a rotation matrix; check the extrinsics")
    return T
