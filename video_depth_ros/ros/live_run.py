# SPDX-License-Identifier: Apache-2.0
"""One live run of the node on a recording: node in its own process, everything over DDS."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

from video_depth_ros.bags.reader import Recording
from video_depth_ros.bags.topics import Parts
from video_depth_ros.bags.writer import BagWriter
from video_depth_ros.ros.bag_player import BagPlayer
from video_depth_ros.ros.node_process import NodeProcess, NodeProcessError
from video_depth_ros.ros.output_recorder import OutputRecorder

OUTPUTS: dict[str, type] = {
    "/depth/disparity": Image,
    "/depth/image": Image,
    "/depth/camera_info": CameraInfo,
    "/depth/points": PointCloud2,
    "/depth/image_color": Image,
}
# what the node counts of images it did not use, besides the refused ones
LEFT_OUT = ("decimated", "overload", "inactive", "unsubscribed", "discarded")
# refused inputs that are not images carry their kind in front
MEASUREMENTS = ("points_", "sparse_depth_", "odom_", "imu_", "camera_info_")
SETTLE = 10.0  # s without any output after which the run is over


@dataclass(frozen=True)
class LiveRun:
    """What happened.

    Attributes:
        departures: header stamp [ns] of every image sent -> monotonic time [s].
        arrivals: topic -> {header stamp [ns] -> monotonic time [s]}.
        diagnostics: status name -> {key: value}, as last reported by the node.
        node_output: what the node printed.
        exit_status: of the node's process.
    """

    departures: dict[int, float]
    arrivals: dict[str, dict[int, float]]
    diagnostics: dict[str, dict[str, str]]
    node_output: str
    exit_status: int

    def dropped(self) -> dict[str, int]:
        """Images that gave no output, by the node's own reasons."""
        values = self._status("input")
        counted = {key: int(values.get(key, 0)) for key in LEFT_OUT}
        for key, value in values.items():
            reason = key.removeprefix("dropped.")
            if reason != key and not reason.startswith(MEASUREMENTS):
                counted[reason] = int(value)
        if "images" in values:
            counted["never_arrived"] = len(self.departures) - int(values["images"])
        arrived = len(self.arrivals["/depth/disparity"])
        estimated = max(arrived, int(self._status("inference").get("estimates", 0)))
        counted["lost_after_publishing"] = estimated - arrived
        # a reset, or the end of the recording, cuts a group short
        counted["group_cut_short"] = len(self.departures) - arrived - sum(counted.values())
        return {reason: number for reason, number in counted.items() if number > 0}

    def scale_state(self) -> str:
        """Last state of the metric scale that the node reported."""
        return self._status("scale").get("state", "unknown")

    def _status(self, part: str) -> dict[str, str]:
        for name, values in self.diagnostics.items():
            if name.endswith(f": {part}"):
                return values
        return {}


class _Diagnostics:
    """The newest value of every key of every status."""

    def __init__(self, node: Node) -> None:
        self.values: dict[str, dict[str, str]] = {}
        node.create_subscription(DiagnosticArray, "/diagnostics", self._take, 10)

    def _take(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self.values[status.name] = {pair.key: pair.value for pair in status.values}


def run_live(
    recording: Recording,
    parts: Parts,
    output: Path,
    parameters: Mapping[str, Any],
    *,
    domain: int,
    rate: float = 1.0,
    stage: Callable[[str], None] = lambda text: None,
    tick: Callable[[int], None] = lambda sent: None,
) -> LiveRun:
    """Start the node, play the recording to it, record its outputs into the bag ``output``.

    Args:
        recording, parts: what to play, and which of its topics plays which part.
        output: bag to write.
        parameters: of the node.
        domain: ROS domain of the run; must be that of the environment of the child process.
        rate: playing speed.
        stage: told what happens now.
        tick: told how many images were sent.

    Raises:
        NodeProcessError: the node does not come up or refuses a transition.
    """
    context = Context()
    rclpy.init(context=context, domain_id=domain)
    here = Node("video_depth_demo", context=context)
    listener = Node("video_depth_demo_recorder", context=context)
    diagnostics = _Diagnostics(listener)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(listener)
    spinner = threading.Thread(target=executor.spin, daemon=True)
    try:
        with BagWriter(output, overwrite=True) as writer:
            recorder = OutputRecorder(listener, writer, OUTPUTS)
            spinner.start()
            remaps = {"image": parts.image}
            for name in ("camera_info", "points", "sparse_depth", "imu"):
                if getattr(parts, name):
                    remaps[name] = getattr(parts, name)
            if parts.odometry:
                remaps["odom"] = parts.odometry
            stage("starting the node")
            with NodeProcess(here, _of_the_run(parameters, parts), remaps) as node:
                node.wait_ready()
                node.require("configure", "activate")
                player = BagPlayer(here, recording, parts.image)
                _wait_matched(player, node, recorder)
                stage("playing")
                player.play(rate, tick)
                stage("waiting for the last outputs")
                recorder.wait_quiet("/depth/disparity", max(player.departures), SETTLE)
                node.require("deactivate", "cleanup")
                status = node.close()
                text = node.final_output
            executor.shutdown()
            spinner.join()
        return LiveRun(
            player.departures, recorder.arrivals, dict(diagnostics.values), text, status
        )
    finally:
        executor.shutdown()
        here.destroy_node()
        listener.destroy_node()
        rclpy.try_shutdown(context=context)


def _of_the_run(parameters: Mapping[str, Any], parts: Parts) -> dict[str, Any]:
    """Parameters that a measured run adds.

    Images arrive reliably: a run measures the node, not how many fragments of a large image the
    loopback interface loses under best effort.
    """
    topics = [topic for topic in (parts.image, parts.points, parts.sparse_depth) if topic]
    reliable = {f"qos_overrides.{topic}.subscription.reliability": "reliable" for topic in topics}
    return {**reliable, **parameters, "use_sim_time": True}


def _wait_matched(
    player: BagPlayer, node: NodeProcess, recorder: OutputRecorder, timeout: float = 20.0
) -> None:
    """Until the node hears the images and its outputs are heard: discovery takes a moment."""
    node.wait_until(
        lambda: player.listeners() > 0 and all(map(recorder.publishers, OUTPUTS)),
        timeout,
        "been discovered",
    )
    if node.process.poll() is not None:
        raise NodeProcessError("the node ended before the first image")
