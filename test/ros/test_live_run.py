# SPDX-License-Identifier: Apache-2.0
"""The account of a live run, and what a burst of outputs needs."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from video_depth_ros.bags import messages as m
from video_depth_ros.bags.reader import Recording
from video_depth_ros.bags.topics import find_parts
from video_depth_ros.bags.writer import BagWriter
from video_depth_ros.regressors.wan.sizes import SIZES
from video_depth_ros.ros import outputs
from video_depth_ros.ros.live_run import LiveRun, run_live

from .robot import FRAME, PERIOD_NS, START_NS, scene


def run(received: int, diagnostics: dict[str, dict[str, str]]) -> LiveRun:
    times = {index: float(index) for index in range(20)}
    arrivals = {"/depth/disparity": dict(list(times.items())[:received])}
    return LiveRun(times, arrivals, diagnostics, "", 0)


def test_every_image_without_output_has_a_reason() -> None:
    images = {
        "images": "18",
        "overload": "2",
        "dropped.encoding": "1",
        "dropped.points_empty": "5",  # not an image
    }
    diagnostics = {"depth: input": images, "depth: inference": {"estimates": "13"}}
    assert run(11, diagnostics).dropped() == {
        "overload": 2,
        "encoding": 1,
        "never_arrived": 2,
        "lost_after_publishing": 2,
        "group_cut_short": 2,
    }


def test_older_diagnostics_than_outputs_make_no_loss() -> None:
    assert run(17, {"depth: inference": {"estimates": "13"}}).dropped() == {"group_cut_short": 3}
    assert run(20, {}).dropped() == {}


def test_publishers_keep_a_whole_burst() -> None:
    for size in SIZES.values():
        for hop in (1, 2, 5):
            group = hop * size.vae.temporal_stride
            assert outputs.output_qos(group).depth >= 2 * group


def test_a_camera_that_is_only_compressed_is_played_and_heard(
    ros_environment: int, tmp_path: Path
) -> None:
    topic, stamps = "/camera/image_raw/compressed", [START_NS + i * PERIOD_NS for i in range(4)]
    data = cv2.imencode(".png", np.repeat(scene()[..., None], 3, axis=2))[1].tobytes()
    with BagWriter(tmp_path / "in.mcap") as bag:
        bag.add_topic(topic, m.COMPRESSED_IMAGE)
        for stamp in stamps:
            bag.write(topic, stamp, m.compressed_image(stamp, FRAME, data, "png"))
    parameters = {"regressor.name": "brightness", "stream.latency": "frame"}
    with Recording(tmp_path / "in.mcap") as recording:
        parts = find_parts(recording)
        assert parts.image == topic
        result = run_live(
            recording, parts, tmp_path / "out.mcap", parameters, domain=ros_environment
        )
    assert result.exit_status == 0 and list(result.departures) == stamps
    made = set(result.arrivals["/depth/disparity"])
    assert stamps[0] in made and made <= set(stamps)  # a busy machine may leave images out
