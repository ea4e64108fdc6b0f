# SPDX-License-Identifier: Apache-2.0
"""Exponential moving average of the trained weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from video_depth_ros.errors import CheckpointError


class Ema:
    """Averages of the parameters that are trained, float32.

    The decay rises with the steps, min(decay, (1 + n) / (10 + n)), so that the random start is
    forgotten.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.average: dict[str, Tensor] = {
            name: p.detach().clone().float()
            for name, p in module.named_parameters()
            if p.requires_grad
        }

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Take in the weights after a step."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        for name, p in module.named_parameters():
            if name in self.average:
                self.average[name].lerp_(p.detach().float(), 1 - decay)

    @contextmanager
    def applied(self, module: nn.Module) -> Iterator[None]:
        """Put the averages into ``module`` for the time of the context."""
        own = {n: p.detach().clone() for n, p in module.named_parameters() if n in self.average}
        self._write(module, self.average)
        try:
            yield
        finally:
            self._write(module, own)

    @staticmethod
    @torch.no_grad()
    def _write(module: nn.Module, values: dict[str, Tensor]) -> None:
        for name, p in module.named_parameters():
            if name in values:
                p.copy_(values[name])

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"updates": self.updates, "average": self.average}

    @torch.no_grad()
    def load(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state`; the averages stay on the device they are on.

        Raises:
            CheckpointError: averages of other weights than those that are trained.
        """
        stored: dict[str, Tensor] = state["average"]
        wrong = sorted(
            name
            for name in self.average.keys() | stored.keys()
            if name not in self.average
            or name not in stored
            or self.average[name].shape != stored[name].shape
        )
        if wrong:
            raise CheckpointError(
                f"expected averages of the {len(self.average)} weights that are trained, got "
                f"others: {len(wrong)} names or shapes differ ({', '.join(wrong[:3])}); resume "
                "with the stage, lora_rank and encoder of the run"
            )
        for name, tensor in self.average.items():
            tensor.copy_(stored[name])
        self.updates = int(state["updates"])
