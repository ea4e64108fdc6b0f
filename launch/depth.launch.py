# SPDX-License-Identifier: Apache-2.0
"""Start depth_node, configure and activate it; optionally play a bag to it and show the result.

    ros2 launch video_depth_ros depth.launch.py image:=/camera/image_raw points:=/lidar/points
    ros2 launch video_depth_ros depth.launch.py bag:=drive.mcap image:=/camera/image_raw rviz:=true
    ros2 launch video_depth_ros depth.launch.py --show-args

Works from Humble on: the transitions are driven by event handlers, because LifecycleNode's own
``autostart`` came later.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from ament_index_python.packages import get_package_share_directory
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    ExecuteProcess,
    LogInfo,
    OpaqueFunction,
    RegisterEventHandler,
)
from launch.event_handlers import OnProcessStart
from launch.events import matches_action
from launch.launch_description_entity import LaunchDescriptionEntity
from launch.logging import launch_config
from launch_ros.actions import LifecycleNode, Node
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from lifecycle_msgs.msg import Transition

from launch import LaunchContext, LaunchDescription

PACKAGE = "video_depth_ros"
SWITCH = ("true", "false")
DISCOVERY = "3.0"  # s from the start of the player to its first message
TOPICS = ("image", "camera_info", "points", "sparse_depth", "imu", "odom")


class Argument(NamedTuple):
    """One launch argument."""

    name: str
    default: str
    description: str
    choices: tuple[str, ...] = ()


# What one is likely to change, and nothing else; everything else stands in params_file.
ARGUMENTS = (
    Argument("image", "image", "Topic of the images, raw or .../compressed."),
    Argument("camera_info", "camera_info", "Topic of camera_info; default: beside the images."),
    Argument("points", "points", "Topic of a LiDAR's PointCloud2, for metric scale."),
    Argument("sparse_depth", "sparse_depth", "Topic of a sparse depth image, for metric scale."),
    Argument("imu", "imu", "Topic of an IMU, for metric scale."),
    Argument("odom", "odom", "Topic of wheel odometry, for metric scale."),
    Argument("params_file", "", "Parameter file; default: config/depth.yaml of this package."),
    Argument("regressor", "", "Regressor (nano, dvd, ...); default: that of params_file."),
    Argument("weights", "", "Weight file; default: that of params_file."),
    Argument("device", "", "torch device (cpu, cuda ...); default: that of params_file."),
    Argument("name", "depth_node", "Name of the node."),
    Argument("namespace", "", "Namespace of the node and its topics."),
    Argument("use_sim_time", "false", "Time comes from /clock; implied by bag.", SWITCH),
    Argument(
        "log_level", "info", "Least level to log.", ("debug", "info", "warn", "error", "fatal")
    ),
    Argument("autostart", "true", "Configure and activate the node.", SWITCH),
    Argument("respawn", "false", "Start the process again when it dies.", SWITCH),
    Argument("bag", "", "Bag to play with --clock, once, when the node is active."),
    Argument("bag_rate", "1.0", "Speed at which the bag is played."),
    Argument(
        "rviz", "false", "Show the result in RViz; its camera panel shows raw images.", SWITCH
    ),
    Argument("foxglove", "false", "Run foxglove_bridge; layout: config/foxglove.json.", SWITCH),
)


def generate_launch_description() -> LaunchDescription:
    """Declared arguments, then everything that depends on their values."""
    declared = [
        DeclareLaunchArgument(
            argument.name,
            default_value=argument.default,
            description=argument.description,
            choices=list(argument.choices) or None,
        )
        for argument in ARGUMENTS
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=actions)])


def actions(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """The actions for the values that the arguments have in this launch."""
    values = {a.name: context.launch_configurations[a.name] for a in ARGUMENTS}
    config = Path(get_package_share_directory(PACKAGE)) / "config"
    node = depth_node(values, config)
    found: list[LaunchDescriptionEntity] = [node]
    if values["autostart"] == "true":
        found += autostart(node)
    if values["bag"]:
        found.append(when_first_active(node, play_bag(values)))
    if values["rviz"] == "true":
        found.append(rviz(values, config))
    if values["foxglove"] == "true":
        found.append(
            Node(
                package="foxglove_bridge",
                executable="foxglove_bridge",
                parameters=[{"use_sim_time": simulated(values)}],
            )
        )
        layout = f"Foxglove layout to import: {config / 'foxglove.json'}"
        topics = "/image, /camera_info, /points and /depth/..."
        found.append(LogInfo(msg=f"{layout}; it shows {topics}: choose others in its panels"))
    return found


def depth_node(values: dict[str, str], config: Path) -> LifecycleNode:
    """The node; arguments that are given win over the parameter file."""
    given = {
        f"regressor.{key}": values[argument]
        for key, argument in (("name", "regressor"), ("weights", "weights"), ("device", "device"))
        if values[argument]
    }
    return LifecycleNode(
        package=PACKAGE,
        executable="depth_node",
        name=values["name"],
        namespace=values["namespace"],
        parameters=[
            *([reliable(values)] if values["bag"] else []),
            values["params_file"] or str(config / "depth.yaml"),
            {"use_sim_time": simulated(values), **given},
        ],
        remappings=remappings(values),
        ros_arguments=["--log-level", values["log_level"]],
        respawn=values["respawn"] == "true",
        respawn_delay=2.0,
        output="screen",
    )


def remappings(values: dict[str, str]) -> list[tuple[str, str]]:
    """The topics that were named, for the node and for what shows them."""
    return [(topic, values[topic]) for topic in TOPICS if values[topic] != topic]


def autostart(node: LifecycleNode) -> list[LaunchDescriptionEntity]:
    """Configure when the process has started, activate when that has succeeded."""
    return [
        RegisterEventHandler(
            OnProcessStart(
                target_action=node, on_start=[change(node, Transition.TRANSITION_CONFIGURE)]
            )
        ),
        RegisterEventHandler(
            OnStateTransition(
                target_lifecycle_node=node,
                start_state="configuring",
                goal_state="inactive",
                entities=[change(node, Transition.TRANSITION_ACTIVATE)],
            )
        ),
        RegisterEventHandler(
            OnStateTransition(
                target_lifecycle_node=node,
                start_state="configuring",
                goal_state="unconfigured",
                entities=[LogInfo(msg="depth_node could not be configured; see its log above")],
            )
        ),
    ]


def change(node: LifecycleNode, transition: int) -> EmitEvent:
    """Ask the node for a transition."""
    return EmitEvent(
        event=ChangeState(lifecycle_node_matcher=matches_action(node), transition_id=transition)
    )


def when_first_active(
    node: LifecycleNode, action: LaunchDescriptionEntity
) -> RegisterEventHandler:
    """Run an action when the node takes images, the first time only: a process cannot be
    executed twice, launch would end."""
    return RegisterEventHandler(
        OnStateTransition(
            target_lifecycle_node=node,
            start_state="activating",
            goal_state="active",
            entities=[action],
            handle_once=True,
        )
    )


def large(values: dict[str, str]) -> list[str]:
    """Full names of the topics whose messages come in many fragments. Played best effort, most of
    them are lost on the way: DDS' default buffers hold fewer than one image."""
    image, *others = (values[topic] for topic in ("image", "points", "sparse_depth"))
    images = [image] if image.endswith("/compressed") else [image, f"{image}/compressed"]
    namespace = "/".join(["", *values["namespace"].strip("/").split("/")]).rstrip("/")
    return [name if name.startswith("/") else f"{namespace}/{name}" for name in [*images, *others]]


