# SPDX-License-Identifier: Apache-2.0
"""The ablation: its command end to end, resumption, its variants and what it measures."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from video_depth_ros.settings import replace_flat
from video_depth_ros.training.ablation import (
    COLUMNS,
    RECIPE,
    VARIANTS,
    main,
    starting_model,
    table,
)
from video_depth_ros.training.ablation_measures import clip_figures, measure, ramp
from video_depth_ros.training.batches import BatchSource
from video_depth_ros.training.clips import Clip, save_clip
from video_depth_ros.training.config import TrainConfig
from video_depth_ros.training.initial import initial_model
from video_depth_ros.training.latents import make_latents, train_on_latents

from .conftest import Planes


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The words of a small study and its folder, run once for full and for tau none."""
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("torch has Muon since 2.9")
    root = tmp_path_factory.mktemp("ablation")
    for name, first, count in (("train", 0, 4), ("held", 100, 2)):
        for index in range(count):
            save_clip(root / name / f"clip_{index:06d}.npz", Planes(9).clip(first + index))
    out = root / "out"
    words = [
        "--out", str(out), "--data", f"cache:{root / 'train'}", "--heldout", str(root / "held"),
        "--size", "tiny", "--vae-steps", "2", "--steps", "2", "--latents", "4", "4",
        "--seeds", "1",
    ]  # fmt: skip
    assert main([*words, "--variants", "full", "tau_none"]) == 0
    return words, out


def test_command_writes_a_table_of_every_variant_and_reference(study, capsys):
    words, out = study
    assert main([*words, "--seeds", "2"]) == 0
    text = (out / "ablation.md").read_text(encoding="utf-8")
    assert text in capsys.readouterr().out
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert [name in rows[0] for name in COLUMNS.values()] == [True] * len(COLUMNS)
    titles = [row.split("|")[1].strip() for row in rows[2:]]
    assert titles[: len(VARIANTS)] == [variant.title for variant in VARIANTS]
    assert titles[len(VARIANTS) :] == ["truth through the VAE", "best ramp (knows nothing)"]
    assert rows[2].count("±") == len(COLUMNS)  # two seeds
    result = json.loads((out / "ablation.json").read_text(encoding="utf-8"))
    for runs in result["variants"].values():
        assert len(runs) == 2
        assert all(np.isfinite(run[name]) for run in runs for name in COLUMNS)
    # planes are what the ramp can nearly draw, a network of two steps cannot
    full = result["variants"][VARIANTS[0].title][0]
    assert result["references"]["best ramp (knows nothing)"]["abs_rel"] < full["abs_rel"]


def test_a_finished_variant_is_not_run_again(study, capsys):
    words, out = study
    path = out / "full_0.json"
    stored = json.loads(path.read_text(encoding="utf-8"))
    stored["figures"]["abs_rel"] = 12.25
    path.write_text(json.dumps(stored), encoding="utf-8")
    assert main([*words, "--variants", "full"]) == 0
    assert "| 12.250 |" in capsys.readouterr().out
    path.unlink()
    assert main([*words, "--variants", "full"]) == 0
    assert "12.250" not in capsys.readouterr().out


