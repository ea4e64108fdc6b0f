# SPDX-License-Identifier: Apache-2.0
"""``depth_node``: the lifecycle node around the pipeline. Wiring only.

configure loads the network and creates publishers and subscriptions; activate starts the stream;
deactivate stops output at once and frees nothing; cleanup frees the device. Every transition can
be repeated.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

import rclpy
import torch
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType, JumpThreshold
from rclpy.duration import Duration
from rclpy.exceptions import InvalidHandle
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from std_srvs.srv import Trigger

from video_depth_ros.bags.camera_source import CameraSource
from video_depth_ros.errors import ConfigError, VideoDepthError
from video_depth_ros.metric.config import NO_SOURCE
from video_depth_ros.mounting import Transforms
from video_depth_ros.node_config import SUBSCRIBED, DepthNodeConfig
from video_depth_ros.pipeline import DepthPipeline
from video_depth_ros.regressors import registry
from video_depth_ros.regressors.base import Regressor
from video_depth_ros.regressors.registry import RegressorConfig
from video_depth_ros.ros.diagnostics import Diagnostics, Observation
from video_depth_ros.ros.handover import Counters
from video_depth_ros.ros.inputs import Inputs, transport_of
from video_depth_ros.ros.log import RosHandler
from video_depth_ros.ros.outputs import Outputs
from video_depth_ros.ros.parameters import NodeParameters
from video_depth_ros.ros.transforms import tf_source
from video_depth_ros.ros.worker import Worker
from video_depth_ros.settings import leaves
from video_depth_ros.throttle import Throttle

RCLError = rclpy_implementation.RCLError
SUCCESS = TransitionCallbackReturn.SUCCESS
FAILURE = TransitionCallbackReturn.FAILURE
_JOIN_SECONDS = 4.0  # launch sends SIGTERM five seconds after SIGINT


class DepthNode(LifecycleNode):
    """Camera images in, metric depth out.

    Raises:
        ConfigError: a parameter override is unknown or out of range.
    """

    def __init__(self) -> None:
        super().__init__("depth_node")
        self._active_since: float | None = None  # time.monotonic()
        self._settings = NodeParameters(self, lambda: self._active_since is not None)
        self._tf = tf_source(self)
        self._counters = Counters()
        self._loaded: tuple[RegressorConfig, Regressor] | None = None
        self._built: DepthNodeConfig | None = None  # what worker, inputs and outputs were made by
        self._worker: Worker | None = None
        self._inputs: Inputs | None = None
        self._outputs: Outputs | None = None
        self._fatal: tuple[str, bool] = ("", False)
        self._finalized = False
        self._throttle = Throttle()
        self.exit_status = 0
        self._fatal_guard = self.create_guard_condition(self._on_fatal)
        self._diagnostics = Diagnostics(self.get_fully_qualified_name().lstrip("/"))
        self._diagnostics_publisher = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        # a steady clock: diagnostics must also come while simulated time stands still
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = self._create_timer()
        self._answer_impossible_transitions()
        self._reset_service = self.create_service(Trigger, "~/reset", self._on_reset)
        self._jump = self.get_clock().create_jump_callback(
            JumpThreshold(
                min_forward=None, min_backward=Duration(nanoseconds=-1), on_clock_change=False
            ),
            post_callback=self._on_time_jump,
        )

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the network, create publishers and subscriptions."""

        def configure() -> None:
            self._build()
            super(DepthNode, self).on_configure(state)

        return self._transition("configure", configure, undo=self._free)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start the stream. What was set while inactive is built in first."""

        def activate() -> None:
            if self._outdated():
                self._tear_down()
                self._build()
            super(DepthNode, self).on_activate(state)
            assert self._worker is not None and self._inputs is not None
            self._worker.open()
            self._active_since = time.monotonic()
            self._inputs.last_image = None
            self.get_logger().info(
                f"active: images from {self._inputs.image_topic} "
                f"({self._inputs.publishers()} publishers)"
            )

        return self._transition("activate", activate)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop output at once; nothing is freed."""

        def deactivate() -> None:
            self._active_since = None
            super(DepthNode, self).on_deactivate(state)
            if self._worker is not None:
                self._worker.close()

        return self._transition("deactivate", deactivate)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Destroy publishers and subscriptions, free the device."""
        return self._transition("clean up", self._free)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything, from any state."""
        result = self._transition("shut down", self._free)
        self._finalized = result is SUCCESS
        return result

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything; the node is unconfigured afterwards."""
        return self._transition("recover from an error", self._free)

    def close(self) -> bool:
        """Stop the worker when the process ends; returns whether it stopped in time."""
        self._active_since = None
        return self._worker is None or self._worker.stop(_JOIN_SECONDS)

    def _transition(
        self, name: str, action: Callable[[], None], undo: Callable[[], None] | None = None
    ) -> TransitionCallbackReturn:
        """Run one transition; what it raises is logged and makes it a failure."""
        try:
            action()
            return SUCCESS
        except torch.cuda.OutOfMemoryError as error:
            free, total = (n >> 20 for n in torch.cuda.mem_get_info())
            self.get_logger().error(
                f"cannot {name}: out of device memory ({free} of {total} MiB free): {error}; "
                "choose a smaller regressor.height and width, or a shorter regressor.window"
            )
        except VideoDepthError as error:
            self.get_logger().error(f"cannot {name}: {error}")
        except Exception:
            self.get_logger().error(f"cannot {name}:\n{traceback.format_exc()}")
        if undo is not None:
            undo()
        return FAILURE

    def _build(self) -> None:
        """Everything that belongs to a configured node, from the parameters as they are now."""
        config = self._settings.config
        for source in sorted(set(config.scale.sources) - {*SUBSCRIBED, NO_SOURCE}):
            self.get_logger().warning(
                f"scale.sources: {source} is of no use here, this node subscribes no such topic; "
                f"it has {', '.join(SUBSCRIBED)}"
            )
        transport = transport_of(self, config.input.transport)  # refuses before the network loads
        regressor = self._load(config.regressor)
        pipeline = DepthPipeline(config, regressor)
        if config.input.height and config.input.width:
            pipeline.prepare(config.input.height, config.input.width)
        transforms = Transforms(config.extrinsics, self._tf)
        self._counters = Counters()
        self._outputs = Outputs(self, self._counters, regressor.spec.group)
        camera = CameraSource()
        self._worker = Worker(
            pipeline,
            self._outputs,
            transforms,
            camera,
            self._counters,
            self.get_logger(),
            lambda: self._settings.config,
            self._fail,
            self.context.ok,
        )
        self._inputs = Inputs(
            self, self._worker.handover, self._counters, transport, config.scale.sources
        )
        camera.rectified = _rectified(config.input.rectified, self._inputs.topics["image"])
        self._built = config
        self.destroy_timer(self._timer)
        self._timer = self._create_timer()

    def _load(self, config: RegressorConfig) -> Regressor:
        """The regressor; loaded anew only when its own parameters have changed."""
        if self._loaded is None or self._loaded[0] != config:
            self._loaded = None
            began = time.monotonic()
            regressor = registry.load(config)
            spec = regressor.spec
            self.get_logger().info(
                f"regressor {spec.name} on {regressor.device}, loaded in "
                f"{time.monotonic() - began:.1f} s; licence of its weights: {spec.licence}"
            )
            self._loaded = (config, regressor)
        return self._loaded[1]

    def _outdated(self) -> bool:
        """Whether parameters that are fixed while active have changed since the last build."""
        return (
            self._worker is None
            or self._built is None
            or _fixed(self._built) != _fixed(self._settings.config)
        )

    def _tear_down(self) -> None:
        """Undo :meth:`_build`, keeping the regressor. The worker ends before its publishers.

        Raises:
            VideoDepthError: the worker does not end; the next transition tries again.
        """
        self._built = None
        if self._inputs is not None:
            self._inputs.destroy()
            self._inputs = None
        if self._worker is not None:
            if not self._worker.stop(timeout=60.0):
                raise VideoDepthError("the network did not stop within 60 s; restart the node")
            self._worker = None
        if self._outputs is not None:
            self._outputs.destroy()
            self._outputs = None

    def _free(self) -> None:
        self._active_since = None
        self._tear_down()
        self._loaded = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _fail(self, reason: str, device_lost: bool) -> None:
        """Called by the worker: the executor has to act."""
        self._fatal = (reason, device_lost)
        self._fatal_guard.trigger()

    def _on_fatal(self) -> None:
        reason, device_lost = self._fatal
        if device_lost:
            self.get_logger().fatal(f"the device is lost, the process ends: {reason}")
            self.exit_status = 1
            self.context.try_shutdown()
        elif self._active_since is not None:
            self.get_logger().error(f"deactivated, the network keeps failing: {reason}")
            self.trigger_deactivate()

    def _answer_impossible_transitions(self) -> None:
        """rclpy raises for a transition that the state does not have, and never answers; the
        caller would wait for ever. Answer that it failed."""
        change_state = self._service_change_state.callback

        def answer(request: Any, response: Any) -> Any:
            try:
                return change_state(request, response)
            except RCLError as error:
                wanted = request.transition.label or request.transition.id
                self.get_logger().error(f"transition {wanted} is not possible now: {error}")
                response.success = False
                return response

        self._service_change_state.callback = answer

    def _on_reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Service ~/reset: start window, running estimate and metric scale anew."""
        response.success = self._worker is not None and self._active_since is not None
        if self._worker is not None and response.success:
            self._worker.reset("service ~/reset")
            response.message = "stream and metric scale start anew"
        else:
            response.message = "nothing to reset: the node is not active"
        return response

    def _on_time_jump(self, jump: Any) -> None:
        # a dict of nanoseconds in newer rclpy, an object with a Duration in older
        delta = jump["delta"] if isinstance(jump, dict) else jump.delta.nanoseconds
        if -delta * 1e-9 < self._settings.config.stream.max_backward:
            return  # messages on /clock that changed places
        if self._throttle.passes("clock"):
            self.get_logger().info(
                f"time moved back {-delta * 1e-9:.1f} s: everything starts anew; if that goes on, "
                "more than one node publishes /clock"
            )
        if self._tf is not None:
            self._tf.clear()
        if self._inputs is not None:
            self._inputs.catch_up()  # what has not been handed over yet is of the time before
        if self._worker is not None:
            self._worker.reset(f"clock moved back {-delta * 1e-9:.1f} s")

    def _create_timer(self) -> Any:
        period = self._settings.config.diagnostics.period
        return self.create_timer(period, self._on_timer, clock=self._steady)

    def _on_timer(self) -> None:
        if self._inputs is not None and self._active_since is not None:
            self._inputs.choose_transport()
        self._diagnostics_publisher.publish(self._diagnostics.message(self._observe()))

    def _observe(self) -> Observation:
        now, inputs, worker = time.monotonic(), self._inputs, self._worker
        last = inputs.last_image if inputs is not None else None
        if self._active_since is not None:
            state = "active"
        elif worker is not None:
            state = "inactive"
        else:
            state = "finalized" if self._finalized else "unconfigured"
        busy_since = worker.busy_since if worker is not None else None
        return Observation(
            now_ns=self.get_clock().now().nanoseconds,
            state=state,
            config=self._settings.config,
            counts=self._counters.snapshot(),
            image_topic=inputs.image_topic if inputs is not None else "",
            publishers=inputs.publishers() if inputs is not None else 0,
            image_age=None if last is None else now - last,
            active_for=0.0 if self._active_since is None else now - self._active_since,
            camera_info_topic=inputs.topics["camera_info"] if inputs is not None else "",
            camera_info_seen=inputs is not None and inputs.camera_info_seen,
            leads=inputs.leads.seconds() if inputs is not None else {},
            share=worker.handover.decimator.share if worker is not None else 1.0,
            device=str(self._loaded[1].device) if self._loaded is not None else "",
            subscribers=self._outputs.subscribers() if self._outputs is not None else {},
            worker=worker.status if worker is not None else None,
            busy=0.0 if busy_since is None else now - busy_since,
        )


