# SPDX-License-Identifier: Apache-2.0
"""Public weight files, whichever way they name their tensors, to folded networks.

Known are: the raw DVD file (LoRA not merged, VAE inside), a merged file in native Wan names, a
file in diffusers' names, the Wan VAE (native or diffusers' names, ``.pth`` or safetensors) and the
package's own folded file. Names and shapes must be exactly those of the model. Tensors are read,
merged, folded (float64) and handed on one layer at a time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from video_depth_ros.errors import CheckpointError
from video_depth_ros.regressors.wan import naming
from video_depth_ros.regressors.wan.folded_file import (
    FoldedInfo,
    assemble,
    is_folded,
    load_folded,
    require_shapes,
    write_folded,
)
from video_depth_ros.regressors.wan.folding import Read, fold_each
from video_depth_ros.regressors.wan.sizes import DVD, ModelSize
from video_depth_ros.regressors.wan.tensor_file import TensorSource, open_tensors
from video_depth_ros.regressors.wan.transformer import FoldedTransformer, TransformerConfig
from video_depth_ros.regressors.wan.unfolded import UnfoldedTransformer
from video_depth_ros.regressors.wan.vae import (
    WAN_LATENT_MEAN,
    WAN_LATENT_STD,
    CausalVae,
    VaeConfig,
)

DVD_LICENCE = "CC-BY-NC-4.0"

# What is in a file: "folded", "dvd" (both networks), or one network in some naming.
KINDS = (
    "folded",
    "dvd",
    "transformer",
    "diffusers transformer",
    "vae",
    "diffusers vae",
)


def kind_of(source: TensorSource) -> str:
    """Which of :data:`KINDS` a file is, by names that only that kind has.

    Raises:
        CheckpointError: unknown naming, with examples of the names found.
    """
    names = source.shapes
    if is_folded(source):
        return "folded"
    if any(name.startswith(naming.DVD_TRANSFORMER) for name in names):
        return "dvd"
    if "condition_embedder.time_proj.weight" in names:
        return "diffusers transformer"
    if "time_projection.1.weight" in names:
        return "transformer"
    if "encoder.conv_in.weight" in names and "quant_conv.weight" in names:
        return "diffusers vae"
    if "encoder.conv1.weight" in names and "decoder.conv1.weight" in names:
        return "vae"
    raise CheckpointError(
        f"{source.path}: unknown naming of {len(names)} tensors "
        f"({', '.join(list(names)[:3]) or 'none'}, ...); expected a file of DVD, Wan 2.1, "
        "diffusers or `video_depth fold`"
    )


def transformer_shapes(
    config: TransformerConfig, text_dim: int | None = None
) -> dict[str, tuple[int, ...]]:
    """Native names and shapes of an unfolded transformer."""
    with torch.device("meta"):
        model = (
            UnfoldedTransformer(config)
            if text_dim is None
            else UnfoldedTransformer(config, text_dim)
        )
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def vae_shapes(config: VaeConfig) -> dict[str, tuple[int, ...]]:
    """Native names and shapes of a VAE, without the normalisation, which its files lack."""
    with torch.device("meta"):
        model = CausalVae(config)
    return {
        name: tuple(tensor.shape)
        for name, tensor in model.state_dict().items()
        if not name.startswith("latent_")
    }


def read_transformer(source: TensorSource, config: TransformerConfig) -> Read:
    """Native name -> float64 tensor with LoRA merged, after checking names and shapes.

    Raises:
        CheckpointError: not an unfolded transformer, or of another size.
    """
    kind = kind_of(source)
    text = "text_embedding.0.weight"
    prefix = naming.DVD_TRANSFORMER if kind == "dvd" else ""
    rename: Callable[[str], str] = (
        naming.transformer_to_diffusers if kind == "diffusers transformer" else lambda name: name
    )
    if kind not in ("dvd", "transformer", "diffusers transformer"):
        raise CheckpointError(f"{source.path}: expected a transformer, found a {kind} file")
    got = {
        name[len(prefix) :]: shape
        for name, shape in source.shapes.items()
        if name.startswith(prefix)
    }
    # The width of the text input is the one size that does not matter: its input is all zeros.
    native = transformer_shapes(config, text_dim=got.get(rename(text), (0, 4096))[-1])
    factors = [shape for name, shape in got.items() if name.endswith(".lora_A.default.weight")]
    if factors:
        require_shapes(source.path, naming.with_lora(native, rank=factors[0][0]), got)
    else:
        require_shapes(source.path, {rename(n): s for n, s in native.items()}, got)

    def read(name: str) -> Tensor:
        layer = naming.lora_layer(name) if factors else None
        if layer is None:
            return source.read(prefix + rename(name)).double()
        tensor = source.read(f"{prefix}{layer[0]}.base_layer.{layer[1]}").double()
        if layer[1] == "weight":  # alpha equals the rank: W = base + B A
            down = source.read(f"{prefix}{layer[0]}.lora_A.default.weight").double()
            up = source.read(f"{prefix}{layer[0]}.lora_B.default.weight").double()
            tensor = torch.addmm(tensor, up, down)
        return tensor

    return read


def read_vae(source: TensorSource, config: VaeConfig) -> Read:
    """Native name -> float64 tensor, after checking names and shapes (three output channels).

    Raises:
        CheckpointError: not a VAE, or of another size.
    """
    kind = kind_of(source)
    if kind not in ("dvd", "vae", "diffusers vae"):
        raise CheckpointError(
            f"{source.path}: expected a VAE, found a {kind} file; name one by --vae"
        )
    prefix = naming.DVD_VAE if kind == "dvd" else ""

    def rename(name: str) -> str:
        return naming.vae_to_diffusers(name, config) if kind == "diffusers vae" else name

    got = {
        name[len(prefix) :]: shape
        for name, shape in source.shapes.items()
        if name.startswith(prefix)
    }
    require_shapes(source.path, {rename(n): s for n, s in vae_shapes(config).items()}, got)
    return lambda name: source.read(prefix + rename(name)).double()


def folded_tensors(
    transformer: TensorSource, vae: TensorSource, size: ModelSize
) -> Iterator[tuple[str, Tensor]]:
    """The tensors (float64) of a folded file from open public files, one after the other.

    The decoder gets one output channel, the mean of the public three, if ``size`` says so.
    """
    read = read_transformer(transformer, size.transformer)
    public = VaeConfig(**{**size.vae.__dict__, "out_channels": 3})
    read_part = read_vae(vae, public)
    for name, tensor in fold_each(read, size.transformer):
        yield f"transformer.{name}", tensor
    for name in vae_shapes(public):
        tensor = read_part(name)
        if name.startswith("decoder.head.2.") and size.vae.out_channels == 1:
            tensor = tensor.unflatten(0, (3, -1)).mean(dim=0)
        yield f"vae.{name}", tensor
    yield "vae.latent_mean", torch.tensor(WAN_LATENT_MEAN, dtype=torch.float64)
    yield "vae.latent_std", torch.tensor(WAN_LATENT_STD, dtype=torch.float64)


def load_model(
    path: Path | str, device: torch.device, dtype: torch.dtype, size: ModelSize = DVD
) -> tuple[FoldedInfo, CausalVae, FoldedTransformer]:
    """Networks from a folded file, or folded on the way from the raw DVD file.

    Args:
        size: of the networks in a raw file; a folded file brings its own.

    Raises:
        CheckpointError: missing, damaged, unknown, or lacking one of the networks.
    """
    source = open_tensors(path)
    kind = kind_of(source)
    if kind == "folded":
        return load_folded(path, device, dtype)
    if kind != "dvd":
        raise CheckpointError(
            f"{path}: found a {kind} file, which is only one of the two networks; make one file "
            "by `video_depth fold TRANSFORMER --vae VAE OUT.safetensors`"
        )
    vae, transformer = assemble(size, folded_tensors(source, source, size), device, dtype)
    return FoldedInfo("dvd", DVD_LICENCE, size), vae, transformer


def fold_file(
    path: Path | str,
    out: Path | str,
    vae_path: Path | str | None = None,
    size: ModelSize = DVD,
    dtype: torch.dtype = torch.bfloat16,
    name: str = "dvd",
    licence: str = DVD_LICENCE,
    progress: Callable[[str], None] = lambda _: None,
) -> FoldedInfo:
    """Fold public files into one of ours; peak memory is about that of one layer.

    Args:
        vae_path: file of the VAE where ``path`` has none.
        progress: called with each tensor's name as it is done.

    Raises:
        CheckpointError: unreadable or unfitting input.
    """
    source = open_tensors(path)
    kind = kind_of(source)
    if kind == "folded":
        raise CheckpointError(f"{path} is folded already; name it in regressor.weights as it is")
    if vae_path is None and kind != "dvd":
        raise CheckpointError(
            f"{path}: found a {kind} file, which has no VAE beside the transformer; "
            "name the Wan 2.1 VAE by --vae (`video_depth download wan-vae`)"
        )
    vae = source if vae_path is None else open_tensors(vae_path)
    # Check both inputs before hashing gigabytes.
    read_transformer(source, size.transformer)
    read_vae(vae, VaeConfig(**{**size.vae.__dict__, "out_channels": 3}))
    sources = {p.name: sha256(p) for p in dict.fromkeys((source.path, vae.path))}
    info = FoldedInfo(name=name, licence=licence, size=size, sources=sources)

    def watched() -> Iterator[tuple[str, Tensor]]:
        for key, tensor in folded_tensors(source, vae, size):
            yield key, tensor
            progress(key)

    write_folded(out, info, watched(), dtype)
    return info


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()
