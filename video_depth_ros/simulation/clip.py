# SPDX-License-Identifier: Apache-2.0
"""Random training clips: a world, a path, a camera and a sensor from one seed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from video_depth_ros.camera import Camera
from video_depth_ros.errors import ConfigError

from .path import T_LINK_OPTICAL, Path, make_path
from .scene import World
from .sensor import Exposer, Sensor, image_flow
from .worlds import NAMES, make_world

SPLITS = ("train", "heldout")
_SHARES = (0.4, 0.1, 0.33, 0.17)  # room, corridor, street, clutter


@dataclass(frozen=True)
class Clip:
    """T frames of one camera.

    Attributes:
        rgb: uint8 [T, H, W, 3].
        depth: float32 [T, H, W] along the optical axis in metres, inf in the sky.
        camera: intrinsics, without distortion.
        T_world_camera: float64 [T, 4, 4], optical frame.
        stamps_ns: int64 [T].
        world: its world's name.
    """

    rgb: np.ndarray
    depth: np.ndarray
    camera: Camera
    T_world_camera: np.ndarray
    stamps_ns: np.ndarray
    world: str


def random_camera(rng: np.random.Generator, height: int, width: int) -> Camera:
    """Pinhole with 45 to 100 degrees along the longer side and a slightly displaced centre."""
    fov = math.radians(rng.uniform(45, 100))
    focal = 0.5 * max(width, height) / math.tan(fov / 2)
    cx = 0.5 * (width - 1) + rng.normal(0, 0.01) * width
    cy = 0.5 * (height - 1) + rng.normal(0, 0.02) * height
    return Camera(width, height, focal, focal * math.exp(rng.normal(0, 0.005)), cx, cy)


def _worthwhile_path(
    world: World, camera: Camera, seed: int, seconds: float, style: str | None
) -> Path:
    """The first of a few paths that shows something other than sky or one bare surface."""
    rays = camera.rays()[:: max(1, camera.height // 12), :: max(1, camera.width // 16)]
    rays = rays.reshape(-1, 3) / np.linalg.norm(rays.reshape(-1, 3), axis=1, keepdims=True)
    for attempt in range(4):
        path = make_path(world, seed + attempt, seconds, style)
        pose = (path.poses(np.array([seconds / 2])) @ T_LINK_OPTICAL)[0]
        origins = np.tile(pose[:3, 3], (len(rays), 1))
        ranges, seen = world.cast(origins, rays @ pose[:3, :3].T, seconds / 2)
        near, far = np.quantile(np.minimum(ranges, 1e3), [0.1, 0.9])
        if np.mean(seen >= 0) > 0.35 and far > 1.3 * near and len(np.unique(seen)) > 4:
            break
    return path


def random_clip(
    seed: int, frames: int, height: int, width: int, *, split: str = "train",
    world: str | None = None, style: str | None = None,
) -> Clip:  # fmt: skip
    """A clip that depends on nothing but its arguments.

    The two splits share no seeds: ``heldout`` draws from its own random streams, worlds with
    layouts that training never has, and textures that training never sees.

    Args:
        seed: any non-negative integer.
        frames, height, width: of the clip.
        split: train or heldout.
        world: room, corridor, street or clutter; drawn if None.
        style: path style, see ``make_path``; drawn if None.

    Raises:
        ConfigError: unknown split, world or style, a negative seed, a size below 8 pixels or no
            frames.
    """
    if split not in SPLITS:
        raise ConfigError(f"split: expected train or heldout, got {split!r}")
    if seed < 0:
        raise ConfigError(f"seed: expected 0 or more, got {seed}")
    if frames < 1 or height < 8 or width < 8:
        raise ConfigError(
            f"clip: expected 1 frame of 8x8 or more, got {frames} of {width}x{height}"
        )
    heldout = split == "heldout"
    rng = np.random.default_rng((seed, SPLITS.index(split), 2026))
    name = str(rng.choice(NAMES, p=_SHARES)) if world is None else world
    rate = float(rng.choice([7.5, 10.0, 15.0, 20.0, 30.0, 30.0]))
    seconds = (frames - 1) / rate + 1e-6
    salt = int(rng.integers(2**31))
    scene = make_world(
        name,
        salt,
        heldout=heldout,
        length=min(15.0 * seconds, 600.0) + 40.0 if name == "street" else None,
    )
    camera = random_camera(rng, height, width)
    path = _worthwhile_path(scene, camera, salt, max(seconds, 0.2), style)
    sensor = Sensor.random(rng)
    exposer = Exposer(sensor, height, width, salt)
    times = np.arange(frames) / rate
    poses = path.poses(times) @ T_LINK_OPTICAL
    blurs = path.poses(times + 1.0 / rate) @ T_LINK_OPTICAL
    rgb = np.empty((frames, height, width, 3), np.uint8)
    depth = np.empty((frames, height, width), np.float32)
    for k in range(frames):
        linear, depth[k] = scene.render_linear(camera, poses[k], times[k])
        flow = image_flow(camera.fx, poses[k], blurs[k], depth[k])
        rgb[k] = exposer.expose(linear, times[k], flow)
    stamps = np.rint(times * 1e9).astype(np.int64)
    return Clip(rgb, depth, camera, poses, stamps, name)
