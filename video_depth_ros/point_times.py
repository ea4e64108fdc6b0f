# SPDX-License-Identifier: Apache-2.0
"""The time of each point of a LiDAR's cloud, against the cloud's stamp.

Drivers agree on neither name, type, unit nor origin:

| driver | field | type | value |
|---|---|---|---|
| Ouster | ``t`` | UINT32 | ns since the stamp |
| Velodyne | ``time`` | FLOAT32 | s since the stamp, may be negative |
| Livox | ``offset_time`` | UINT32 | ns since the stamp |
| Livox (driver 2) | ``timestamp`` | FLOAT64 | ns since the epoch |
| Hesai, RoboSense | ``timestamp`` | FLOAT64 | s since the epoch |
"""

from __future__ import annotations

from typing import Any

import numpy as np

NAMES = ("t", "time", "timestamp", "offset_time")
# sensor_msgs/PointField's INT32, UINT32, FLOAT32, FLOAT64
TYPES = {5: "i4", 6: "u4", 7: "f4", 8: "f8"}
_NEAR = 1.0  # a reading by which points are this close to the stamp is believed [s]


def time_field(fields: dict[str, Any]) -> Any | None:
    """The field that holds the points' times, or None; names in any case."""
    by_lower = {name.lower(): field for name, field in fields.items()}
    found = (by_lower[name] for name in NAMES if name in by_lower)
    return next((field for field in found if field.datatype in TYPES), None)


def seconds_since(values: np.ndarray, name: str, stamp_ns: int) -> np.ndarray:
    """Seconds from the stamp to each point, float64 [N].

    Integers are nanoseconds since the stamp. Floats are read as seconds since the stamp, seconds,
    nanoseconds or microseconds since the epoch, whichever first comes close to the stamp; where
    none does, the seconds are given as they stand and are plainly absurd.

    Args:
        values: [N], of one of :data:`TYPES`.
        name: of the field; ``timestamp`` is taken for absolute first.
        stamp_ns: stamp of the cloud.
    """
    raw = values.astype(np.float64)
    if values.dtype.kind in "iu":
        return raw * 1e-9
    if values.dtype.itemsize == 4 or not raw.size:  # too coarse for an absolute time
        return raw
    # in the field's own unit, so that nothing is lost but what float64 lacks
    absolute = [(raw - stamp_ns * 1e-9 / unit) * unit for unit in (1.0, 1e-9, 1e-6)]
    readings = [*absolute, raw] if name.lower() == "timestamp" else [raw, *absolute]
    for reading in readings:
        if abs(float(np.median(reading))) < _NEAR:
            return reading
    return raw
