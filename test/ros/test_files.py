# SPDX-License-Identifier: Apache-2.0
"""The files beside the code say what the code does."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from video_depth_ros.config import load_yaml
from video_depth_ros.node_config import DepthNodeConfig
from video_depth_ros.ros import outputs
from video_depth_ros.ros.parameter_files import parameter_yaml, with_table
from video_depth_ros.ros.parameters import descriptor
from video_depth_ros.settings import leaves

ROOT = Path(__file__).resolve().parents[2]
OUTPUTS = {**outputs.METRIC, **outputs.RELATIVE}


def test_the_parameter_file_is_what_the_configuration_says() -> None:
    path = ROOT / "config" / "depth.yaml"
    assert path.read_text() == parameter_yaml(), "python -m video_depth_ros.ros.parameter_files"
    assert load_yaml(DepthNodeConfig(), path) == DepthNodeConfig()


def test_the_manual_has_every_parameter_and_topic() -> None:
    text = (ROOT / "docs" / "node.md").read_text()
    assert with_table(text) == text, "python -m video_depth_ros.ros.parameter_files"
    for topic in OUTPUTS:
        assert f"| `{topic}` |" in text


def test_every_parameter_can_be_described_to_ros() -> None:
    for leaf in leaves(DepthNodeConfig()):
        described = descriptor(leaf)
        assert described.description == leaf.parameter.description
        assert described.type != 0 and described.additional_constraints
        for bounds in (*described.floating_point_range, *described.integer_range):
            assert bounds.from_value == leaf.parameter.low
            assert bounds.to_value == leaf.parameter.high


def test_rviz_shows_topics_that_exist() -> None:
    config = yaml.safe_load((ROOT / "config" / "depth.rviz").read_text())
    displays = config["Visualization Manager"]["Displays"]
    topics = {d["Topic"]["Value"] for d in displays if "Topic" in d}
    assert topics == {"depth/points", "depth/image_color", "points", "image"}
    assert topics - {"points", "image"} <= set(OUTPUTS)
    # the frames of a group come at once
    depth = outputs.output_qos(4).depth
    assert {d["Topic"]["Depth"] for d in displays if "Topic" in d} == {depth}


def test_foxglove_shows_topics_that_exist_and_every_panel_has_a_place() -> None:
    layout = json.loads((ROOT / "config" / "foxglove.json").read_text())
    panels = layout["configById"]

    def placed(node: str | dict) -> set[str]:
        if isinstance(node, str):
            return {node}
        return placed(node["first"]) | placed(node["second"])

    assert placed(layout["layout"]) == set(panels)
    images = [p["imageMode"]["imageTopic"] for p in panels.values() if "imageMode" in p]
    clouds = list(panels["3D!depth"]["topics"])
    ours = {t.lstrip("/") for t in (*images, *clouds)} - {"image", "points"}
    assert ours <= set(OUTPUTS)


def test_nav2_listens_to_our_cloud() -> None:
    config = yaml.safe_load((ROOT / "config" / "nav2_voxel.yaml").read_text())
    costmap = config["local_costmap"]["local_costmap"]["ros__parameters"]
    assert set(costmap["plugins"]) <= set(costmap)
    cloud = costmap["voxel_layer"]["depth"]
    assert cloud["topic"].lstrip("/") in OUTPUTS
    # the cloud is silent without a scale, which odometry and IMU find only while the robot moves
    assert cloud["expected_update_rate"] == 0.0
    assert costmap["obstacle_layer"]["scan"]["expected_update_rate"] > 0.0  # the LiDAR guards
