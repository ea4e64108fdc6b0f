# SPDX-License-Identifier: Apache-2.0
"""The launch file, run by launch itself where that is installed."""

from __future__ import annotations

import asyncio
import importlib.util
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from .robot import Robot

pytest.importorskip("launch_ros.actions", reason="launch_ros comes with a ROS installation only")

from launch.actions import (
    EmitEvent,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
)
from launch.events import Shutdown, matches_action
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from lifecycle_msgs.msg import Transition

from launch import LaunchContext, LaunchDescription, LaunchService

ROOT = Path(__file__).resolve().parents[2]
LAUNCH_FILE = ROOT / "launch" / "depth.launch.py"


def launch_module() -> Any:
    spec = importlib.util.spec_from_file_location("depth_launch", LAUNCH_FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture()
def prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package as colcon would install it, made of links to this repository."""
    share = tmp_path / "share" / "video_depth_ros"
    index = tmp_path / "share" / "ament_index" / "resource_index" / "packages"
    programs = tmp_path / "lib" / "video_depth_ros"
    for folder in (share, index, programs):
        folder.mkdir(parents=True)
    (index / "video_depth_ros").touch()
    for name in ("config", "launch", "package.xml"):
        (share / name).symlink_to(ROOT / name)
    executable(
        programs / "depth_node",
        f"#!{sys.executable}\nimport sys\nfrom video_depth_ros.ros.node import main\n"
        "sys.exit(main())\n",
    )
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path), prepend=":")
    return tmp_path


def executable(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def run(entities: list[Any]) -> int:
    """Launch's exit status."""
    service = LaunchService(argv=[], noninteractive=True)
    service.include_launch_description(LaunchDescription(entities))
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        return int(loop.run_until_complete(asyncio.wait_for(service.run_async(), 60.0)))
    finally:
        loop.close()


def test_every_argument_is_declared_with_its_description() -> None:
    module = launch_module()
    declared = module.generate_launch_description().get_launch_arguments()
    assert [a.name for a in declared] == [a.name for a in module.ARGUMENTS]
    for launched, ours in zip(declared, module.ARGUMENTS, strict=True):
        assert launched.description.startswith(ours.description)


def test_bag_rviz_and_foxglove_come_when_asked_for(prefix: Path) -> None:
    module = launch_module()
    context = LaunchContext()
    context.launch_configurations.update({a.name: a.default for a in module.ARGUMENTS})
    plain = len(module.actions(context))
    context.launch_configurations.update(bag="drive.mcap", rviz="true", foxglove="true")
    assert len(module.actions(context)) == plain + 4  # foxglove also says where its layout is
    context.launch_configurations.update(autostart="false")
    assert len(module.actions(context)) == plain + 1


@pytest.mark.parametrize(
    ("given", "heard"),
    [
        (
            {"image": "/cam/image_raw"},
            ["/cam/image_raw", "/cam/image_raw/compressed", "/points", "/sparse_depth"],
        ),
        (
            {"image": "cam/compressed", "points": "/lidar", "namespace": "robot/front"},
            ["/robot/front/cam/compressed", "/lidar", "/robot/front/sparse_depth"],
        ),
        (
            {"namespace": "/robot/"},
            [f"/robot/{name}" for name in ("image", "image/compressed", "points", "sparse_depth")],
        ),
    ],
)
def test_large_messages_of_a_bag_are_played_and_heard_reliably(
    given: dict[str, str], heard: list[str]
) -> None:
    module = launch_module()
    values = {a.name: a.default for a in module.ARGUMENTS} | given
    assert module.large(values) == heard
    assert module.reliable(values) == {
        f"qos_overrides.{name}.subscription.reliability": "reliable" for name in heard
    }


def test_the_node_is_launched_configured_and_activated(robot: Robot, prefix: Path) -> None:
    reached: list[str] = []
    status = run(
        [
            RegisterEventHandler(
                OnStateTransition(
                    goal_state="active",
                    entities=[
                        OpaqueFunction(function=lambda context: reached.append("active")),
                        EmitEvent(event=Shutdown(reason="it is active")),
                    ],
                )
            ),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(str(LAUNCH_FILE)),
                launch_arguments={
                    "regressor": "brightness",
                    "image": "/camera/image_raw",
                    "namespace": "robot",
                }.items(),
            ),
        ]
    )
    assert status == 0
    assert reached == ["active"]


def test_a_second_activation_plays_no_bag_and_rviz_shows_the_topics_named(
    robot: Robot, prefix: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``ros2 bag play`` and RViz are replaced by programs that write down their arguments."""
    said = {name: tmp_path / f"{name}.said" for name in ("ros2", "rviz2")}
    rviz = tmp_path / "lib" / "rviz2"
    rviz.mkdir(parents=True)
    (tmp_path / "share" / "ament_index" / "resource_index" / "packages" / "rviz2").touch()
    executable(tmp_path / "ros2", f'#!/bin/sh\necho "$@" >> {said["ros2"]}\n')
    executable(rviz / "rviz2", f'#!/bin/sh\necho "$@" >> {said["rviz2"]}\n')
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    steps = iter([Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_ACTIVATE])
    changes: list[str] = []

    def go_on(context: LaunchContext) -> list[Any]:
        changes.append(context.locals.event.goal_state)
        step = next(steps, None)
        if step is None:
            return [EmitEvent(event=Shutdown(reason="it is active again"))]
        node = context.locals.event.action
        change = ChangeState(lifecycle_node_matcher=matches_action(node), transition_id=step)
        return [EmitEvent(event=change)]

    def after(start: str, goal: str) -> RegisterEventHandler:
        entities = [OpaqueFunction(function=go_on)]
        return RegisterEventHandler(
            OnStateTransition(start_state=start, goal_state=goal, entities=entities)
        )

    arguments = {
        "regressor": "brightness",
        "image": "/camera/image_raw",
        "points": "/lidar/points",
        "bag": "drive.mcap",
        "rviz": "true",
    }
    include = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(LAUNCH_FILE)), launch_arguments=arguments.items()
    )
    handlers = [after("activating", "active"), after("deactivating", "inactive")]
    assert run([*handlers, include]) == 0
    assert changes == ["active", "inactive", "active"]
    played, _, file = said["ros2"].read_text().rpartition(" ")
    assert played == (
        "bag play drive.mcap --clock --rate 1.0 --delay 3.0 --qos-profile-overrides-path"
    )
    profiles = yaml.safe_load(Path(file.strip()).read_text())
    assert profiles["/lidar/points"]["reliability"] == "reliable"
    assert "-r image:=/camera/image_raw -r points:=/lidar/points" in said["rviz2"].read_text()
