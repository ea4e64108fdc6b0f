# SPDX-License-Identifier: Apache-2.0
"""The loop: same seed same curve, killed runs resume to the same bits, processes end."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from video_depth_ros.errors import (
    CheckpointError,
    ConfigError,
    InputError,
    RecordingError,
    RegressorError,
)
from video_depth_ros.training import checkpoint
from video_depth_ros.training.batches import open_batches
from video_depth_ros.training.initial import initial_model, trained_model
from video_depth_ros.training.loop import Trainer, rate_at

from .conftest import Planes, needs_muon

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _losses(history):
    return [entry["loss"] for entry in history]


def _same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


@pytest.mark.parametrize("stage", ["vae", "latent", "pixel"])
def test_same_seed_same_curve_and_it_falls(small, planes, stage):
    config = small(stage=stage, steps=50 if stage == "latent" else 16, save_every=1000)
    runs = [Trainer(initial_model(config), config).run(planes(config)) for _ in range(2)]
    assert _losses(runs[0]) == _losses(runs[1])
    other = small(stage=stage, steps=2, save_every=1000, seed=6)
    assert _losses(Trainer(initial_model(other), other).run(planes(other))) != _losses(runs[0])[:2]
    videos = [e["loss"] for e in runs[0] if e["frames"] > 1]
    assert videos and len(videos) < len(runs[0])  # images and videos in one run
    quarter = len(runs[0]) // 4
    assert sum(_losses(runs[0])[-quarter:]) < sum(_losses(runs[0])[:quarter])


@pytest.mark.parametrize(
    ("stage", "name"),
    [("vae", "adamw"), ("pixel", "adamw"), pytest.param("pixel", "muon", marks=needs_muon)],
)
def test_a_stopped_run_resumes_to_the_same_bits(small, planes, stage, name, tmp_path):
    config = small(stage=stage, optimiser__name=name)
    whole = Trainer(initial_model(config), config, tmp_path / "whole")
    whole.run(planes(config))

    first = Trainer(initial_model(config), config, tmp_path / "cut")
    first.run(planes(config), until=7)  # the checkpoint is from step 7: the last of this part
    second = Trainer(initial_model(config), config, tmp_path / "cut")
    torch.manual_seed(999)  # as in another process
    second.resume(tmp_path / "cut" / checkpoint.NAME)
    assert second.step == 7
    second.run(planes(config))

    a, b = (checkpoint.load(tmp_path / n / checkpoint.NAME) for n in ("whole", "cut"))
    _same(a.model, b.model)
    _same(a.ema["average"], b.ema["average"])
    for part, other in zip(a.optimiser["parts"], b.optimiser["parts"], strict=True):
        for index, state in part["state"].items():
            _same(state, other["state"][index])
    assert _losses(a.history) == _losses(b.history)
    assert torch.equal(a.random["cpu"], b.random["cpu"])


RUN = """
import sys; sys.path[:0] = [{repository!r}, {repository!r} + "/test/training"]
from pathlib import Path
import torch
torch.set_num_threads(1)
from conftest import SMALL, Planes
from video_depth_ros.settings import replace_flat
from video_depth_ros.training.batches import BatchSource
from video_depth_ros.training.config import TrainConfig
from video_depth_ros.training.initial import initial_model
from video_depth_ros.training.loop import Trainer
config = replace_flat(TrainConfig(), {{**SMALL, "workers": 2}})
trainer = Trainer(initial_model(config), config, Path({folder!r}))
data = BatchSource((Planes(),), (1.0,), config.batch, config.seed)
trainer.run(data, lambda log: print(int(log["step"]), flush=True))
"""


def test_a_killed_process_leaves_a_whole_checkpoint_to_go_on_from(small, planes, tmp_path):
    code = RUN.format(repository=str(REPOSITORY), folder=str(tmp_path))
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) == 6:  # after the checkpoint of step 4
            os.kill(process.pid, signal.SIGKILL)
            break
    process.stdout.close()
    assert process.wait() == -signal.SIGKILL

    config = small()
    resumed = Trainer(initial_model(config), config, tmp_path)
    resumed.resume(tmp_path / checkpoint.NAME)
    assert resumed.step >= 4
    resumed.run(planes(config))
    whole = Trainer(initial_model(config), config)
    whole.run(planes(config))
    assert _losses(resumed.history) == _losses(whole.history)
    _same(resumed.model.state_dict(), whole.model.state_dict())


def test_batches_do_not_depend_on_the_number_of_workers(small, planes):
    config = small()
    seen = []
    for workers in (0, 2):
        with open_batches(planes(config), 3, 9, workers) as batches:
            seen.append(list(batches))
    for a, b in zip(*seen, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_workers_end_even_when_training_fails(small, planes):
    config = small()
    before = set(multiprocessing.active_children())
    with (
        pytest.raises(KeyError),
        open_batches(planes(config), 0, 1000, workers=2) as batches,
    ):
        next(batches)
        assert len(set(multiprocessing.active_children()) - before) == 2
        raise KeyError("as a failing step would")
    assert set(multiprocessing.active_children()) == before


def test_ranks_train_on_the_same_kind_but_other_clips(small, planes):
    config = small()
    a, b = (planes(config, rank=r, ranks=2) for r in (0, 1))
    for step in range(6):
        assert a[step].rgb.shape == b[step].rgb.shape
        assert not torch.equal(a[step].rgb, b[step].rgb)


def test_a_loss_that_is_not_finite_stops_and_keeps_the_checkpoint(small, planes, tmp_path):
    config = small(optimiser__rate=1e30, optimiser__clip=0.0)
    trainer = Trainer(initial_model(config), config, tmp_path)
    trainer.save(tmp_path / checkpoint.NAME)
    with pytest.raises(RegressorError, match="finite loss"):
        trainer.run(planes(config))
    kept = checkpoint.load(tmp_path / checkpoint.NAME)
    assert all(torch.isfinite(v).all() for v in kept.model.values())


def test_a_gradient_that_is_not_finite_stops_before_the_step(small, planes, tmp_path):
    config = small()
    trainer = Trainer(initial_model(config), config, tmp_path)
    trainer.run(planes(config), until=2)
    before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    trainer.parameters[-1].register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(RegressorError, match=r"finite gradient.*step 2"):
        trainer.run(planes(config))
    _same(trainer.model.state_dict(), before)
    assert trainer.step == len(trainer.history) == 2
    _same(checkpoint.load(tmp_path / checkpoint.NAME).model, before)


@pytest.mark.parametrize("workers", [0, 1])
def test_errors_of_the_data_arrive_as_themselves(small, planes, monkeypatch, workers):
    config = small()
    for raised in (
        InputError("truncated", "expected a clip, got half of one"),
        RecordingError("expected depth at x.npy, got nothing"),
    ):

        def broken(self, index, raised=raised):
            raise raised

        with monkeypatch.context() as patched:
            patched.setattr(Planes, "clip", broken)
            with (
                pytest.raises(type(raised)) as caught,
                open_batches(planes(config), 0, 3, workers) as batches,
            ):
                next(batches)
        assert str(caught.value) == str(raised)  # no traceback of the worker in it
        assert vars(caught.value) == vars(raised)


def test_schedule(small):
    config = small(
        steps=100, optimiser__schedule="cosine", optimiser__warmup=10, optimiser__rate=1.0
    )
    rates = [rate_at(config, step) for step in range(101)]
    assert rates[0] == pytest.approx(0.1, rel=1e-2)
    assert max(rates) == rates[9] or max(rates) == rates[10]
    assert rates[100] == pytest.approx(0.05)
    assert rate_at(small(optimiser__rate=0.3), 77) == 0.3


def test_checkpointing_does_not_change_the_gradient(small, planes):
    plain, saving = (
        small(stage="pixel", steps=3),
        small(stage="pixel", steps=3, checkpointing=True),
    )
    a = Trainer(initial_model(plain), plain).run(planes(plain))
    b = Trainer(initial_model(saving), saving).run(planes(saving))
    assert _losses(a) == pytest.approx(_losses(b), rel=1e-6)


def test_accumulation_gives_the_mean_gradient_of_its_micro_batches(small, planes):
    config = small(
        stage="pixel", batch__image_share=0.0, optimiser__accumulate=2, optimiser__clip=0.0
    )
    data = planes(config)
    twice = Trainer(initial_model(config), config)
    (log,) = twice.run(data, until=1)

    plain = Trainer(initial_model(config), config)
    losses = []
    for number in range(2):  # the gradients add up
        loss, _ = plain._forward(plain.stage, data[number])
        loss.backward()
        losses.append(float(loss.detach()))
    assert losses[0] != losses[1]
    assert log["loss"] == pytest.approx(sum(losses) / 2, rel=1e-6)
    for p, q in zip(twice.parameters, plain.parameters, strict=True):
        if q.grad is None:
            assert p.grad is None
        else:
            assert p.grad is not None
            torch.testing.assert_close(p.grad, q.grad / 2, rtol=1e-4, atol=1e-7)


def test_average_is_what_is_exported(small, planes, tmp_path):
    config = small(optimiser__ema=0.5)
    trainer = Trainer(initial_model(config), config, tmp_path)
    trainer.run(planes(config))
    model, read, steps = trained_model(tmp_path)
    assert (read, steps) == (config, 12)
    name = "transformer.blocks.0.ffn.0.weight"
    assert trainer.ema is not None
    assert torch.equal(model.state_dict()[name], trainer.ema.average[name])
    assert not torch.equal(model.state_dict()[name], trainer.model.state_dict()[name])


def test_bad_checkpoints_and_data(small, planes, tmp_path):
    config = small()
    trainer = Trainer(initial_model(config), config)
    with pytest.raises(CheckpointError, match="no file"):
        trainer.resume(tmp_path / "none.pt")
    broken = tmp_path / "broken.pt"
    trainer.save(broken)
    broken.write_bytes(broken.read_bytes()[:2000])
    with pytest.raises(CheckpointError, match="cannot be read"):
        trainer.resume(broken)
    folded = small(tau=0.0)
    trainer.save(tmp_path / "whole.pt")
    with pytest.raises(CheckpointError, match="names or shapes"):
        Trainer(initial_model(folded), folded).resume(tmp_path / "whole.pt", force=True)
    with pytest.raises(ConfigError, match=r"clips of 9 frames"):
        planes(small(batch__frames=9))


def test_data_without_depth_is_an_error_not_an_endless_search(small, planes, monkeypatch):
    config = small()
    source = planes(config)
    clip = source.sources[0].clip(0)
    monkeypatch.setattr(
        type(source.sources[0]),
        "clip",
        lambda self, i: clip._replace(depth=clip.depth * float("nan")),
    )
    with pytest.raises(InputError, match="no usable depth"):
        source[0]
