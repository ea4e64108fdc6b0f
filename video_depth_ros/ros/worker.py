# SPDX-License-Identifier: Apache-2.0
"""The one thread that owns the device: takes what the callbacks handed over, runs the pipeline,
publishes. Every fault of an input or of the network has a name here and is counted."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from video_depth_ros.bags.camera_source import CameraSource
from video_depth_ros.errors import InputError, RegressorError
from video_depth_ros.frames import DepthEstimate, Frame
from video_depth_ros.mounting import Transforms
from video_depth_ros.node_config import DepthNodeConfig
from video_depth_ros.pending import Pending
from video_depth_ros.pipeline import DepthPipeline, PipelineReport
from video_depth_ros.ros import conversions
from video_depth_ros.ros.handover import Batch, Counters, Handover
from video_depth_ros.ros.measurements import Measurements
from video_depth_ros.ros.outputs import Outputs
from video_depth_ros.throttle import Throttle

MAX_FAILURES = 3  # of the network with no recovery between, then the node is deactivated
_REPORT_EVERY = 0.25  # s, while nothing arrives
_LATENCIES = 200
_HEAVY = ("points", "sparse_depth")  # measurements of megabytes

HOW_TO_SCALE = (
    "the depth has no metric scale yet: depth/image, depth/points, depth/sigma and "
    "depth/camera_info stay silent. A scale comes from a LiDAR on 'points', a depth sensor on "
    "'sparse_depth', wheel odometry on 'odom' or an IMU on 'imu', together with camera_info and "
    "the sensor's mounting (TF or extrinsics.*). depth/disparity needs none of it"
)


@dataclass(frozen=True)
class WorkerStatus:
    """What the diagnostics show of the worker; replaced whole, never changed.

    Attributes:
        report: the pipeline's own.
        latencies_ms: from an image's arrival to its publication, newest last.
        failures: of the network since it last recovered: two whole windows without one.
        failure: the newest failure's message, or empty.
        camera_problem: why there is no usable camera model, or empty.
        has_camera: whether the newest image had a camera model.
    """

    report: PipelineReport
    latencies_ms: tuple[float, ...] = ()
    failures: int = 0
    failure: str = ""
    camera_problem: str = ""
    has_camera: bool = False


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the device had no memory for one frame: cuBLAS and cuDNN say so by an error of
    their own, which looks like that of a lost device."""
    text = str(error)
    named = "out of memory" in text or "ALLOC_FAILED" in text
    return named or isinstance(error, torch.cuda.OutOfMemoryError)


