# SPDX-License-Identifier: Apache-2.0
"""AdamW, or Muon for the matrices and AdamW for the rest.

Muon (Jordan et al. 2024, scaled as in Liu et al. 2025, "Muon is scalable for LLM training") makes
every update of a weight matrix orthogonal. From random weights it needs far fewer steps than
AdamW here; for fine-tuning DVD the paper's AdamW stays the default.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from video_depth_ros.errors import ConfigError

SMALLEST_SIDE = 9  # of a weight seen as a matrix; orthogonality says little about fewer rows


class Optimiser:
    """One or two torch optimisers that step together.

    Args:
        parameters: what is trained.
        name: ``adamw`` or ``muon``.
        rate, weight_decay: shared by both parts: Muon's update is scaled to AdamW's usual size.

    Raises:
        ConfigError: ``muon`` with a torch that has none (before 2.9).
    """

    def __init__(
        self, parameters: Sequence[nn.Parameter], name: str, rate: float, weight_decay: float
    ) -> None:
        wide = [p for p in parameters if _is_matrix(p)] if name == "muon" else []
        chosen = {id(p) for p in wide}
        self._weight_decay = weight_decay
        rest = [p for p in parameters if id(p) not in chosen]
        self._parts: list[torch.optim.Optimizer] = []
        self._flat: list[tuple[nn.Parameter, nn.Parameter]] = []
        if rest:
            self._parts.append(torch.optim.AdamW(rest, lr=rate, weight_decay=weight_decay))
        if wide:
            # torch's Muon takes matrices alone: a convolution goes in as [out, in * taps], by
            # parameters that share its memory.
            self._flat = [(p, nn.Parameter(p.data.view(len(p), -1))) for p in wide]
            self._parts.append(_muon([flat for _, flat in self._flat], rate, weight_decay))

    def step(self) -> None:
        """Change the parameters by their gradients."""
        for whole, flat in self._flat:
            flat.grad = None if whole.grad is None else whole.grad.reshape(flat.shape)
        for part in self._parts:
            part.step()

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for part in self._parts:
            part.zero_grad(set_to_none=True)
        for whole, _ in self._flat:
            whole.grad = None

    def set_rate(self, rate: float) -> None:
        """Use another learning rate from now on."""
        for part in self._parts:
            for group in part.param_groups:
                group["lr"] = rate

    def tensors(self) -> Iterator[Tensor]:
        """The tensors of the state, for tests and for measuring memory."""
        for part in self._parts:
            for state in part.state.values():
                yield from (value for value in state.values() if isinstance(value, Tensor))

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"parts": [part.state_dict() for part in self._parts]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state_dict`.

        Raises:
            ConfigError: it is the state of another kind of optimiser.
        """
        parts = state.get("parts", ())
        if len(parts) != len(self._parts):
            raise ConfigError(
                "optimiser.name: expected the checkpoint's own optimiser when resuming, got "
                "another; start from its weights instead (--init)"
            )
        for part, content in zip(self._parts, parts, strict=True):
            part.load_state_dict(content)
            for group in part.param_groups:  # torch takes the checkpoint's over
                group["weight_decay"] = self._weight_decay


def _is_matrix(parameter: nn.Parameter) -> bool:
    if parameter.ndim < 2:
        return False
    rows = len(parameter)
    return min(rows, parameter.numel() // max(rows, 1)) >= SMALLEST_SIDE


def _muon(
    parameters: list[nn.Parameter], rate: float, weight_decay: float
) -> torch.optim.Optimizer:
    kind = getattr(torch.optim, "Muon", None)
    if kind is None:
        raise ConfigError(
            f"optimiser.name: muon needs torch 2.9 or later, got {torch.__version__}; "
            "update torch or take adamw"
        )
    made: torch.optim.Optimizer = kind(
        parameters, lr=rate, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"
    )
    return made
