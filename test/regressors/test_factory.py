# SPDX-License-Identifier: Apache-2.0
"""Regressors by name and configuration."""

from __future__ import annotations

import argparse
import functools
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from video_depth_ros.cli import benchmark
from video_depth_ros.config import PipelineConfig
from video_depth_ros.errors import CheckpointError, ConfigError, InputError, RegressorError
from video_depth_ros.frames import Frame
from video_depth_ros.pipeline import DepthPipeline
from video_depth_ros.regressors import registry
from video_depth_ros.regressors.base import Regressor
from video_depth_ros.regressors.fidelity import affine_residual, compare
from video_depth_ros.regressors.registry import RegressorConfig
from video_depth_ros.regressors.wan import factory
from video_depth_ros.regressors.wan.folded_file import save_folded
from video_depth_ros.regressors.wan.sizes import NANO
from video_depth_ros.regressors.wan.tiny_vae import TinyVae
from video_depth_ros.settings import leaves, replace_flat

from .conftest import TINY, fill

CPU = RegressorConfig(device="cpu")


@pytest.fixture
def weights(tmp_path, info, vae, transformer) -> str:
    path = tmp_path / "tiny.safetensors"
    save_folded(path, info, vae, transformer)
    return str(path)


@pytest.mark.parametrize("name", ["dvd", "nano"])
def test_from_a_folded_file(weights, name):
    config = replace(CPU, name=name, weights=weights)
    regressor = registry.load(config)
    assert isinstance(regressor, Regressor)
    assert regressor.device == torch.device("cpu")
    assert (regressor.spec.box, regressor.spec.group) == ((32, 48), 4)
    assert regressor.spec.max_overlap == 8  # the file's own window of 4
    session = regressor.open(*regressor.spec.box)
    session.push(torch.rand(1, 3, 32, 48), 4)
    result = session.push(torch.rand(4, 3, 32, 48), 4)
    assert (result.overlap, result.disparity.dtype) == (1, torch.float32)
    assert 0 <= result.disparity.min() <= result.disparity.max() <= 1


def test_every_parameter_of_the_stream_arrives(weights):
    config = replace_flat(
        replace(CPU, name="dvd", weights=weights),
        {
            "window": 6, "window_start": "stream", "mode": "cached", "refresh": 4, "sink": False,
            "full_refresh_every": 5, "hop": 2, "decode": "warm", "decode_lead": 2,
            "height": 64, "width": 80, "dtype": "bfloat16",
        },
    )  # fmt: skip
    regressor = factory.dvd(config)
    o = regressor.options
    assert (o.window, o.start, o.cached, o.refresh, o.sink) == (6, "stream", True, 4, False)
    assert (o.full_refresh_every, o.hop, o.decode, o.lead) == (5, 2, "warm", 2)
    assert (regressor.spec.box, regressor.spec.group) == ((64, 80), 8)
    assert next(regressor.transformer.parameters()).dtype == torch.bfloat16
    session = regressor.open(32, 48)
    session.push(torch.rand(1, 3, 32, 48), 4)
    assert session.push(torch.rand(8, 3, 32, 48), 4).disparity.dtype == torch.float32


def test_what_is_left_open_follows_from_the_model(info):
    options = factory.stream_options(RegressorConfig(), info)
    assert (options.window, options.decode, options.start) == (info.window, "restart", "image")
    patched = replace(info, size=NANO, window=5)
    options = factory.stream_options(RegressorConfig(), patched)
    assert (options.window, options.decode, options.start) == (5, "window", "image")
    with pytest.raises(ConfigError, match="anew"):
        factory.stream_options(RegressorConfig(mode="cached", window_start="anew"), patched)


class Compiler:
    """Stands for torch.compile's own: counts what it compiles, and how often that runs."""

    def __init__(self) -> None:
        self.graphs = self.runs = 0

    def __call__(self, graph: torch.fx.GraphModule, inputs: list[torch.Tensor]):
        self.graphs += 1

        def run(*args: torch.Tensor):
            self.runs += 1
            return graph.forward(*args)

        return run


@pytest.fixture
def compiler(monkeypatch):
    compiler = Compiler()
    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=compiler))
    yield compiler
    torch._dynamo.reset()


# fills through more shapes than torch compiles
LONG: dict[str, Any] = {"window": 10, "refresh": 3, "full_refresh_every": 4}


@pytest.mark.parametrize(("mode", "shapes"), [("exact", 1), ("cached", 2)])
def test_full_windows_run_compiled_and_filling_ones_do_not(weights, compiler, mode, shapes):
    config = replace(CPU, weights=weights, mode=mode, **LONG)
    plain = factory.dvd(config).open(32, 48)
    session = factory.dvd(replace(config, compile=True)).open(32, 48)
    for push in range(16):
        frames = torch.rand(session.next_group, 3, 32, 48)
        got, expected = session.push(frames, 4).disparity, plain.push(frames, 4).disparity
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)
        assert compiler.runs == max(0, push + 2 - LONG["window"])
    assert compiler.graphs == shapes


