# SPDX-License-Identifier: Apache-2.0
"""The package's own weight file: a folded transformer and its VAE in one safetensors file.

Tensors are named ``transformer.*`` and ``vae.*``; the metadata says what they are, of which
licence, made from which files. The small embedded model is stored in the same way.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from video_depth_ros.errors import CheckpointError, ConfigError
from video_depth_ros.regressors.wan.sizes import ModelSize
from video_depth_ros.regressors.wan.tensor_file import (
    Layout,
    TensorSource,
    open_tensors,
    write_tensors,
)
from video_depth_ros.regressors.wan.transformer import FoldedTransformer, TransformerConfig
from video_depth_ros.regressors.wan.vae import CausalVae, VaeConfig

FORMAT = "video_depth_ros.folded"
VERSION = "1"


@dataclass(frozen=True)
class FoldedInfo:
    """What a folded file says of itself.

    Attributes:
        name: short name of the model.
        licence: of the weights; shown to the user.
        size: of the networks.
        window: latents per window that the model is best used with.
        box: (height, width) that images should cover by default.
        sources: file name -> SHA-256 of what it was made from.
        notes: free text, e.g. how it was trained.
    """

    name: str
    licence: str
    size: ModelSize
    window: int = 9
    box: tuple[int, int] = (480, 640)
    sources: Mapping[str, str] = field(default_factory=dict)
    notes: str = ""


def empty_models(size: ModelSize) -> tuple[CausalVae, FoldedTransformer]:
    """Both networks on the meta device: shapes without memory."""
    with torch.device("meta"):
        return CausalVae(size.vae), FoldedTransformer(size.transformer)


def layout(size: ModelSize, dtype: torch.dtype) -> Layout:
    """Names, shapes and types of a folded file; normalisation constants stay in float32."""
    vae, transformer = empty_models(size)
    shapes = {f"transformer.{n}": tuple(t.shape) for n, t in transformer.state_dict().items()}
    shapes |= {f"vae.{n}": tuple(t.shape) for n, t in vae.state_dict().items()}
    return {
        name: (shape, torch.float32 if name.startswith("vae.latent_") else dtype)
        for name, shape in shapes.items()
    }


def save_folded(
    path: Path | str,
    info: FoldedInfo,
    vae: CausalVae,
    transformer: FoldedTransformer,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write trained networks, e.g. the embedded model."""
    write_folded(path, info, named_tensors(vae, transformer), dtype)


def named_tensors(vae: CausalVae, transformer: FoldedTransformer) -> Iterator[tuple[str, Tensor]]:
    """All tensors of both networks under the file's names."""
    for prefix, module in (("transformer", transformer), ("vae", vae)):
        for name, tensor in module.state_dict().items():
            yield f"{prefix}.{name}", tensor


def write_folded(
    path: Path | str,
    info: FoldedInfo,
    tensors: Iterable[tuple[str, Tensor]],
    dtype: torch.dtype,
) -> None:
    """Write a folded file, one tensor at a time.

    Raises:
        CheckpointError: tensors that are not those of ``info.size``.
    """
    metadata = {
        "format": FORMAT,
        "version": VERSION,
        "name": info.name,
        "licence": info.licence,
        "size": json.dumps(dataclasses.asdict(info.size)),
        "window": str(info.window),
        "box": json.dumps(info.box),
        "sources": json.dumps(dict(info.sources)),
        "notes": info.notes,
    }
    write_tensors(path, layout(info.size, dtype), tensors, metadata)


def is_folded(source: TensorSource) -> bool:
    """Whether an open file is one of ours."""
    return source.metadata.get("format") == FORMAT


def read_info(source: TensorSource) -> FoldedInfo:
    """What a folded file says of itself.

    Raises:
        CheckpointError: another format or version, or damaged metadata.
    """
    meta = source.metadata
    if not is_folded(source) or meta.get("version") != VERSION:
        raise CheckpointError(
            f"{source.path}: expected a {FORMAT} file of version {VERSION}, got "
            f"{meta.get('format', 'no format')} {meta.get('version', '')}; make it by "
            "`video_depth fold`"
        )
    try:
        size = json.loads(meta["size"])
        return FoldedInfo(
            name=meta["name"],
            licence=meta["licence"],
            size=ModelSize(
                VaeConfig(**{k: _hashable(v) for k, v in size["vae"].items()}),
                TransformerConfig(**size["transformer"]),
            ),
            window=int(meta["window"]),
            box=tuple(json.loads(meta["box"])),
            sources=json.loads(meta["sources"]),
            notes=meta["notes"],
        )
    except (KeyError, ValueError, TypeError, ConfigError) as error:
        raise CheckpointError(
            f"{source.path}: the description of the model is damaged ({error!r}); make the file "
            "again by `video_depth fold`"
        ) from None


def load_folded(
    path: Path | str, device: torch.device, dtype: torch.dtype
) -> tuple[FoldedInfo, CausalVae, FoldedTransformer]:
    """Networks from a folded file, each tensor going straight to its device and type.

    Raises:
        CheckpointError: missing or damaged file, or tensors that are not the described ones.
    """
    source = open_tensors(path)
    info = read_info(source)
    expected = {name: shape for name, (shape, _) in layout(info.size, dtype).items()}
    require_shapes(source.path, expected, source.shapes)
    vae, transformer = assemble(
        info.size, ((name, source.read(name)) for name in expected), device, dtype
    )
    return info, vae, transformer


def assemble(
    size: ModelSize,
    tensors: Iterable[tuple[str, Tensor]],
    device: torch.device,
    dtype: torch.dtype,
) -> tuple[CausalVae, FoldedTransformer]:
    """Networks for inference from the tensors of a folded file, moved one at a time."""
    vae, transformer = empty_models(size)
    states: dict[str, dict[str, Tensor]] = {"vae": {}, "transformer": {}}
    for name, tensor in tensors:
        room, _, rest = name.partition(".")
        kind = torch.promote_types(dtype, torch.float32) if "latent_" in rest else dtype
        states[room][rest] = tensor.to(device, kind)
    modules: tuple[tuple[str, nn.Module], ...] = (("vae", vae), ("transformer", transformer))
    for room, module in modules:
        module.load_state_dict(states[room], assign=True)
        module.eval().requires_grad_(False)
    return vae, transformer


def require_shapes(
    path: Path, expected: Mapping[str, tuple[int, ...]], got: Mapping[str, tuple[int, ...]]
) -> None:
    """Names and shapes must be the same.

    Raises:
        CheckpointError: counts and first examples of missing, unexpected and misshapen tensors.
    """
    missing = [name for name in expected if name not in got]
    unexpected = [name for name in got if name not in expected]
    wrong = [
        f"{name} expected {list(shape)} got {list(got[name])}"
        for name, shape in expected.items()
        if name in got and got[name] != shape
    ]
    parts = [
        f"{len(names)} {word} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        for word, names in (("missing", missing), ("unexpected", unexpected), ("misshapen", wrong))
        if names
    ]
    if parts:
        raise CheckpointError(
            f"{path}: expected {len(expected)} tensors of this model, found {'; '.join(parts)}; "
            "check that the file is the one meant"
        )


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
