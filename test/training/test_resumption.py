# SPDX-License-Identifier: Apache-2.0
"""Going on with a run: with its own settings, or by force with others."""

from __future__ import annotations

import json

import pytest
import torch

from video_depth_ros.cli.main import main
from video_depth_ros.cli.train import EXAMPLES
from video_depth_ros.errors import CheckpointError, ConfigError
from video_depth_ros.settings import leaves, replace_flat
from video_depth_ros.training import checkpoint
from video_depth_ros.training.clips import save_clip
from video_depth_ros.training.config import DataConfig, TrainConfig
from video_depth_ros.training.ema import Ema
from video_depth_ros.training.initial import initial_model
from video_depth_ros.training.loop import Ranks, Trainer
from video_depth_ros.training.resumption import FREE, FREE_DATA

from .conftest import Planes

SETTINGS = [
    "steps=4", "workers=0", "batch.images=2", "batch.videos=1", "batch.frames=5", "tau=0",
    "batch.heights=[32]", "batch.widths=[48]", "optimiser.rate=1e-3", "save_every=1",
]  # fmt: skip


@pytest.fixture
def words(tmp_path):
    """The command of a small pixel run in ``tmp_path / run``, without its steps."""
    for index in range(3):
        save_clip(tmp_path / "clips" / f"clip_{index:06d}.npz", Planes().clip(index))
    start = ["train", "--stage", "pixel", "--size", "tiny", "--data", f"cache:{tmp_path}/clips"]
    return [*start, "--frames", "7", "--set", *SETTINGS]


def _losses(folder):
    return [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]


