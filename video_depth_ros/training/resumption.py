# SPDX-License-Identifier: Apache-2.0
"""What may differ when a run goes on, and what may not without being asked for."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from video_depth_ros.errors import ConfigError
from video_depth_ros.settings import leaves
from video_depth_ros.training.config import DataConfig, TrainConfig

# How long, where and how often something is written: none of it changes what a step does.
FREE = (
    "steps",
    "device",
    "checkpointing",
    "workers",
    "log_every",
    "save_every",
    "validate_every",
)
FREE_DATA = ("cache", "heldout")


def refuse_changes(stored: TrainConfig, asked: TrainConfig) -> None:
    """Hold a run to the settings it began with.

    Raises:
        ConfigError: a setting outside :data:`FREE` differs; all of them are named with both
            values.
    """
    _refuse(stored, asked, FREE)


def refuse_other_data(stored: DataConfig, asked: DataConfig) -> None:
    """Hold a run to the data it began with.

    Raises:
        ConfigError: as :func:`refuse_changes`.
    """
    _refuse(stored, asked, FREE_DATA)


def refuse_other_ranks(stored: int, asked: int) -> None:
    """Hold a run to its number of processes, each of which adds batches to a step.

    Raises:
        ConfigError: another number; 0 stands for not known.
    """
    if stored not in (0, asked):
        raise ConfigError(
            f"a run goes on with the number of processes it began with: expected {stored}, got "
            f"{asked}. Start that many (torchrun --nproc-per-node), or insist with --force"
        )


def _refuse(stored: Any, asked: Any, free: Collection[str]) -> None:
    before = {leaf.name: leaf.value for leaf in leaves(stored)}
    changed = [
        f"{leaf.name}: expected {before[leaf.name]!r}, got {leaf.value!r}"
        for leaf in leaves(asked)
        if leaf.name not in free and leaf.value != before[leaf.name]
    ]
    if changed:
        raise ConfigError(
            f"a run goes on with the settings it began with: {'; '.join(changed)}. Leave them "
            "out, start another run from this one (--init), or insist with --force"
        )
