# SPDX-License-Identifier: Apache-2.0
"""Every public layout gives the same folded network; whatever is not one is refused."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from video_depth_ros.errors import CheckpointError
from video_depth_ros.regressors.wan import checkpoints, naming
from video_depth_ros.regressors.wan.checkpoints import fold_file, load_model
from video_depth_ros.regressors.wan.folded_file import (
    load_folded,
    read_info,
    require_shapes,
    save_folded,
)
from video_depth_ros.regressors.wan.sizes import DVD, ModelSize
from video_depth_ros.regressors.wan.tensor_file import open_tensors, write_tensors
from video_depth_ros.regressors.wan.tiny_vae import TinyVae, load_tiny_vae
from video_depth_ros.regressors.wan.transformer import TransformerConfig
from video_depth_ros.regressors.wan.unfolded import UnfoldedTransformer
from video_depth_ros.regressors.wan.vae import CausalVae, VaeConfig

from .conftest import TINY, fill, read_keys

CPU = torch.device("cpu")
PUBLIC_VAE = VaeConfig(**{**TINY.vae.__dict__, "out_channels": 3})
RANK = 3


@pytest.fixture
def unfolded() -> UnfoldedTransformer:
    return fill(UnfoldedTransformer(TINY.transformer, text_dim=12, text_length=2), 7, 0.15)


@pytest.fixture
def public_vae() -> CausalVae:
    return fill(CausalVae(PUBLIC_VAE), 8)


@pytest.fixture
def files(tmp_path, unfolded, public_vae):
    """The same networks in all public layouts: name -> (transformer file, VAE file or None)."""
    native = {k: v.clone() for k, v in unfolded.state_dict().items()}
    vae = {k: v for k, v in public_vae.state_dict().items() if not k.startswith("latent_")}
    raw, generator = {}, torch.Generator().manual_seed(9)
    for name, tensor in native.items():
        layer = naming.lora_layer(name)
        if layer is None:
            raw[f"pipe.dit.{name}"] = tensor
            continue
        if layer[1] == "weight":
            up = torch.randn(tensor.shape[0], RANK, generator=generator)
            down = torch.randn(RANK, tensor.shape[1], generator=generator)
            raw[f"pipe.dit.{layer[0]}.lora_A.default.weight"] = down
            raw[f"pipe.dit.{layer[0]}.lora_B.default.weight"] = up
            tensor = tensor - up @ down
        raw[f"pipe.dit.{layer[0]}.base_layer.{layer[1]}"] = tensor
    raw |= {f"pipe.vae.model.{name}": tensor for name, tensor in vae.items()}
    save_file(raw, tmp_path / "dvd.safetensors")
    save_file(native, tmp_path / "wan.safetensors")
    renamed = {naming.transformer_to_diffusers(k): v for k, v in native.items()}
    save_file(renamed, tmp_path / "diffusers.safetensors")
    renamed = {naming.vae_to_diffusers(k, PUBLIC_VAE): v.contiguous() for k, v in vae.items()}
    save_file(renamed, tmp_path / "diffusers_vae.safetensors")
    torch.save(vae, tmp_path / "vae.pth")
    torch.save({"model_state": vae}, tmp_path / "nested.pth")
    return {
        "dvd": ("dvd.safetensors", None),
        "wan": ("wan.safetensors", "vae.pth"),
        "diffusers": ("diffusers.safetensors", "diffusers_vae.safetensors"),
        "nested": ("wan.safetensors", "nested.pth"),
        "both": ("wan.safetensors", "dvd.safetensors"),
    }


@pytest.mark.parametrize("layout", ["dvd", "wan", "diffusers", "nested", "both"])
def test_every_layout_gives_the_same_networks(tmp_path, files, unfolded, public_vae, layout):
    path = tmp_path / files[layout][0]
    vae_path = tmp_path / files[layout][1] if files[layout][1] else None
    out = tmp_path / "folded.safetensors"
    names: list[str] = []
    info = fold_file(path, out, vae_path, TINY, torch.float64, progress=names.append)
    loaded, vae, transformer = load_model(out, CPU, torch.float64)
    assert (loaded, loaded.licence, loaded.size) == (info, "CC-BY-NC-4.0", TINY)
    assert set(loaded.sources) == {p.name for p in (path, vae_path) if p}
    assert loaded.sources[path.name] == checkpoints.sha256(path)
    assert len(names) == len(load_file(out))

    x = torch.randn(1, 16, 3, 4, 6)
    torch.testing.assert_close(transformer(x), unfolded(x), rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(
        vae.decode(x)[0],
        public_vae.decode(x)[0].mean(dim=1, keepdim=True),
        rtol=1e-6,  # the normalisation constants are stored in float32
        atol=1e-6,
    )
    assert not transformer.training and not any(p.requires_grad for p in vae.parameters())


def test_raw_file_is_folded_on_the_way(tmp_path, files, unfolded):
    info, _, transformer = load_model(tmp_path / "dvd.safetensors", CPU, torch.float64, TINY)
    assert info.licence == "CC-BY-NC-4.0"
    x = torch.randn(1, 16, 2, 4, 4)
    torch.testing.assert_close(transformer(x), unfolded(x), rtol=1e-11, atol=1e-11)


def test_stored_type_and_wanted_type(tmp_path, info, vae, transformer):
    path = tmp_path / "half.safetensors"
    save_folded(path, info, vae, transformer, torch.bfloat16)
    stored = load_file(path)
    assert stored["transformer.head.weight"].dtype == torch.bfloat16
    assert stored["vae.latent_mean"].dtype == torch.float32
    loaded, _, again = load_folded(path, CPU, torch.float32)
    assert loaded == info
    with pytest.raises(CheckpointError, match="is folded already"):
        fold_file(path, tmp_path / "again.safetensors", size=TINY)
    assert again.head.weight.dtype == torch.float32
    expected = transformer.head.weight.bfloat16().float()
    assert torch.equal(again.head.weight, expected)


def test_public_key_lists_are_our_own_layout(keys):
    """All 1425 + 194 names and shapes of the public DVD file, and those of the parts."""
    native = checkpoints.transformer_shapes(DVD.transformer)
    assert native == read_keys(keys / "wan_dit_keys.txt")
    raw = naming.with_lora(native, rank=512)
    assert raw == read_keys(keys / "dvd_keys.txt")
    assert len(raw) == 1425
    vae = checkpoints.vae_shapes(VaeConfig())
    assert vae == read_keys(keys / "wan_vae_keys.txt")
    assert len(vae) == 194
    pairs = (keys / "wan_vae_keymap_native_to_diffusers.txt").read_text().splitlines()
    expected = dict(line.split("\t") for line in pairs if line and not line.startswith("#"))
    assert {name: naming.vae_to_diffusers(name, VaeConfig()) for name in vae} == expected
    with torch.device("meta"):
        tiny = {name: tuple(t.shape) for name, t in TinyVae().state_dict().items()}
    assert tiny == read_keys(keys / "taew2_1_keys.txt")


def test_sizes_of_the_public_layout():
    """Without the lists: counts published with the checkpoints."""
    native = checkpoints.transformer_shapes(TransformerConfig())
    raw = naming.with_lora(native, rank=512)
    assert (len(native), len(raw), len(checkpoints.vae_shapes(VaeConfig()))) == (825, 1425, 194)
    count = sum(torch.Size(shape).numel() for shape in raw.values())
    vae = sum(torch.Size(s).numel() for s in checkpoints.vae_shapes(VaeConfig()).values())
    assert vae == 126_892_531
    assert f"{(count + vae) / 1e9:.4f}" == "2.2458"


class Listed:
    """Names and shapes of a file that is too large to make; reads zeros on the meta device."""

    def __init__(self, shapes):
        self.path, self.metadata, self.shapes = Path("listed.safetensors"), {}, shapes

    def read(self, name):
        return torch.empty(self.shapes[name], dtype=torch.bfloat16, device="meta")


def test_full_size_file_is_accepted_key_by_key():
    shapes = naming.with_lora(checkpoints.transformer_shapes(DVD.transformer), rank=512)
    listed = {f"pipe.dit.{k}": s for k, s in shapes.items()}
    listed |= {f"pipe.vae.model.{k}": s for k, s in checkpoints.vae_shapes(VaeConfig()).items()}
    source = Listed(listed)
    assert checkpoints.kind_of(source) == "dvd"
    read = checkpoints.read_transformer(source, DVD.transformer)
    assert read("blocks.29.ffn.2.weight").shape == (1536, 8960)
    assert checkpoints.read_vae(source, VaeConfig())("conv2.bias").shape == (16,)
    lacking = dict(listed)
    del lacking["pipe.dit.blocks.7.ffn.0.lora_B.default.weight"]
    lacking["pipe.dit.blocks.30.extra"] = (1,)
    with pytest.raises(CheckpointError, match=r"1 missing .*7.ffn.0.lora_B.*1 unexpected"):
        checkpoints.read_transformer(Listed(lacking), DVD.transformer)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_tiny_vae_file(tmp_path, suffix):
    model = fill(TinyVae(), std=0.05).half()
    path = tmp_path / f"taew2_1{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(model.state_dict(), path)
    loaded = load_tiny_vae(path, CPU, torch.float32)
    z = torch.randn(1, 16, 2, 2, 2, dtype=torch.float32)
    assert loaded.decode(z)[0].shape == (1, 3, 5, 16, 16)
    torch.save({"encoder.0.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"127 missing .*1 misshapen"):
        load_tiny_vae(tmp_path / "other.pth", CPU, torch.float32)


def rewrite(path, change):
    header = path.read_bytes()
    path.write_bytes(change(header))


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-100],
        lambda data: data + b"more",
        lambda data: data[:50],
        lambda data: b"",
        lambda data: b"\xff" * 8 + data[8:],
        lambda data: data[:8] + b"[" + data[9:],
        lambda data: b"<html>404 Not Found</html>" * 20,
    ],
)
def test_damaged_safetensors(tmp_path, info, vae, transformer, damage):
    path = tmp_path / "model.safetensors"
    save_folded(path, info, vae, transformer)
    rewrite(path, damage)
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        load_model(path, CPU, torch.float32)


def test_damaged_torch_file(tmp_path, files):
    path = tmp_path / "vae.pth"
    rewrite(path, lambda data: data[: len(data) // 2])
    with pytest.raises(CheckpointError, match="not a whole torch file"):
        open_tensors(path)


class Evil:
    def __reduce__(self):
        return (print, ("must never run",))


def test_torch_file_with_code_is_refused(tmp_path, capsys):
    torch.save({"a": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(CheckpointError, match="plain tensors"):
        open_tensors(tmp_path / "evil.pth")
    torch.save({"a": [1, 2]}, tmp_path / "lists.pth")
    with pytest.raises(CheckpointError, match="named tensors"):
        open_tensors(tmp_path / "lists.pth")
    assert "must never run" not in capsys.readouterr().out


def test_wrong_files_are_named(tmp_path, files):
    with pytest.raises(CheckpointError, match="no file"):
        load_model(tmp_path / "none.safetensors", CPU, torch.float32)
    save_file({"some.weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match=r"unknown naming of 1 tensors \(some.weight"):
        load_model(tmp_path / "other.safetensors", CPU, torch.float32)
    with pytest.raises(CheckpointError, match=r"only one of the two networks.*--vae"):
        load_model(tmp_path / "wan.safetensors", CPU, torch.float32)
    with pytest.raises(CheckpointError, match=r"name the Wan 2.1 VAE by --vae"):
        fold_file(tmp_path / "wan.safetensors", tmp_path / "out.safetensors", size=TINY)
    with pytest.raises(CheckpointError, match="expected a VAE, found a transformer file"):
        fold_file(
            tmp_path / "wan.safetensors", tmp_path / "out", tmp_path / "wan.safetensors", TINY
        )
    with pytest.raises(CheckpointError, match="expected a transformer, found a vae file"):
        fold_file(tmp_path / "vae.pth", tmp_path / "out", tmp_path / "vae.pth", TINY)
    with pytest.raises(CheckpointError, match=r"missing.*misshapen"):  # the tiny one is not DVD
        fold_file(tmp_path / "dvd.safetensors", tmp_path / "out.safetensors")
    assert not list(tmp_path.glob("out*"))


def test_integer_weights_are_refused(tmp_path, files):
    tensors = load_file(tmp_path / "wan.safetensors")
    tensors["head.head.bias"] = torch.zeros(64, dtype=torch.int8)
    save_file(tensors, tmp_path / "int.safetensors")
    with pytest.raises(CheckpointError, match=r"head.head.bias has type I8"):
        fold_file(tmp_path / "int.safetensors", tmp_path / "out", tmp_path / "vae.pth", TINY)
    assert not list(tmp_path.glob("out*"))


def test_damaged_description(tmp_path, info, vae, transformer):
    path = tmp_path / "model.safetensors"
    save_folded(path, info, vae, transformer)
    length = int.from_bytes(path.read_bytes()[:8], "little")

    def edited(key, value):
        data = path.read_bytes()
        header = json.loads(data[8 : 8 + length])
        header["__metadata__"][key] = value
        text = json.dumps(header).encode()
        other = tmp_path / "edited.safetensors"
        other.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
        return open_tensors(other)

    with pytest.raises(CheckpointError, match=r"version 1, got .* 2"):
        read_info(edited("version", "2"))
    with pytest.raises(CheckpointError, match="description of the model is damaged"):
        read_info(edited("size", "{}"))
    grown = json.dumps(
        {
            "vae": info.size.vae.__dict__,
            "transformer": {**info.size.transformer.__dict__, "layers": 3},
        }
    )
    edited("size", grown)
    with pytest.raises(CheckpointError, match=r"missing \(transformer.blocks.2"):
        load_folded(tmp_path / "edited.safetensors", CPU, torch.float32)


def test_message_gives_counts_and_examples(tmp_path):
    expected = {"a": (1,), "b": (2,), "c": (3,), "d": (4,), "e": (5,)}
    got = {"e": (6,), "z": (1,)}
    text = re.escape(
        "4 missing (a, b, c, ...); 1 unexpected (z); 1 misshapen (e expected [5] got [6])"
    )
    with pytest.raises(CheckpointError, match=text):
        require_shapes(tmp_path, expected, got)


_FOLD_AND_REPORT = """
import resource, sys, torch
from pathlib import Path
from video_depth_ros.regressors.wan.checkpoints import fold_file
from video_depth_ros.regressors.wan.folded_file import load_folded
from video_depth_ros.regressors.wan.sizes import ModelSize
from video_depth_ros.regressors.wan.transformer import TransformerConfig
from video_depth_ros.regressors.wan.vae import VaeConfig
torch.set_num_threads(1)
folder, size = Path(sys.argv[1]), eval(sys.argv[2])
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
torch.ones(64, 64, dtype=torch.float64) @ torch.ones(64, 64, dtype=torch.float64)
before = peak()
fold_file(folder / "raw.safetensors", folder / "folded.safetensors", size=size)
print(peak() - before)
load_folded(folder / "folded.safetensors", torch.device("cpu"), torch.bfloat16)
print(peak() - before)
"""
LARGE = ModelSize(
    VaeConfig(dim=16, multipliers=(1, 1, 1, 1), res_blocks=1, out_channels=1),
    TransformerConfig(dim=768, heads=6, layers=12, ffn=3072),
)


@pytest.mark.slow
def test_folding_and_loading_need_little_memory(tmp_path):
    """Peak resident memory above that of the bare process, against the folded file's size."""

    def zeros():
        for name, (shape, dtype) in stored.items():
            yield name, torch.zeros(shape, dtype=dtype)

    raw = naming.with_lora(checkpoints.transformer_shapes(LARGE.transformer), rank=256)
    shapes = {f"pipe.dit.{name}": shape for name, shape in raw.items()}
    public = VaeConfig(**{**LARGE.vae.__dict__, "out_channels": 3})
    shapes |= {f"pipe.vae.model.{n}": s for n, s in checkpoints.vae_shapes(public).items()}
    stored = {name: (shape, torch.bfloat16) for name, shape in shapes.items()}
    write_tensors(tmp_path / "raw.safetensors", stored, zeros(), {})
    root = Path(__file__).parents[2]
    ran = subprocess.run(
        [sys.executable, "-c", _FOLD_AND_REPORT, str(tmp_path), repr(LARGE)],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    folding, loading = (int(line) for line in ran.stdout.split())
    folded = (tmp_path / "folded.safetensors").stat().st_size
    assert folded > 150e6
    assert folding < 1.3 * folded
    assert loading < 1.3 * folded
