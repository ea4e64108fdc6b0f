# SPDX-License-Identifier: Apache-2.0
"""The mean of runs: exact, of one kind, and a file that the regressor loads."""

from __future__ import annotations

import json

import pytest
import torch

from video_depth_ros.cli.average import split_share
from video_depth_ros.cli.main import main
from video_depth_ros.errors import CheckpointError, ConfigError
from video_depth_ros.regressors.registry import RegressorConfig, load
from video_depth_ros.regressors.wan.folded_file import load_folded
from video_depth_ros.training.average import average
from video_depth_ros.training.initial import initial_model, trained_model
from video_depth_ros.training.loop import Trainer


@pytest.fixture
def runs(small, planes, tmp_path):
    """Two runs that went on from one with other data, and their common start."""
    folders = [tmp_path / name for name in ("start", "left", "right")]
    for folder, seed in zip(folders, (5, 6, 7), strict=True):
        config = small(seed=seed, steps=2, stage="pixel", tau=0.0)
        model = initial_model(config, folders[0] if folder is not folders[0] else None)
        Trainer(model, config, folder).run(planes(config))
    return folders


def weights(path):
    return trained_model(path)[0].state_dict()


def test_every_weight_is_the_weighted_mean(runs):
    _, left, right = runs
    model, _, notes = average([(left, 3.0), (right / "checkpoint.pt", 1.0)])
    a, b = weights(left), weights(right)
    assert any(not torch.equal(a[name], b[name]) for name in a)
    for name, tensor in model.state_dict().items():
        expected = 0.75 * a[name].double() + 0.25 * b[name].double()
        torch.testing.assert_close(tensor, expected.float(), rtol=0, atol=1e-7)
    assert [note["share"] for note in notes] == [0.75, 0.25]
    assert [(note["seed"], note["steps"]) for note in notes] == [(6, 2), (7, 2)]


def test_runs_of_another_kind_are_refused(runs, small, planes, tmp_path):
    start = runs[0]
    unfolded = tmp_path / "unfolded"
    config = small(steps=1, stage="pixel", tau=0.5)
    Trainer(initial_model(config), config, unfolded).run(planes(config))
    with pytest.raises(CheckpointError, match="unfolded of another size"):
        average([(start, 1.0), (unfolded, 1.0)])
    with pytest.raises(CheckpointError, match="no file"):
        average([(start, 1.0), (tmp_path / "gone", 1.0)])
    with pytest.raises(ConfigError, match="at least one"):
        average([])


def test_a_run_and_the_file_that_it_began_with(runs, small, planes, tmp_path):
    file, run, mean = (tmp_path / name for name in ("a.safetensors", "run", "mean.safetensors"))
    assert main(["average", str(runs[1]), "--export", str(file), "--window", "3"]) == 0
    config = small(steps=2, stage="pixel", tau=0.0)
    Trainer(initial_model(config, file), config, run).run(planes(config))
    words = [f"{run}@0.7", f"{file}@0.3", "--export", str(mean), "--window", "3"]
    assert main(["average", *words]) == 0
    a, b = weights(run), initial_model(config, file).state_dict()
    model, _, notes = average([(run, 0.7), (file, 0.3)])
    for name, tensor in model.state_dict().items():
        expected = 0.7 * a[name].double() + 0.3 * b[name].double()
        torch.testing.assert_close(tensor, expected.float(), rtol=0, atol=1e-7)
    assert notes[1] == {"share": 0.3, "file": "a.safetensors"}
    assert load(RegressorConfig(weights=str(mean), device="cpu")).open(32, 48).next_group == 1
    with pytest.raises(ConfigError, match="in the first place"):
        average([(file, 0.3), (run, 0.7)])
    with pytest.raises(CheckpointError, match=r"gone\.safetensors"):
        average([(run, 0.7), (tmp_path / "gone.safetensors", 0.3)])


def test_encoders_of_both_kinds_are_averaged_only_when_one_is_chosen(
    runs, small, planes, tmp_path
):
    start, left, _ = runs
    image = tmp_path / "image"
    config = small(steps=1, stage="pixel", tau=0.0, encoder="image")
    Trainer(initial_model(config, start), config, image).run(planes(config))
    with pytest.raises(ConfigError, match="--encoder"):
        average([(left, 1.0), (image, 1.0)])
    model, *_ = average([(left, 1.0), (image, 1.0)], encoder="image")
    assert model.size.vae.image_encoder
    older = model.vae.encoder.conv1.weight[:, :, :-1]
    assert not older.any()


def test_the_command_writes_a_file_that_loads_and_says_what_it_is(runs, tmp_path, capsys):
    _, left, right = runs
    out = tmp_path / "mean.safetensors"
    words = [f"{left}@3", f"{right}", "--export", str(out), "--window", "3", "--name", "mine"]
    assert main(["average", *words]) == 0
    assert "exported" in capsys.readouterr().out
    info, _, transformer = load_folded(out, torch.device("cpu"), torch.float32)
    assert (info.name, info.window, info.box) == ("mine", 3, (32, 48))
    assert [part["share"] for part in json.loads(info.notes)["average"]] == [0.75, 0.25]
    model, *_ = average([(left, 3.0), (right, 1.0)])
    mean = model.transformer.state_dict()
    for name, tensor in transformer.state_dict().items():
        torch.testing.assert_close(tensor, mean[name], rtol=1e-3, atol=1e-6)
    session = load(RegressorConfig(weights=str(out), device="cpu")).open(32, 48)
    assert session.push(torch.rand(1, 3, 32, 48), 0).disparity.shape == (1, 32, 48)


@pytest.mark.parametrize(
    ("word", "path", "share"), [("runs/a", "runs/a", 1.0), ("runs/a@b@0.3", "runs/a@b", 0.3)]
)
def test_a_share_stands_after_the_last_at(word, path, share):
    assert (str(split_share(word)[0]), split_share(word)[1]) == (path, share)


@pytest.mark.parametrize("word", ["runs/a@", "runs/a@none", "runs/a@0", "runs/a@-1", "a@nan"])
def test_a_share_that_is_no_positive_number_is_named(word):
    with pytest.raises(ConfigError, match="positive number"):
        split_share(word)
