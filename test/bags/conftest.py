# SPDX-License-Identifier: Apache-2.0
"""Recordings that several tests read."""

from __future__ import annotations

from pathlib import Path

import pytest

from .samples import write_robot


@pytest.fixture(scope="session")
def robot_bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The robot's recording as a lone mcap file."""
    return write_robot(tmp_path_factory.mktemp("robot") / "robot.mcap")
