# SPDX-License-Identifier: Apache-2.0
"""/diagnostics: what comes in, what the network does, the metric scale, what goes out.

Built by hand rather than by diagnostic_updater, whose frequency tasks keep a clock of their own
that is wrong under simulated time.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from video_depth_ros.frames import ScaleState
from video_depth_ros.metric import Verdict
from video_depth_ros.node_config import DepthNodeConfig
from video_depth_ros.ros.conversions import time_of
from video_depth_ros.ros.worker import HOW_TO_SCALE, MAX_FAILURES, WorkerStatus

OK, WARN = DiagnosticStatus.OK, DiagnosticStatus.WARN
ERROR, STALE = DiagnosticStatus.ERROR, DiagnosticStatus.STALE


@dataclass(frozen=True)
class Observation:
    """Everything the diagnostics look at, gathered at one moment.

    Attributes:
        now_ns: the node's clock; 0 while simulated time has not begun.
        state: label of the lifecycle state.
        config: the configuration in force.
        counts: all counters since the node was configured.
        image_topic: resolved name of the image topic in use.
        publishers: how many publish on it.
        image_age: seconds since the last image came, None before the first.
        active_for: seconds since activation.
        camera_info_topic: its resolved name.
        camera_info_seen: whether any camera_info has come.
        leads: seconds by which a source's stamps run ahead of the images', where too many.
        share: share of arriving images that is used.
        device: name of the device that runs the network.
        subscribers: number of subscribers by output.
        worker: the worker's own status, None while unconfigured.
        busy: seconds that the worker has been at work on one image.
    """

    now_ns: int
    state: str
    config: DepthNodeConfig
    counts: Mapping[str, int]
    image_topic: str
    publishers: int
    image_age: float | None
    active_for: float
    camera_info_topic: str
    camera_info_seen: bool
    leads: Mapping[str, float]
    share: float
    device: str
    subscribers: Mapping[str, int]
    worker: WorkerStatus | None
    busy: float = 0.0


_STREAMED = ("odometry", "imu")  # judged by their newest stamp
_HOLE = 1.0  # s; as long may be what is left out between two images that are used
_LONG, _STUCK = 5.0, 60.0  # s, of one run of the network: WARN, ERROR
_RESTARTS, _RESTARTS_WITHIN = 3, 30.0  # so many starts of the stream in so many seconds: a fault


def _apart(source: str, ahead: float) -> str:
    """What to do about stamps that no image is near to."""
    where = "ahead of" if ahead > 0.0 else "behind"
    if ahead < 0.0 and source in _STREAMED:
        return (
            f"{source}: its newest stamp is {-ahead:.1f} s behind the images'; has it ended? If "
            "not, synchronise the clocks"
        )
    return (
        f"{source}: its stamps are about {abs(ahead):.1f} s {where} the images'; synchronise "
        "the clocks (PTP's TAI is 37 s ahead of UTC, GPS time 18 s)"
    )


def _early(source: str, ahead: float) -> str:
    """What to do about samples that arrive with images, but are stamped later."""
    return (
        f"{source}: arrives with stamps {ahead:.1f} s ahead of the images' that arrive with it; "
        "synchronise the clocks, or is the camera so late?"
    )


class Restarts:
    """How often the stream started anew lately. Once is an event that the log tells; again and
    again, depth is that of single windows and no scale lasts."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()  # (s, restarts since configured), rising

    def lately(self, restarts: int, now: float) -> int:
        """Starts within the last 30 s, given how many there were until ``now`` (seconds)."""
        if self._seen and restarts < self._seen[-1][1]:  # configured again
            self._seen.clear()
        while len(self._seen) > 1 and self._seen[1][0] <= now - _RESTARTS_WITHIN:
            self._seen.popleft()
        before = self._seen[0][1] if self._seen else 0
        self._seen.append((now, restarts))
        return restarts - before


