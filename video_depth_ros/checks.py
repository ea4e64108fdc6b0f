# SPDX-License-Identifier: Apache-2.0
"""What comes from outside is checked where it comes in: a wrong kind of array would otherwise fail
many calls later, and cost others than the one who gave it."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from torch import Tensor

from video_depth_ros.errors import InputError


def numbers(value: Any, reason: str, expected: str, kinds: str = "fiu") -> np.ndarray:
    """A value as an array of real numbers; tensors are fetched from their device.

    Args:
        value: anything.
        reason: word of the error.
        expected: what it should be, for the message.
        kinds: NumPy's letters of the kinds of numbers that are allowed.

    Raises:
        InputError: ``reason``, when it holds something else than such numbers.
    """
    if isinstance(value, Tensor):
        value = value.detach().cpu().numpy()
    try:
        array = np.asarray(value)
    except ValueError as error:  # rows of different lengths
        raise InputError(reason, f"expected {expected}, got a ragged list") from error
    if array.dtype.kind not in kinds:
        raise InputError(reason, f"expected {expected}, got {array.dtype} {list(array.shape)}")
    return array


def stamp(value: Any) -> int:
    """A time in integer nanoseconds.

    Raises:
        InputError: ``stamp``.
    """
    try:
        return operator.index(value)
    except TypeError as error:
        raise InputError(
            "stamp", f"expected a stamp in integer nanoseconds, got {value!r}"
        ) from error
