# SPDX-License-Identifier: Apache-2.0
"""`video_depth demo`: which topics of a bag are played to the node."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from video_depth_ros.bags import messages as m
from video_depth_ros.bags.topics import Parts
from video_depth_ros.bags.writer import BagWriter
from video_depth_ros.cli import demo
from video_depth_ros.cli import main as command


class Played(Exception):
    """The node would be started now."""


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    """Two odometers and two IMUs, as robots have."""
    path = tmp_path / "in.mcap"
    with BagWriter(path) as bag:
        bag.add_topic("/camera/image_raw", m.IMAGE)
        bag.write("/camera/image_raw", 1, m.image(1, "camera", np.zeros((4, 6, 3), np.uint8)))
        for topic in ("/odom", "/odom_fused"):
            bag.add_topic(topic, m.ODOMETRY)
            bag.write(topic, 1, m.odometry(1, "odom", "base_link", np.eye(4)))
        for topic in ("/imu", "/camera/imu"):
            bag.add_topic(topic, m.IMU)
            bag.write(topic, 1, m.imu(1, "imu", np.zeros(3), np.zeros(3)))
    return path


@pytest.fixture
def parts_of(bag: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The parts that the demo would play with these arguments, or its exit status."""
    monkeypatch.setattr(command, "COMMANDS", ("demo",))
    monkeypatch.setattr(demo, "require_ros", lambda: None)

    def play(args: Any, recording: Any, parts: Parts, *_: Any) -> None:
        raise Played(parts)

    monkeypatch.setattr(demo, "play", play)

    def parts_of(*arguments: str) -> Parts | int:
        try:
            return command.main(
                ["demo", "--bag", str(bag), "--output", str(tmp_path / "out"), *arguments]
            )
        except Played as played:
            return played.args[0]

    return parts_of


def test_several_topics_of_a_kind_are_chosen_among(parts_of, capsys):
    assert parts_of() == 2
    said = capsys.readouterr().err
    assert "several imu topics" in said and "choose one with --imu-topic" in said
    parts = parts_of("--odometry-topic", "/odom", "--imu-topic", "none")
    assert (parts.odometry, parts.imu) == ("/odom", None)


def test_a_source_that_is_not_used_needs_no_topic(parts_of):
    parts = parts_of("--set", "scale.sources=[lidar, odometry]", "--odometry-topic", "/odom_fused")
    assert (parts.odometry, parts.imu, parts.points) == ("/odom_fused", None, None)


@pytest.mark.parametrize("rate", ["0", "-1", "nan", "inf"])
def test_a_speed_that_is_none_is_refused_before_anything_is_made(parts_of, tmp_path, capsys, rate):
    assert parts_of("--rate", rate) == 2
    assert "--rate: expected a finite speed above 0" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_file_in_the_place_of_the_output_folder_is_refused(parts_of, bag, capsys):
    for place in (bag, bag / "below"):
        assert parts_of("--output", str(place)) == 2
        said = capsys.readouterr().err
        assert "--output: " in said and str(place) in said
