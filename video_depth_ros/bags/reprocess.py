# SPDX-License-Identifier: Apache-2.0
"""The pipeline straight over a recording, with no ROS running.

Causal: every message reaches the pipeline in the order in which it was received, as it would
have reached the live node, but none is dropped for want of time. Everything recorded is copied
(byte for byte when it comes from ROS 2); the depth topics are added, each message with stamp and
frame_id of its image, at the time at which that image was received.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from video_depth_ros.bags import messages as m
from video_depth_ros.bags.camera_source import CameraSource
from video_depth_ros.bags.contents import cloud_of, motion_of, registered_depth_of, rgb_of
from video_depth_ros.bags.depth_messages import OUTPUTS, DepthMessages
from video_depth_ros.bags.reader import Received, Recording
from video_depth_ros.bags.static_transforms import StaticTransforms
from video_depth_ros.bags.topics import Parts, TopicChoice, is_rectified, parts_for
from video_depth_ros.bags.writer import BagWriter, profiles_of
from video_depth_ros.errors import InputError, RecordingError, RegressorError
from video_depth_ros.frames import DepthEstimate, Frame
from video_depth_ros.metric.report import SourceRecord
from video_depth_ros.mounting import Transforms
from video_depth_ros.node_config import DepthNodeConfig
from video_depth_ros.pending import Pending
from video_depth_ros.pipeline import DepthPipeline
from video_depth_ros.regressors.base import Regressor

MAX_FAILURES = 3  # of the network in a row: then something is wrong with it, not with a frame


@dataclass
class ReprocessSummary:
    """What became of a recording.

    Attributes:
        parts: the topics used.
        images: images read.
        estimates: disparity images written.
        metric: depth images written.
        dropped: measurements that could not be used, by ``<part>_<reason>``.
        first_problems: the first message of each of these reasons.
        resets: times the stream started anew.
        sources: what became of the measurements that were taken, by source of the scale.
        left_out: topics that could not be copied, and why.
        seconds: time taken.
    """

    parts: Parts
    images: int = 0
    estimates: int = 0
    metric: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    first_problems: dict[str, str] = field(default_factory=dict)
    resets: int = 0
    sources: dict[str, SourceRecord] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0


def reprocess(
    source: str | Path,
    path: str | Path,
    config: DepthNodeConfig,
    regressor: Regressor | Callable[[], Regressor],
    *,
    topics: TopicChoice | None = None,
    storage: str | None = None,
    overwrite: bool = False,
    prefix: str = "/depth",
    progress: Callable[[int, int], None] | None = None,
) -> ReprocessSummary:
    """Run the pipeline over a recording and write it with depth added.

    Args:
        source: ROS 1 or ROS 2 bag.
        path, storage, overwrite: as for :class:`BagWriter`.
        config: the pipeline's parameters, and the node's for outputs and mountings.
        regressor: the network, or a function that loads it once the inputs are known to be good.
        topics: which topics to use.
        prefix: namespace of the added topics.
        progress: called with messages done and messages in all.

    Raises:
        RecordingError: unusable input or output; nothing is left of the output then.
        RegressorError, CheckpointError: the network cannot be had, or fails time after time.
    """
    source, path = Path(source), Path(path)
    if path.exists() and source.exists() and path.samefile(source):
        raise RecordingError(f"{path} is the input itself; choose another name for the output")
    began = time.monotonic()
    with Recording(source) as recording:
        parts = parts_for(recording, topics or TopicChoice(), config.scale.sources)
        _check_prefix(recording, prefix)
        bag = BagWriter(path, storage, overwrite)  # refuses before the network is loaded
        network = regressor if isinstance(regressor, Regressor) else regressor()
        summary = ReprocessSummary(parts, left_out=recording.left_out)
        run = _Run(recording, bag, config, network, parts, prefix, summary)
        with bag:
            run.all(progress or (lambda done, total: None))
        summary.seconds = time.monotonic() - began
        return summary


class _Run:
    """One pass over a recording."""

    def __init__(
        self,
        recording: Recording,
        bag: BagWriter,
        config: DepthNodeConfig,
        regressor: Regressor,
        parts: Parts,
        prefix: str,
        summary: ReprocessSummary,
    ) -> None:
        self._recording = recording
        self._bag = bag
        self._prefix = prefix
        self._summary = summary
        self._pipeline = DepthPipeline(config, regressor)
        self._messages = DepthMessages(config.output)
        self._transforms = Transforms(config.extrinsics, StaticTransforms.of(recording))
        stated = config.input.rectified
        self._camera = CameraSource(
            is_rectified(parts.image) if stated == "auto" else stated == "true"
        )
        self._frame_id = ""
        self._pending: Pending[tuple[str, int]] = Pending()  # frame_id, time of reception
        self._failures = 0
        roles: list[tuple[str | None, str, Callable[[Any], None]]] = [
            (parts.image, "image", self._image),
            (parts.camera_info, "camera_info", self._camera.update),
            (parts.points, "points", self._points),
            (parts.imu, "imu", self._imu),
            (parts.odometry, "odometry", self._odometry),
            (parts.sparse_depth, "sparse_depth", self._sparse_depth),
        ]
        self._handlers = {topic: (name, handler) for topic, name, handler in roles if topic}
        self._received: Received | None = None

    def all(self, progress: Callable[[int, int], None]) -> None:
        """Copy and process every message, then what the last group still holds."""
        self._declare()
        self._look_ahead()
        total = self._recording.message_count
        for done, received in enumerate(self._recording.messages(), start=1):
            self._bag.write_raw(received.topic, received.time_ns, received.data)
            if received.topic in self._handlers:
                self._handle(received)
            progress(done, total)
        self._write(self._pipeline.flush())
        report = self._pipeline.report(0)
        self._summary.resets, self._summary.sources = report.resets, report.scale.sources

    def _declare(self) -> None:
        kinds: dict[str, str] = {}
        for connection in self._recording.connections():
            topic, kind = connection.topic, self._recording.kind(connection)
            if topic in kinds:
                if kinds[topic] != kind:
                    raise RecordingError(
                        f"{self._recording.path}: topic {topic} was recorded with two types, "
                        f"{kinds[topic]} and {kind}; split the bag first"
                    )
                continue
            kinds[topic] = kind
            definition, digest = self._recording.definition(connection)
            self._bag.copy_topic(topic, kind, definition, digest, profiles_of(connection))

    def _look_ahead(self) -> None:
        """The first camera_info and the images' frame: drivers often send them a moment after the
        first image, and mountings are asked for in the images' frame."""
        parts = self._summary.parts
        first = self._recording.first(parts.image)
        self._frame_id = str(first.header.frame_id)
        if parts.camera_info is not None:
            info = self._recording.first(parts.camera_info)
            self._guard("camera_info", lambda: self._camera.update(info))

    def _handle(self, received: Received) -> None:
        part, handler = self._handlers[received.topic]
        self._received = received
        message = self._recording.decode(received)
        self._guard(part, lambda: handler(message))

    def _guard(self, part: str, action: Callable[[], None]) -> None:
        """An unusable measurement is counted and left out; the rest goes on without it."""
        try:
            action()
        except InputError as error:
            self._drop(f"{part}_{error.reason}", str(error))
        except RegressorError as error:
            self._failures += 1
            self._drop("image_regressor", str(error))
            if self._failures >= MAX_FAILURES:
                raise

    def _drop(self, reason: str, text: str) -> None:
        self._summary.dropped[reason] += 1
        self._summary.first_problems.setdefault(reason, text)

    def _image(self, message: Any) -> None:
        assert self._received is not None
        self._summary.images += 1
        rgb = rgb_of(message)
        camera = None
        try:
            camera = self._camera.camera_for(rgb.shape[0], rgb.shape[1])
        except InputError as error:  # the image itself is good: disparity goes on
            self._drop(f"camera_info_{error.reason}", str(error))
        stamp_ns = m.stamp_of(message)
        frame_id = str(message.header.frame_id)
        if frame_id != self._frame_id:  # another camera
            reason = f"frame_id {self._frame_id!r} -> {frame_id!r}"
            self._write(self._pipeline.flush() + self._pipeline.restart(reason))
        self._frame_id = frame_id
        self._pending.put(stamp_ns, (frame_id, self._received.time_ns))
        try:
            estimates = self._pipeline.push(Frame(rgb, stamp_ns, camera))
        except InputError:
            self._pending.take_back(stamp_ns)
            raise
        self._failures = 0 if estimates else self._failures
        self._write(estimates)

    def _points(self, message: Any) -> None:
        stamp_ns = m.stamp_of(message)
        cloud = cloud_of(message, stamp_ns)
        T = self._mounting("points", message.header.frame_id, stamp_ns)
        self._pipeline.add_points(cloud.points, stamp_ns, T, cloud.offset_s)

    def _imu(self, message: Any) -> None:
        stamp_ns = m.stamp_of(message)
        T = self._mounting("imu", message.header.frame_id, stamp_ns)
        rate, force = motion_of(message)
        self._pipeline.add_imu(rate, force, stamp_ns, T)

    def _odometry(self, message: Any) -> None:
        stamp_ns = m.stamp_of(message)
        T = self._mounting("base", message.child_frame_id, stamp_ns)
        self._pipeline.add_odometry(m.pose_of(message), stamp_ns, T)

    def _sparse_depth(self, message: Any) -> None:
        depth = registered_depth_of(message, self._frame_id)
        camera = self._camera.model_at(depth.shape[0], depth.shape[1], "sparse depth images")
        if camera is None:
            raise InputError("camera_info", "sparse depth needs camera_info; the bag has none")
        self._pipeline.add_sparse_depth(depth, m.stamp_of(message), camera)

    def _mounting(self, sensor: str, frame: str, stamp_ns: int) -> Any:
        return self._transforms.camera_from(sensor, self._frame_id, frame, stamp_ns)

    def _write(self, estimates: list[DepthEstimate]) -> None:
        for estimate in estimates:
            frame_id, time_ns = self._pending.pop(estimate.stamp_ns)
            self._summary.estimates += 1
            self._summary.metric += estimate.depth is not None
            for name, message in self._messages.of(estimate, frame_id):
                topic = f"{self._prefix}/{name}"
                if topic not in self._bag.topics:
                    self._bag.add_topic(topic, OUTPUTS[name])
                self._bag.write(topic, time_ns, message)


def _check_prefix(recording: Recording, prefix: str) -> None:
    if not prefix.startswith("/") or prefix.endswith("/"):
        raise RecordingError(f"expected a prefix like /depth, got {prefix!r}")
    taken = [f"{prefix}/{name}" for name in OUTPUTS if f"{prefix}/{name}" in recording.topics]
    if taken:
        raise RecordingError(
            f"{recording.path} holds {', '.join(taken)} already; give another --prefix"
        )
