# SPDX-License-Identifier: Apache-2.0
"""Odometry and IMU beside a sensor that gives depth: who works when."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from video_depth_ros.frames import ScaleState
from video_depth_ros.metric import MetricScaler, ScaleConfig, ScaleReport, Verdict
from video_depth_ros.metric.standby import Standby
from video_depth_ros.settings import replace_flat

from .drives import Rendered, render_corridor

METRIC = ScaleState.METRIC
RATE = 6.0


def ns(seconds: float) -> int:
    return round(seconds * 1e9)


def good_scan(turns: Standby, seconds: float, source: str = "lidar") -> None:
    turns.told(source, Verdict.ACCEPTED, ns(seconds), misalignment=0.6)


def standby(seconds: float = 20.0, stale_after: float = 2.0) -> Standby:
    return Standby(replace_flat(ScaleConfig(), {"standby": seconds, "stale_after": stale_after}))


def test_motion_rests_once_a_scan_has_made_the_scale_metric() -> None:
    turns = standby()
    assert not turns.rests("odometry", METRIC, ns(1.0))  # metric by whatever, but no scan
    good_scan(turns, 1.0)
    assert not turns.rests("odometry", ScaleState.UNSCALED, ns(1.1))
    assert turns.rests("odometry", METRIC, ns(1.2)) and turns.rests("imu", METRIC, ns(1.2))


@pytest.mark.parametrize("verdict", set(Verdict) - {Verdict.ACCEPTED})
def test_only_an_accepted_scan_lets_the_others_rest(verdict: Verdict) -> None:
    turns = standby()
    turns.told("lidar", verdict, ns(1.0), misalignment=0.6)
    turns.told("range", Verdict.ACCEPTED, ns(1.0))  # a level, no scale
    assert not turns.rests("imu", METRIC, ns(1.1))


def test_only_a_sensor_whose_mounting_is_seen_to_be_right_is_relied_on() -> None:
    turns = standby(10.0)
    for misalignment in (math.nan, 1.2):
        turns.told("lidar", Verdict.ACCEPTED, ns(1.0), misalignment)
        assert not turns.rests("imu", METRIC, ns(1.1))
    good_scan(turns, 1.2)
    assert turns.rests("imu", METRIC, ns(1.3))
    turns.told("lidar", Verdict.MISALIGNED, ns(1.4), misalignment=1.5)
    for seconds in (1.5, 5.0, 11.3):
        good_scan(turns, seconds)
        assert not turns.rests("imu", METRIC, ns(seconds))
    good_scan(turns, 11.5)
    assert turns.rests("odometry", METRIC, ns(11.6))


def test_a_turn_comes_after_the_rest_and_ends_with_a_measurement() -> None:
    turns = standby(5.0)
    work = []
    for k in range(0, 160):
        good_scan(turns, 0.1 * k, "sparse_depth")
        if not turns.rests("odometry", METRIC, ns(0.1 * k)):
            work.append(k)
            if k in (52, 105):  # it takes a while
                turns.told("odometry", Verdict.ACCEPTED, ns(0.1 * k))
    assert work == [50, 51, 52, 102, 103, 104, 105, 155, 156, 157, 158, 159]


def test_a_turn_in_which_nothing_is_measured_ends_after_five_seconds() -> None:
    """A blind moment, or a window of the IMU that still grows, must not cost the turn."""
    turns = standby(10.0)
    work = []
    for k in range(200):
        good_scan(turns, 0.1 * k)
        if not turns.rests("imu", METRIC, ns(0.1 * k)):
            work.append(k)
            turns.told("imu", Verdict.UNOBSERVABLE, ns(0.1 * k))
    assert work == list(range(100, 151))


def test_turns_come_even_where_the_affine_frame_often_begins_anew() -> None:
    turns = standby(20.0)
    work = []
    for k in range(300):
        if k % 15 == 0:
            turns.restart()
        good_scan(turns, float(k))
        if not turns.rests("odometry", METRIC, ns(k + 0.1)):
            work.append(k)
            turns.told("odometry", Verdict.ACCEPTED, ns(k + 0.1))
    assert work == list(range(20, 300, 20))


def test_a_sensor_that_is_misaligned_costs_no_other_its_trust() -> None:
    turns = standby(20.0)
    for k in range(30):
        turns.told("lidar", Verdict.MISALIGNED, ns(0.1 * k), misalignment=1.6)
        good_scan(turns, 0.1 * k, "sparse_depth")
        assert turns.rests("imu", METRIC, ns(0.1 * k))
    turns.restart()  # the mounting is no matter of the affine frame
    good_scan(turns, 3.1)
    assert not turns.rests("imu", METRIC, ns(3.2))
    turns.reset()
    good_scan(turns, 0.1)
    assert turns.rests("imu", METRIC, ns(0.2))


def test_one_that_contradicts_goes_on() -> None:
    turns = standby(5.0)
    good_scan(turns, 0.0)
    assert turns.rests("imu", METRIC, 0)
    for k in (50, 51, 52):
        good_scan(turns, 0.1 * k)
        assert not turns.rests("imu", METRIC, ns(0.1 * k))
        turns.told("imu", Verdict.GATED, ns(0.1 * k))
    turns.told("imu", Verdict.REINITIALISED, ns(5.2))
    assert turns.rests("imu", METRIC, ns(5.3))


def test_all_work_while_no_scan_comes_or_the_affine_frame_is_new() -> None:
    turns = standby(stale_after=2.0)
    good_scan(turns, 0.0)
    assert [turns.rests("odometry", METRIC, ns(t)) for t in (0.5, 0.9, 1.1)] == [True, True, False]
    good_scan(turns, 1.2)
    assert turns.rests("odometry", METRIC, ns(1.3))
    turns.restart()
    assert not turns.rests("odometry", METRIC, ns(1.4))


def test_without_a_rest_everybody_always_works() -> None:
    turns = standby(0.0)
    good_scan(turns, 0.0)
    assert not any(turns.rests("imu", METRIC, ns(t)) for t in (0.0, 0.5, 1.0))


@pytest.fixture(scope="module")
def drive() -> Rendered:
    """Four seconds."""
    return render_corridor(4.0)


def run(drive: Rendered, until: float, **values: object) -> tuple[list[ScaleState], ScaleReport]:
    """States of all frames, and the report at the end. A sensor gives every eleventh pixel of the
    depth and falls silent at ``until``."""
    scaler = MetricScaler(replace_flat(ScaleConfig(), {"local.enabled": False, **values}))
    states = []
    sparse = np.full(drive.depth.shape, np.nan, np.float32)
    sparse[:, ::11, ::11] = drive.depth[:, ::11, ::11]
    disparity = (1.0 / drive.depth / 0.8 - 0.05).astype(np.float32)
    for k, t in enumerate(drive.times):
        if t < until:
            scaler.add_sparse_depth(sparse[k], ns(t), drive.camera)
        scaler.add_odometry(drive.poses[k], ns(t), np.eye(4))
        for step in range(20):
            scaler.add_imu(
                np.zeros(3), np.array([0.0, 0.0, 9.81]), ns(t + 0.008 * step), np.eye(4)
            )
        scale = scaler.update(
            torch.from_numpy(disparity[k]), torch.from_numpy(drive.rgb[k]), drive.camera,
            ns(t), 0,
        )  # fmt: skip
        states.append(scale.state)
    return states, scaler.report(ns(drive.times[-1]))


def test_beside_a_depth_sensor_no_features_are_followed(drive: Rendered) -> None:
    states, report = run(drive, until=9.0)
    assert set(states) == {METRIC}
    for source in ("odometry", "imu"):
        account = report.sources[source]
        assert account.resting and account.received and not account.verdicts


@pytest.mark.parametrize("seconds", [0.0, 1.0])
def test_odometry_checks_the_sensor_now_and_then(drive: Rendered, seconds: float) -> None:
    _, report = run(drive, until=9.0, standby=seconds)
    account = report.sources["odometry"]
    assert account.verdicts[Verdict.ACCEPTED] >= 1 and set(account.verdicts) <= {Verdict.ACCEPTED}
    always = run(drive, until=9.0, standby=0.0)[1].sources["odometry"].used
    assert account.used < always if seconds else account.used == always > 2


def test_odometry_takes_over_before_the_scale_is_stale(drive: Rendered) -> None:
    states, report = run(drive, until=1.0, stale_after=2.0)
    assert set(states) == {METRIC}
    assert report.sources["odometry"].used >= 1 and not report.sources["odometry"].resting
    assert report.age < 2.0
    silent, _ = run(drive, until=1.0, stale_after=2.0, sources=("sparse_depth",))
    assert silent[-1] is ScaleState.STALE
