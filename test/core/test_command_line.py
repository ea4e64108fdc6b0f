# SPDX-License-Identifier: Apache-2.0
"""What `video_depth` says to arguments that cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from video_depth_ros.cli import evaluate
from video_depth_ros.cli.main import main
from video_depth_ros.evaluation import runner

NODE_FILE = Path(__file__).resolve().parents[2] / "config" / "depth.yaml"


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one clear line that a command ends with."""
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return said


def test_evaluate_takes_the_nodes_parameter_file(tmp_path, monkeypatch):
    path = tmp_path / "depth.yaml"
    path.write_text(NODE_FILE.read_text().replace("max_gap: 0.5", "max_gap: 0.75"))
    taken = []
    monkeypatch.setattr(evaluate, "_videos", lambda *_: iter(()))
    monkeypatch.setattr(runner, "EvaluationOptions", lambda config, *_, **__: taken.append(config))
    assert main(["evaluate", "--dataset", "simulated", "--config", str(path)]) == 2  # no videos
    assert taken[0].stream.max_gap == 0.75


def test_a_value_that_is_no_yaml_is_one_line(tmp_path, capsys):
    words = ["reprocess", str(tmp_path / "in.mcap"), str(tmp_path / "out.mcap")]
    said = refused([*words, "--set", "stream.max_gap=["], capsys)
    assert "'stream.max_gap=[': expected YAML" in said


def test_train_names_a_config_that_is_no_text(tmp_path, capsys):
    bad = tmp_path / "bad.yaml"
    bad.write_bytes(b"\xff\xfe\x00")
    for path in (bad, tmp_path):
        said = refused(["train", "--out", str(tmp_path / "r"), "--config", str(path)], capsys)
        assert f"cannot read parameters from {path}" in said
