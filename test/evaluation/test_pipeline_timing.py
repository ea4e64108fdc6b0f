# SPDX-License-Identifier: Apache-2.0
"""The whole pipeline's time: what is counted, and the command."""

from __future__ import annotations

import itertools
import json

import pytest

from video_depth_ros.cli.main import main
from video_depth_ros.config import PipelineConfig
from video_depth_ros.evaluation.metric_study_drives import simulated_drive
from video_depth_ros.evaluation.pipeline_timing import time_pipeline
from video_depth_ros.regressors import registry
from video_depth_ros.regressors.registry import RegressorConfig
from video_depth_ros.simulation.recording import SimulationConfig


def test_every_group_after_the_warm_up_is_counted_once():
    drive = simulated_drive(
        SimulationConfig(
            world="corridor", seed=100, seconds=1.9, rate=10.0, height=48, width=64, threads=1
        )
    )
    ticks = itertools.count()
    timing = time_pipeline(
        drive,
        PipelineConfig(),
        registry.load(RegressorConfig(name="nano")),
        warmup=1,
        clock=lambda: float(next(ticks)),
    )
    # 19 images are 1 + 4 groups of 4; the clock is read twice around a push and once a group
    assert (timing.frames, timing.size) == (12, 4)
    assert (timing.group, timing.network) == (3.0, 1.0)
    assert timing.fps == pytest.approx(4 / 3)
    assert timing.ratio == 3.0
    assert 0 <= timing.metric <= timing.frames


def test_the_command_prints_rows_and_writes_them(tmp_path, capsys):
    file = tmp_path / "rows.json"
    command = ["benchmark", "--pipeline", "--world", "corridor", "--size", "48x64"]
    assert main([*command, "--pushes", "2", "--json", str(file)]) == 0
    (row,) = json.loads(file.read_text())["rows"]
    assert (row["camera"], row["frames"]) == ("48x64", 8)
    assert 0.0 < row["network"] <= row["group"]
    assert row["ratio"] == pytest.approx(row["group"] / row["network"])
    assert "simulated corridor 100 with LiDAR" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--pushes", "0"], "--pushes: expected 1 or more, got 0"),
        (["--world", "boxes"], "expected one of room, corridor, street, clutter, got 'boxes'"),
        (["--set", "scale.nothing=1"], "scale.nothing"),
    ],
)
def test_what_cannot_be_timed_is_named(extra, message, capsys):
    assert main(["benchmark", "--pipeline", *extra]) != 0
    assert message in capsys.readouterr().err
