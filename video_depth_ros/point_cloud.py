# SPDX-License-Identifier: Apache-2.0
"""Point clouds as ``sensor_msgs/PointCloud2`` lays them out in bytes: reading and packing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from video_depth_ros.errors import InputError
from video_depth_ros.point_times import TYPES, seconds_since, time_field

FLOAT32 = 7  # sensor_msgs/PointField.FLOAT32
FLOAT64 = 8  # sensor_msgs/PointField.FLOAT64
_FLOATS = {FLOAT32: "f4", FLOAT64: "f8"}


@dataclass(frozen=True)
class PointField:
    """One field of a point, named as in ``sensor_msgs/PointField``."""

    name: str
    offset: int
    datatype: int
    count: int = 1


# The tight record that PCL, RViz and depth_image_proc's consumers read: half the 32 bytes of
# PCL's own XYZRGB. rgb is the float32 whose bits are 0x00RRGGBB.
CLOUD_POINT_STEP = 16
CLOUD_FIELDS = (
    PointField("x", 0, FLOAT32),
    PointField("y", 4, FLOAT32),
    PointField("z", 8, FLOAT32),
    PointField("rgb", 12, FLOAT32),
)


@dataclass(frozen=True)
class Cloud:
    """The finite points of a cloud.

    Attributes:
        points: float [N, 3] in the cloud's own frame, metres; float32 when x, y and z are
            FLOAT32, else float64.
        offset_s: float64 [N], seconds from the cloud's stamp to each point, or None when the
            cloud does not tell (see :mod:`~video_depth_ros.point_times`).
    """

    points: np.ndarray
    offset_s: np.ndarray | None = None


def read_points(
    data: Any,
    fields: Iterable[Any],
    height: int,
    width: int,
    point_step: int,
    row_step: int,
    is_bigendian: int | bool,
) -> np.ndarray:
    """The finite points of a cloud by field name, float [N, 3]; see :func:`read_cloud`."""
    return read_cloud(
        data, fields, height, width, point_step, row_step, is_bigendian, stamp_ns=None
    ).points


def read_cloud(
    data: Any,
    fields: Iterable[Any],
    height: int,
    width: int,
    point_step: int,
    row_step: int,
    is_bigendian: int | bool,
    stamp_ns: int | None,
) -> Cloud:
    """The finite points of a cloud and their times, by field name. An empty cloud gives [0, 3].

    Args:
        data: the bytes (anything with the buffer protocol).
        fields: objects with name, offset, datatype and count, such as ``PointField`` messages.
        height, width: points per column and row (height 1 when the cloud is not organised).
        point_step, row_step: bytes per point and per row, padding included.
        is_bigendian: byte order.
        stamp_ns: stamp of the cloud; None leaves the times unread.

    Raises:
        InputError: ``fields`` (x, y or z missing or not floating point), ``bad_step`` or
            ``truncated``.
    """
    by_name = {field.name: field for field in fields}
    types = [_float_type(by_name, name, is_bigendian) for name in "xyz"]
    if height <= 0 or width <= 0:
        return Cloud(np.empty((0, 3), np.float32))
    ends = [by_name[name].offset + item.itemsize for name, item in zip("xyz", types, strict=True)]
    if max(ends) > point_step or (height > 1 and row_step < width * point_step):
        raise InputError(
            "bad_step",
            f"point cloud of {width}x{height} points: point_step {point_step} or row_step "
            f"{row_step} is too small for its fields; the publisher fills its message wrongly",
        )
    buffer = memoryview(data).cast("B")
    row_step = row_step if height > 1 else width * point_step
    needed = (height - 1) * row_step + (width - 1) * point_step + max(ends)
    if len(buffer) < needed:
        raise InputError(
            "truncated",
            f"point cloud of {width}x{height} points: expected {needed} bytes, got {len(buffer)}",
        )
    points = np.empty((height, width, 3), np.result_type(*(t.newbyteorder("=") for t in types)))
    shape, strides = (height, width), (row_step, point_step)
    for axis, (name, item) in enumerate(zip("xyz", types, strict=True)):
        points[..., axis] = np.ndarray(shape, item, buffer, by_name[name].offset, strides)
    flat = points.reshape(-1, 3)
    finite = np.isfinite(flat).all(axis=1)
    offset_s = None
    field = None if stamp_ns is None else time_field(by_name)
    if stamp_ns is not None and field is not None:
        item = np.dtype(TYPES[field.datatype]).newbyteorder(">" if is_bigendian else "<")
        end = field.offset + item.itemsize
        if end <= point_step and needed - max(ends) + end <= len(buffer):
            times = np.ndarray(shape, item, buffer, field.offset, strides).reshape(-1)
            offset_s = seconds_since(times[finite], field.name, stamp_ns)
    return Cloud(flat if finite.all() else flat[finite], offset_s)


def pack_cloud(points: np.ndarray, rgb: np.ndarray) -> tuple[np.ndarray, tuple[PointField, ...]]:
    """An organised cloud of 16-byte points x, y, z, rgb.

    Args:
        points: float32 [H, W, 3] in metres, NaN where unknown.
        rgb: uint8 [H, W, 3].

    Returns:
        bytes uint8 [H, W, 16], C-contiguous little-endian, and the description of its fields.

    Raises:
        InputError: ``size`` when the two do not have the same size.
    """
    if points.shape != rgb.shape or points.ndim != 3 or points.shape[2] != 3:
        raise InputError(
            "size",
            f"expected points and rgb of the same [H, W, 3], got {points.shape}, {rgb.shape}",
        )
    records = np.empty((*points.shape[:2], 4), "<f4")
    records[..., :3] = points
    colour = cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2BGRA)
    colour[..., 3] = 0
    records.view("<u4")[..., 3] = colour.view("<u4")[..., 0]
    return records.view(np.uint8), CLOUD_FIELDS


def _float_type(by_name: dict[str, Any], name: str, is_bigendian: int | bool) -> np.dtype:
    field = by_name.get(name)
    if field is None or field.datatype not in _FLOATS:
        found = ", ".join(f"{f.name} (datatype {f.datatype})" for f in by_name.values())
        raise InputError(
            "fields",
            f"point cloud: expected FLOAT32 or FLOAT64 fields x, y, z, got {found or 'none'}; "
            "check which topic is remapped to the points input",
        )
    return np.dtype(_FLOATS[field.datatype]).newbyteorder(">" if is_bigendian else "<")