def test_resume_and_the_folder_are_enough(words, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert main([*words, "steps=6", "--out", str(whole)]) == 0
    assert main([*words, "--out", str(cut)]) == 0
    go_on = ["train", "--out", str(cut), "--resume"]
    assert "video_depth train --out runs/pixel --resume\n" in EXAMPLES
    assert main(go_on) == 0  # finished: nothing left to do
    assert len(_losses(cut)) == 4
    assert main([*go_on, "--set", "steps=6"]) == 0
    assert _losses(cut) == _losses(whole)
    a, b = (checkpoint.load(folder / checkpoint.NAME) for folder in (whole, cut))
    assert (a.config, a.data) == (b.config, b.data)
    assert b.data is not None and b.data["frames"] == 7
    for name, tensor in a.model.items():
        assert torch.equal(tensor, b.model[name]), name


def test_changes_of_what_a_step_does_are_refused_unless_forced(words, tmp_path, capsys):
    out = tmp_path / "run"
    assert main([*words, "--out", str(out)]) == 0
    go_on = ["train", "--out", str(out), "--resume"]
    stored = (out / checkpoint.NAME).read_bytes()
    for changed, said in (
        (["--set", "batch.videos=2"], "batch.videos: expected 1, got 2"),
        (["--set", "precision=bfloat16"], "precision: expected 'float32', got 'bfloat16'"),
        (["--set", "tau=0.5"], "tau: expected 0.0, got 0.5"),
        (["--stage", "latent"], "stage: expected 'pixel', got 'latent'"),
        (["--frames", "5"], "frames: expected 7, got 5"),
        (["--data", "simulated"], "got ('simulated',)"),
    ):
        assert main([*go_on, *changed]) == 2
        err = capsys.readouterr().err
        assert said in err and "--force" in err and "Traceback" not in err
    assert (out / checkpoint.NAME).read_bytes() == stored
    forced = ["--force", "--set", "batch.videos=2", "steps=5", "optimiser.weight_decay=0.5"]
    assert main([*go_on, *forced]) == 0
    after = checkpoint.load(out / checkpoint.NAME)
    assert (after.step, after.config["batch"]["videos"]) == (5, 2)
    groups = [g for part in after.optimiser["parts"] for g in part["param_groups"]]
    assert {g["weight_decay"] for g in groups} == {0.5}


def test_a_checkpoint_of_before_says_no_data_and_asks_for_it(words, tmp_path, capsys):
    out = tmp_path / "run"
    assert main([*words, "--out", str(out)]) == 0
    content = torch.load(out / checkpoint.NAME, weights_only=True)
    for name in ("data", "ranks"):
        del content[name]
    torch.save(content, out / checkpoint.NAME)
    go_on = ["train", "--out", str(out), "--resume", "--set", "steps=5"]
    assert main(go_on) == 2
    assert "expected --data" in capsys.readouterr().err
    assert main([*go_on, "--data", f"cache:{tmp_path}/clips", "--frames", "7"]) == 0
    assert len(_losses(out)) == 5


def test_bad_words_are_one_clear_line(words, tmp_path, capsys):
    bad = tmp_path / "bad.yaml"
    bad.write_text("- stage\n", encoding="utf-8")
    for changed, said in (
        (["--out", str(tmp_path / "none"), "--resume"], "no file"),
        (["--out", str(tmp_path / "x"), "--set", "batch.heights=[30"], "expected YAML"),
        (["--out", str(tmp_path / "x"), "--config", str(bad)], "names with values"),
        (["--out", str(tmp_path / "x"), "--frames", "0"], "frames: expected 1"),
    ):
        assert main([*words, *changed]) == 2
        err = capsys.readouterr().err
        assert said in err and "Traceback" not in err


def test_the_trainer_itself_looks_at_settings_data_and_processes(small, planes, tmp_path):
    config, data = small(), DataConfig(data=("cache:a",), frames=7)
    path = tmp_path / "checkpoint.pt"
    first = Trainer(initial_model(config), config, data=data)
    first.run(planes(config), until=1)
    first.save(path)

    def going_on(config, data=data, **ranks):
        return Trainer(initial_model(config), config, ranks=Ranks(**ranks), data=data)

    faster = small(optimiser__rate=0.1, batch__image_share=0.25)
    with pytest.raises(ConfigError, match=r"optimiser.rate: expected 0.001, got 0.1; batch.image"):
        going_on(faster).resume(path)
    other = DataConfig(data=("cache:b",), frames=7)
    with pytest.raises(ConfigError, match=r"expected \('cache:a',\), got \('cache:b',\)"):
        going_on(config, other).resume(path)
    with pytest.raises(ConfigError, match=r"processes it began with: expected 1, got 2"):
        going_on(config, count=2).resume(path)
    for trainer in (going_on(faster, other, count=2), going_on(config, None)):
        trainer.resume(path, force=trainer.data is other)
        assert trainer.step == 1


def test_free_settings_exist_and_may_change(small, planes, tmp_path):
    assert set(FREE) < {leaf.name for leaf in leaves(TrainConfig())}
    assert set(FREE_DATA) < {leaf.name for leaf in leaves(DataConfig())}
    config, path = small(), tmp_path / "checkpoint.pt"
    Trainer(initial_model(config), config, data=DataConfig()).save(path)
    changed = replace_flat(config, {"steps": 99, "device": "cpu", "checkpointing": True,
        "workers": 3, "log_every": 3, "save_every": 3, "validate_every": 3})  # fmt: skip
    moved = DataConfig(cache="elsewhere", heldout=3)
    Trainer(initial_model(changed), changed, data=moved).resume(path)


def test_averages_are_copied_into_the_ones_there_are(small):
    model = initial_model(small())
    stored, ema = Ema(model, 0.9), Ema(model, 0.9)
    stored.updates = 7
    for tensor in stored.average.values():
        tensor += 1.0
    kept = dict(ema.average)
    ema.load(stored.state())
    assert ema.updates == 7
    for name, tensor in kept.items():
        # the tensors of before, on their own device; only what they hold is new
        assert ema.average[name] is tensor
        assert ema.average[name] is not stored.average[name]
        assert torch.equal(tensor, stored.average[name])
    name = next(iter(kept))
    for wrong in (
        {n: t for n, t in kept.items() if n != name},
        {**kept, "another.weight": torch.zeros(1)},
        {**kept, name: torch.zeros(1)},
    ):
        with pytest.raises(CheckpointError, match="1 names or shapes differ"):
            ema.load({"updates": 1, "average": wrong})
    assert ema.updates == 7
