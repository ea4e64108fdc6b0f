# SPDX-License-Identifier: Apache-2.0
"""JSON, HTML and the command."""

from __future__ import annotations

import argparse
import json
import re

import cv2
import numpy as np
import pytest

from video_depth_ros.cli import evaluate
from video_depth_ros.cli.main import main
from video_depth_ros.errors import CheckpointError, ConfigError, RecordingError
from video_depth_ros.evaluation import runner
from video_depth_ros.evaluation.html import report_html
from video_depth_ros.evaluation.pictures import Picture, strip
from video_depth_ros.evaluation.report import Evaluation
from video_depth_ros.evaluation.runner import VideoResult, evaluate_video
from video_depth_ros.regressors.registry import RegressorConfig
from video_depth_ros.regressors.wan.factory import with_random_weights
from video_depth_ros.regressors.wan.folded_file import save_folded
from video_depth_ros.regressors.wan.sizes import ModelSize
from video_depth_ros.regressors.wan.transformer import TransformerConfig
from video_depth_ros.regressors.wan.vae import VaeConfig

from .layouts import scannet, sintel

TINY = ModelSize(
    VaeConfig(dim=8, z_dim=4, multipliers=(1, 2, 2), res_blocks=1, temporal=(True, True), patch=4),
    TransformerConfig(
        in_channels=4, out_channels=4, dim=32, heads=2, layers=1, ffn=32, patch=1
    ),
)  # fmt: skip


def result(name, abs_rel, baseline):
    rgb, disparity, truth = np.zeros((6, 8, 3), np.uint8), np.ones((6, 8)), np.full((6, 8), 2.0)
    picture = Picture.of(0, rgb, disparity, truth)
    series = {"pipeline": {"abs_rel": [abs_rel] * 4, "log_scale": [0.0] * 4}}
    return VideoResult(
        name, "default", {"abs_rel": abs_rel}, {"ramp": {"abs_rel": baseline}},
        {"frames": 4.0}, series, [picture],
    )  # fmt: skip


def parse(*arguments):
    parser = argparse.ArgumentParser()
    evaluate.add_parser(parser.add_subparsers())
    return parser.parse_args(["evaluate", *map(str, arguments)])


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    model = with_random_weights(RegressorConfig(device="cpu"), TINY, "tiny")
    save_folded(path, model.info, model.vae, model.transformer)
    return path


def test_json_holds_means_over_videos(tmp_path):
    evaluation = Evaluation({"regressor": "x"}, [result("a", 0.1, 0.3), result("b", 0.3, 0.5)])
    path = tmp_path / "new" / "out.json"
    evaluation.write_json(path)
    got = json.loads(path.read_text())
    assert got["mean"]["abs_rel"] == pytest.approx(0.2)
    assert got["videos"] == {"a": {"abs_rel": 0.1}, "b": {"abs_rel": 0.3}}
    assert got["baselines"]["ramp"]["abs_rel"] == pytest.approx(0.4)
    assert got["setting"] == {"regressor": "x"}
    assert [p.name for p in path.parent.iterdir()] == ["out.json"]


def test_a_file_that_cannot_be_written_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot write"):
        Evaluation({}).write_json(tmp_path / "file" / "out.json")


def test_report_needs_nothing_from_elsewhere(laboratory):
    evaluation = Evaluation({"regressor": "<laboratory>"})
    evaluation.results.append(evaluate_video(laboratory.video(frames=9), laboratory.regressor()))
    text = report_html(evaluation)
    assert "//" not in re.sub(r"base64,[A-Za-z0-9+/=]+", "", text)
    references = re.findall(r"(?:src|href|url)\s*[=(]\s*['\"]?([^'\"> )]+)", text)
    assert references
    assert all(reference.startswith("data:image/") for reference in references)
    assert "<script" not in text
    assert "&lt;laboratory&gt;" in text
    for name in ("pipeline", "per_frame", "plain_chaining", "constant", "ramp", "quadratic"):
        assert f"<td>{name}</td>" in text
    assert text.count("data:image/jpeg") == 3
    assert text.count("data:image/png") == 2


