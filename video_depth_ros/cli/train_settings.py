# SPDX-License-Identifier: Apache-2.0
"""The settings of ``video_depth train``: from the command line, or from the run that goes on."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from rich.console import Console

from video_depth_ros.errors import ConfigError
from video_depth_ros.settings import flatten_tree, leaves, parse_yaml, read_yaml, replace_flat
from video_depth_ros.training.config import DataConfig, TrainConfig


def settings(args: argparse.Namespace, base: TrainConfig | None = None) -> TrainConfig:
    """``base`` with the config file, shorthands and ``--set`` laid over it, in this order.

    Raises:
        ConfigError: unknown names, wrong types, values out of range.
    """
    values: dict[str, object] = {}
    if args.config is not None:
        if not args.config.exists():
            raise ConfigError(f"--config: expected a YAML file at {args.config}, got no file")
        tree = read_yaml(args.config)
        if tree is not None and not isinstance(tree, dict):
            raise ConfigError(f"--config: expected names with values in {args.config}")
        values |= flatten_tree(tree or {})
    values |= {n: v for n in ("stage", "size") if (v := getattr(args, n)) is not None}
    for word in args.set:
        name, equals, text = word.partition("=")
        if not equals:
            raise ConfigError(f"--set: expected NAME=VALUE, got {word!r}")
        values[name] = _number(parse_yaml(text, f"--set: {word}"))
    return replace_flat(base or TrainConfig(), values)


def data_settings(args: argparse.Namespace, base: DataConfig | None = None) -> DataConfig:
    """``base`` with ``--data`` and what belongs to it laid over.

    Raises:
        ConfigError: values out of range.
    """
    names = [leaf.name for leaf in leaves(DataConfig())]
    given = {n: v for n in names if (v := getattr(args, n)) is not None}
    if "cache" in given:
        given["cache"] = str(given["cache"])
    return replace_flat(base or DataConfig(), given)


def resumed_settings(args: argparse.Namespace, place: Path) -> tuple[TrainConfig, DataConfig]:
    """The settings a run began with, and what the command line changes about them.

    Args:
        args: ``force`` allows changes of what a step does.
        place: the checkpoint.

    Raises:
        CheckpointError: missing, damaged, or of settings this version does not know.
        ConfigError: changes that were not asked for by force, or a checkpoint that does not say
            what it was trained on, and no ``--data``.
    """
    from video_depth_ros.training import checkpoint
    from video_depth_ros.training.resumption import refuse_changes, refuse_other_data

    snapshot = checkpoint.load(place, later=True)
    stored, stored_data = checkpoint.config_of(snapshot), checkpoint.data_of(snapshot)
    if stored_data is None and args.data is None:
        raise ConfigError(
            f"{place} does not say what the run is trained on: expected --data (and --frames, "
            "--cache) as it was started with"
        )
    config, data = settings(args, stored), data_settings(args, stored_data)
    if not args.force:
        refuse_changes(stored, config)
        if stored_data is not None:
            refuse_other_data(stored_data, data)
    return config, data


def print_settings(console: Console) -> None:
    """Every setting with its default and what it is."""
    for leaf in leaves(TrainConfig()):
        value = json.dumps(leaf.value)
        console.print(f"{leaf.name} = {value}", markup=False, highlight=False)
        console.print(f"    {leaf.parameter.description}", markup=False, highlight=False)


def _number(value: object) -> object:
    """YAML 1.1 reads 1e-4 as text; a number is meant."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value