@pytest.mark.parametrize(("mode", "groups"), [("exact", 10), ("cached", 14)])
def test_a_prepared_pipeline_compiles_nothing_on_the_stream(weights, compiler, mode, groups):
    config = replace(CPU, weights=weights, mode=mode, **LONG)
    assert factory.dvd(config).spec.warm_up == 1
    regressor = factory.dvd(replace(config, compile=True))
    assert regressor.spec.warm_up == groups
    depth = DepthPipeline(PipelineConfig(), regressor)
    depth.prepare(32, 48)
    graphs, runs = compiler.graphs, compiler.runs
    image = np.random.default_rng(0).integers(0, 255, (32, 48, 3), np.uint8)
    for index in range(1 + 4 * 15):
        depth.push(Frame(image, index * 50_000_000, None))
    assert compiler.graphs == graphs > 0
    assert compiler.runs == runs + 7


def test_all_parameters_are_described():
    for leaf in leaves(RegressorConfig()):
        assert leaf.parameter.description.endswith(".")


def test_tiny_vae_decodes(weights, tmp_path):
    torch.save(fill(TinyVae(), std=0.05).state_dict(), tmp_path / "taew2_1.pth")
    path = str(tmp_path / "taew2_1.pth")
    for encoder in (False, True):
        config = replace(CPU, weights=weights, tiny_vae=path, tiny_encoder=encoder)
        session = factory.dvd(config).open(32, 48)
        session.push(torch.rand(1, 3, 32, 48), 4)
        for _ in range(4):
            result = session.push(torch.rand(4, 3, 32, 48), 4)
        assert result.disparity.shape == (8, 32, 48)
    with pytest.raises(ConfigError, match="tiny_vae names no file"):
        factory.dvd(replace(CPU, weights=weights, tiny_encoder=True))


def test_missing_weights_say_what_to_do(tmp_path):
    with pytest.raises(CheckpointError, match=r"video_depth download dvd-1\.1.*video_depth fold"):
        factory.dvd(CPU)
    with pytest.raises(CheckpointError, match=r"no file .*gone\.safetensors"):
        factory.dvd(replace(CPU, weights=str(tmp_path / "gone.safetensors")))
    with pytest.raises(CheckpointError, match=r"nano: no weight file .*gone\.safetensors"):
        factory.nano(replace(CPU, weights=str(tmp_path / "gone.safetensors")))


@pytest.mark.parametrize(
    "change, words",
    [
        ({"device": "abacus"}, "'abacus' cannot be used"),
        ({"device": "cuda:99"}, "'cuda:99' cannot be used"),
        ({"window": 3, "hop": 3}, "longer than the hop"),
        ({"mode": "cached", "refresh": 9}, "refresh <= window"),
    ],
)
def test_unusable_configuration(weights, change, words):
    with pytest.raises(ConfigError, match=words):
        factory.dvd(replace(CPU, weights=weights, **change))


def test_unknown_regressor():
    with pytest.raises(RegressorError, match="known are nano, dvd"):
        registry.load(replace(CPU, name="dvdd"))


def test_benchmark_command(tmp_path, monkeypatch, capsys):
    """All of it, at the smallest size: rows, stages, ratio, JSON."""
    torch.set_default_dtype(torch.float32)
    monkeypatch.setattr("video_depth_ros.regressors.wan.sizes.SIZES", {"dvd": TINY})
    parser = argparse.ArgumentParser()
    benchmark.add_parser(parser.add_subparsers())
    out = tmp_path / "rows.json"
    words = "benchmark --regressor dvd --random-weights --device cpu --size 32x48 --window 3 4"
    words += f" --mode exact cached --refresh 2 --pushes 2 --json {out}"
    args = parser.parse_args(words.split())
    assert args.run(args) == 0
    assert "FPS" in capsys.readouterr().out
    rows = json.loads(out.read_text())["rows"]
    assert [(r["window"], r["mode"]) for r in rows] == [
        (3, "exact"), (3, "cached m=2"), (4, "exact"), (4, "cached m=2"),
    ]  # fmt: skip
    for row in rows:
        assert row["frames"] == 4
        assert row["fps"] == pytest.approx(4 / row["push"])
        assert row["ratio"] == pytest.approx(row["reference"] / row["push"])
        assert all(row["stages"][s] > 0 for s in ("encode", "transformer", "decode"))
        assert row["memory"] > 0 and row["state"] > 0
    with pytest.raises(SystemExit):
        parser.parse_args(["benchmark", "--size", "wide"])


def test_fidelity_of_the_modes(weights, video):
    """Exact against itself is zero; the error measure forgives scale and shift, nothing else."""
    regressor = factory.dvd(replace(CPU, weights=weights, window=4))
    rows = {row.name: row for row in compare(regressor, video, overlap=4)}
    assert rows["exact, decode window"].error == rows["exact, decode window"].worst == 0
    assert 0 < rows["exact, decode restart, lead 1"].error < 1
    assert (
        rows["exact, decode restart, lead 2"].error < rows["exact, decode restart, lead 1"].error
    )
    assert 0 < rows["cached, refresh 3"].error <= rows["cached, refresh 3"].worst
    assert all(row.push > 0 for row in rows.values())
    image = video[0]
    assert affine_residual(3 * image - 1, image) < 1e-6
    assert affine_residual(torch.rand(image.shape), image) > 0.9
    with pytest.raises(InputError, match="more than 17 frames"):
        next(compare(regressor, video[:17], overlap=4))
