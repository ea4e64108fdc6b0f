# SPDX-License-Identifier: Apache-2.0
"""Faults of a LiDAR, end to end: each is named, and none gives a wrong metric depth."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from video_depth_ros.frames import ScaleState
from video_depth_ros.metric import PointTimes, Verdict
from video_depth_ros.metric.poses import rotation

from .drives import Drive, Fault, Turn, make_drive, run

AXES = ((0, 1, 0), (0, -1, 0), (1, 0, 0), (-1, 0, 0), (0, 0, 1), (0, 0, -1))  # and senses
CASES = (
    ("room", 0, "handheld"),
    ("corridor", 0, "vehicle"),
    ("clutter", 0, "drone"),
    ("clutter", 1, "drone"),
)

NAMED = (
    Verdict.MISALIGNED,
    Verdict.UNRELATED,
    Verdict.INVERTED,
    Verdict.NON_POSITIVE,
    Verdict.OUTLIERS,
)


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case[0]}{case[1]}")
def drive(request: pytest.FixtureRequest) -> Drive:
    """Three worlds, three ways of moving."""
    return make_drive(*request.param)


def turn_about(axis: tuple[int, int, int], degrees: float) -> np.ndarray:
    """A rotation as a 4x4 transform."""
    T = np.eye(4)
    T[:3, :3] = rotation(np.deg2rad(degrees) * np.array(axis, dtype=float))
    return T


def turned(axis: tuple[int, int, int], degrees: float) -> Fault:
    """Extrinsics that are wrong."""
    T = turn_about(axis, degrees)
    return lambda drive, turn, k: dataclasses.replace(turn, T_camera_lidar=T @ turn.T_camera_lidar)


def _columns(drive: Drive, turn: Turn) -> np.ndarray:
    """Image columns of the points, as a share of the width; NaN behind the camera."""
    seen = turn.points @ turn.T_camera_lidar[:3, :3].T + turn.T_camera_lidar[:3, 3]
    z = np.where(seen[:, 2] > 0.1, seen[:, 2], np.nan)
    return (seen[:, 0] / z * drive.camera.fx + drive.camera.cx) / drive.camera.width


def _glass(low: float, high: float, behind: float) -> Fault:
    """A pane before part of the view: the points there lie ``behind`` metres farther."""

    def fault(drive: Drive, turn: Turn, k: int) -> Turn:
        column = _columns(drive, turn)
        with np.errstate(invalid="ignore"):
            through = (column > low) & (column < high)
        distance = np.linalg.norm(turn.points, axis=1)
        farther = np.where(through, (distance + behind) / distance, 1.0)[:, None]
        return dataclasses.replace(turn, points=turn.points * farther.astype(np.float32))

    return fault


def clock(seconds: float) -> Fault:
    return lambda drive, turn, k: dataclasses.replace(turn, stamp_s=turn.stamp_s + seconds)


def _points(change: str) -> Fault:
    def fault(drive: Drive, turn: Turn, k: int) -> Turn:
        points, offset_s = turn.points.copy(), turn.offset_s
        if change == "empty":
            points, offset_s = points[:0], np.zeros(0)
        elif change == "nan":
            points[:] = np.nan
        elif change == "some_nan":
            points[::3] = np.nan
        elif change == "one_depth":
            points *= 5.0 / np.linalg.norm(points, axis=1, keepdims=True)
        return dataclasses.replace(turn, points=points, offset_s=offset_s)

    return fault


def test_without_a_fault(drive: Drive) -> None:
    outcome = run(drive)
    lidar = outcome.report.sources["lidar"]
    assert outcome.wrong == 0 and len(outcome.errors) == len(drive.times)
    assert np.median(np.abs(outcome.errors)) < 0.02
    assert lidar.verdicts == {Verdict.ACCEPTED: len(drive.times)}
    assert lidar.point_times is PointTimes.PER_POINT


@pytest.mark.parametrize(
    "axis", [(0, 1, 0), (0, -1, 0), (1, 0, 0), (-1, 0, 0), (0, 0, 1), (0, 0, -1)]
)
def test_extrinsics_twenty_degrees_off(drive: Drive, axis: tuple[int, int, int]) -> None:
    outcome = run(drive, turned(axis, 20.0))
    verdicts = outcome.report.sources["lidar"].verdicts
    assert outcome.wrong == 0, outcome.errors
    named = sum(verdicts[v] for v in NAMED)
    assert named >= 0.5 * len(drive.times), verdicts
    assert outcome.report.last_reject


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.4), (0.6, 1.0), (0.3, 0.6)])
@pytest.mark.parametrize("behind", [5.0, 25.0])
def test_seeing_through_glass(drive: Drive, low: float, high: float, behind: float) -> None:
    outcome = run(drive, _glass(low, high, behind))
    assert outcome.wrong == 0, outcome.errors


@pytest.mark.parametrize("seconds", [0.1, -0.1])
def test_clocks_a_tenth_of_a_second_apart(drive: Drive, seconds: float) -> None:
    assert run(drive, clock(seconds)).wrong == 0


@pytest.mark.parametrize("seconds", [60.0, -60.0])
def test_clocks_far_apart(drive: Drive, seconds: float) -> None:
    outcome = run(drive, clock(seconds))
    lidar = outcome.report.sources["lidar"]
    assert not outcome.errors and lidar.used == 0
    assert lidar.verdicts == {Verdict.TIME_OFFSET: len(drive.times)}
    assert abs(lidar.ahead - seconds) < 4.0  # the drive's length


def test_nothing_measured(drive: Drive) -> None:
    for change in ("empty", "nan"):
        outcome = run(drive, _points(change))
        assert not outcome.errors
        verdicts = outcome.report.sources["lidar"].verdicts
        assert verdicts == {Verdict.NO_POINTS: len(drive.times)}
        assert "no_points" in outcome.report.last_reject


def test_some_points_missing(drive: Drive) -> None:
    outcome = run(drive, _points("some_nan"))
    assert outcome.wrong == 0 and len(outcome.errors) == len(drive.times)


def test_one_depth_everywhere(drive: Drive) -> None:
    """A stuck sensor: the camera sees relief, the LiDAR none."""
    outcome = run(drive, _points("one_depth"))
    assert not outcome.errors
    verdicts = outcome.report.sources["lidar"].verdicts
    assert verdicts[Verdict.ACCEPTED] == 0


def test_the_sensor_stops(drive: Drive) -> None:
    def stops(drive: Drive, turn: Turn, k: int) -> Turn | None:
        return turn if k < 5 else None

    outcome = run(drive, stops, stale_after=0.5, lost_after=2.0)
    assert outcome.wrong == 0
    assert outcome.states[:5] == [ScaleState.METRIC] * 5
    assert outcome.states[8:14] == [ScaleState.STALE] * 6
    assert outcome.states[-2:] == [ScaleState.UNSCALED] * 2
