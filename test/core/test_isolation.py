# SPDX-License-Identifier: Apache-2.0
"""The core runs with no ROS installation: only ros/ imports rclpy or message packages."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "video_depth_ros"
ROS = {
    "rclpy",
    "sensor_msgs",
    "sensor_msgs_py",
    "std_msgs",
    "std_srvs",
    "geometry_msgs",
    "nav_msgs",
    "diagnostic_msgs",
    "lifecycle_msgs",
    "builtin_interfaces",
    "rcl_interfaces",
    "rosgraph_msgs",
    "tf2_ros",
    "tf2_msgs",
    "tf_transformations",
    "cv_bridge",
    "launch",
    "launch_ros",
}
BLOCK = f"""
import importlib, pkgutil, sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {ROS!r}:
            raise ImportError(f'{{name}} is blocked')
sys.meta_path.insert(0, Blocked())
import video_depth_ros
"""


def run_blocked(code: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", BLOCK + code], capture_output=True, text=True, timeout=300
    )


def test_every_core_module_imports_without_ros():
    code = """
names = [m.name for m in pkgutil.walk_packages(video_depth_ros.__path__, 'video_depth_ros.')
         if not m.name.startswith('video_depth_ros.ros')]
assert len(names) > 30, names
for name in names:
    importlib.import_module(name)
print(len(names))
"""
    result = run_blocked(code)
    assert result.returncode == 0, result.stderr


def test_command_line_works_without_ros():
    result = run_blocked(
        "from video_depth_ros.cli.main import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as stop:\n    sys.exit(stop.code)\n"
    )
    assert result.returncode == 0, result.stderr
    for command in (
        "simulate",
        "import",
        "demo",
        "reprocess",
        "evaluate",
        "benchmark",
        "train",
        "download",
    ):
        assert command in result.stdout


def test_the_simulation_says_what_it_lacks(tmp_path):
    """numba comes by pip and is needed by the simulation alone."""
    result = run_blocked(
        "sys.modules['numba'] = None\n"
        "from video_depth_ros.cli.main import main\n"
        f"sys.exit(main(['simulate', {str(tmp_path / 'out.mcap')!r}]))\n"
    )
    assert result.returncode == 2, result.stderr
    assert "pip install numba" in result.stderr and "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "source",
    [p for p in PACKAGE.rglob("*.py") if "ros" not in p.relative_to(PACKAGE).parts[:1]],
    ids=lambda p: str(p.relative_to(PACKAGE)),
)
def test_no_core_source_imports_ros_at_module_level(source):
    tree = ast.parse(source.read_text())
    imported = set()
    for node in tree.body:
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported.add(node.module.split(".")[0])
            assert not node.module.startswith("video_depth_ros.ros"), node.module
    assert not imported & ROS
