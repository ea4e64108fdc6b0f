# SPDX-License-Identifier: Apache-2.0
"""ROS parameters from the one source of truth: declared with description and range, checked
together when they are set, swapped in whole between two frames."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    ParameterType,
    SetParametersResult,
)
from rclpy.node import Node
from rclpy.parameter import Parameter

from video_depth_ros.errors import ConfigError
from video_depth_ros.mounting import pose_matrix
from video_depth_ros.node_config import DepthNodeConfig
from video_depth_ros.ros.inputs import QOS_OVERRIDES, check_qos_names
from video_depth_ros.settings import Leaf, as_word, leaves, replace_flat

_OWN_OF_ROS = ("use_sim_time", "start_type_description_service")
_TYPES = {
    bool: ParameterType.PARAMETER_BOOL,
    int: ParameterType.PARAMETER_INTEGER,
    float: ParameterType.PARAMETER_DOUBLE,
    str: ParameterType.PARAMETER_STRING,
}
_LIST_TYPES = {
    bool: ParameterType.PARAMETER_BOOL_ARRAY,
    int: ParameterType.PARAMETER_INTEGER_ARRAY,
    float: ParameterType.PARAMETER_DOUBLE_ARRAY,
    str: ParameterType.PARAMETER_STRING_ARRAY,
}


class NodeParameters:
    """The node's parameters as one immutable configuration.

    Args:
        node: on which they are declared; overrides from files and command line are applied.
        is_active: whether the node is active, when only live parameters may change.

    Raises:
        ConfigError: an override is unknown (the nearest names are given), has the wrong type or
            is out of range; or a QoS policy is overridden that cannot be.
    """

    def __init__(self, node: Node, is_active: Callable[[], bool]) -> None:
        self._is_active = is_active
        self._lock = threading.Lock()
        overrides = {
            name: value.value
            for name, value in node._parameter_overrides.items()
            if name not in _OWN_OF_ROS and not _is_of_qos(name)
        }
        check_qos_names(node, filter(_is_of_qos, node._parameter_overrides))
        self._config = checked(DepthNodeConfig(), overrides)
        self._leaves = {leaf.name: leaf for leaf in leaves(self._config)}
        # declared with the checked values: rclpy itself would refuse 1 for 1.0
        for leaf in self._leaves.values():
            value = list(leaf.value) if leaf.type is tuple else leaf.value
            node.declare_parameter(leaf.name, value, descriptor(leaf), ignore_override=True)
        node.add_on_set_parameters_callback(self._on_set)
        # Humble has no such callback: there `ros2 param set` needs "'true'" for a choice of words
        before_set = getattr(node, "add_pre_set_parameters_callback", None)
        if before_set is not None:
            before_set(self._as_words)

    @property
    def config(self) -> DepthNodeConfig:
        """The configuration in force."""
        with self._lock:
            return self._config

    def _as_words(self, parameters: list[Parameter]) -> list[Parameter]:
        """A bool that stands for one of a parameter's choices as that word: its type stays."""
        return [
            Parameter(p.name, value=as_word(self._leaves[p.name], p.value))
            if p.name in self._leaves
            else p
            for p in parameters
        ]

    def _on_set(self, parameters: list[Parameter]) -> SetParametersResult:
        """Check the new values together. They come into force at once, as an immutable whole
        that the worker picks up between two frames; nothing else is done here."""
        values = {p.name: p.value for p in parameters if p.name in self._leaves}
        try:
            config = checked(self.config, values)
            self._check_allowed(values, config)
        except ConfigError as error:
            return SetParametersResult(successful=False, reason=str(error))
        with self._lock:
            self._config = config
        return SetParametersResult(successful=True)

    def _check_allowed(self, names: Iterable[str], config: DepthNodeConfig) -> None:
        """Refuse what is fixed and would change; a dump may be loaded that says it again."""
        if not self._is_active():
            return
        old = {leaf.name: leaf.value for leaf in leaves(self.config)}
        new = {leaf.name: leaf.value for leaf in leaves(config)}
        fixed = [n for n in names if not self._leaves[n].parameter.live and new[n] != old[n]]
        if fixed:
            raise ConfigError(
                f"{', '.join(fixed)} cannot change while the node is active; deactivate it first"
            )


def checked(config: DepthNodeConfig, values: Mapping[str, Any]) -> DepthNodeConfig:
    """``config`` with new values, checked one by one and together.

    Raises:
        ConfigError: see :func:`~video_depth_ros.settings.replace_flat`; or a pose that is none.
    """
    plain = {name: tuple(value) if _is_list(value) else value for name, value in values.items()}
    config = replace_flat(config, plain)
    for name in ("points", "imu", "base"):
        pose_matrix(getattr(config.extrinsics, name), f"extrinsics.{name}")
    return config


def _is_of_qos(name: str) -> bool:
    return name.startswith(QOS_OVERRIDES)


def _is_list(value: Any) -> bool:
    return not isinstance(value, (str, bytes)) and hasattr(value, "__iter__")


def descriptor(leaf: Leaf) -> ParameterDescriptor:
    """Type, description, range and constraints of one parameter."""
    meta = leaf.parameter
    described = ParameterDescriptor(name=leaf.name, description=meta.description)
    if leaf.type is tuple:
        described.type = _LIST_TYPES[type(leaf.value[0])]
    else:
        described.type = _TYPES[leaf.type]
    notes = []
    if meta.unit:
        notes.append(f"unit: {meta.unit}")
    if meta.choices:
        notes.append(f"one of: {', '.join(meta.choices)}")
    if meta.low is not None and meta.high is not None:
        if leaf.type is float:
            described.floating_point_range = [
                FloatingPointRange(from_value=float(meta.low), to_value=float(meta.high), step=0.0)
            ]
        elif leaf.type is int:
            described.integer_range = [
                IntegerRange(from_value=int(meta.low), to_value=int(meta.high), step=1)
            ]
    elif meta.low is not None:
        notes.append(f"at least {meta.low:g}")
    elif meta.high is not None:
        notes.append(f"at most {meta.high:g}")
    notes.append("may change while active" if meta.live else "fixed while active")
    described.additional_constraints = "; ".join(notes)
    return described
