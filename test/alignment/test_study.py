# SPDX-License-Identifier: Apache-2.0
"""The figures of the alignment benchmark, on a short stream."""

from __future__ import annotations

import argparse
import json
import re

import torch
from torch import Tensor

from video_depth_ros.cli import benchmark_alignment
from video_depth_ros.cli.main import main
from video_depth_ros.evaluation.alignment_study import AlignmentStudy
from video_depth_ros.evaluation.laboratory import LaboratoryFaults, SyntheticDisparity

BOXES = SyntheticDisparity()


def truth(index: int) -> Tensor:
    return 0.1 + BOXES(index)


def test_perfect_windows_cost_nothing_and_every_way_says_so():
    faults = LaboratoryFaults(noise=0.0, outliers=0.0, saturate=False)
    study = AlignmentStudy(truth, 60, faults, infinity=0.1)
    for result in (
        study.online("chain", "robust", keyframes=True),
        study.offline("joint", (1, 5)),
        study.online("dvd", "dvd", keyframes=False),
    ):
        assert result.abs_rel < 2e-3
        assert result.worst_seam < 2e-3
        assert result.segments == 1
    assert study.unaligned("none").abs_rel > 0.05


def test_robust_chain_beats_least_squares_by_far():
    study = AlignmentStudy(truth, 201, LaboratoryFaults(block=1), infinity=0.1)
    robust = study.online("robust", "robust", keyframes=True)
    plain = study.online("dvd", "dvd", keyframes=False)
    assert robust.abs_rel < 0.02
    assert plain.abs_rel > 10.0 * robust.abs_rel


def test_command_prints_and_writes_every_way(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(benchmark_alignment, "group_cost", lambda: (3.0, 1.0))  # timed elsewhere
    monkeypatch.setenv("COLUMNS", "140")
    file = tmp_path / "out.json"
    words = ["benchmark", "--alignment", "--frames", "61", "--world", "boxes"]
    assert main([*words, "--json", str(file)]) == 0
    out = capsys.readouterr().out
    rows = json.loads(file.read_text())["rows"]
    assert [row["frames"] for row in rows[:-1]] == [61] * 6
    assert rows[1]["name"] == "least-squares chain (DVD)" and rows[1]["end_drift"] >= 0.0
    assert rows[-1] == {"group_ms": 3.0, "fit_ms": 1.0}
    for way in ("windows as they come", "least-squares chain", "keyframes", "1, 10, 25"):
        assert way in out


def test_cost_is_measured_on_both_sizes():
    whole, fit = benchmark_alignment.group_cost(96, 128, groups=4)
    assert whole > 0.0 and fit > 0.0


def test_truth_of_a_world_fills_the_range_of_a_window():
    source = benchmark_alignment._truth("room", 9)
    values = torch.stack([source(index) for index in range(9)])
    assert values.shape == (9, 60, 80)
    assert float(values.min()) >= benchmark_alignment.INFINITY - 1e-6
    assert float(values.max()) <= 0.97 + 1e-6
    assert float(torch.quantile(values, 0.99)) > 0.5


def test_joint_solve_holds_a_few_numbers_per_window_and_no_pixels(capsys):
    """A window of 12 frames of 9x12 px alone is 5 KiB; 250 of them come per 1,000 frames."""
    args = argparse.Namespace(frames=600, world="boxes", memory=True)
    assert benchmark_alignment.run(args)[0]["memory"]["frames"] == 600
    out = capsys.readouterr().out
    said = re.search(r"([-0-9]+) KiB", out)
    assert said is not None, out
    assert float(said[1]) < 900.0
