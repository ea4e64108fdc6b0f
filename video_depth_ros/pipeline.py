# SPDX-License-Identifier: Apache-2.0
"""The pipeline: frames in, depth estimates out. No ROS.

    frame -> resize -> group -> regressor session -> running estimate -> metric scale -> estimate

Live node, bag reprocessing and evaluation all run this one object. It is not thread-safe: one
owner calls it.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from video_depth_ros.alignment import (
    AlignedFrame,
    KeyframeAnchor,
    LookAhead,
    RowMaps,
    RunningEstimate,
)
from video_depth_ros.camera import Camera
from video_depth_ros.checks import stamp
from video_depth_ros.config import PipelineConfig
from video_depth_ros.errors import ConfigError, InputError, RegressorError
from video_depth_ros.frames import DepthEstimate, DisparityGroup, Frame, ScaleState
from video_depth_ros.metric import MetricScaler, ScaleReport
from video_depth_ros.regressors.base import Regressor, RegressorSession
from video_depth_ros.regressors.preprocessing import cover_size, to_regressor
from video_depth_ros.throttle import Throttle

_LOG = logging.getLogger(__name__)
_NUMBER = re.compile(r"[0-9.]+")  # reasons that differ in these alone are of one kind


@dataclass(frozen=True)
class _Pending:
    """A frame waiting for its group to fill."""

    image: Tensor  # float32 [3, h, w] in [0, 1], on the regressor's device
    stamp_ns: int
    camera: Camera | None


@dataclass(frozen=True)
class PipelineReport:
    """The pipeline's state for diagnostics.

    Attributes:
        frames: frames accepted since the pipeline was made.
        estimates: depth estimates given out.
        resets: times the stream was started anew.
        last_reset: why, or empty.
        sequence: current affine frame of the running disparity.
        input_size, regressor_size: (height, width) in pixels, (0, 0) before the first frame.
        fit: the newest window's alignment, or None.
        scale: the metric scale's own report.
    """

    frames: int
    estimates: int
    resets: int
    last_reset: str
    sequence: int
    input_size: tuple[int, int]
    regressor_size: tuple[int, int]
    fit: object | None
    scale: ScaleReport


class DepthPipeline:
    """One camera stream from images to metric depth.

    Raises:
        ConfigError: windows of the regressor that share no frame: nothing would tell how two of
            them are scaled against each other.
    """

    def __init__(self, config: PipelineConfig, regressor: Regressor) -> None:
        if regressor.spec.max_overlap < 1:
            raise ConfigError(
                f"regressor {regressor.spec.name}: expected windows that share frames, which they "
                "are aligned by, got none; raise regressor.window or lower regressor.hop, to at "
                "least two groups more than the hop"
            )
        self.config = config
        self.regressor = regressor
        self._session: RegressorSession | None = None
        self._estimate = RunningEstimate(config.alignment.for_regressor(regressor.spec))
        self._anchor: KeyframeAnchor | None = None
        self._scaler = MetricScaler(config.scale)
        self._pending: list[_Pending] = []
        self._given = 0  # of the pending frames, how many already went through a preview
        self._row_maps = RowMaps(config.alignment, regressor.spec)
        self._pushes = 0  # whole groups since the stream began
        self._look_ahead = LookAhead.of(config.alignment, regressor.spec)
        self._held: dict[int, _Pending] = {}  # the look-ahead's frames, by stream index
        self._owed: list[DepthEstimate] = []  # of a stream that ended before they were given out
        self._last_stamp_ns: int | None = None
        self._throttle = Throttle()
        self._input_size = (0, 0)
        self._size = (0, 0)
        self._frames = self._estimates = self._resets = 0
        self._last_reset = ""
        self._fit: object | None = None

    def push(self, frame: Frame) -> list[DepthEstimate]:
        """Take one image; returns the estimates that became ready, in stamp order.

        With ``stream.latency: group`` these are all frames of a group when its last one comes;
        with ``frame`` it is this frame's own estimate. With ``alignment.look_ahead`` they come
        that many groups later, and what was held back when a stream ended (a gap, another image
        size, time that moved back) comes before anything of the new one.

        Raises:
            InputError: ``image`` (not uint8 [H, W, 3]), ``too_small``, ``aspect``,
                ``camera_info`` (model of another size), ``stamp`` (no integer), ``duplicate`` or
                ``out_of_order`` stamp.
                The stream goes on without the frame.
            RegressorError: the network failed on this group; the stream has been reset.
        """
        height, width = self._check_image(frame)
        self._follow_time(stamp(frame.stamp_ns))
        self._follow_size(height, width)
        session = self._require_session()
        image = to_regressor(frame.rgb, self._size, self.regressor.device)
        camera = frame.camera.resized(self._size[1], self._size[0]) if frame.camera else None
        self._pending.append(_Pending(image, frame.stamp_ns, camera))
        self._last_stamp_ns = frame.stamp_ns
        self._frames += 1
        complete = len(self._pending) == session.next_group
        if not complete and self.config.stream.latency == "group":
            return self._pay()
        return self._run(session, complete)

    def flush(self) -> list[DepthEstimate]:
        """Everything that is waiting: frames that were held back, and those of an incomplete
        group, padded by repeating the last frame."""
        estimates = self._incomplete()
        return self._pay() + estimates + self._release()

    def add_points(
        self,
        points: np.ndarray,
        stamp_ns: int,
        T_camera_sensor: np.ndarray,
        offset_s: np.ndarray | None = None,
    ) -> None:
        """A LiDAR scan or any registered cloud: [N, 3] metres in the sensor's frame, and the
        seconds [N] from the stamp to each point where they are known."""
        self._scaler.add_points(points, stamp_ns, T_camera_sensor, offset_s)

    def add_sparse_depth(self, depth: np.ndarray, stamp_ns: int, camera: Camera) -> None:
        """A depth image [H, W] in metres with gaps (NaN or 0), seen by ``camera``."""
        self._scaler.add_sparse_depth(depth, stamp_ns, camera)

    def add_range(
        self, distance: float, sigma: float, stamp_ns: int, T_camera_sensor: np.ndarray
    ) -> None:
        """One range along the sensor's x axis [m] (sensor_msgs/Range)."""
        self._scaler.add_range(distance, sigma, stamp_ns, T_camera_sensor)

    def add_odometry(
        self, T_odom_base: np.ndarray, stamp_ns: int, T_camera_base: np.ndarray
    ) -> None:
        """A metric pose of the robot."""
        self._scaler.add_odometry(T_odom_base, stamp_ns, T_camera_base)

    def add_imu(
        self,
        angular_velocity: np.ndarray,
        linear_acceleration: np.ndarray,
        stamp_ns: int,
        T_camera_imu: np.ndarray,
    ) -> None:
        """One inertial sample: [rad/s] and specific force [m/s^2] in the IMU's frame (REP-145)."""
        self._scaler.add_imu(angular_velocity, linear_acceleration, stamp_ns, T_camera_imu)

    def reconfigure(self, config: PipelineConfig) -> None:
        """Take new values of the parameters that may change while running; others are fixed."""
        self.config = config
        self._scaler.config = config.scale

    def reset(self, reason: str) -> list[DepthEstimate]:
        """Start anew: window, running estimate and metric scale. Memory stays allocated.

        Returns:
            What was held back of the stream that ends, to be published or not.
        """
        self._restart_window(reason)
        self._scaler.reset()
        self._last_stamp_ns = None
        return self._pay()

    def restart(self, reason: str) -> list[DepthEstimate]:
        """Start window and running estimate anew for an owner that has left images out: what
        comes next does not follow what came last. The metric scale starts anew with the affine
        frame; measurements that wait belong to the time left out and are forgotten.

        Returns:
            What was held back of the stream that ends, to be published or not.
        """
        self._scaler.forget_measurements()
        self._restart_window(reason)
        self._last_stamp_ns = None
        return self._pay()

    def prepare(self, height: int, width: int) -> None:
        """Open the session for images of this size and run its ``warm_up`` groups, so that no
        real frame pays for compilation and allocation."""
        self._follow_size(height, width)
        session = self._require_session()
        with torch.inference_mode():
            for _ in range(self.regressor.spec.warm_up):
                blank = torch.zeros((session.next_group, 3, *self._size), dtype=torch.float32)
                session.push(blank.to(self.regressor.device), 0)
        session.reset()

    def report(self, now_ns: int) -> PipelineReport:
        """State for diagnostics; ``now_ns`` is the time against which ages are taken."""
        return PipelineReport(
            frames=self._frames,
            estimates=self._estimates,
            resets=self._resets,
            last_reset=self._last_reset,
            sequence=self._estimate.sequence,
            input_size=self._input_size,
            regressor_size=self._size,
            fit=self._fit,
            scale=self._scaler.report(now_ns),
        )

    def _run(self, session: RegressorSession, complete: bool) -> list[DepthEstimate]:
        """Regress, align and scale the pending frames that were not given out yet."""
        images = torch.stack([pending.image for pending in self._pending])
        overlap = min(self.config.alignment.overlap, self.regressor.spec.max_overlap)
        regress = session.push if complete else session.preview
        try:
            with torch.inference_mode():
                if complete:
                    self._row_maps.observe(session, images[-1], self._estimate.scale)
                group = regress(images, overlap)
                if not bool(torch.isfinite(group.disparity).all()):
                    raise RegressorError(
                        f"regressor {self.regressor.spec.name}: non-finite disparity; the window "
                        "is started anew. If it repeats, try regressor.dtype: float32"
                    )
                # what was given out by a preview counts as overlap: it is never rewritten
                new = len(self._pending) - self._given
                group = DisparityGroup(group.disparity, group.first_index, new)
                sequence = self._estimate.sequence
                row_maps = self._row_maps.of(group, self._pushes)
                aligned = self._estimate.align(group, row_maps=row_maps, whole=complete)
                if aligned.sequence != sequence:
                    self._row_maps.forget()
                self._fit = aligned.fit
                if complete and self._anchor is not None:
                    newest = group.first_index + int(group.disparity.shape[0]) - 1
                    self._anchor.push(images[-1], newest)
                first = group.first_index + group.overlap
                self._held.update(enumerate(self._pending[self._given :], start=first))
                estimates = self._scale(self._look_ahead.push(aligned))
        except Exception as error:
            # Whatever it was, the session has moved on: window and frames fit no longer.
            kind = "regressor" if isinstance(error, RegressorError) else type(error).__name__
            self._restart_window(f"{kind}: {error}")
            raise
        if complete:
            self._pushes += 1
            self._pending.clear()
            self._given = 0
        else:
            self._given = len(self._pending)
        return self._pay() + estimates

    def _release(self) -> list[DepthEstimate]:
        """Estimates of the frames that the look-ahead holds."""
        with torch.inference_mode():
            return self._scale(self._look_ahead.flush())

    def _pay(self) -> list[DepthEstimate]:
        """What a stream that ended has left, once."""
        owed, self._owed = self._owed, []
        return owed

    def _scale(self, frames: list[AlignedFrame]) -> list[DepthEstimate]:
        """Metric depth of frames that leave the look-ahead."""
        estimates = []
        for frame in frames:
            pending = self._held.pop(frame.index)
            rgb = (pending.image * 255.0).round_().to(torch.uint8).permute(1, 2, 0)
            scale = self._scaler.update(
                frame.disparity, rgb, pending.camera, pending.stamp_ns, frame.sequence
            )
            depth = sigma = None
            if scale.state is not ScaleState.UNSCALED:
                depth, sigma = self._scaler.depth(frame.disparity, scale, frame.sigma)
            estimates.append(
                DepthEstimate(
                    stamp_ns=pending.stamp_ns,
                    index=frame.index,
                    rgb=rgb,
                    disparity=frame.disparity,
                    depth=depth,
                    sigma=sigma,
                    scale=scale,
                    sequence=frame.sequence,
                    camera=pending.camera,
                )
            )
        self._estimates += len(estimates)
        return estimates

    def _check_image(self, frame: Frame) -> tuple[int, int]:
        shape = tuple(getattr(frame.rgb, "shape", ()))
        if not shape:
            raise InputError(
                "image", f"expected an RGB image uint8 [H, W, 3], got {type(frame.rgb).__name__}"
            )
        if len(shape) != 3 or shape[2] != 3 or frame.rgb.dtype not in (np.uint8, torch.uint8):
            raise InputError(
                "image",
                f"expected an RGB image uint8 [H, W, 3], got {frame.rgb.dtype} {list(shape)}; "
                "decode it with video_depth_ros.decoding",
            )
        height, width = int(shape[0]), int(shape[1])
        if not height or not width:
            raise InputError("too_small", f"expected an image, got {width}x{height} px")
        camera = frame.camera
        if camera is not None and (camera.width, camera.height) != (width, height):
            raise InputError(
                "camera_info",
                f"expected a camera model of {width}x{height} px, got "
                f"{camera.width}x{camera.height}; use Camera.resized or cropped",
            )
        return height, width

    def _follow_time(self, stamp_ns: int) -> None:
        if self._last_stamp_ns is None:
            return
        gap = (stamp_ns - self._last_stamp_ns) * 1e-9
        if gap == 0.0:
            hint = "is a bag looping?" if stamp_ns else "does the driver stamp its images?"
            raise InputError("duplicate", f"stamp {stamp_ns} ns came twice; {hint}")
        if gap < -self.config.stream.max_backward:
            self._end_stream(f"time moved back {-gap:.1f} s")
            self._scaler.reset()
            self._last_stamp_ns = None
        elif gap < 0.0:
            raise InputError(
                "out_of_order",
                f"image is {-gap:.3f} s older than the newest one; is there one publisher only?",
            )
        elif gap > self.config.stream.max_gap:
            self._end_stream(f"gap of {gap:.1f} s between images")

    def _follow_size(self, height: int, width: int) -> None:
        if (height, width) == self._input_size:
            return
        spec, wanted = self.regressor.spec, self.config.regressor
        box = (wanted.height or spec.box[0], wanted.width or spec.box[1])
        size = cover_size(height, width, box, spec.size_multiple)
        if self._input_size != (0, 0):
            was = self._input_size
            self._end_stream(f"image size {was[1]}x{was[0]} -> {width}x{height}")
        if size != self._size:
            self._session = self.regressor.open(*size)
            alignment = self.config.alignment
            if alignment.keyframes.every:
                self._anchor = KeyframeAnchor(
                    alignment, spec, self.regressor.open(*size), self._estimate, self._row_maps
                )
        self._input_size, self._size = (height, width), size

    def _end_stream(self, reason: str) -> None:
        """Start anew where images end that belong together: those of the group that is not
        complete come out, too, as at the end of a recording."""
        try:
            estimates = self._incomplete()
        except RegressorError:  # of frames before: the one that comes now is not to pay for it
            _LOG.exception("the last frames of a stream are lost")
            return  # started anew already
        self._owed += estimates
        self._restart_window(reason)

    def _incomplete(self) -> list[DepthEstimate]:
        """Estimates of the frames that wait for their group, and what is owed before them."""
        if self._session is None or len(self._pending) <= self._given:
            return []
        return self._run(self._session, complete=False)

    def _restart_window(self, reason: str) -> None:
        if self._throttle.passes(_NUMBER.sub("", reason)):
            _LOG.warning("stream started anew: %s", reason)
        self._resets += 1
        self._last_reset = reason
        try:
            self._owed += self._release()
        finally:  # what has failed may well fail again here
            self._held.clear()
            self._pending.clear()
            self._given = self._pushes = 0
            self._row_maps.forget()
            self._estimate.reset()
            if self._session is not None:
                self._session.reset()

    def _require_session(self) -> RegressorSession:
        if self._session is None:
            raise RegressorError("no session is open; push a frame first")
        return self._session
