# SPDX-License-Identifier: Apache-2.0
"""`colcon build` installs what a ROS 2 workspace expects of an ament_python package."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COLCON = shutil.which("colcon") or shutil.which("colcon", path=str(Path(sys.executable).parent))


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    if COLCON is None:
        pytest.skip("colcon is not installed")
    workspace = tmp_path_factory.mktemp("workspace")
    source = workspace / "src" / "video_depth_ros"
    # only what is under version control or would be: build trees stay out
    ignore = shutil.ignore_patterns(
        ".git",
        ".venv*",
        "build",
        "install",
        "log",
        "demo_output",
        "__pycache__",
        ".*_cache",
        "*.egg-info",
        ".hypothesis",
    )
    shutil.copytree(ROOT, source, ignore=ignore)
    environment = dict(os.environ)
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    environment["COLCON_LOG_PATH"] = str(workspace / "log")
    result = subprocess.run(
        [
            COLCON,
            "build",
            "--install-base",
            str(workspace / "install"),
            "--build-base",
            str(workspace / "build"),
        ],
        cwd=workspace,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return workspace / "install" / "video_depth_ros"


def test_resource_marker_and_manifest(prefix):
    share = prefix / "share"
    assert (share / "ament_index/resource_index/packages/video_depth_ros").is_file()
    assert (share / "video_depth_ros/package.xml").read_text() == (
        ROOT / "package.xml"
    ).read_text()


def test_launch_and_config_files(prefix):
    share = prefix / "share" / "video_depth_ros"
    for folder in ("launch", "config"):
        expected = {p.name for p in (ROOT / folder).iterdir() if p.is_file()}
        assert expected, f"{folder}/ is empty"
        assert {p.name for p in (share / folder).iterdir()} == expected
    assert (share / "launch" / "depth.launch.py").is_file()
    assert (share / "config" / "depth.yaml").is_file()


def test_executables_run_from_lib(prefix):
    executables = prefix / "lib" / "video_depth_ros"
    assert {p.name for p in executables.iterdir()} == {"depth_node", "video_depth"}
    site = next(prefix.glob("lib/python*/site-packages"))
    environment = dict(os.environ, PYTHONPATH=str(site))
    result = subprocess.run(
        [str(executables / "video_depth"), "--version"],
        env={**environment, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("video_depth ")


def test_embedded_weights_are_installed(prefix):
    weights = ROOT / "video_depth_ros" / "regressors" / "wan" / "nano.safetensors"
    site = next(prefix.glob("lib/python*/site-packages"))
    installed = site / "video_depth_ros" / "regressors" / "wan" / "nano.safetensors"
    assert installed.read_bytes() == weights.read_bytes()


def test_manifest_names_what_the_node_imports():
    """Every ROS package imported anywhere in the code is an exec_depend of package.xml."""
    import ast
    import xml.etree.ElementTree as ElementTree

    ours = {p.stem for p in (ROOT / "video_depth_ros").iterdir()} | {"video_depth_ros"}
    ros = {
        "rclpy",
        "builtin_interfaces",
        "std_msgs",
        "std_srvs",
        "sensor_msgs",
        "geometry_msgs",
        "nav_msgs",
        "diagnostic_msgs",
        "lifecycle_msgs",
        "rcl_interfaces",
        "rosgraph_msgs",
        "cv_bridge",
        "sensor_msgs_py",
        "tf2_ros",
        "tf_transformations",
        "launch",
        "launch_ros",
        "ament_index_python",
        "tf2_msgs",
        "bond",
        "bondpy",
        "diagnostic_updater",
    }
    imported = set()
    sources = [*(ROOT / "video_depth_ros").rglob("*.py"), *(ROOT / "launch").glob("*.py")]
    for source in sources:
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                imported.add(node.module.split(".")[0])
    declared = {
        element.text
        for element in ElementTree.parse(ROOT / "package.xml").getroot().iter("exec_depend")
    }
    assert (imported & ros) - ours <= declared


def test_what_rosdep_does_not_install_pip_does():
    """Every requirement of setup.py is a rosdep key of package.xml or on README's pip line."""
    import re

    setup = (ROOT / "setup.py").read_text()
    block = re.search(r"REQUIRES = \[(.*?)\]", setup, re.DOTALL)
    pip = re.search(r"pip install (torch [^#]*)", (ROOT / "README.md").read_text())
    assert block is not None and pip is not None
    required = {re.split("[>=]", name)[0] for name in re.findall(r'"(.*?)"', block[1])}
    keys = set(re.findall(r"<exec_depend>python3-(.*?)</exec_depend>", _manifest()))
    by_rosdep = {"opencv-python-headless" if k == "opencv" else k for k in keys}
    by_rosdep = {"PyYAML" if k == "yaml" else k for k in by_rosdep}
    by_pip = set(pip[1].split())
    assert required == by_rosdep | by_pip and not by_rosdep & by_pip


def _manifest() -> str:
    return (ROOT / "package.xml").read_text()
