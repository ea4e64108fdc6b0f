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

from .robot import Robot

pytest.importorskip("launch_ros.actions", reason="launch_ros comes with a ROS installation only")

from launch.actions import (
    EmitEvent,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
)
from launch.events import Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch_ros.event_handlers import OnStateTransition

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
    program = programs / "depth_node"
    program.write_text(
        f"#!{sys.executable}\nimport sys\nfrom video_depth_ros.ros.node import main\n"
        "sys.exit(main())\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path), prepend=":")
    return tmp_path


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


def test_the_node_is_launched_configured_and_activated(robot: Robot, prefix: Path) -> None:
    reached: list[str] = []
    description = LaunchDescription(
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
    service = LaunchService(argv=[], noninteractive=True)
    service.include_launch_description(description)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        status = loop.run_until_complete(asyncio.wait_for(service.run_async(), 60.0))
    finally:
        loop.close()
    assert status == 0
    assert reached == ["active"]