class Worker:
    """Runs the pipeline on a thread of its own.

    Args:
        pipeline: owned by the worker from now on.
        outputs: published on by the worker alone.
        transforms: mounting of the sensors.
        camera: camera model of the images.
        counters: drops and publications.
        logger: the node's.
        config: a function that gives the current configuration; asked between frames.
        on_fatal: called from the worker with the reason when the network cannot go on; ``True``
            when the device is lost and only a new process helps.
        alive: whether ROS still runs. A signal ends it at once, while the worker is at work: what
            fails then is no fault, and the worker ends without a word.
    """

    def __init__(
        self,
        pipeline: DepthPipeline,
        outputs: Outputs,
        transforms: Transforms,
        camera: CameraSource,
        counters: Counters,
        logger: Any,
        config: Callable[[], DepthNodeConfig],
        on_fatal: Callable[[str, bool], None],
        alive: Callable[[], bool],
    ) -> None:
        self._pipeline = pipeline
        self._outputs = outputs
        self._measurements = Measurements(pipeline, camera, transforms)
        self._camera = camera
        self._counters = counters
        self._logger = logger
        self._config = config
        self._on_fatal = on_fatal
        self._alive = alive
        self._applied: DepthNodeConfig | None = None
        self._throttle = Throttle()
        self._warned: set[str] = set()
        self._frame_id: str | None = None  # of the images; None before the first
        self._newest_ns = 0
        self._newest_at = 0.0
        self._pending: Pending[tuple[float, str]] = Pending()  # arrival, frame_id
        self._spacing = 0.0  # s, between the last two images that were used
        self._latencies: deque[float] = deque(maxlen=_LATENCIES)
        self._failures = 0
        self._failure = ""
        self._since_failure = 0  # images that went well since the last one
        self._has_camera = False
        self._used = False
        self._wanted = True  # whether somebody subscribed when the newest image came
        self._passed_over = ""  # why images went by since the newest used one, or empty
        self._size = (0, 0)
        self._used_frame_id = ""  # of the newest image that was used
        self._generation = 0
        self._frame_generation = 0
        self.busy_since: float | None = None  # time.monotonic(), while the worker is at work
        spec = pipeline.regressor.spec
        by_group = pipeline.config.stream.latency == "group"
        self.handover = Handover(counters, spec.group if by_group else 1)
        # After a failure the window is empty: only a full one shows that the failure is over.
        self._recovered_after = 2 * (spec.max_overlap + spec.group)
        self.status = WorkerStatus(pipeline.report(0))
        self._thread = threading.Thread(target=self._run, name="depth_worker", daemon=True)
        self._thread.start()

    def open(self) -> None:
        """Take inputs, with a window that starts anew."""
        self.handover.clear()
        self.handover.command(self._begin)
        self.handover.open = True

    def close(self) -> None:
        """Stop output at once: what is being computed now will not be published."""
        self.handover.open = False
        self._generation += 1
        self.handover.clear()

    def reset(self, reason: str) -> None:
        """Start stream and scale anew before anything that arrives from now on."""
        self._generation += 1
        self.handover.clear()
        self.handover.command(lambda: self._reset(reason))

    def stop(self, timeout: float) -> bool:
        """End the thread; returns whether it ended in time."""
        self.close()
        self.handover.close()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            batch = self.handover.take(_REPORT_EVERY)
            if batch is None:
                return
            self.busy_since = time.monotonic()
            try:
                self._work(batch)
                self._update_status()
            except Exception as error:
                if not self._alive():
                    return
                self._failed("internal", error)
                with contextlib.suppress(Exception):
                    self._pipeline.reset("internal error")
                    self._update_status()
            self.busy_since = None

    def _work(self, batch: Batch) -> None:
        self._frame_generation = self._generation
        if batch.frame is not None:
            self._frame_id = batch.frame.header.frame_id
        self._apply_config(batch.camera_gap_ns)
        for command in batch.commands:
            command()
        for kind, message in batch.measurements:
            self._take(kind, message)
        if batch.frame is None:
            return
        began = time.monotonic()
        if self._push(batch.frame, batch.arrival):
            self.handover.decimator.spent(time.monotonic() - began)

    def _apply_config(self, camera_gap_ns: int) -> None:
        """The parameters as they are now. A gap that the camera did not make, because this node
        left images out for want of speed, must not start the stream anew: a network that takes
        longer than max_gap would never get past its first window."""
        config = self._config()
        self.handover.decimator.max_rate = config.input.max_rate
        if camera_gap_ns <= config.stream.max_gap * 1e9:
            patient = dataclasses.replace(config.stream, max_gap=math.inf)
            config = dataclasses.replace(config, stream=patient)
        if config != self._applied:
            self._pipeline.reconfigure(config)
            self._applied = config

    def _begin(self) -> None:
        self._failures, self._failure = 0, ""
        self._throttle.reset()
        self._warned.clear()
        if self._used:  # a fresh pipeline has nothing to forget
            self._reset("activated")

    def _reset(self, reason: str) -> None:
        self._passed_over = ""
        self._pending.clear()
        self._pipeline.reset(reason)

    def _take(self, kind: str, message: Any) -> None:
        """Take one measurement. Whatever is wrong with it, or with how we read it, costs this
        measurement alone: image, stream and node go on without it."""
        if kind in _HEAVY and not self._wanted:
            return  # no frame will be shown that it could be measured against
        try:
            if not self._measurements.give(kind, message, self._frame_id):
                self._counters.add("no_image_yet")
        except InputError as error:
            self._drop(kind, error)
        except Exception as error:
            name = f"{kind}_internal"
            self._counters.add(f"dropped.{name}")
            if self._throttle.passes(name):
                trace = "".join(traceback.format_exception(error)).rstrip()
                self._logger.error(f"{kind} dropped (internal): {error}\n{trace}")

    def _push(self, message: Any, arrival: float) -> bool:
        """Run the network on one image; an unusable one is dropped, counted and logged.

        Returns:
            Whether the pipeline took it.
        """
        try:
            return self._frame(message, arrival)
        except InputError as error:
            self._pass_over("no usable image")
            self._drop("image", error)
        except RuntimeError as error:
            if is_out_of_memory(error):
                torch.cuda.empty_cache()
                self._pipeline.reset("out of device memory")
                self._failed("out_of_memory", error)
            elif isinstance(error, RegressorError):
                self._failed("regressor", error)
            else:
                raise
        return False

    def _drop(self, what: str, error: InputError) -> None:
        name = error.reason if what == "image" else f"{what}_{error.reason}"
        self._counters.add(f"dropped.{name}")
        if self._throttle.passes(name):
            self._logger.error(f"{what} dropped ({error.reason}): {error}")

    def _failed(self, name: str, error: Exception) -> None:
        self._counters.add(f"dropped.{name}")
        self._failures += 1
        self._since_failure = 0
        self._failure = f"{type(error).__name__}: {error}"
        # but for want of memory, the context cannot be used again in this process
        lost = "CUDA error" in str(error) and not is_out_of_memory(error)
        if self._throttle.passes(name):
            trace = "".join(traceback.format_exception(error)) if name == "internal" else ""
            self._logger.error(f"a frame was lost ({name}): {error}\n{trace}".rstrip())
        if lost or self._failures >= MAX_FAILURES:
            self.handover.open = False
            self._on_fatal(self._failure, lost)

    def _frame(self, message: Any, arrival: float) -> bool:
        config = self._config()
        stamp_ns = conversions.stamp_of(message)
        self._wanted = config.output.run_unsubscribed or self._outputs.wanted()
        if not self._wanted:
            self._counters.add("unsubscribed")
            self._pass_over("nobody subscribed")
            return False
        rgb = conversions.rgb_of(message)
        if self._passed_over:
            self._go_on(stamp_ns, config.stream.max_gap)
        camera = None
        try:
            camera = self._camera.camera_for(rgb.shape[0], rgb.shape[1])
        except InputError as error:  # the image itself is good: depth goes on without a camera
            self._warn("camera_info_size", str(error))
        self._has_camera = camera is not None
        self._check_camera()
        frame_id = str(message.header.frame_id)
        if self._used and frame_id != self._used_frame_id:  # another camera
            self._restart(f"frame_id {self._used_frame_id!r} -> {frame_id!r}")
        self._used_frame_id = frame_id
        self._pending.put(stamp_ns, (arrival, frame_id))
        self._spacing = (stamp_ns - self._newest_ns) * 1e-9 if self._used else 0.0
        self._newest_ns, self._newest_at = stamp_ns, time.monotonic()
        try:
            estimates = self._pipeline.push(Frame(rgb, stamp_ns, camera))
        except InputError:
            self._pending.take_back(stamp_ns)
            raise
        self._counters.add("used")
        self._used = True
        self._tell_size(rgb.shape[0], rgb.shape[1])
        for estimate in estimates:
            if self._frame_generation != self._generation:
                self._counters.add("discarded", len(estimates))
                return True
            self._publish(estimate, config)
        self._since_failure += 1
        if self._since_failure >= self._recovered_after:
            self._failures, self._failure = 0, ""
        return True

    def _pass_over(self, why: str) -> None:
        """An image is not used; before the first that is, that leaves no hole."""
        self._passed_over = why if self._used else ""

    def _go_on(self, stamp_ns: int, max_gap: float) -> None:
        """An image is used after others that were not. To the pipeline the camera never paused;
        continued over the hole, it would publish what has waited in it since."""
        why, self._passed_over = self._passed_over, ""
        seconds = (stamp_ns - self._newest_ns) * 1e-9
        if seconds > max(max_gap, 3.0 * self._spacing):  # thinned, the stream has long spacings
            self._restart(f"{why} for {seconds:.1f} s")

    def _restart(self, reason: str) -> None:
        """Begin the stream anew: what it still held is not published."""
        self._pending.clear()
        self._pipeline.restart(reason)

    def _publish(self, estimate: DepthEstimate, config: DepthNodeConfig) -> None:
        try:
            arrival, frame_id = self._pending.pop(estimate.stamp_ns)
        except KeyError:  # of an image whose place 256 later ones took
            return
        self._outputs.publish(estimate, frame_id, config.output)
        self._counters.add("estimates")
        if estimate.depth is None and self._outputs.metric_wanted():
            self._counters.add("unscaled")
            if config.scale.has_source:
                self._warn("unscaled", HOW_TO_SCALE, once=True)
        self._latencies.append((time.monotonic() - arrival) * 1e3)

    def _tell_size(self, height: int, width: int) -> None:
        if (height, width) == self._size:
            return
        self._size = (height, width)
        h, w = self._pipeline.report(0).regressor_size
        if self._throttle.passes("size"):
            self._logger.info(f"images of {width}x{height} px give depth of {w}x{h} px")

    def _check_camera(self) -> None:
        fitted = self._camera.resized_from
        if fitted is not None:
            self._warn(
                "camera_info_resized",
                f"camera_info is of {fitted[0]}x{fitted[1]} px, the images are not: it is scaled",
                once=True,
            )
        frame = self._camera.frame_id
        if self._has_camera and frame and frame != self._frame_id:
            self._warn(
                "frame_id",
                f"camera_info has frame_id {frame!r}, the images have {self._frame_id!r}: theirs "
                "is used",
                once=True,
            )

    def _warn(self, key: str, text: str, once: bool = False) -> None:
        first = key not in self._warned if once else self._throttle.passes(key)
        self._warned.add(key)
        if first:
            self._logger.warning(text)

    def _update_status(self) -> None:
        now_ns = self._newest_ns
        if now_ns:
            now_ns += int((time.monotonic() - self._newest_at) * 1e9)
        self.status = WorkerStatus(
            report=self._pipeline.report(now_ns),
            latencies_ms=tuple(self._latencies),
            failures=self._failures,
            failure=self._failure,
            camera_problem=self._camera.problem,
            has_camera=self._has_camera,
        )