def reliable(values: dict[str, str]) -> dict[str, str]:
    """Parameters with which the node hears a bag without loss."""
    return {f"qos_overrides.{name}.subscription.reliability": "reliable" for name in large(values)}


def play_bag(values: dict[str, str]) -> ExecuteProcess:
    """``ros2 bag play`` with /clock: large messages reliably, however they were recorded, and not
    before the node can have discovered the player."""
    profile = {"reliability": "reliable", "history": "keep_last", "depth": 10}
    profiles = Path(launch_config.log_dir) / "video_depth_play.yaml"
    profiles.write_text(json.dumps(dict.fromkeys(large(values), profile)))
    return ExecuteProcess(
        cmd=[
            *("ros2", "bag", "play", values["bag"], "--clock", "--rate", values["bag_rate"]),
            *("--delay", DISCOVERY, "--qos-profile-overrides-path", str(profiles)),
        ],
        output="screen",
    )


def rviz(values: dict[str, str], config: Path) -> Node:
    """RViz on the node's topics."""
    return Node(
        package="rviz2",
        executable="rviz2",
        namespace=values["namespace"],
        arguments=["-d", str(config / "depth.rviz")],
        remappings=remappings(values),
        parameters=[{"use_sim_time": simulated(values)}],
    )


def simulated(values: dict[str, str]) -> bool:
    """Whether time comes from /clock."""
    return values["use_sim_time"] == "true" or bool(values["bag"])
