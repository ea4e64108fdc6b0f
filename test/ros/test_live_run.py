# SPDX-License-Identifier: Apache-2.0
"""The account of a live run, and what a burst of outputs needs."""

from __future__ import annotations

from video_depth_ros.regressors.wan.sizes import SIZES
from video_depth_ros.ros import outputs
from video_depth_ros.ros.live_run import LiveRun


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
        assert outputs.output_qos().depth >= 2 * size.vae.temporal_stride