def test_best_value_of_each_column_is_marked():
    text = report_html(Evaluation({}, [result("a", 0.1, 0.3)]))
    row = re.search(r"<tr><td>pipeline</td>(.*?)</tr>", text)
    assert row is not None
    assert row.group(1) == "<td class='best'>0.1000</td>"


def test_command_writes_figures_and_report(tmp_path, weights, capsys):
    scannet(tmp_path / "scans", "scene0001_00")
    scannet(tmp_path / "again", "scene0001_00")
    out, page = tmp_path / "out.json", tmp_path / "report.html"
    args = parse(
        tmp_path / "scans", tmp_path / "again", "--format", "scannet",
        "--regressor", "nano", "--weights", weights,
        "--frames", 3, "--set", "regressor.height=32", "--set", "regressor.width=48",
        "--json", out, "--report", page,
    )  # fmt: skip
    assert args.run(args) == 0
    got = json.loads(out.read_text())
    assert list(got["videos"]) == ["scene0001_00", "scene0001_00 (2)"]
    assert {"abs_rel", "delta1", "rmse", "temporal_alignment_error"} <= got["mean"].keys()
    assert set(got["baselines"]) == {
        "per_frame", "plain_chaining", "constant", "ramp", "quadratic",
    }  # fmt: skip
    assert got["details"]["scene0001_00"]["frames"] == 3
    assert page.read_text().startswith("<!DOCTYPE html>")
    printed = capsys.readouterr().out
    assert "scene0001_00" in printed
    assert "quadratic" in printed


def test_a_damaged_recording_does_not_cost_the_others(tmp_path, weights, capsys):
    for name in ("scene0001_00", "scene0002_00", "scene0003_00"):
        scannet(tmp_path, name)
    (tmp_path / "scene0002_00" / "color" / "1.png").write_bytes(b"torn")
    for file in (tmp_path / "scene0003_00" / "color").iterdir():  # cannot even be opened
        file.unlink()
    out, page = tmp_path / "out.json", tmp_path / "report.html"
    args = parse(
        tmp_path, "--weights", weights, "--json", out, "--report", page,
        "--set", "regressor.height=32", "--set", "regressor.width=48",
    )  # fmt: skip
    assert args.run(args) == 1
    got = json.loads(out.read_text())
    assert list(got["videos"]) == ["scene0001_00"]
    assert sorted(got["failed"]) == ["scene0002_00", "scene0003_00"]
    assert "1.png" in got["failed"]["scene0002_00"]
    printed = capsys.readouterr().out
    for text in (printed, page.read_text()):
        assert "not measured: scene0002_00" in text
    args = parse(
        tmp_path / "scene0001_00", tmp_path / "missing", "--weights", weights, "--json", out,
        "--set", "regressor.height=32", "--set", "regressor.width=48",
    )  # fmt: skip
    assert args.run(args) == 1
    assert list(json.loads(out.read_text())["failed"]) == [str(tmp_path / "missing")]
    args = parse(tmp_path / "scene0002_00", "--weights", weights)
    with pytest.raises(RecordingError, match=r"1\.png"):  # nothing else to show
        args.run(args)


@pytest.mark.parametrize(
    ("stop", "raised"), [(KeyboardInterrupt(), 130), (RuntimeError("a fault"), RuntimeError)]
)
def test_what_is_finished_is_kept_when_the_rest_is_not(
    tmp_path, weights, capsys, monkeypatch, stop, raised
):
    turns = iter([result("first", 0.25, 0.5), stop])

    def evaluate_video(*_):
        turn = next(turns)
        if isinstance(turn, BaseException):
            raise turn
        return turn

    monkeypatch.setattr(runner, "evaluate_video", evaluate_video)
    out, page = tmp_path / "out.json", tmp_path / "report.html"
    words = [
        "evaluate", "--dataset", "simulated", "--videos", "3", "--weights", str(weights),
        "--json", str(out), "--report", str(page),
    ]  # fmt: skip
    if isinstance(raised, int):
        assert main(words) == raised
    else:
        with pytest.raises(raised):
            main(words)
    got = json.loads(out.read_text())
    assert got["incomplete"] is True and got["videos"] == {"first": {"abs_rel": 0.25}}
    printed = capsys.readouterr().out
    assert printed.count("incomplete: stopped before") == 2 and "0.2500" in printed
    assert "incomplete: stopped before" in page.read_text()


