# SPDX-License-Identifier: Apache-2.0
"""Reading point clouds of any layout, and packing ours."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from video_depth_ros.errors import InputError
from video_depth_ros.point_cloud import (
    CLOUD_FIELDS,
    FLOAT32,
    FLOAT64,
    PointField,
    pack_cloud,
    read_points,
)


def cloud_bytes(
    points: np.ndarray, *, big: bool, double: bool, front: int, back: int, row_padding: int
) -> tuple[bytes, list[PointField], int, int]:
    """Points [H, W, 3] with junk before, behind and after rows; fields in z, y, x order."""
    height, width, _ = points.shape
    item = np.dtype((">" if big else "<") + ("f8" if double else "f4"))
    offsets = [front, front + item.itemsize, front + 2 * item.itemsize]
    point_step = offsets[2] + item.itemsize + back
    record = np.dtype(
        {"names": list("zyx"), "formats": [item] * 3, "offsets": offsets, "itemsize": point_step}
    )
    packed = np.frombuffer(bytearray(b"\xee" * (height * width * point_step)), record)
    packed = packed.reshape(height, width)
    for axis, name in enumerate("xyz"):
        packed[name] = points[..., axis]
    rows = packed.view(np.uint8).reshape(height, -1)
    data = np.hstack([rows, np.full((height, row_padding), 0xEE, np.uint8)]).tobytes()
    kind = FLOAT64 if double else FLOAT32
    fields = [PointField(n, o, kind) for n, o in zip("zyx", offsets, strict=True)]
    return data, [PointField("intensity", 0, 2), *fields], point_step, rows.shape[1] + row_padding


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 4),
    width=st.integers(1, 9),
    big=st.booleans(),
    double=st.booleans(),
    front=st.integers(0, 9),
    back=st.integers(0, 9),
    row_padding=st.integers(0, 9),
    seed=st.integers(0, 2**31),
)
def test_any_layout_reads_back_without_the_nans(
    height: int,
    width: int,
    big: bool,
    double: bool,
    front: int,
    back: int,
    row_padding: int,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    points = rng.normal(0, 20, (height, width, 3)).astype(np.float32)
    points[rng.random((height, width)) < 0.2, rng.integers(3)] = np.nan
    points[rng.random((height, width)) < 0.1, rng.integers(3)] = np.inf
    data, fields, point_step, row_step = cloud_bytes(
        points, big=big, double=double, front=front, back=back, row_padding=row_padding
    )
    read = read_points(data, fields, height, width, point_step, row_step, big)
    flat = points.reshape(-1, 3)
    np.testing.assert_array_equal(read, flat[np.isfinite(flat).all(axis=1)])
    assert read.dtype == (np.float64 if double else np.float32)


def test_an_empty_cloud_is_no_points() -> None:
    assert read_points(b"", CLOUD_FIELDS, 1, 0, 16, 0, 0).shape == (0, 3)


@pytest.mark.parametrize(
    ("fields", "point_step", "size", "reason"),
    [
        (CLOUD_FIELDS[:2], 16, 64, "fields"),
        ((), 16, 64, "fields"),
        ([PointField(n, 2 * i, 4) for i, n in enumerate("xyz")], 16, 64, "fields"),
        (CLOUD_FIELDS, 11, 64, "bad_step"),
        (CLOUD_FIELDS, 16, 50, "truncated"),
    ],
)
def test_refusals(fields: list[PointField], point_step: int, size: int, reason: str) -> None:
    with pytest.raises(InputError) as error:
        read_points(bytes(size), fields, 1, 4, point_step, 4 * point_step, 0)
    assert error.value.reason == reason


@settings(max_examples=25, deadline=None)
@given(height=st.integers(1, 6), width=st.integers(1, 6), seed=st.integers(0, 2**31))
def test_a_packed_cloud_reads_back(height: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.normal(0, 5, (height, width, 3)).astype(np.float32)
    rgb = rng.integers(0, 256, (height, width, 3), np.uint8)
    data, fields = pack_cloud(points, rgb)
    read = read_points(data, fields, height, width, 16, 16 * width, 0)
    np.testing.assert_array_equal(read, points.reshape(-1, 3))
    bits = data.view("<u4")[..., 3].astype(int)
    packed = rgb.astype(int)
    np.testing.assert_array_equal(
        bits, packed[..., 0] << 16 | packed[..., 1] << 8 | packed[..., 2]
    )


def test_packing_refuses_different_sizes() -> None:
    with pytest.raises(InputError, match="same"):
        pack_cloud(np.zeros((2, 2, 3), np.float32), np.zeros((2, 3, 3), np.uint8))
