# SPDX-License-Identifier: Apache-2.0
"""The whole configuration of a pipeline, and its YAML form.

The rooms own their parameters; this file only composes them. Names are the same everywhere:
``alignment.overlap`` is a field here, a ROS parameter, a key in ``config/depth.yaml`` and a value
for ``--set``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any, ClassVar, TypeVar

from video_depth_ros.alignment import AlignmentConfig
from video_depth_ros.errors import ConfigError
from video_depth_ros.metric import ScaleConfig
from video_depth_ros.regressors.registry import RegressorConfig
from video_depth_ros.settings import (
    flatten_tree,
    group,
    leaves,
    parameter,
    parse_yaml,
    read_yaml,
    replace_flat,
)

T = TypeVar("T")
NODE = "depth_node"
_MANY = ("*", "**")  # last part of the names that stand for many nodes in a ROS parameter file


@dataclass(frozen=True)
class StreamConfig:
    """How frames become a stream."""

    latency: str = parameter(
        "group",
        "group: a frame's depth comes when its group is complete (best quality per computation); "
        "frame: at once, by padding the group with its last frame, one network run per frame.",
        choices=("group", "frame"),
    )
    max_gap: float = parameter(
        0.5,
        "A gap between two images longer than this starts the window anew.",
        unit="s",
        low=0.01,
        high=60.0,
    )
    max_backward: float = parameter(
        0.1,
        "An image older than the newest by up to this is dropped as out of order; older still, "
        "time has jumped back and the stream is reset.",
        unit="s",
        low=0.0,
        high=10.0,
    )


@dataclass(frozen=True)
class PipelineConfig:
    """Everything the pipeline needs besides its inputs."""

    LISTED: ClassVar[str] = "docs/node.md"

    regressor: RegressorConfig = group(RegressorConfig)
    stream: StreamConfig = group(StreamConfig)
    alignment: AlignmentConfig = group(AlignmentConfig)
    scale: ScaleConfig = group(ScaleConfig)


def load_yaml(config: T, path: Path, others: Collection[str] = ()) -> T:
    """``config`` with the values of a YAML file, plain or in ROS's parameter-file form.

    A ROS parameter file nests the values under ``<node>: ros__parameters:``. Those of ``/**`` are
    taken, and over them those of ``depth_node`` in any namespace, or of the one node of another
    name where there is no other. Names that belong to ROS itself (``use_sim_time``,
    ``qos_overrides``) are passed over, any other unknown name is an error.

    Args:
        config: what the file changes.
        path: the file.
        others: names that are passed over, too: parameters of somebody else who reads this file.

    Raises:
        ConfigError: unreadable file, not a mapping, values of other nodes only, unknown name or
            bad value.
    """
    tree = read_yaml(path)
    if tree is None:
        return config
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: expected names and values, got {type(tree).__name__}")
    sections = list(_sections(tree, path))
    flat = _of_depth_node(sections, path) if sections else _own(flatten_tree(tree))
    known = {leaf.name for leaf in leaves(config)}
    passed_over = set(others) - known
    return replace_flat(config, {n: v for n, v in flat.items() if n not in passed_over})


def _sections(
    tree: Mapping[Any, Any], path: Path, name: str = ""
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Full name of every node in a ROS parameter file, and its flat values without ROS's own."""
    for key, value in tree.items():
        if key == "ros__parameters":
            if not isinstance(value, (Mapping, NoneType)):
                raise ConfigError(
                    f"{path}: expected names and values under ros__parameters of {name}, "
                    f"got {value!r}"
                )
            yield name, _own(flatten_tree(value or {}))
        elif isinstance(value, Mapping):
            yield from _sections(value, path, f"{name}/{str(key).strip('/')}")


def _of_depth_node(sections: list[tuple[str, dict[str, Any]]], path: Path) -> dict[str, Any]:
    """What the sections say to ``depth_node``: those of many nodes first, its own over them."""
    many = [values for name, values in sections if name.rpartition("/")[2] in _MANY]
    single = {n: values for n, values in sections if n.rpartition("/")[2] not in _MANY}
    own = {n: values for n, values in single.items() if n.rpartition("/")[2] == NODE}
    if len(own) > 1:
        raise ConfigError(
            f"{path}: expected parameters of one {NODE}, got those of {', '.join(own)}; put each "
            "into a file of its own"
        )
    if not own and not any(many):  # /** often says no more than use_sim_time
        if len(single) > 1:
            raise ConfigError(
                f"{path}: expected ros__parameters of /** or {NODE} (or of one node alone), got "
                f"those of {', '.join(single)}; name the one that is meant {NODE}"
            )
        own = single
    flat: dict[str, Any] = {}
    for values in [*many, *own.values()]:
        flat |= values
    return flat


def _own(flat: dict[str, Any]) -> dict[str, Any]:
    """Without the names that belong to ROS itself."""
    return {
        name: value
        for name, value in flat.items()
        if name != "use_sim_time" and not name.startswith("qos_overrides.")
    }


def apply_overrides(config: T, assignments: Iterable[str]) -> T:
    """``config`` with ``name=value`` texts applied, values read as YAML.

    Raises:
        ConfigError: no ``=``, a value that is no YAML, unknown name, or bad value.
    """
    texts = {leaf.name for leaf in leaves(config) if leaf.type is str}
    values = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise ConfigError(f"expected name=value, got {assignment!r}")
        value = text if name in texts else parse_yaml(text, repr(assignment))
        values[name] = tuple(value) if isinstance(value, list) else value
    return replace_flat(config, values)
