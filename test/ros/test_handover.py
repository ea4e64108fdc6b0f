# SPDX-License-Identifier: Apache-2.0
"""The queues between callbacks and worker, and the even decimation."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from video_depth_ros.ros.handover import Counters, Decimator, Handover


def accepted(decimator: Decimator, period: float, frames: int, cost: float) -> np.ndarray:
    """Indices of the images that are used, when every used one costs ``cost`` seconds."""
    used = []
    for index in range(frames):
        if decimator.accept(100.0 + index * period):
            used.append(index)
            decimator.spent(cost)
    return np.array(used)


@settings(max_examples=40, deadline=None)
@given(load=st.floats(0.05, 12.0), period=st.floats(0.005, 0.2))
def test_images_are_left_out_evenly_and_never_more_are_used_than_fit(
    load: float, period: float
) -> None:
    used = accepted(Decimator(), period, 600, load * period)
    spacing = np.diff(used[used > 200])
    assert spacing.max() - spacing.min() <= 1  # one camera period
    assert spacing.mean() >= load
    assert spacing.mean() <= max(1.0, 1.1 * load)


def in_groups(
    decimator: Decimator, group: int, images: int, cost: float, stall: int = -1
) -> list[int]:
    """Images at 10 Hz, of which the last one of every group costs ``cost`` seconds per image, and
    a minute in the group ``stall``; the times [0.1 s] of those that are used."""
    used: list[int] = []
    index = 0
    while len(used) < images:
        if decimator.accept(index * 0.1):
            used.append(index)
            last = len(used) % group == 0
            stalled = last and len(used) // group == stall
            decimator.spent(60.0 if stalled else cost * group * last)
        index += 1
    return used


@pytest.mark.parametrize("group", [4, 8, 12, 20])  # hop 1, 2, 3, 5
def test_groups_whose_last_image_costs_everything_are_averaged(group: int) -> None:
    used = in_groups(Decimator(group=group), group, 12 * group, 0.2)
    assert set(np.diff(used[-6 * group :])) <= {2, 3}


@pytest.mark.parametrize("stall", [1, 2, 3, 8])
@pytest.mark.parametrize("group", [1, 4, 20])
def test_one_long_run_does_not_throttle_the_stream(group: int, stall: int) -> None:
    """A compilation, wherever it falls, or a busy device."""
    used = in_groups(Decimator(group=group), group, 30 * group, 0.05, stall)
    assert used[-1] == len(used) - 1


@pytest.mark.parametrize("period", [0.5, 1.0, 2.0, 10.0])
def test_a_camera_that_has_become_slow_is_not_left_out_for_ever(period: float) -> None:
    decimator = Decimator()
    accepted(decimator, 1 / 30, 600, 0.3)
    assert decimator.share < 0.2
    assert len(accepted(decimator, period, 60, 0.3)) > 40


def test_max_rate_is_kept() -> None:
    assert len(accepted(Decimator(max_rate=10.0), 1 / 30, 900, 0.0)) == pytest.approx(300, abs=15)


def test_the_newest_images_win() -> None:
    counters = Counters()
    handover = Handover(counters, group=2)
    handover.open = True
    for number in range(10):
        handover.offer_frame(number, number)
    frames = []
    while (batch := handover.take(0.0)) is not None and batch.frame is not None:
        frames.append(batch.frame)
    assert frames == [7, 8, 9]
    assert counters.snapshot() == {"overload": 7}


def test_measurements_come_with_the_image_that_they_precede_and_are_bounded() -> None:
    counters = Counters()
    handover = Handover(counters)
    handover.open = True
    for number in range(25):
        handover.offer("points", number)
    handover.offer("imu", "a")
    handover.offer_frame("image", 0)
    batch = handover.take(0.0)
    assert batch is not None and batch.frame == "image"
    assert batch.measurements == [*(("points", n) for n in range(5, 25)), ("imu", "a")]
    assert counters.snapshot() == {"points_overload": 5}


def test_closed_for_input_everything_but_camera_info_is_left() -> None:
    counters = Counters()
    handover = Handover(counters)
    handover.offer("points", 1)
    handover.offer("camera_info", 2)
    handover.offer_frame(3, 0)
    handover.command(lambda: None)
    batch = handover.take(0.0)
    assert batch is not None and batch.frame is None
    assert batch.measurements == [("camera_info", 2)] and len(batch.commands) == 1
    assert counters.snapshot() == {"inactive": 1}


def test_only_the_camera_makes_gaps() -> None:
    handover = Handover(Counters())
    handover.capacity, handover.open = 2, True
    for stamp_ns in (0, 10, 20, 30):  # two are pushed out
        handover.offer_frame(stamp_ns, stamp_ns)
    batch = handover.take(0.0)
    assert batch is not None and (batch.frame, batch.camera_gap_ns) == (20, 10)
    for stamp_ns in (40, 140, 150):  # the image after the gap is pushed out
        handover.offer_frame(stamp_ns, stamp_ns)
    handover.offer_frame(160, 160)
    batch = handover.take(0.0)
    assert batch is not None and (batch.frame, batch.camera_gap_ns) == (150, 100)
    batch = handover.take(0.0)
    assert batch is not None and (batch.frame, batch.camera_gap_ns) == (160, 10)


def test_close_wakes_the_worker() -> None:
    handover = Handover(Counters())
    results: list[object] = []
    worker = threading.Thread(target=lambda: results.append(handover.take(60.0)))
    worker.start()
    handover.close()
    worker.join(10.0)
    assert results == [None]