def test_other_settings_do_not_mix(study, capsys):
    words, _ = study
    assert main([*words, "--steps", "3", "--variants", "full"]) == 2
    assert main([*words, "--vae-steps", "3", "--variants", "full"]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2 and all("name another --out" in line for line in errors)


def test_variants_start_from_the_same_function_and_weights():
    base = replace_flat(TrainConfig(), {**RECIPE, "size": "tiny"})
    vae = initial_model(base)
    latents = torch.randn(2, 4, 3, 4, 6, generator=torch.Generator().manual_seed(1))
    models = {
        variant.name: starting_model(replace_flat(base, dict(variant.changes)), base, vae)
        for variant in VARIANTS
    }
    outputs = {name: model.eval().regress(latents).detach() for name, model in models.items()}
    torch.testing.assert_close(outputs["tau_none"], outputs["full"], rtol=1e-4, atol=1e-5)
    assert torch.equal(outputs["no_lmr"], outputs["full"])
    assert not torch.allclose(outputs["tau_0.3"], outputs["full"], atol=1e-4)
    weights = models["full"].transformer.state_dict()
    for name, value in models["tau_0.7"].transformer.state_dict().items():
        assert torch.equal(value, weights[name])


def test_training_on_latents_is_reproducible_learns_and_leaves_the_vae(small):
    config = replace_flat(small(steps=30, optimiser__rate=3e-3), {"optimiser.ema": 0.9})
    vae = initial_model(config)
    data = BatchSource((Planes(),), (1.0,), config.batch, config.seed)
    latents = make_latents(vae, data, 5, 3)
    assert latents.images.rgb.shape == (6, 4, 1, 2, 3)  # whole batches of two
    assert latents.videos.depth.shape == (3, 4, 2, 2, 3)

    def trained():
        model = starting_model(config, config, vae)
        losses = []
        average = train_on_latents(
            model, replace_flat(config, {"log_every": 1}), latents, lambda _, x: losses.append(x)
        )
        return model, average, losses

    model, average, losses = trained()
    again, _, same = trained()
    assert losses == same and len(losses) == 30
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:5])
    for name, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
    for name, value in model.vae.state_dict().items():
        assert torch.equal(value, vae.vae.state_dict()[name])
    assert set(average.average) == {
        f"transformer.{n}" for n, _ in model.transformer.named_parameters()
    }


def _steps(frames=5):
    """A near and a far half behind each other, still, with texture."""
    depth = np.full((frames, 32, 48), 4.0, np.float32)
    depth[:, :, 24:] = 2.0
    rgb = np.random.default_rng(0).integers(0, 255, (1, 32, 48, 3), dtype=np.uint8)
    return Clip(np.repeat(rgb, frames, axis=0), depth)


def test_exact_prediction_has_no_error_however_scaled():
    clip = _steps()
    figures = clip_figures(3.0 + 7.0 / clip.depth, clip)
    assert figures["boundary_f1"] == pytest.approx(1.0) and figures["delta1"] == 1.0
    for name in ("abs_rel", "gradient", "flicker", "temporal_difference"):
        assert figures[name] == pytest.approx(0.0, abs=1e-6)


def test_flat_and_flickering_predictions_are_told_apart():
    clip = _steps()
    flat = clip_figures(np.ones_like(clip.depth), clip)
    assert flat["gradient"] == pytest.approx(1.0) and flat["flicker"] == pytest.approx(0.0)
    assert flat["boundary_f1"] == 0.0
    swing = np.where(np.arange(5) % 2, 1.1, 0.9)[:, None, None]
    flickering = clip_figures(swing / clip.depth, clip)
    # ln 1.1/0.9 = 0.2007 before the fit's shift, which changes it a little
    assert flickering["flicker"] == pytest.approx(0.2, abs=0.04)
    assert flickering["temporal_difference"] == pytest.approx(0.2, abs=0.05)
    assert flickering["gradient"] == pytest.approx(0.1, abs=0.03)
    assert flickering["boundary_f1"] == pytest.approx(1.0)


def test_measure_takes_the_mean_over_clips():
    class Held(Planes):
        def clip(self, index):
            return _steps() if index else super().clip(index)

    several = measure(ramp, Held(5, 2), 3, (32, 48))
    alone = measure(ramp, Held(5, 1), 3, (32, 48))
    assert several["abs_rel"] > alone["abs_rel"] > 0


def test_table_shows_missing_figures_as_such():
    text = table({"one": [{"abs_rel": 0.5}, {"abs_rel": 0.7}]}, {"known": {"delta1": 0.25}})
    assert "| one | 0.600 ± 0.100 | - |" in text
    assert "| known | - | 0.250 | - |" in text
