# SPDX-License-Identifier: Apache-2.0
"""An exported file, loaded by the regressor, gives what the training graph gave."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest
import torch
from rich.console import Console

from video_depth_ros.cli.train import add_export_arguments, write_export
from video_depth_ros.errors import CheckpointError, ConfigError
from video_depth_ros.regressors.registry import RegressorConfig, load
from video_depth_ros.regressors.wan.folded_file import load_folded
from video_depth_ros.training import checkpoint
from video_depth_ros.training.average import average
from video_depth_ros.training.export import export, folded_model, one_channel_vae
from video_depth_ros.training.initial import initial_model, trained_model
from video_depth_ros.training.loop import Trainer
from video_depth_ros.training.losses import pixel_loss, relative_weight
from video_depth_ros.training.origin import DVD, Origin
from video_depth_ros.training.stages import PixelStage, measure_latents


def _clip(frames, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(1, 3, frames, 32, 48, generator=generator)


@pytest.fixture
def model(small, planes):
    """A briefly trained tiny model, so that no weight is at a special value."""
    config = small(stage="pixel")
    model = initial_model(config)
    measure_latents(model, [planes(config)[0]])
    Trainer(model, config).run(planes(config), until=4)
    return model.eval()


def _export(model, path, dtype=torch.float32):
    export(
        model,
        path,
        name="tiny",
        licence="Apache-2.0",
        window=3,
        box=(32, 48),
        notes={"steps": 4},
        dtype=dtype,
    )


def test_folding_and_one_channel_are_exact(model):
    rgb = _clip(9)
    with torch.no_grad():
        expected = model(rgb)
        torch.testing.assert_close(folded_model(model).eval()(rgb), expected, rtol=0, atol=2e-5)
        latents = model.regress(model.encode(rgb))
        frames, _ = one_channel_vae(model.vae).decode(latents)
        assert frames.shape[1] == 1
        torch.testing.assert_close(frames[:, 0] * 0.5 + 0.5, expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("start", ["image", "anew"])
def test_a_session_on_the_exported_file_repeats_the_training_graph(model, tmp_path, start):
    path = tmp_path / "tiny.safetensors"
    _export(model, path)
    regressor = load(RegressorConfig(weights=str(path), device="cpu", window_start=start))
    assert (regressor.spec.licence, regressor.spec.box) == ("Apache-2.0", (32, 48))
    session = regressor.open(32, 48)
    rgb = _clip(13)
    pushed = [session.push(rgb[0].transpose(0, 1)[:1], 0)]
    for frame in (1, 5, 9):
        pushed.append(session.push(rgb[0].transpose(0, 1)[frame : frame + 4], 0))
    with torch.no_grad():
        # 9 frames fill the window of 3 latents from the start of the stream; the next push sees
        # the window that starts by the image latent of frame 4: its later latents are those of the
        # running stream, or the window is a clip of its own
        filled = model(rgb[:, :, :9]).clamp(0, 1)[0]
        whole = model(rgb[:, :, 4:]) if start == "anew" else model(rgb, first_group=1)
        slid = whole.clamp(0, 1)[0]
    assert filled.shape[0] == slid.shape[0] == 9
    for group, expected in ((pushed[2], filled), (pushed[3], slid)):
        torch.testing.assert_close(group.disparity[-4:], expected[-4:], rtol=0, atol=2e-5)


def test_half_precision_file_says_what_it_is(model, tmp_path):
    path = tmp_path / "half.safetensors"
    _export(model, path, torch.float16)
    info, vae, transformer = load_folded(path, torch.device("cpu"), torch.float32)
    assert (info.name, info.window, info.box) == ("tiny", 3, (32, 48))
    assert json.loads(info.notes) == {"steps": 4}
    assert info.size.vae.out_channels == 1
    rgb = _clip(5)
    with torch.no_grad():
        latents, _ = vae.encode(rgb * 2 - 1)
        frames, _ = vae.decode(transformer(latents))
        torch.testing.assert_close(frames[:, 0] * 0.5 + 0.5, model(rgb), rtol=0, atol=2e-2)


def test_stages_follow_each_other(small, planes, tmp_path):
    runs: dict[str, Path] = {}
    before = {"latent": "vae", "pixel": "latent"}
    for stage, tau in (("vae", 0.5), ("latent", 0.5), ("pixel", 0.0)):
        config = small(stage=stage, tau=tau, steps=2)
        start = runs[before[stage]] if stage in before else None
        trainer = Trainer(initial_model(config, start), config, tmp_path / stage)
        trainer.run(planes(config))
        runs[stage] = tmp_path / stage
    latent, _, _ = trained_model(runs["latent"])
    pixel = initial_model(small(stage="pixel", tau=0.0), runs["latent"])
    rgb = _clip(5)
    with torch.no_grad():
        torch.testing.assert_close(pixel(rgb), latent(rgb), rtol=0, atol=2e-5)
    path = tmp_path / "out.safetensors"
    _export(trained_model(runs["pixel"])[0], path)
    again = initial_model(small(stage="pixel", tau=0.0), path)
    assert all(p.requires_grad for p in again.parameters())
    with pytest.raises(ConfigError, match="3 channels"):
        initial_model(small(stage="vae", tau=0.0), path)
    with pytest.raises(ConfigError, match="tau"):
        initial_model(small(tau=0.5), path)
    with pytest.raises(ConfigError, match="folded"):
        initial_model(small(tau=0.5), runs["pixel"])
    with pytest.raises(CheckpointError, match="another size"):
        initial_model(small(size="nano"), runs["latent"])


def test_two_windows_of_a_long_clip_are_those_of_a_session(model, small, planes):
    config = small(stage="pixel", window=2, batch__image_share=0.0)
    batch = planes(config)[0]  # 5 frames are 2 latents: one window
    one, parts = PixelStage(model, config.loss, 2)(batch)
    assert "agree" not in parts
    long = planes(small(batch__image_share=0.0, batch__frames=5))[0]
    rgb = torch.cat([long.rgb, long.rgb[:, :4]], dim=1)  # 9 frames: 3 latents, two windows of 2
    clip = long._replace(
        rgb=rgb,
        target=torch.cat([long.target, long.target[:, :4]], dim=1),
        known=torch.cat([long.known, long.known[:, :4]], dim=1),
    )
    total, parts = PixelStage(model, config.loss, 2)(clip)
    images = clip.images(torch.device("cpu"))
    with torch.no_grad():
        first = model(images[:, :, :5])
        second = model(images, first_group=1)
    agree = (first[:, 4:] - second[:, :1]).abs().mean()
    assert float(parts["agree"].detach()) == pytest.approx(float(agree), rel=1e-4)
    halves = []
    for prediction, cut in ((first, slice(0, 5)), (second, slice(4, 9))):
        known = clip.known[:, cut]
        relative = relative_weight(clip.target[:, cut], clip.low, clip.high)
        halves.append(pixel_loss(prediction, clip.target[:, cut], known, relative)[1]["raw"])
    assert float(parts["raw"].detach()) == pytest.approx(float(sum(halves)) / 2, rel=1e-3)
    assert torch.isfinite(total) and torch.isfinite(one)


def _origin_after(small, planes, start, folder):
    config = small(stage="pixel", tau=0.0, steps=1, workers=0)
    Trainer(initial_model(config, start), config, folder).run(planes(config))
    return trained_model(folder)[0].origin


def test_name_and_licence_come_from_the_first_weights(model, small, planes, tmp_path):
    path, own = tmp_path / "theirs.safetensors", tmp_path / "own.safetensors"
    _export(model, own)
    terms = ("theirs", "CC-BY-NC-4.0")
    export(model, path, name=terms[0], licence=terms[1], window=3, box=(32, 48), notes={})
    assert _origin_after(small, planes, None, tmp_path / "random") == Origin()
    theirs = Origin(*terms)
    assert _origin_after(small, planes, path, tmp_path / "first") == theirs
    assert _origin_after(small, planes, tmp_path / "first", tmp_path / "second") == theirs
    config = small(stage="pixel", tau=0.0, steps=1)
    resumed = Trainer(initial_model(config, path), config)
    resumed.model.origin = Origin()
    resumed.resume(tmp_path / "second" / "checkpoint.pt")
    assert resumed.model.origin == theirs

    assert _origin_after(small, planes, own, tmp_path / "third") == Origin("tiny", "Apache-2.0")
    runs = [(tmp_path / "third", 1.0), (tmp_path / "second", 1.0)]
    with pytest.raises(ConfigError, match=r"CC-BY-NC-4.0 of .*second.*--licence"):
        average(runs)
    assert average(runs[1:]).model.origin == theirs
    average(runs, licence="CC-BY-NC-4.0")


@pytest.mark.parametrize(("size", "origin"), [("tiny", Origin()), ("dvd", DVD)])
def test_a_checkpoint_that_does_not_say_whose_weights_it_holds(small, size, origin):
    config = checkpoint.plain(small(size=size))
    old = checkpoint.Snapshot({}, {}, {}, 0, {}, config, [])
    assert checkpoint.origin_of(old) == origin


@pytest.mark.parametrize(
    ("words", "origin", "size", "said"),
    [
        ([], Origin(), "nano", ("nano", "Apache-2.0")),
        ([], Origin(), "tiny", ("tiny", "Apache-2.0")),
        ([], DVD, "dvd", ("dvd", "CC-BY-NC-4.0")),
        (["--name", "mine"], DVD, "dvd", ("mine", "CC-BY-NC-4.0")),
        (["--licence", "MIT"], DVD, "dvd", ("dvd", "MIT")),
    ],
)
def test_an_export_says_what_it_inherited_unless_told(
    small, model, tmp_path, words, origin, size, said
):
    parser = argparse.ArgumentParser()
    add_export_arguments(parser, required=True)
    args = parser.parse_args(["--export", str(tmp_path / "out.safetensors"), *words])
    model.origin = origin
    write_export(args, small(size=size), model, {}, Console(quiet=True))
    info = load_folded(args.export, torch.device("cpu"), torch.float32)[0]
    assert (info.name, info.licence) == said
