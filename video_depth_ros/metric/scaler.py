# SPDX-License-Identifier: Apache-2.0
"""Metric scale of a stream: measurements in, (a, b) and metric depth out."""

from __future__ import annotations

import copy
import math

import cv2
import numpy as np
from torch import Tensor

from video_depth_ros.camera import Camera
from video_depth_ros.checks import numbers, stamp
from video_depth_ros.errors import InputError
from video_depth_ros.frames import MetricScale
from video_depth_ros.metric.anchors import View
from video_depth_ros.metric.config import ScaleConfig
from video_depth_ros.metric.depth_output import DepthOutput
from video_depth_ros.metric.fusion import Fusion
from video_depth_ros.metric.inertial_source import InertialSource
from video_depth_ros.metric.odometry import OdometrySource
from video_depth_ros.metric.publication import Publication
from video_depth_ros.metric.ranging import Ranging, rigid
from video_depth_ros.metric.reasons import PointTimes, Verdict
from video_depth_ros.metric.report import ScaleReport
from video_depth_ros.metric.standby import Standby
from video_depth_ros.metric.waiting import LONGEST, Measurement, WaitingRoom

_BEHIND = 1.0  # s that poses or inertial samples may be behind a frame; a slow odometer is
_TELL = 1.0  # s between two counts of a clock that is off


