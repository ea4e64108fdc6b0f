# SPDX-License-Identifier: Apache-2.0
"""A torch device that computes on the CPU, but whose tensors are not the CPU's.

It stands in for a GPU where there is none: an operation on tensors of two devices is an error, as
on CUDA, and so is NumPy on a tensor that was not brought to the CPU. Made with the interface that
PyTorch has for backends written in Python (experimental, since 2.9); it says nothing about a GPU's
kernels, their precision or their speed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

_aten = torch.ops.aten
NAME = "other"
# CUDA too takes a tensor of the CPU here: a copy, or indices.
_MAY_MIX = {
    _aten.copy_.default,
    _aten._copy_from.default,
    _aten._to_copy.default,
    _aten.index.Tensor,
    _aten.index_put.default,
    _aten.index_put_.default,
    _aten._index_put_impl_.default,
}
_TO_THE_FIRST = {_aten.copy_.default, _aten.index.Tensor}  # the result is where that tensor is
_MATH = 0  # attention without a fused kernel, of which each device has its own
_registered: list[torch.library.Library] = []


class OtherTensor(Tensor):
    """A tensor of the device; ``on_cpu`` has its values."""

    on_cpu: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> OtherTensor:
        made: OtherTensor = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=torch.device(NAME, 0),
        )
        made.on_cpu = inner
        return made

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.on_cpu.__reduce_ex__(protocol)

    @classmethod
    def __torch_dispatch__(cls, op, types, args=(), kwargs=None):  # type: ignore[override]
        return _run(op, *args, **(kwargs or {}))


def _run(op: Any, *args: Any, **kwargs: Any) -> Any:
    """Any operation with a tensor of this device, or that makes one."""
    tensors = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
    here = [tensor for tensor in tensors if isinstance(tensor, OtherTensor)]
    strange = [t for t in tensors if not isinstance(t, OtherTensor) and t.dim() > 0]
    if here and strange and op not in _MAY_MIX:
        places = ", ".join(f"{list(t.shape)} on {t.device}" for t in tensors)
        raise RuntimeError(f"{op}: expected all tensors on one device, got {places}")
    if op is _aten._fused_sdp_choice.default:
        return _MATH
    device = kwargs.get("device")
    if op is _aten._local_scalar_dense.default:
        stays = False
    elif op in _TO_THE_FIRST:
        stays = isinstance(args[0], OtherTensor)
    else:
        stays = bool(here) if device is None else torch.device(device).type == NAME
    inner_args, inner_kwargs = tree_map(_inner, (args, kwargs))
    if device is not None:
        inner_kwargs["device"] = torch.device("cpu")
    if op is _aten._copy_from.default:
        inner_args[1].copy_(inner_args[0])
        return args[1]
    with torch.no_grad():
        result = op(*inner_args, **inner_kwargs)
    if not stays:
        return result
    known = {id(tensor.on_cpu): tensor for tensor in here}  # an operation in place returns these

    def outer(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return known[id(value)] if id(value) in known else OtherTensor(value)

    return tree_map(outer, result)


def _inner(value: Any) -> Any:
    return value.on_cpu if isinstance(value, OtherTensor) else value


def register() -> str:
    """Make the device known to torch, once per process; returns its name.

    Raises:
        ImportError: this PyTorch has no backends written in Python.
    """
    if not _registered:
        from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

        _setup_privateuseone_for_python_backend(NAME)
        getattr(torch, NAME).get_amp_supported_dtype = lambda: [torch.bfloat16]  # for autocast
        _registered.append(torch.library.Library("_", "IMPL"))
        _registered[0].fallback(_run, "PrivateUse1")
    return f"{NAME}:0"
