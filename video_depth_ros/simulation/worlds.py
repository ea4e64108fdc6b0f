# SPDX-License-Identifier: Apache-2.0
"""Worlds by name."""

from __future__ import annotations

import numpy as np

from video_depth_ros.errors import ConfigError

from . import indoor, outdoor
from .scene import World

NAMES = ("room", "corridor", "street", "clutter")


def make_world(
    name: str, seed: int, *, heldout: bool = False, length: float | None = None
) -> World:
    """Build a world; the same arguments give the same world.

    Args:
        name: room, corridor, street or clutter.
        seed: any non-negative integer.
        heldout: draw from the textures and layouts that training never sees.
        length: how far a camera will travel in a street or corridor [m].

    Raises:
        ConfigError: unknown name, or a negative seed.
    """
    if name not in NAMES:
        raise ConfigError(f"world: expected one of {', '.join(NAMES)}, got {name!r}")
    if seed < 0:
        raise ConfigError(f"seed: expected 0 or more, got {seed}")
    rng = np.random.default_rng((seed, NAMES.index(name), int(heldout)))
    if name == "room":
        return indoor.room(rng, heldout)
    if name == "corridor":
        return indoor.corridor(rng, heldout, *([] if length is None else [length]))
    if name == "street":
        return outdoor.street(rng, heldout, *([] if length is None else [length]))
    return outdoor.clutter(rng, heldout)