def test_recordings_of_one_name_that_fail_are_told_apart(tmp_path, weights, capsys, monkeypatch):
    for root, whole in (("a", False), ("b", True), ("c", False)):
        scannet(tmp_path / root, "scene")
        for file in (tmp_path / root / "scene" / "color").iterdir():
            if not whole:  # cannot be opened
                file.unlink()
    monkeypatch.setattr(runner, "evaluate_video", lambda video, *_: result(video.name, 0.25, 0.5))
    out = tmp_path / "out.json"
    args = parse(*(tmp_path / r for r in "abc"), "--weights", weights, "--json", out)
    assert args.run(args) == 1
    got = json.loads(out.read_text())
    assert list(got["videos"]) == ["scene (2)"] and got["incomplete"] is False
    assert sorted(got["failed"]) == ["scene", "scene (3)"]
    assert "incomplete" not in capsys.readouterr().out


def test_sparse_and_small_truth_fills_its_picture():
    rgb, truth = np.zeros((96, 128, 3), np.uint8), np.full((96, 128), 2.0, np.float32)
    picture = cv2.imdecode(
        np.frombuffer(strip(rgb, np.full((96, 128), 0.5), truth), np.uint8), cv2.IMREAD_COLOR
    )
    assert picture is not None
    error = picture[:, 900:]
    assert error.min() > 240  # white everywhere: right, and no holes from enlarging
    truth[:] = np.nan
    assert Picture.of(0, rgb, np.ones((96, 128)), truth).shown == "image, prediction"


def test_command_on_the_simulation(tmp_path, weights):
    out = tmp_path / "out.json"
    args = parse(
        "--dataset", "simulated", "--split", "heldout", "--weights", weights, "--videos", 2,
        "--frames", 5, "--size", 32, 48, "--json", out,
        "--set", "regressor.height=32", "--set", "regressor.width=48",
    )  # fmt: skip
    assert args.run(args) == 0
    got = json.loads(out.read_text())
    assert list(got["videos"]) == ["heldout_0000", "heldout_0001"]
    assert got["setting"]["dataset"] == "simulated/heldout"


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ([], ConfigError, "--dataset"),
        (["x", "--dataset", "simulated"], ConfigError, "either"),
        (["missing"], RecordingError, "does not exist"),
        (["--dataset", "simulated", "--videos", "0"], ConfigError, "--videos"),
        (["--dataset", "simulated", "--set", "no.such=1"], ConfigError, "no.such"),
        (["--dataset", "simulated", "--weights", "none.st"], CheckpointError, "none.st"),
        (["--dataset", "simulated", "--json", "."], ConfigError, "folder"),
        (["--dataset", "simulated", "--triangulate"], ConfigError, "--triangulate"),
        (["--dataset", "simulated", "--protocol", "nyuv2"], ConfigError, "--protocol"),
        (["x", "--rate", "-5"], ConfigError, "--rate"),
        (["--dataset", "simulated", "--depth-scale", "1000"], ConfigError, "--depth-scale"),
        (["x", "--depth-scale", "0.001"], ConfigError, "--depth-scale: expected 1 to"),
    ],
)
def test_bad_arguments_are_one_clear_error(arguments, error, match):
    args = parse(*arguments)
    with pytest.raises(error, match=match):
        args.run(args)


def test_metric_needs_a_camera(tmp_path, weights):
    scene = sintel(tmp_path)
    for cam in (tmp_path / "training" / "camdata_left" / "alley_1").iterdir():
        cam.unlink()
    args = parse(scene, "--format", "sintel", "--metric", "--weights", weights)
    with pytest.raises(RecordingError, match="--hfov"):
        args.run(args)


def test_help_shows_worked_examples():
    parser = argparse.ArgumentParser()
    subparsers = parser.add_subparsers()
    evaluate.add_parser(subparsers)
    text = subparsers.choices["evaluate"].format_help()
    assert "worked examples" in text
    assert "--split heldout" in text
