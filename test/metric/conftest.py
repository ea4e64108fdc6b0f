# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the metric scale's tests."""

from __future__ import annotations

import pytest

from .scenes import Scene, make_scene


@pytest.fixture
def scene() -> Scene:
    """A scene whose disparity is exact."""
    return make_scene()
