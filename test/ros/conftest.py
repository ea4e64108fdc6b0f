# SPDX-License-Identifier: Apache-2.0
"""The node under test is a process of its own, in a ROS domain of its own, on this machine."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

if importlib.util.find_spec("rclpy") is None:
    # test_rclpy.py stays and says why the others are missing
    collect_ignore_glob = ["test_[!r]*.py"]
else:
    from .robot import Robot, own_domain

THIRD_PARTY = Path(__file__).parent / "third_party"


@pytest.fixture()
def ros_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A private domain on localhost; the third-party regressor can be found."""
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    if os.environ.get("ROS_DISTRO") == "humble":
        monkeypatch.setenv("ROS_LOCALHOST_ONLY", "1")
    path = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", f"{THIRD_PARTY}{os.pathsep}{path}".rstrip(os.pathsep))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with own_domain() as domain:
        monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
        yield domain


@pytest.fixture()
def robot(ros_environment: int) -> Iterator[Robot]:
    """The other side of the connection."""
    robot = Robot(ros_environment)
    yield robot
    robot.close()
