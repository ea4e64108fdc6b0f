# SPDX-License-Identifier: Apache-2.0
"""``video_depth train`` from the command line."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import torch

from video_depth_ros.cli.main import main
from video_depth_ros.regressors.registry import RegressorConfig, load
from video_depth_ros.training.batches import BatchSource
from video_depth_ros.training.clips import Clip, save_clip
from video_depth_ros.training.config import TrainConfig
from video_depth_ros.training.initial import trained_model
from video_depth_ros.training.sources import SavedClips

from .conftest import Planes

TINY = [
    "--size", "tiny", "--set", "steps=4", "workers=0", "batch.images=2", "batch.videos=1",
    "batch.frames=5", "batch.heights=[32]", "batch.widths=[48]", "optimiser.rate=1e-3",
]  # fmt: skip


@pytest.fixture
def clips(tmp_path):
    folder = tmp_path / "clips"
    for index in range(3):
        save_clip(folder / f"clip_{index:06d}.npz", Planes().clip(index))
    return f"cache:{folder}"


def test_stages_resume_and_export(clips, tmp_path, capsys):
    first, second = tmp_path / "latent", tmp_path / "pixel"
    assert main(["train", "--stage", "latent", "--out", str(first), "--data", clips, *TINY]) == 0
    out = tmp_path / "tiny.safetensors"
    pixel = ["train", "--stage", "pixel", "--out", str(second), "--data", clips, *TINY, "tau=0"]
    export = ["--export", str(out), "--name", "mine", "--box", "32", "48", "--window", "3"]
    assert main([*pixel, "--init", str(first), *export]) == 0
    assert "exported" in capsys.readouterr().out

    log = [json.loads(line) for line in (second / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in log] == [1, 2, 3, 4]
    image = cv2.imread(str(second / "loss.png"))
    assert image is not None and image.shape[1] > 400 and len(np.unique(image)) > 10

    session = load(RegressorConfig(weights=str(out), device="cpu")).open(32, 48)
    assert session.next_group == 1

    assert main([*pixel]) == 2  # would overwrite a run
    assert "--resume" in capsys.readouterr().err
    assert main([*pixel, "--resume", "--set", *TINY[3:], "tau=0", "steps=6"]) == 0
    log = (second / "log.jsonl").read_text().splitlines()
    assert len(log) == 6


def test_log_and_curve_are_there_beside_every_checkpoint(clips, tmp_path, monkeypatch):
    """A run that is watched, or killed, has them as far as its checkpoint."""
    from video_depth_ros.training import curves

    written, write = [], curves.write_log

    def seen(path, history):
        written.append((path.name, len(history), path.with_name("checkpoint.pt").exists()))
        write(path, history)

    monkeypatch.setattr(curves, "write_log", seen)
    out = tmp_path / "run"
    pixel = ["train", "--stage", "pixel", "--out", str(out), "--data", clips, *TINY, "tau=0"]
    assert main([*pixel, "save_every=2"]) == 0
    assert written == [("log.jsonl", 2, True), ("log.jsonl", 4, True)]


def test_a_run_that_started_from_an_exported_file_goes_on_without_it(clips, tmp_path):
    first, second, out = tmp_path / "first", tmp_path / "second", tmp_path / "tiny.safetensors"
    pixel = ["train", "--stage", "pixel", "--data", clips, *TINY, "tau=0"]
    assert main([*pixel, "--out", str(first), "--export", str(out), "--box", "32", "48"]) == 0
    assert main([*pixel, "--out", str(second), "--init", str(out)]) == 0  # one output channel
    go_on = ["--out", str(second), "--resume", "--set", *TINY[3:], "tau=0", "steps=6"]
    assert main([*pixel, *go_on]) == 0
    assert len((second / "log.jsonl").read_text().splitlines()) == 6


def test_the_vae_stage_leaves_latents_of_unit_size(clips, tmp_path):
    out = tmp_path / "vae"
    assert main(["train", "--stage", "vae", "--out", str(out), "--data", clips, *TINY]) == 0
    model, config, _ = trained_model(out)
    batch = BatchSource((Planes(),), (1.0,), config.batch, 99)[0]  # same kind of data, other clips
    assert not torch.equal(model.vae.latent_std, torch.ones_like(model.vae.latent_std))
    with torch.no_grad():
        latents = model.encode(batch.images(torch.device("cpu")))
    assert 0.3 < float(latents.std()) < 3.0


def test_bad_input_is_one_clear_line(clips, tmp_path, capsys):
    out = ["--out", str(tmp_path / "x"), "--data", clips]
    for words, said in (
        (["--set", "stepz=3"], "did you mean steps"),
        (["--set", "steps=many"], "expected int"),
        (["--set", "steps"], "NAME=VALUE"),
        (["--init", str(tmp_path / "none.pt")], "no file"),
        (["--config", str(tmp_path / "none.yaml")], "YAML"),
        (["--data", "nowhere"], "expected one of simulated"),
    ):
        assert main(["train", *out, *words]) == 2
        err = capsys.readouterr().err
        assert said in err and "Traceback" not in err
    assert main(["train"]) == 2
    assert not (tmp_path / "x").exists()


def test_what_could_not_be_kept_or_used_is_refused_before_the_work(clips, tmp_path, capsys):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    file, folder = str(tmp_path / "file"), str(tmp_path / "folder")
    run = ["train", "--stage", "pixel", "--data", clips, *TINY, "tau=0"]
    out = ["--out", str(tmp_path / "x")]
    export = [*out, "--export", str(tmp_path / "y")]
    for words, said in (
        (["--out", file], "is no folder"),
        ([*out, "--cache", file], "is no folder"),
        ([*out, "--export", folder], "is a folder"),
        ([*out, "--export", str(tmp_path / "file" / "y")], "is no folder"),
        ([*out, "--export", str(tmp_path / "x" / "checkpoint.pt")], "is an input"),
        ([*export, "--window", "1"], "--window: expected 2 to 21"),
        ([*export, "--window", "99"], "--window: expected 2 to 21"),
        ([*export, "--box", "-48", "64"], "--box: expected"),
    ):
        assert main([*run, *words]) == 2
        err = capsys.readouterr().err
        assert said in err and "Traceback" not in err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["clips", "file", "folder"]


def test_a_mean_does_not_take_the_place_of_a_run(clips, tmp_path, capsys):
    place = tmp_path / "run" / "checkpoint.pt"
    pixel = ["train", "--stage", "pixel", "--data", clips, *TINY, "tau=0"]
    assert main([*pixel, "--out", str(tmp_path / "run")]) == 0
    before = place.read_bytes()
    words = [str(tmp_path / "run"), f"{place}@0.5", "--export", str(place)]
    assert main(["average", *words]) == 2
    assert "is an input" in capsys.readouterr().err
    assert place.read_bytes() == before


def test_list_names_every_setting(capsys):
    assert main(["train", "--list"]) == 0
    out = capsys.readouterr().out
    for name in ("tau = 0.5", "batch.augment.crop = ", "optimiser.rate = 0.0001"):
        assert name in out
    assert TrainConfig().loss.lmr == 0.5


def test_saved_clips_know_their_length(tmp_path):
    path = tmp_path / "clip_000000.npz"
    save_clip(path, Clip(np.zeros((3, 4, 4, 3), np.uint8), np.ones((3, 4, 4), np.float32)))
    assert SavedClips((path,), 3).clip(5).rgb.shape[0] == 3