def _rectified(setting: str, image_topic: str) -> bool:
    """Whether P of camera_info describes the images; image_proc calls such topics image_rect*."""
    if setting == "auto":
        return image_topic.rsplit("/", 1)[-1].startswith("image_rect")
    return setting == "true"


def _fixed(config: DepthNodeConfig) -> dict[str, Any]:
    return {leaf.name: leaf.value for leaf in leaves(config) if not leaf.parameter.live}


def spin(node: DepthNode) -> None:
    """Execute callbacks until the context ends. A callback that raises is logged and does not end
    the node."""
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    throttle = Throttle()
    while rclpy.ok():
        try:
            executor.spin_once()
        except ExternalShutdownException:
            return
        except InvalidHandle:
            continue  # a subscription with a message waiting was destroyed: older rclpy says so
        except Exception as error:
            if rclpy.ok() and throttle.passes(str(error)):
                node.get_logger().error(f"a callback failed: {traceback.format_exc()}")


def main(args: list[str] | None = None) -> int:
    """Run the node until it is interrupted; returns the process's exit status."""
    node = None
    status = 0
    stopped = True
    try:
        signal.signal(signal.SIGINT, _interrupt_once)  # rclpy hands on to what it finds
        rclpy.init(args=args)
        node = DepthNode()
        handler = RosHandler(node.get_logger())
        package_log = logging.getLogger("video_depth_ros")
        package_log.addHandler(handler)
        package_log.setLevel(logging.INFO)
        spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except ConfigError as error:
        rclpy.logging.get_logger("depth_node").fatal(str(error))
        status = 2
    finally:
        _ignore_interrupts()
        if node is not None:
            status = status or node.exit_status
            stopped = node.close()
            node.destroy_node()
        rclpy.try_shutdown()
        _ignore_interrupts()  # rclpy has put the handlers back that it found
    if not stopped:  # the network is still at work: do not wait for it, do not crash under it
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status


def _interrupt_once(number: int, frame: Any) -> None:
    _ignore_interrupts()
    raise KeyboardInterrupt


def _ignore_interrupts() -> None:
    """Ctrl-C under ``ros2 launch`` comes twice: from the terminal and from launch. The second one
    must not kill a process that is already going down in order."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


if __name__ == "__main__":
    sys.exit(main())
