# SPDX-License-Identifier: Apache-2.0
"""Parameters: one declaration, checked values, unknown names refused."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from video_depth_ros.config import PipelineConfig, apply_overrides, load_yaml
from video_depth_ros.errors import ConfigError
from video_depth_ros.node_config import DepthNodeConfig
from video_depth_ros.settings import flatten_tree, group, leaves, parameter, replace_flat
from video_depth_ros.training.config import TrainConfig


@dataclass(frozen=True)
class Inner:
    gain: float = parameter(1.0, "Gain.", unit="dB", low=0.0, high=10.0, live=True)
    taps: tuple[int, ...] = parameter((1, 2), "Taps.", low=0)


@dataclass(frozen=True)
class Outer:
    mode: str = parameter("fast", "Mode.", choices=("fast", "slow"))
    count: int = parameter(3, "Count.", low=1)
    enabled: bool = parameter(True, "Switch.")
    inner: Inner = group(Inner)


@dataclass(frozen=True)
class Words:
    rectified: str = parameter("auto", "Rectified.", choices=("auto", "true", "false"))
    switch: str = parameter("on", "Switch.", choices=("on", "false"))


def test_a_bare_true_is_the_word_where_that_is_a_choice(tmp_path):
    path = tmp_path / "parameters.yaml"
    for text, word in (("true", "true"), ("false", "false"), ("'true'", "true"), ("auto", "auto")):
        path.write_text(f"rectified: {text}\n")
        assert load_yaml(Words(), path).rectified == word
    assert replace_flat(Words(), {"switch": False}).switch == "false"
    with pytest.raises(ConfigError, match="switch: expected str, got bool True"):
        replace_flat(Words(), {"switch": True})


def test_names_are_dotted_and_in_order():
    assert [leaf.name for leaf in leaves(Outer())] == [
        "mode",
        "count",
        "enabled",
        "inner.gain",
        "inner.taps",
    ]


def test_replacing_leaves_the_original_alone():
    before = Outer()
    after = replace_flat(before, {"inner.gain": 2, "mode": "slow", "inner.taps": [3, 4, 5]})
    assert (after.inner.gain, after.mode, after.inner.taps) == (2.0, "slow", (3, 4, 5))
    assert isinstance(after.inner.gain, float)
    assert before == Outer()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("inner.gian", 1.0, "did you mean inner.gain"),
        ("nothing_like_it", 1.0, "known are"),
        ("mode", "warp", "expected one of fast, slow"),
        ("count", 0, "expected 1"),
        ("count", 2.5, "expected int, got float"),
        ("count", True, "expected int, got bool"),
        ("enabled", 1, "expected bool"),
        ("inner.gain", float("nan"), "expected 0.0 to 10.0"),
        ("inner.gain", "1", "expected float, got str"),
        ("inner.taps", (1, -2), "expected 0"),
        ("inner.taps", 3, "expected a list"),
    ],
)
def test_bad_values_are_refused_by_name(name, value, message):
    with pytest.raises(ConfigError, match=message) as error:
        replace_flat(Outer(), {name: value})
    assert name in str(error.value)


def test_many_names_are_told_by_their_groups_and_where_they_are_listed():
    for config, place in (
        (PipelineConfig(), "docs/node.md"),
        (DepthNodeConfig(), "docs/node.md"),
        (TrainConfig(), "video_depth train --list"),
    ):
        with pytest.raises(ConfigError) as error:
            replace_flat(config, {"nothing_like_it": 1})
        assert str(error.value).endswith(f"; {place} lists them all")
        assert len(str(error.value)) < 400
    with pytest.raises(ConfigError, match=r"known are regressor\.\*, stream\.\*, alignment\.\*,"):
        replace_flat(PipelineConfig(), {"nothing_like_it": 1})


@given(st.floats(0.0, 10.0), st.integers(1, 1000))
def test_flat_round_trip(gain, count):
    config = replace_flat(Outer(), {"inner.gain": gain, "count": count})
    again = replace_flat(Outer(), {leaf.name: leaf.value for leaf in leaves(config)})
    assert again == config


def test_every_parameter_of_the_pipeline_is_described():
    names = set()
    for leaf in leaves(PipelineConfig()):
        assert leaf.parameter.description.endswith((".", ")")), leaf.name
        assert leaf.name not in names
        names.add(leaf.name)
    assert {"regressor.name", "stream.latency", "alignment.overlap"} <= names


def test_yaml_plain_and_ros_form(tmp_path):
    plain = tmp_path / "plain.yaml"
    plain.write_text("stream:\n  max_gap: 2\n")
    ros = tmp_path / "ros.yaml"
    ros.write_text(
        "depth_node:\n  ros__parameters:\n    use_sim_time: true\n"
        "    stream:\n      max_gap: 2.0\n"
    )
    for path in (plain, ros):
        assert load_yaml(PipelineConfig(), path).stream.max_gap == 2.0


@pytest.mark.parametrize("text", ["stream: {max_gaps: 1}", "- 1", "a: [", "stream: {max_gap: x}"])
def test_bad_yaml_is_one_clear_error(tmp_path, text):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError):
        load_yaml(PipelineConfig(), path)
    with pytest.raises(ConfigError, match="cannot read"):
        load_yaml(PipelineConfig(), tmp_path / "missing.yaml")


def section(node: str, gap: float, more: str = "") -> str:
    return f"{node}:\n  ros__parameters:\n    stream:\n      max_gap: {gap}\n{more}"


@pytest.mark.parametrize(
    ("text", "gap"),
    [
        (section("camera", 1) + section("depth_node", 2), 2.0),
        (section("depth_node", 2) + section("/**", 3), 2.0),
        (section("lidar", 1) + section("/**", 3), 3.0),
        ("robot1:\n  depth_node: {ros__parameters: {stream.max_gap: 4}}\n", 4.0),
        (section("camera", 1) + section("/robot1/depth_node", 5), 5.0),
        (section("renamed", 6), 6.0),
        ("/**: {ros__parameters: {use_sim_time: true}}\n" + section("renamed", 6), 6.0),
        ("/**: {ros__parameters: }\n", 0.5),
    ],
)
def test_a_ros_file_is_read_for_the_depth_node(tmp_path, text, gap):
    path = tmp_path / "several.yaml"
    path.write_text(text)
    assert load_yaml(PipelineConfig(), path).stream.max_gap == gap


def test_the_nodes_own_values_lie_over_those_of_all_nodes(tmp_path):
    path = tmp_path / "both.yaml"
    path.write_text(section("depth_node", 2) + section("/**", 3, "      max_backward: 0.7\n"))
    stream = load_yaml(PipelineConfig(), path).stream
    assert (stream.max_gap, stream.max_backward) == (2.0, 0.7)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (section("camera", 1) + section("lidar", 2), "got those of /camera, /lidar"),
        (
            section("a/depth_node", 1) + section("b/depth_node", 2),
            "got those of /a/depth_node, /b",
        ),
        ("depth_node: {ros__parameters: 3}\n", "under ros__parameters of /depth_node, got 3"),
    ],
)
def test_a_ros_file_that_is_not_for_one_depth_node_is_refused(tmp_path, text, message):
    path = tmp_path / "others.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_yaml(PipelineConfig(), path)


def test_names_of_others_who_read_the_file_are_passed_over(tmp_path):
    path = tmp_path / "node.yaml"
    path.write_text("input: {transport: raw}\nstream: {max_gap: 2.0}\n")
    others = ["input.transport", "stream.max_gap"]
    assert load_yaml(PipelineConfig(), path, others).stream.max_gap == 2.0
    path.write_text("input: {transprt: raw}\n")
    with pytest.raises(ConfigError, match=r"unknown parameter 'input.transprt'"):
        load_yaml(PipelineConfig(), path, others)


@pytest.mark.parametrize("value", ["[", "2026-99-99", "{[1]: 2}", "=", "[" * 5000])
def test_a_value_that_is_no_yaml_is_named(value):
    with pytest.raises(ConfigError, match=r"'stream\.max_gap=.*expected YAML"):
        apply_overrides(PipelineConfig(), [f"stream.max_gap={value}"])


def test_overrides_from_the_command_line():
    config = apply_overrides(
        PipelineConfig(), ["stream.latency=frame", "stream.max_gap=1", "regressor.weights=1"]
    )
    assert config.stream.latency == "frame"
    assert config.stream.max_gap == 1.0
    assert config.regressor.weights == "1"
    with pytest.raises(ConfigError, match="name=value"):
        apply_overrides(PipelineConfig(), ["stream.latency"])


def test_flatten_tree():
    assert flatten_tree({"a": {"b": 1, "c": {"d": [1, 2]}}}) == {"a.b": 1, "a.c.d": (1, 2)}
