# SPDX-License-Identifier: Apache-2.0
"""A spinning LiDAR: rays cast from the moving sensor, each at its own time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .path import Path
from .rig import Rig
from .scene import World

_SLICES = 10  # the moving bodies are posed this many times per turn


@dataclass(frozen=True)
class Lidar:
    """Parameters, by default those of a 16-ring sensor's data sheet.

    Attributes:
        rings: number of lasers.
        columns: firings per turn.
        rate: turns per second.
        lowest, highest: elevation of the outer rings [rad].
        nearest, farthest: ranges that are returned [m].
        noise: standard deviation of a range [m].
        dropout: share of returns that are lost at random; dark surfaces lose more.
    """

    rings: int = 16
    columns: int = 900
    rate: float = 10.0
    lowest: float = -0.2618
    highest: float = 0.2618
    nearest: float = 0.3
    farthest: float = 100.0
    noise: float = 0.02
    dropout: float = 0.02

    @staticmethod
    def with_rings(rings: int) -> Lidar:
        """A usual field of view for a number of rings: +-15 degrees, 64 rings look down more."""
        if rings < 32:
            return Lidar(rings=rings)
        return Lidar(rings=rings, lowest=-0.4363, highest=0.1745 if rings < 64 else 0.0611)


@dataclass(frozen=True)
class Scan:
    """One turn of N returns.

    Attributes:
        points: float32 [N, 3] in the sensor's frame at each point's own time [m].
        intensity: float32 [N], 0 to 255.
        ring: uint16 [N], 0 is the lowest.
        offset_s: float32 [N], time of the return minus the scan's stamp.
    """

    points: np.ndarray
    intensity: np.ndarray
    ring: np.ndarray
    offset_s: np.ndarray


def scan(
    world: World, path: Path, rig: Rig, lidar: Lidar, time_s: float, rng: np.random.Generator
) -> Scan:
    """One turn centred on ``time_s``, when the beam faces forward (the sensor's +x).

    The turn starts facing backward half a period earlier and runs counter-clockwise, so what lies
    ahead is measured close to the stamp. Times outside the path see its ends.
    """
    period = 1.0 / lidar.rate
    share = (np.arange(lidar.columns) + 0.5) / lidar.columns - 0.5
    azimuth, offsets = 2 * np.pi * share, period * share
    elevation = np.linspace(lidar.lowest, lidar.highest, lidar.rings)
    if lidar.rings == 1:
        elevation = np.zeros(1)
    beams = np.stack(
        [
            np.cos(azimuth)[:, None] * np.cos(elevation),
            np.sin(azimuth)[:, None] * np.cos(elevation),
            np.broadcast_to(np.sin(elevation), (lidar.columns, lidar.rings)),
        ],
        -1,
    )
    ranges = np.full((lidar.columns, lidar.rings), np.inf)
    hits = np.full((lidar.columns, lidar.rings), -1)
    poses = rig.lidar_poses(path, time_s + offsets)
    for part in np.array_split(np.arange(lidar.columns), _SLICES):
        directions = np.einsum("cij,crj->cri", poses[part, :3, :3], beams[part])
        origins = np.repeat(poses[part, :3, 3], lidar.rings, axis=0)
        instant = float(np.clip(time_s + offsets[part].mean(), 0.0, None))
        got, index = world.cast(origins, directions.reshape(-1, 3), instant, lidar.rings)
        ranges[part] = got.reshape(len(part), lidar.rings)
        hits[part] = index.reshape(len(part), lidar.rings)
    color = world.materials[world.material[hits], 6:9].mean(axis=-1)
    brightness = np.clip(color, 0.0, 1.0)
    noisy = ranges + lidar.noise * rng.standard_normal(ranges.shape)
    lost = rng.random(ranges.shape) < lidar.dropout + 0.15 * np.exp(-brightness / 0.02)
    keep = (hits >= 0) & ~lost & (noisy > lidar.nearest) & (noisy < lidar.farthest)
    column, ring = np.nonzero(keep)
    return Scan(
        points=(noisy[keep, None] * beams[keep]).astype(np.float32),
        intensity=(255.0 * brightness[keep] ** 0.5).astype(np.float32),
        ring=ring.astype(np.uint16),
        offset_s=offsets[column].astype(np.float32),
    )
