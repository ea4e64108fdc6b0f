# SPDX-License-Identifier: Apache-2.0
"""Package description for colcon (ament_python) and pip alike."""

from pathlib import Path

from setuptools import find_packages, setup

NAME = "video_depth_ros"

# The core without ROS.
REQUIRES = [
    "numpy>=1.24",
    "torch>=2.4",
    "opencv-python-headless>=4.5.4",
    "scipy>=1.8",
    "numba>=0.60",
    "safetensors>=0.4",
    "huggingface_hub>=0.34",
    "rosbags>=0.11.6",
    "transforms3d>=0.4.2",
    "PyYAML>=6",
    "rich>=11.2",
    "matplotlib>=3.5",
]


def files(folder: str) -> list[str]:
    """The plain files of a folder, relative to this one as setuptools wants them."""
    here = Path(__file__).parent
    return sorted(f"{folder}/{p.name}" for p in (here / folder).iterdir() if p.is_file())


def ros_wheels(distribution: str) -> list[str]:
    """ROS 2 itself from PyPI, for machines without a ROS installation."""
    messages = ("sensor-msgs", "nav-msgs", "diagnostic-msgs", "std-srvs")
    return [
        f"ros-{distribution}-rclpy[fastrtps]",
        *(f"ros-{distribution}-{name}" for name in messages),
    ]


setup(
    name=NAME,
    version="0.1.0",
    description="Metric, temporally stable depth from one camera, live (ROS 2) and offline",
    license="Apache-2.0",
    maintainer="video_depth_ros maintainers",
    maintainer_email="maintainers@users.noreply.github.com",
    python_requires=">=3.10",
    packages=find_packages(include=[NAME, f"{NAME}.*"]),
    package_data={f"{NAME}.regressors.wan": ["*.safetensors", "*.md"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml", "LICENSE"]),
        (f"share/{NAME}/launch", files("launch")),
        (f"share/{NAME}/config", files("config")),
    ],
    install_requires=REQUIRES,
    extras_require={
        "jazzy": ros_wheels("jazzy"),
        "kilted": ros_wheels("kilted"),
        "test": [
            "pytest>=8",
            "hypothesis>=6",
            "ruff",
            "mypy",
            "types-PyYAML",
            "diffusers",
            "h5py",
            "colcon-common-extensions",
        ],
    },
    entry_points={
        "console_scripts": [
            "depth_node = video_depth_ros.ros.node:main",
            "video_depth = video_depth_ros.cli.main:main",
        ],
    },
    zip_safe=False,
)