class Diagnostics:
    """Turns observations into messages; keeps what rates are computed from."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._restarts = Restarts()
        self._last_counts: Mapping[str, int] = {}
        self._last_time = time.monotonic()

    def message(self, now: Observation) -> DiagnosticArray:
        """The array of four statuses: input, inference, scale, output."""
        elapsed = max(time.monotonic() - self._last_time, 1e-3)
        before = self._last_counts
        grown = {k: v - before.get(k, 0) for k, v in now.counts.items()}
        self._last_counts, self._last_time = dict(now.counts), time.monotonic()
        array = DiagnosticArray()
        array.header.stamp = time_of(now.now_ns)
        statuses = [
            self._input(now, grown, elapsed),
            self._inference(now),
            self._scale(now, grown),
            self._output(now, grown, elapsed),
        ]
        if now.state != "active":
            for status in statuses:
                if status.level != ERROR:  # why the network was stopped stays to be seen
                    status.level, status.message = OK, now.state
        array.status = statuses
        return array

    def _input(
        self, now: Observation, grown: Mapping[str, int], elapsed: float
    ) -> DiagnosticStatus:
        refused = {k: n for k, n in grown.items() if k.startswith("dropped.") and n > 0}
        level, text = OK, "images arrive"
        info_wait = now.config.input.camera_info_timeout
        if now.now_ns == 0:
            level, text = WARN, "waiting for /clock: use_sim_time is set and no time has come"
        elif now.active_for > now.config.input.timeout and (
            now.image_age is None or now.image_age > now.config.input.timeout
        ):
            since = "since activation" if now.image_age is None else f"for {now.image_age:.1f} s"
            level, text = STALE, f"no image {since} on {now.image_topic}"
            if now.publishers == 0:
                text += ": nobody publishes there; check the remapping and the camera driver"
            else:
                text += f" although {now.publishers} publish there; check QoS and the network"
        elif refused:
            reasons = ", ".join(f"{k.removeprefix('dropped.')} x{n}" for k, n in refused.items())
            level, text = WARN, f"inputs refused: {reasons}"
        elif now.publishers > 1:
            level, text = (
                WARN,
                f"{now.publishers} publishers on {now.image_topic}; one is expected",
            )
        elif now.worker is not None and now.worker.camera_problem:
            level, text = WARN, now.worker.camera_problem
        elif not now.camera_info_seen and now.active_for > info_wait:
            level, text = WARN, f"no camera_info on {now.camera_info_topic} after {info_wait:g} s"
        values = {
            "topic": now.image_topic,
            "publishers": now.publishers,
            "rate": f"{grown.get('images', 0) / elapsed:.2f}",
            "share_used": f"{now.share:.3f}",
            "last_image_age": "never" if now.image_age is None else f"{now.image_age:.3f}",
            **{k: now.counts.get(k, 0) for k in ("images", "used", "decimated", "overload")},
            **{k: v for k, v in now.counts.items() if k.startswith("dropped.")},
            **{k: v for k, v in now.counts.items() if k.endswith("_overload")},
            "inactive": now.counts.get("inactive", 0),
            "unsubscribed": now.counts.get("unsubscribed", 0),
            "discarded": now.counts.get("discarded", 0),
            "no_image_yet": now.counts.get("no_image_yet", 0),
        }
        return self._status("input", now, level, text, values)

    def _inference(self, now: Observation) -> DiagnosticStatus:
        worker = now.worker
        if worker is None:
            return self._status("inference", now, OK, now.state, {})
        report = worker.report
        restarts = self._restarts.lately(report.resets, time.monotonic())
        level, text = OK, "runs"
        if worker.failures:
            level = ERROR if worker.failures >= MAX_FAILURES else WARN
            text = f"{worker.failures} failures before a window was whole: {worker.failure}"
        elif now.busy > _LONG:
            level = ERROR if now.busy > _STUCK else WARN
            text = (
                f"one run has taken {now.busy:.0f} s and has not ended; the first runs compile "
                "and allocate, later ones must not: is the device busy or hung?"
            )
        elif restarts >= _RESTARTS:
            level = WARN
            text = (
                f"the stream starts anew again and again ({restarts} times within "
                f"{_RESTARTS_WITHIN:g} s), the last time: {report.last_reset}"
            )
            if "gap" in report.last_reset:
                text += (
                    f"; stream.max_gap is {now.config.stream.max_gap:g} s: raise it above the "
                    "time between two images"
                )
        values: dict[str, object] = {
            "regressor": now.config.regressor.name,
            "input_size": "{1}x{0}".format(*report.input_size),
            "regressor_size": "{1}x{0}".format(*report.regressor_size),
            "frames": report.frames,
            "estimates": report.estimates,
            "resets": report.resets,
            "last_reset": report.last_reset,
            "sequence": report.sequence,
        }
        if worker.latencies_ms:
            p50, p95 = np.percentile(worker.latencies_ms, [50, 95])
            values["latency_ms_p50"] = f"{p50:.1f}"
            values["latency_ms_p95"] = f"{p95:.1f}"
            values["latency_ms_max"] = f"{max(worker.latencies_ms):.1f}"
        return self._status("inference", now, level, text, values)

    def _scale(self, now: Observation, grown: Mapping[str, int]) -> DiagnosticStatus:
        if now.worker is None:
            return self._status("scale", now, OK, now.state, {})
        scale = now.worker.report.scale
        state = scale.state
        texts = {
            ScaleState.METRIC: (OK, "metric"),
            ScaleState.STALE: (
                WARN,
                "stale: the last scale is held, its source has fallen silent",
            ),
            ScaleState.UNSCALED: (WARN, f"unscaled: {HOW_TO_SCALE}"),
        }
        level, text = texts[state]
        if state is ScaleState.UNSCALED and scale.last_reject:
            text = f"unscaled: no measurement could be used yet, the last: {scale.last_reject}"
        elif state is ScaleState.UNSCALED and not now.config.scale.has_source:
            level, text = OK, "disparity alone: scale.sources names none"
        values: dict[str, object] = {"state": state.value}
        if state is not ScaleState.UNSCALED:
            values |= {
                "a": f"{scale.a:.6g} +- {scale.sigma_a:.2g}",
                "b": f"{scale.b:.6g} +- {scale.sigma_b:.2g}",
                "relative_sigma": f"{scale.relative_sigma:.4f}",
                "age": f"{scale.age:.3f}",
            }
        values |= {"last_reject": scale.last_reject, "reinitialised": scale.reinitialised}
        for name, source in scale.sources.items():
            values |= {
                f"{name}.received": source.received,
                f"{name}.used": source.used,
                f"{name}.last": "" if source.last is None else source.last.value,
                f"{name}.anchors": source.anchors,
                f"{name}.inliers": f"{source.inlier_share:.3f}",
                f"{name}.residual": f"{source.residual:.4f}",
            }
            if source.resting:
                values[f"{name}.resting"] = True
            if source.point_times is not None:
                values[f"{name}.point_times"] = source.point_times.value
            if source.last is Verdict.TIME_OFFSET:
                values[f"{name}.ahead"] = f"{source.ahead:.3f}"
                # a scan whose own image was left out lies far from those that were used
                left_out = grown.get("decimated", 0) + grown.get("overload", 0) > 0
                told_by_it = left_out and name not in _STREAMED and abs(source.ahead) < _HOLE
                if level != ERROR and not told_by_it:
                    level, text = WARN, _apart(name, source.ahead)
            elif name in now.leads:
                values[f"{name}.ahead"] = f"{now.leads[name]:.3f}"
                if level != ERROR:
                    level, text = WARN, _early(name, now.leads[name])
            poor = source.inlier_share < now.config.scale.fit.min_inliers
            if poor and not source.used:
                level = ERROR
                text = (
                    f"{name}: only {100 * source.inlier_share:.0f} % of its points agree with the "
                    "images; check its extrinsics and its clock"
                )
        return self._status("scale", now, level, text, values)

    def _output(
        self, now: Observation, grown: Mapping[str, int], elapsed: float
    ) -> DiagnosticStatus:
        values: dict[str, object] = {"estimates": now.counts.get("estimates", 0)}
        for topic, number in now.subscribers.items():
            values[f"{topic}.subscribers"] = number
            values[f"{topic}.rate"] = f"{grown.get(topic, 0) / elapsed:.2f}"
        if any(now.subscribers.values()):
            text = "publishes"
        elif now.config.output.run_unsubscribed:
            text = "nobody subscribes: computed all the same (output.run_unsubscribed)"
        else:
            text = "nobody subscribes: nothing is computed"
        return self._status("output", now, OK, text, values)

    def _status(
        self, part: str, now: Observation, level: bytes, text: str, values: Mapping[str, object]
    ) -> DiagnosticStatus:
        status = DiagnosticStatus()
        status.level = level
        status.name = f"{self._name}: {part}"
        status.message = text
        status.hardware_id = now.device
        status.values = [KeyValue(key=k, value=str(v)) for k, v in values.items()]
        return status
