# SPDX-License-Identifier: Apache-2.0
"""What the diagnostics say of an observation."""

from __future__ import annotations

import dataclasses

import pytest
from diagnostic_msgs.msg import DiagnosticStatus

from video_depth_ros.metric.reasons import Verdict
from video_depth_ros.metric.report import SourceRecord
from video_depth_ros.node_config import DepthNodeConfig
from video_depth_ros.pipeline import DepthPipeline
from video_depth_ros.regressors import registry
from video_depth_ros.ros.diagnostics import Diagnostics, Observation, Restarts
from video_depth_ros.ros.worker import WorkerStatus
from video_depth_ros.settings import replace_flat


def healthy() -> Observation:
    """Images arrive, somebody listens."""
    return Observation(
        now_ns=1,
        state="active",
        config=DepthNodeConfig(),
        counts={},
        image_topic="/image",
        publishers=1,
        image_age=0.1,
        active_for=1.0,
        camera_info_topic="/camera_info",
        camera_info_seen=True,
        leads={},
        share=1.0,
        device="cpu",
        subscribers={"depth/image": 1},
        worker=None,
    )


@pytest.mark.parametrize(
    ("run", "subscribers", "said"),
    [
        (False, 0, "nobody subscribes: nothing is computed"),
        (True, 0, "nobody subscribes: computed all the same (output.run_unsubscribed)"),
        (True, 1, "publishes"),
    ],
)
def test_the_output_says_whether_anything_is_computed(
    run: bool, subscribers: int, said: str
) -> None:
    config = replace_flat(DepthNodeConfig(), {"output.run_unsubscribed": run})
    observation = dataclasses.replace(
        healthy(), config=config, subscribers={"depth/image": subscribers}
    )
    statuses = Diagnostics("depth_node").message(observation).status
    assert {s.name: s.message for s in statuses}["depth_node: output"] == said


@pytest.mark.parametrize(
    ("busy", "level"),
    [(2.0, DiagnosticStatus.OK), (20.0, DiagnosticStatus.WARN), (90.0, DiagnosticStatus.ERROR)],
)
def test_a_run_that_does_not_end_is_told(busy: float, level: bytes) -> None:
    regressor = registry.load(replace_flat(DepthNodeConfig(), {}).regressor)
    report = DepthPipeline(DepthNodeConfig(), regressor).report(0)
    now = dataclasses.replace(healthy(), worker=WorkerStatus(report), busy=busy)
    statuses = {s.name: s for s in Diagnostics("depth_node").message(now).status}
    assert statuses["depth_node: inference"].level == level
    assert ("has not ended" in statuses["depth_node: inference"].message) == (busy > 5.0)


def test_starts_of_the_stream_are_counted_over_the_last_half_minute() -> None:
    restarts = Restarts()
    counted = [restarts.lately(number, now) for now, number in enumerate([0, 1, 1, 4])]
    assert counted == [0, 1, 1, 4]
    assert restarts.lately(4, 31.0) == 3  # the first of them is older than 30 s
    assert restarts.lately(5, 32.0) == 4
    assert restarts.lately(5, 40.0) == 1
    assert restarts.lately(5, 80.0) == 0
    assert restarts.lately(1, 81.0) == 1  # configured again: the count begins anew


@pytest.mark.parametrize(
    ("source", "ahead", "counts", "blamed"),
    [
        ("lidar", 0.3, {}, True),
        ("lidar", 0.3, {"decimated": 4}, False),
        ("lidar", -0.8, {"overload": 4}, False),
        ("lidar", 37.0, {"overload": 4}, True),
        ("odometry", -1.5, {"overload": 4}, True),
        ("imu", 0.9, {"decimated": 4}, True),
    ],
)
def test_clocks_are_not_blamed_for_images_that_were_left_out(
    source: str, ahead: float, counts: dict[str, int], blamed: bool
) -> None:
    regressor = registry.load(DepthNodeConfig().regressor)
    pipeline = DepthPipeline(DepthNodeConfig(), regressor)
    report = pipeline.report(0)
    told = SourceRecord(received=9, last=Verdict.TIME_OFFSET, ahead=ahead)
    scale = dataclasses.replace(report.scale, sources={source: told})
    report = dataclasses.replace(report, scale=scale)
    now = dataclasses.replace(healthy(), worker=WorkerStatus(report), counts=counts)
    diagnostics = Diagnostics("depth_node")
    status = {s.name: s for s in diagnostics.message(now).status}["depth_node: scale"]
    assert ("clocks" in status.message) is blamed
    assert {v.key: v.value for v in status.values}[f"{source}.ahead"] == f"{ahead:.3f}"
    # nothing more is left out: what stays is told
    again = {s.name: s for s in diagnostics.message(now).status}["depth_node: scale"]
    assert "clocks" in again.message
