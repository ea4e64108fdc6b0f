# SPDX-License-Identifier: Apache-2.0
"""Clocks that are apart, judged by arrival."""

from __future__ import annotations

from video_depth_ros.ros.stamp_lead import StampLeads

SECOND = 1_000_000_000


def watched(ahead: float, delay: float, seconds: float = 3.0) -> StampLeads:
    """A camera of 20 Hz whose images take ``delay`` to arrive, an odometer of 50 Hz at once."""
    leads = StampLeads()
    events = [(n / 20 + delay, "image", n / 20) for n in range(int(seconds * 20))]
    events += [(n / 50, "odometry", n / 50 + ahead) for n in range(int(seconds * 50))]
    for arrival, kind, stamp in sorted(events):
        if kind == "image":
            leads.image(int(stamp * SECOND), arrival)
        else:
            leads.measurement(kind, int(stamp * SECOND), arrival)
    return leads


def test_a_clock_that_is_ahead_is_measured_and_a_late_camera_is_not_taken_for_one() -> None:
    assert abs(watched(5.0, 0.05).seconds()["odometry"] - 5.05) < 1e-6
    assert watched(0.0, 0.6).seconds() == {}
    assert watched(-5.0, 0.05).seconds() == {}


def test_a_few_samples_a_burst_of_late_images_and_a_camera_that_is_away_say_nothing() -> None:
    assert watched(5.0, 0.05, seconds=0.2).seconds() == {}
    leads = watched(0.0, 0.05)
    for n in range(90):  # images 2 s late, for a while
        leads.image(n * SECOND, n + 2.0)
        leads.measurement("odometry", (n + 2) * SECOND, n + 2.0)
    assert leads.seconds() == {}
    away = StampLeads()
    away.image(0, 0.0)
    for n in range(200):
        away.measurement("imu", (n + 300) * SECOND, n + 2.0)
    assert away.seconds() == {}