class MetricScaler:
    """Metric anchors from every source, one filter, one scale.

    Measurements may come before or after the frame of their stamp, at most 15 s before: what is
    farther ahead is of another clock. Each is used once, against the nearest frame. Nothing
    blocks; all buffers are bounded. Not thread-safe: one owner calls it.
    """

    def __init__(self, config: ScaleConfig) -> None:
        self._config = config
        self._fusion = Fusion(config)
        self._waiting = WaitingRoom(self._fusion.apart)
        self._publication = Publication(config)
        self._standby = Standby(config)
        self._output = DepthOutput(config)
        self._odometry = OdometrySource(config.odometry)
        self._inertial = InertialSource(config.imu)
        self._ranging = Ranging(config.lidar, self._odometry.motion)
        self._sequence: int | None = None
        self._time_ns: int | None = None
        self._told_ns: dict[str, int] = {}  # when each source's clock was last said to be off

    @property
    def config(self) -> ScaleConfig:
        """The parameters; of new ones those take effect that are marked live."""
        return self._config

    @config.setter
    def config(self, config: ScaleConfig) -> None:
        self._config = config
        self._fusion.config = self._publication.config = self._output.config = config
        self._standby.config = config
        self._ranging.config = config.lidar

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

        def tell(times: PointTimes) -> None:
            self._fusion.account("lidar").point_times = times

        self._put(self._ranging.points(points, stamp_ns, T_camera_sensor, offset_s, tell))

    def add_sparse_depth(self, depth: np.ndarray, stamp_ns: int, camera: Camera) -> None:
        """A depth image with gaps, registered to the camera's optical frame.

        Args:
            depth: float32 [H, W], metres, NaN or 0 unknown.
            stamp_ns: its stamp.
            camera: model of the depth image, size [H, W].

        Raises:
            InputError: ``sparse_depth`` when these are no metres (integers are most often
                millimetres); ``size`` when image and model differ in size.
        """
        self._put(self._ranging.sparse_depth(depth, stamp_ns, camera))

    def add_range(
        self, distance: float, sigma: float, stamp_ns: int, T_camera_sensor: np.ndarray
    ) -> None:
        """One range along the sensor's x axis [m] (sensor_msgs/Range), with its deviation.

        Raises:
            InputError: ``transform`` when the transform is none, ``range`` when distance and
                deviation are no numbers or the deviation is not above 0.
        """
        self._put(self._ranging.distance(distance, sigma, stamp_ns, T_camera_sensor))

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
        pose, mounting, stamp_ns = rigid(T_odom_base), rigid(T_camera_base), stamp(stamp_ns)
        self._fusion.account("odometry").received += 1
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
        mounting, stamp_ns = rigid(T_camera_imu), stamp(stamp_ns)
        expected = "two finite vectors [3] from the IMU; check its driver"
        gyro, force = (
            numbers(vector, "imu", expected).astype(np.float64).reshape(-1)
            for vector in (angular_velocity, linear_acceleration)
        )
        if gyro.shape != (3,) or force.shape != (3,) or not np.isfinite([gyro, force]).all():
            raise InputError("imu", f"expected {expected}")
        self._fusion.account("imu").received += 1
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
        seconds = 0.0 if self._time_ns is None else (stamp_ns - self._time_ns) * 1e-9
        self._time_ns = stamp_ns
        self._fusion.filter.predict(seconds)
        view = View(stamp_ns, disparity.detach().cpu().numpy(), camera)
        jumped = self._take_measurements(view)
        jumped |= self._use_motion(view, rgb)
        scale = self._publication.publish(
            self._fusion.filter, view, self._fusion.supported_ns, seconds, jumped
        )
        self._output.correct(view, scale, self._fusion.fused)
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
        return self._output.depth(disparity, scale, sigma_disparity)

    def forget_measurements(self) -> None:
        """Forget the measurements that wait for their frame: it will not come."""
        self._waiting.forget_measurements()

    def reset(self) -> None:
        """Forget scale, frames and waiting measurements; the counts stay."""
        self._fusion.filter.reset()  # first: of a scale that is forgotten, nothing is carried over
        self._restart(None)
        self._standby.reset()
        self._waiting.forget_measurements()
        self._odometry.poses.clear()
        self._inertial.samples.clear()
        self._time_ns = None

    def report(self, now_ns: int) -> ScaleReport:
        """State for diagnostics; ages are taken against ``now_ns``."""
        fusion, local = self._fusion, self._output.local
        C = fusion.filter.covariance
        supported = fusion.supported_ns
        return ScaleReport(
            state=self._publication.state,
            a=fusion.filter.a,
            b=fusion.filter.b,
            sigma_a=math.sqrt(max(C[0, 0], 0.0)),
            sigma_b=math.sqrt(max(C[1, 1], 0.0)),
            relative_sigma=self._publication.relative_sigma,
            age=math.inf if supported is None else (now_ns - supported) * 1e-9,
            sources=copy.deepcopy(fusion.sources),
            local=local is not None,
            local_gain=math.nan if local is None else local.gain,
            last_reject=fusion.last_reject,
            reinitialised=fusion.reinitialised,
        )

    def _put(self, measurement: Measurement) -> None:
        source = measurement.source
        self._fusion.account(source).received += 1
        if source not in self.config.sources:
            self._fusion.count(source, Verdict.DISABLED)
            return
        self._waiting.put(measurement)

    def _restart(self, sequence: int | None) -> None:
        self._sequence = sequence
        self._waiting.forget_views()
        self._fusion.restart()
        self._publication.restart()
        self._standby.restart()
        self._output.restart()
        self._odometry.clear()
        self._inertial.clear()

    def _take_measurements(self, view: View) -> bool:
        """Fit every measurement whose frame is now known; whether the scale may jump."""
        jumped = False
        for measurement, nearest in self._waiting.show(view):
            ahead = (measurement.stamp_ns - nearest.stamp_ns) * 1e-9
            if abs(ahead) > self.config.lidar.max_time_offset:
                self._fusion.apart(measurement.source, ahead)
                continue
            anchors = measurement.anchors(nearest)
            if isinstance(anchors, Verdict):
                self._fusion.count(measurement.source, anchors)
                continue
            verdict = self._fusion.fuse(measurement.source, nearest, anchors)
            told = self._fusion.account(measurement.source).misalignment
            self._standby.told(measurement.source, verdict, nearest.stamp_ns, told)
            jumped |= verdict is Verdict.REINITIALISED
        return jumped

    def _use_motion(self, view: View, rgb: Tensor) -> bool:
        """Features with odometry and with the IMU; whether the scale may jump."""
        camera = view.camera
        odometry = self._at_work("odometry", self._odometry.poses.newest_ns, view.stamp_ns)
        inertial = self._at_work("imu", self._inertial.samples.newest_ns, view.stamp_ns)
        if not odometry:
            self._odometry.clear()
        if not inertial:
            self._inertial.clear()
        if camera is None or not (odometry or inertial):
            return False
        image = cv2.cvtColor(rgb.cpu().numpy(), cv2.COLOR_RGB2GRAY)
        told: dict[str, Verdict | None] = {}
        if odometry:
            told["odometry"] = self._use_odometry(image, view, camera)
        if inertial:
            told["imu"] = self._use_imu(image, view, camera)
        for source, verdict in told.items():
            if verdict is not None:
                self._standby.told(source, verdict, view.stamp_ns)
        return Verdict.REINITIALISED in told.values()

    def _use_odometry(self, image: np.ndarray, view: View, camera: Camera) -> Verdict | None:
        """What became of a frame's features; None while they are followed on."""
        anchors = self._odometry.anchors(image, view, camera)
        if not isinstance(anchors, Verdict):
            return None if anchors is None else self._fusion.fuse("odometry", view, anchors)
        if self._odometry.contradicted:
            self._fusion.distrust("odometry", view.stamp_ns)
        self._fusion.count("odometry", anchors)
        return anchors

    def _use_imu(self, image: np.ndarray, view: View, camera: Camera) -> Verdict | None:
        """The same with the IMU."""
        fit = self._inertial.measure(image, view, camera)
        if not isinstance(fit, Verdict):
            return None if fit is None else self._fusion.take("imu", view, fit)
        self._fusion.count("imu", fit)
        return fit

    def _at_work(self, source: str, newest_ns: int | None, stamp_ns: int) -> bool:
        """Whether features are followed for a source: it is in time, and does not rest."""
        in_time = self._in_time(source, newest_ns, stamp_ns)
        rests = in_time and self._standby.rests(source, self._publication.state, stamp_ns)
        if source in self._fusion.sources:
            self._fusion.account(source).resting = rests
        return in_time and not rests

    def _in_time(self, source: str, newest_ns: int | None, stamp_ns: int) -> bool:
        """Whether a source is used and its newest stamp may be of the frames' clock.

        What is told of one that may not is TIME_OFFSET, once a second.
        """
        if newest_ns is None or source not in self.config.sources:
            return False
        ahead = (newest_ns - stamp_ns) * 1e-9
        if -_BEHIND <= ahead <= LONGEST:
            return True
        told = self._told_ns.get(source)
        if told is None or not 0.0 <= (stamp_ns - told) * 1e-9 < _TELL:
            self._told_ns[source] = stamp_ns
            self._fusion.apart(source, ahead)
        return False
