# SPDX-License-Identifier: Apache-2.0
"""The times of points in the layouts that drivers publish."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from video_depth_ros.point_cloud import FLOAT32, FLOAT64, Cloud, PointField, read_cloud

INT16, UINT32 = 3, 6
STAMP = 1_732_000_000_123_456_789
KINDS = {INT16: "i2", UINT32: "u4", FLOAT32: "f4", FLOAT64: "f8"}


def cloud(
    name: str, datatype: int, values: np.ndarray, *, big: bool = False, stamp_ns: int = STAMP
) -> Cloud:
    """A cloud of len(values) points whose second one is NaN, read back."""
    order = ">" if big else "<"
    layout: Any = {
        "names": ["x", "y", "z", "when"],
        "formats": [order + "f4"] * 3 + [order + KINDS[datatype]],
        "offsets": [0, 4, 8, 18],  # not aligned, as Velodyne's and Hesai's are not
        "itemsize": 29,
    }
    table: Any = np.zeros(len(values), np.dtype(layout))
    table["x"], table["when"] = np.arange(len(values)), values
    table["y"][1] = np.nan
    fields = [PointField(axis, 4 * k, FLOAT32) for k, axis in enumerate("xyz")]
    fields.append(PointField(name, 18, datatype))
    return read_cloud(table.tobytes(), fields, 1, len(values), 29, 29 * len(values), big, stamp_ns)


@settings(max_examples=30, deadline=None)
@given(
    layout=st.sampled_from(["ouster", "velodyne", "livox", "livox2", "hesai", "relative"]),
    before=st.floats(0.0, 0.1),
    big=st.booleans(),
    n=st.integers(2, 50),
)
def test_the_layouts_of_drivers(layout: str, before: float, big: bool, n: int) -> None:
    signed = layout not in ("ouster", "livox")
    truth = np.linspace(-before if signed else 0.0, 0.1, n)
    absolute = STAMP + np.rint(truth * 1e9).astype(np.int64)
    name, datatype, values, resolution = {
        "ouster": ("t", UINT32, np.rint(truth * 1e9), 1e-9),
        "velodyne": ("time", FLOAT32, truth, 1e-8),
        "livox": ("offset_time", UINT32, np.rint(truth * 1e9), 1e-9),
        "livox2": ("timestamp", FLOAT64, absolute.astype(np.float64), 3e-7),
        "hesai": ("timestamp", FLOAT64, absolute * 1e-9, 3e-7),
        "relative": ("timestamp", FLOAT64, truth, 1e-9),
    }[layout]
    read = cloud(name, datatype, values, big=big)
    assert read.offset_s is not None and len(read.offset_s) == len(read.points) == n - 1
    np.testing.assert_allclose(read.offset_s, np.delete(truth, 1), atol=2 * resolution)


def test_early_in_a_simulation_seconds_are_absolute_where_the_name_says_so() -> None:
    times = 12.3 + np.linspace(0.0, 0.1, 20)
    read = cloud("timestamp", FLOAT64, times, stamp_ns=12_300_000_000)
    assert read.offset_s is not None
    np.testing.assert_allclose(read.offset_s, np.delete(times - 12.3, 1), atol=1e-9)


@pytest.mark.parametrize(("name", "datatype"), [("intensity", FLOAT32), ("t", INT16)])
def test_no_times(name: str, datatype: int) -> None:
    assert cloud(name, datatype, np.arange(5)).offset_s is None


def test_a_clock_of_its_own_is_plainly_absurd() -> None:
    read = cloud("timestamp", FLOAT64, 4711.0 + np.linspace(0.0, 0.1, 9))
    assert read.offset_s is not None and np.abs(read.offset_s).min() > 100.0


def test_times_beyond_the_data_are_left_unread() -> None:
    table = np.ones((3, 4), "<f4")
    fields = [PointField(axis, 4 * k, FLOAT32) for k, axis in enumerate("xyz")]
    fields.append(PointField("t", 16, UINT32))
    read = read_cloud(table.tobytes(), fields, 1, 3, 16, 48, False, STAMP)
    assert read.offset_s is None and len(read.points) == 3
