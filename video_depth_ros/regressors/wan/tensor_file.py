# SPDX-License-Identifier: Apache-2.0
"""Weight files read and written one tensor at a time.

The format is safetensors (8 bytes of header length, a JSON header, then raw little-endian data).
The library loads or saves whole files; converting files larger than memory needs single tensors.
``.pth`` files are opened by torch with ``weights_only``, memory-mapped.
"""

from __future__ import annotations

import json
import math
import os
import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from video_depth_ros.errors import CheckpointError

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}
_CODES = {dtype: code for code, dtype in DTYPES.items()}
_MAX_HEADER = 100_000_000  # bytes; the limit of the safetensors library

Layout = Mapping[str, tuple[tuple[int, ...], torch.dtype]]  # name -> shape, type


class TensorSource(Protocol):
    """Named tensors that can be read one by one."""

    path: Path

    @property
    def metadata(self) -> Mapping[str, str]:
        """Free text of the file."""

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Every tensor's shape."""

    def read(self, name: str) -> Tensor:
        """One tensor in host memory, in its stored type."""


def open_tensors(path: Path | str) -> TensorSource:
    """Open a ``.safetensors`` or a ``.pth``/``.pt`` file.

    Raises:
        CheckpointError: missing, truncated, or not such a file.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"weights: no file {path}; download it or correct the path")
    if path.suffix in (".pth", ".pt"):
        return TorchFile(path)
    return SafetensorsFile(path)


class SafetensorsFile:
    """A safetensors file whose tensors are read when asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        size = path.stat().st_size
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if not 2 <= length <= min(_MAX_HEADER, size - 8):
                raise self._damaged(f"its header claims {length} bytes of {size}")
            try:
                header = json.loads(stream.read(length))
                self.metadata: dict[str, str] = dict(header.pop("__metadata__", {}))
                self._entries = {
                    name: (entry["dtype"], tuple(entry["shape"]), *entry["data_offsets"])
                    for name, entry in header.items()
                }
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise self._damaged(f"its header cannot be read ({error})") from None
        self._start = 8 + length
        end = max((e[3] for e in self._entries.values()), default=0)
        if self._start + end != size:
            raise self._damaged(f"expected {self._start + end} bytes, got {size}")

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor's shape."""
        return {name: entry[1] for name, entry in self._entries.items()}

    def read(self, name: str) -> Tensor:
        """One tensor in host memory, in its stored type."""
        code, shape, begin, end = self._entries[name]
        if code not in DTYPES:
            raise CheckpointError(
                f"{self.path}: {name} has type {code}; expected one of {', '.join(DTYPES)}"
            )
        dtype = DTYPES[code]
        if end - begin != math.prod(shape) * dtype.itemsize:
            raise self._damaged(f"{name} has {end - begin} bytes for shape {list(shape)}")
        if begin == end:
            return torch.empty(shape, dtype=dtype)
        data = bytearray(end - begin)
        with self.path.open("rb") as stream:
            stream.seek(self._start + begin)
            if stream.readinto(data) != len(data):
                raise self._damaged("it ends too early")
        return torch.frombuffer(data, dtype=dtype).view(shape)

    def _damaged(self, what: str) -> CheckpointError:
        return CheckpointError(
            f"{self.path} is not a whole safetensors file: {what}; download it again"
        )


# what torch.load raises for files it did not write, or that hold other things than plain values
TORCH_FAULTS = (
    RuntimeError,
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    OSError,
    LookupError,
    TypeError,
    AttributeError,
)


def torch_fault(error: Exception) -> str:
    """Why torch cannot read a file, without its advice to switch checks off."""
    first = str(error).strip().partition("\n")[0]
    if isinstance(error, (pickle.UnpicklingError, LookupError)) or "torch.save" in first:
        return "another kind of file, or one with other objects than tensors"
    return first or "empty"


class TorchFile:
    """A ``.pth`` file of tensors, perhaps nested under ``model_state`` or ``state_dict``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metadata: dict[str, str] = {}
        try:
            try:
                content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
            except RuntimeError:  # the format before torch 1.6 cannot be mapped
                content = torch.load(path, map_location="cpu", weights_only=True)
        except TORCH_FAULTS as error:
            raise CheckpointError(
                f"{path} is not a whole torch file of plain tensors ({torch_fault(error)}); "
                "download it again"
            ) from None
        for key in ("model_state", "state_dict"):
            if isinstance(content, dict) and isinstance(content.get(key), dict):
                content = content[key]
        if not isinstance(content, dict) or not all(
            isinstance(value, Tensor) for value in content.values()
        ):
            raise CheckpointError(f"{path}: expected named tensors, got other objects")
        self._tensors: dict[str, Tensor] = content

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor's shape."""
        return {name: tuple(tensor.shape) for name, tensor in self._tensors.items()}

    def read(self, name: str) -> Tensor:
        """One tensor, mapped from the file, in its stored type."""
        return self._tensors[name]


def write_tensors(
    path: Path | str,
    layout: Layout,
    tensors: Iterable[tuple[str, Tensor]],
    metadata: Mapping[str, str],
) -> None:
    """Write a safetensors file, taking each tensor when its turn comes.

    Tensors may come in any order and are converted to the layout's type. The file appears under
    its name only when it is whole.

    Raises:
        CheckpointError: a tensor that is not in the layout, of another shape, or left out.
    """
    path = Path(path)
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    offsets, end = {}, 0
    for name, (shape, dtype) in layout.items():
        offsets[name], begin = end, end
        end += math.prod(shape) * dtype.itemsize
        header[name] = {
            "dtype": _CODES[dtype],
            "shape": list(shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    missing = dict.fromkeys(layout)
    try:
        with part.open("wb") as stream:
            stream.write(len(text).to_bytes(8, "little") + text)
            for name, tensor in tensors:
                if name not in missing or tuple(tensor.shape) != layout[name][0]:
                    expected = list(layout[name][0]) if name in layout else "no such tensor"
                    raise CheckpointError(
                        f"{path}: {name}: expected {expected}, got {list(tensor.shape)}"
                    )
                del missing[name]
                data = tensor.detach().to("cpu", layout[name][1]).contiguous()
                stream.seek(8 + len(text) + offsets[name])
                stream.write(data.flatten().view(torch.uint8).numpy().data)
            if missing:
                raise CheckpointError(f"{path}: not given: {', '.join(list(missing)[:5])}")
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
