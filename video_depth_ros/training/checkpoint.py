# SPDX-License-Identifier: Apache-2.0
"""Training checkpoints: one file with weights, optimiser, average, step, randomness and log."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from video_depth_ros.errors import CheckpointError, ConfigError
from video_depth_ros.files import replacing
from video_depth_ros.regressors.wan.tensor_file import TORCH_FAULTS, torch_fault
from video_depth_ros.settings import flatten_tree, replace_flat
from video_depth_ros.training.config import DataConfig, TrainConfig
from video_depth_ros.training.origin import DVD, Origin

T = TypeVar("T")
NAME = "checkpoint.pt"


class Snapshot(NamedTuple):
    """The state of a training run; plain containers and tensors only.

    ``data`` is what it is trained on (None where a program made the batches itself) and ``ranks``
    how many processes train together (0 = not known), ``origin`` the name and licence that the
    weights inherit (both empty for random ones); older checkpoints have none of them.
    """

    model: dict[str, Tensor]
    optimiser: dict[str, Any]
    ema: dict[str, Any]
    step: int
    random: dict[str, Tensor]
    config: dict[str, Any]
    history: list[dict[str, float]]
    data: dict[str, Any] | None = None
    ranks: int = 0
    origin: dict[str, str] | None = None


def save(path: Path, snapshot: Snapshot) -> None:
    """Write beside and rename, so that a kill leaves the last checkpoint whole."""
    with replacing(path) as beside:
        torch.save(snapshot._asdict(), beside)


def load(path: Path, later: bool = False) -> Snapshot:
    """Read a checkpoint (weights only: no code in the file is run).

    Args:
        later: leave the tensors in the file until they are used, to look at the rest.

    Raises:
        CheckpointError: missing, damaged or not a training checkpoint.
    """
    if not path.exists():
        raise CheckpointError(f"expected a training checkpoint at {path}, got no file")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=later)
        return Snapshot(**content)
    except TORCH_FAULTS as error:
        raise CheckpointError(
            f"expected a training checkpoint at {path}, got a file that cannot be read "
            f"({torch_fault(error)}); start anew or take an older one"
        ) from error


def fill(module: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """Load weights strictly.

    Raises:
        CheckpointError: names or shapes differ; the first few are listed.
    """
    own = module.state_dict()
    wrong = sorted(
        name
        for name in own.keys() | state.keys()
        if name not in own or name not in state or own[name].shape != state[name].shape
    )
    if wrong:
        raise CheckpointError(
            f"expected weights for this model in {path}, got others: {len(wrong)} names or shapes "
            f"differ ({', '.join(wrong[:3])}); check size, tau, text_dim and lora_rank"
        )
    module.load_state_dict(state)


def random_state() -> dict[str, Tensor]:
    """State of torch's generators (data has generators of its own, seeded by the step)."""
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_random_state(state: dict[str, Tensor]) -> None:
    """Go on with the randomness of :func:`random_state`."""
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def plain(config: Any) -> dict[str, Any]:
    """A config dataclass as nested dictionaries."""
    return asdict(config)


def config_of(snapshot: Snapshot) -> TrainConfig:
    """The config a checkpoint was written with.

    Raises:
        CheckpointError: settings this version does not know.
    """
    return _settings(TrainConfig(), snapshot.config)


def data_of(snapshot: Snapshot) -> DataConfig | None:
    """What the run is trained on, if the checkpoint says so.

    Raises:
        CheckpointError: settings this version does not know.
    """
    return None if snapshot.data is None else _settings(DataConfig(), snapshot.data)


def origin_of(snapshot: Snapshot) -> Origin:
    """What the weights were first made from.

    A checkpoint that does not say so counts as from random weights, but one of DVD's size as from
    DVD: nobody trains that from nothing.

    Raises:
        CheckpointError: settings this version does not know.
    """
    if snapshot.origin is not None:
        return Origin(**snapshot.origin)
    return DVD if config_of(snapshot).size == "dvd" else Origin()


def _settings(defaults: T, stored: dict[str, Any]) -> T:
    try:
        return replace_flat(defaults, flatten_tree(stored))
    except ConfigError as error:
        raise CheckpointError(f"the checkpoint's settings are not understood: {error}") from error
