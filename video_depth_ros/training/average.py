# SPDX-License-Identifier: Apache-2.0
"""The mean of several runs, weight by weight.

Runs that started from the same weights lie in one basin, where the mean of the weights does about
what the mean of the answers does, at the cost of one network (model soups, Wortsman et al. 2022).
Runs from different random weights have nothing in common that could be averaged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from video_depth_ros.errors import CheckpointError, ConfigError
from video_depth_ros.training.config import TrainConfig
from video_depth_ros.training.image_encoder import set_encoder
from video_depth_ros.training.initial import exported_model, trained_model
from video_depth_ros.training.model import DepthModel


class Mean(NamedTuple):
    """What came of averaging.

    Attributes:
        model: with the mean weights.
        config: of the first run.
        parts: share of each run with its stage, steps and seed, or of each file with its name, for
            the exported file's notes.
    """

    model: DepthModel
    config: TrainConfig
    parts: list[dict[str, Any]]


def average(
    runs: Sequence[tuple[Path, float]], encoder: str = "", licence: str | None = None
) -> Mean:
    """The mean of the averaged weights (EMA) of some runs.

    Args:
        runs: a run's folder or its ``checkpoint.pt``, or a folded file such as the one that it
            began with; and its share, any positive scale. The first is a run.
        encoder: ``image`` or ``video`` makes every run one of this kind first (as ``encoder`` in
            training); empty takes them as they are.
        licence: what the caller says of the mean; None for that of the runs.

    Raises:
        CheckpointError: a run that is missing, damaged or of another model than the first.
        ConfigError: no run, a file in the first place, runs with encoders of both kinds, or runs
            from weights under other licences and no ``licence``.
    """
    if not runs:
        raise ConfigError("average: expected at least one run, got none")
    if _is_file(runs[0][0]):
        raise ConfigError(
            f"average: expected a training run in the first place, got the file {runs[0][0]}; "
            "name the files after the runs"
        )
    total = sum(share for _, share in runs)
    mean: dict[str, Tensor] = {}
    first: Mean | None = None
    kept: dict[str, Any]
    for path, share in runs:
        if first is not None and _is_file(path):
            model, kept = exported_model(path), {"file": path.name}
        else:
            model, config, steps = trained_model(path)
            kept = {"stage": config.stage, "steps": steps, "seed": config.seed}
            first = Mean(model, config, []) if first is None else first
        if encoder:
            set_encoder(model, encoder)
        _same_kind(first.model, model, path)
        if licence is None:
            _same_licence(first.model, model, path)
        for name, tensor in model.state_dict().items():
            part = tensor.double() * (share / total)
            mean[name] = mean[name] + part if name in mean else part
        first.parts.append({"share": round(share / total, 4), **kept})
    assert first is not None
    first.model.load_state_dict({name: tensor.float() for name, tensor in mean.items()})
    return first


def _is_file(path: Path) -> bool:
    return path.suffix == ".safetensors"


def _same_kind(first: DepthModel, other: DepthModel, path: Path) -> None:
    memories = [model.size.vae.image_encoder for model in (first, other)]
    sizes = [replace(m.size, vae=replace(m.size.vae, image_encoder=False)) for m in (first, other)]
    if sizes[0] != sizes[1] or first.tau != other.tau:
        raise CheckpointError(
            f"average: expected runs of one model, got {path} of another size, number of output "
            "channels or tau than the first"
        )
    if memories[0] != memories[1]:
        raise ConfigError(
            f"average: the encoder of {path} has {'no' if memories[1] else 'a'} memory, that of "
            "the first run differs; choose with --encoder image or --encoder video"
        )


def _same_licence(first: DepthModel, other: DepthModel, path: Path) -> None:
    licences = [model.origin.licensed() for model in (first, other)]
    if licences[0] != licences[1]:
        raise ConfigError(
            f"average: expected runs from weights under one licence, got {licences[1]} of {path} "
            f"and {licences[0]} of the first run; say by --licence which holds for the mean"
        )
