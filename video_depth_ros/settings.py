# SPDX-License-Identifier: Apache-2.0
"""One source of truth for parameters.

A room describes its parameters as a frozen dataclass whose fields are made by :func:`parameter`:
default, description, unit, range or choices, and whether it may change while the node is active.
Everything else is derived from there: ROS parameter descriptors, ``config/depth.yaml``, command
line overrides, and the tables in the documentation. Nested dataclasses give nested names
(``alignment.overlap``). Unknown names, wrong types and values out of range are errors. A class
attribute ``LISTED`` tells these errors where people find all the names.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import yaml

from video_depth_ros.errors import ConfigError

T = TypeVar("T")
_KEY = "video_depth_ros.parameter"
_FEW = 12  # so many names are read at a glance

# What a ROS 2 parameter can hold; homogeneous lists are tuples in the frozen dataclasses.
SCALARS: tuple[type, ...] = (bool, int, float, str)


@dataclass(frozen=True)
class Parameter:
    """What is known of one parameter besides its default value."""

    description: str
    unit: str = ""
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    live: bool = False  # may change while the node is active


@dataclass(frozen=True)
class Leaf:
    """One parameter with its full dotted name, its current value and its type."""

    name: str
    value: Any
    type: type
    parameter: Parameter


def parameter(
    default: Any,
    description: str,
    *,
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    live: bool = False,
) -> Any:
    """Declare a dataclass field as a parameter. ``low`` and ``high`` are inclusive."""
    meta = Parameter(description, unit, low, high, choices, live)
    return dataclasses.field(default=default, metadata={_KEY: meta})


def group(config_type: type[T]) -> T:
    """Declare a dataclass field as a nested group of parameters with its own defaults."""
    return dataclasses.field(default_factory=config_type)  # type: ignore[return-value]


def leaves(config: Any, prefix: str = "") -> Iterator[Leaf]:
    """All parameters of a config in declaration order, nested groups flattened by dots."""
    hints = get_type_hints(type(config))
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        name = f"{prefix}{field.name}"
        if dataclasses.is_dataclass(value):
            yield from leaves(value, f"{name}.")
        else:
            meta = field.metadata.get(_KEY)
            if meta is None:
                raise ConfigError(f"field {name} is not declared by settings.parameter()")
            kind = hints[field.name]
            yield Leaf(name, value, kind if kind in SCALARS else tuple, meta)


def replace_flat(config: T, values: Mapping[str, Any]) -> T:
    """A copy of ``config`` with dotted names replaced by new, checked values.

    Raises:
        ConfigError: unknown name, wrong type, out of range, or not one of the choices.
    """
    known = {leaf.name: leaf for leaf in leaves(config)}
    for name in values:
        if name not in known:
            raise ConfigError(f"unknown parameter {name!r}; {_nearest(name, config)}")
    checked = {name: check(known[name], value) for name, value in values.items()}
    return _rebuild(config, checked, "")


def flatten_tree(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings (as YAML gives them) to dotted names; lists become tuples."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat.update(flatten_tree(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = tuple(value) if isinstance(value, list) else value
    return flat


def parse_yaml(text: str, where: str) -> Any:
    """What a YAML text says; ``where`` it stands, for the error.

    Raises:
        ConfigError: no YAML.
    """
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: 2026-99-99
        first = str(error).splitlines()[0]
        raise ConfigError(
            f"{where}: expected YAML, got a fault {first}; check brackets"
        ) from error


def read_yaml(path: Path) -> Any:
    """What a YAML file says.

    Raises:
        ConfigError: it cannot be read, or is no YAML.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"cannot read parameters from {path}: {error}; expected a YAML file in UTF-8"
        ) from error
    return parse_yaml(text, f"cannot read parameters from {path}")


def check(leaf: Leaf, value: Any) -> Any:
    """The value in the leaf's own type.

    Raises:
        ConfigError: with the parameter's name, what is allowed and what came.
    """
    meta = leaf.parameter
    value = as_word(leaf, value)
    if leaf.type is tuple:
        if not isinstance(value, (tuple, list)):
            came = "nothing (ROS passes on no empty list)" if value is None else repr(value)
            raise ConfigError(f"parameter {leaf.name}: expected a list, got {came}")
        default = tuple(leaf.value)
        cast = type(default[0]) if default else None
        items = tuple(_scalar(leaf, item, cast or type(item)) for item in value)
        for item in items:
            _check_range(leaf, item)
        return items
    value = _scalar(leaf, value, leaf.type)
    if meta.choices and value not in meta.choices:
        allowed = ", ".join(meta.choices)
        raise ConfigError(f"parameter {leaf.name}: expected one of {allowed}, got {value!r}")
    _check_range(leaf, value)
    return value


def as_word(leaf: Leaf, value: Any) -> Any:
    """``value``, or the word for it: YAML reads a bare ``true`` or ``false`` as a bool, also where
    it is one of a parameter's choices."""
    if (
        leaf.type is str
        and isinstance(value, bool)
        and str(value).lower() in leaf.parameter.choices
    ):
        return str(value).lower()
    return value


def _scalar(leaf: Leaf, value: Any, kind: type) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)  # YAML writes 1 for 1.0
    if type(value) is not kind:
        raise ConfigError(
            f"parameter {leaf.name}: expected {kind.__name__}, "
            f"got {type(value).__name__} {value!r}"
        )
    return value


def _check_range(leaf: Leaf, value: Any) -> None:
    meta = leaf.parameter
    if isinstance(value, (str, bool)):
        return
    low = -math.inf if meta.low is None else meta.low
    high = math.inf if meta.high is None else meta.high
    if not low <= value <= high:  # also refuses NaN
        raise ConfigError(f"parameter {leaf.name}: expected {low} to {high}, got {value!r}")


def _rebuild(config: Any, values: Mapping[str, Any], prefix: str) -> Any:
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        name = f"{prefix}{field.name}"
        if dataclasses.is_dataclass(value):
            changes[field.name] = _rebuild(value, values, f"{name}.")
        elif name in values:
            changes[field.name] = values[name]
    return dataclasses.replace(config, **changes)


def _nearest(name: str, config: Any) -> str:
    """What may have been meant; of many parameters their groups and where all are listed."""
    import difflib

    known = [leaf.name for leaf in leaves(config)]
    close = difflib.get_close_matches(name, known, n=3)
    if close:
        return f"did you mean {', '.join(close)}?"
    if len(known) <= _FEW:
        return f"known are {', '.join(known)}"
    tops = dict.fromkeys(top + (".*" if rest else "") for top, rest in map(_split, known))
    place = getattr(config, "LISTED", "")
    return f"known are {', '.join(tops)}" + (f"; {place} lists them all" if place else "")


def _split(name: str) -> tuple[str, str]:
    top, _, rest = name.partition(".")
    return top, rest
