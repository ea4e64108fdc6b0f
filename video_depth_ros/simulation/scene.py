# SPDX-License-Identifier: Apache-2.0
"""A procedural world: primitives on rigid bodies, materials, light; its images and ranges."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from video_depth_ros.camera import Camera

from . import kernels


@dataclass(frozen=True)
class Body:
    """Rigid motion in the ground plane: an arc plus a sinusoidal sway.

    Attributes:
        position: at time 0 [m].
        yaw: heading at time 0 [rad].
        speed: along the heading [m/s].
        yaw_rate: [rad/s].
        sway: amplitude of a sinusoid added to the position [m].
        frequency: of the sway [Hz].
        phase: of the sway [rad].
    """

    position: tuple[float, float, float] = (0.0, 0.0, 0.0)
    yaw: float = 0.0
    speed: float = 0.0
    yaw_rate: float = 0.0
    sway: tuple[float, float, float] = (0.0, 0.0, 0.0)
    frequency: float = 0.0
    phase: float = 0.0

    def pose(self, time_s: float) -> np.ndarray:
        """T_world_body at a time, float64 [4, 4]."""
        yaw = self.yaw + self.yaw_rate * time_s
        if abs(self.yaw_rate) > 1e-9:
            radius = self.speed / self.yaw_rate
            dx = radius * (np.sin(yaw) - np.sin(self.yaw))
            dy = radius * (np.cos(self.yaw) - np.cos(yaw))
        else:
            dx, dy = self.speed * time_s * np.cos(yaw), self.speed * time_s * np.sin(yaw)
        swing = np.sin(2 * np.pi * self.frequency * time_s + self.phase)
        pose = np.eye(4)
        c, s = np.cos(yaw), np.sin(yaw)
        pose[:2, :2] = [[c, -s], [s, c]]
        pose[:3, 3] = np.asarray(self.position) + [dx, dy, 0.0] + swing * np.asarray(self.sway)
        return pose


@dataclass(frozen=True)
class Light:
    """Light and air of a world; colours are linear RGB.

    Attributes:
        direction: unit vector towards the sun (indoors: the main light).
        color: of the direct light.
        shadow: share of the direct light an occluder takes, 0 to 1.
        penumbra: width of shadow edges [m].
        reach: how far nearby things dim the ambient light [m].
        above, below: ambient light from up and down.
        haze: extinction of the air [1/m].
        lamps: rows (x, y, z, r, g, b, radius) without shadows.
        sky: 14 numbers, see ``kernels._sky``.
    """

    direction: np.ndarray
    color: np.ndarray
    shadow: float
    penumbra: float
    reach: float
    above: np.ndarray
    below: np.ndarray
    haze: float
    lamps: np.ndarray
    sky: np.ndarray

    def row(self) -> np.ndarray:
        """The layout the kernels read, float64 [16]."""
        return np.concatenate(
            [self.direction, self.color, [self.shadow, self.penumbra, self.reach], self.above,
             self.below, [self.haze]]
        ).astype(np.float64)  # fmt: skip


@dataclass(frozen=True)
class World:
    """N primitives in K bodies, M materials. Deterministic: the same inputs, the same pictures.

    Attributes:
        name: room, corridor, street or clutter.
        kind: int64 [N]; half, taper: float64 [N, 3]; rotation [N, 3, 3] and center [N, 3]:
            T_body_primitive; body: int64 [N]; material, material_top: int64 [N].
        casts: bool [N], whether it throws shadows.
        materials: float32 [M, columns]; textures: uint8 [P, texels, 3].
        bodies: motions; body 0 stands still.
        light: see ``Light``.
        stage: (lower, upper) corners of where a camera may go [m].
        targets: float64 [T, 3], things worth looking at.
        route: curvature [1/m] and lateral offset [m] of the road or corridor along +x.
    """

    name: str
    kind: np.ndarray
    half: np.ndarray
    taper: np.ndarray
    rotation: np.ndarray
    center: np.ndarray
    body: np.ndarray
    material: np.ndarray
    material_top: np.ndarray
    casts: np.ndarray
    materials: np.ndarray
    textures: np.ndarray
    bodies: tuple[Body, ...]
    light: Light
    stage: tuple[np.ndarray, np.ndarray]
    targets: np.ndarray
    route: tuple[float, float] = (0.0, 0.0)
    far: float = 400.0
    rows: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Lay the primitives out as the kernels read them."""
        rows = np.zeros((len(self.kind), kernels.PRIMITIVE_COLUMNS))
        rows[:, kernels.HALF : kernels.HALF + 3] = self.half
        rows[:, kernels.TAPER : kernels.TAPER + 3] = self.taper
        rows[:, kernels.RADIUS] = np.linalg.norm(self.half, axis=1)
        rows[:, kernels.KIND] = self.kind
        rows[:, kernels.MATERIAL] = self.material
        rows[:, kernels.MATERIAL_TOP] = self.material_top
        rows[:, kernels.CASTS] = self.casts
        rows[:, kernels.MASKED] = self.materials[self.material, kernels.CUTOUT] > 0
        object.__setattr__(self, "rows", rows)

    def posed(self, time_s: float) -> kernels.Scene:
        """The primitives in world coordinates at a time."""
        poses = np.stack([body.pose(time_s) for body in self.bodies])[self.body]
        rows = self.rows.copy()
        rotation = poses[:, :3, :3] @ self.rotation
        rows[:, kernels.ROTATION : kernels.ROTATION + 9] = rotation.reshape(-1, 9)
        rows[:, :3] = np.einsum("nij,nj->ni", poses[:, :3, :3], self.center) + poses[:, :3, 3]
        light = self.light
        return kernels.Scene(
            rows, self.materials, self.textures, light.row(), light.lamps, light.sky
        )

    def render_linear(
        self, camera: Camera, T_world_camera: np.ndarray, time_s: float, threads: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        """Radiance float32 [H, W, 3] (linear) and depth float32 [H, W] along the optical axis.

        Args:
            camera: intrinsics; lens distortion is honoured exactly.
            T_world_camera: float64 [4, 4], optical frame (x right, y down, z forward).
            time_s: where the moving bodies are.
            threads: worker threads; the result does not depend on it.

        Returns:
            Radiance, and depth in metres of each pixel's centre ray, inf in the sky.
        """
        scene = self.posed(time_s)
        eye = np.ascontiguousarray(T_world_camera, dtype=np.float64)
        rays = np.ascontiguousarray(camera.rays(), dtype=np.float64)
        # Shadows are sought round the middle of a small world, round the eye in a large one.
        low, high = self.stage
        span = 1.1 * float(np.linalg.norm(high - low)) + 1.0
        middle, size = ((low + high) / 2, span) if span < 100.0 else (eye[:3, 3], 100.0)
        sun = _grid(scene, self.light.direction, middle, size)
        above = _grid(scene, np.array([0.0, 0.0, 1.0]), middle, size)
        height, width = rays.shape[:2]
        color = np.empty((height, width, 3), np.float32)
        first = np.empty((height, width, 2))
        tiles = -(-height // kernels.TILE) * -(-width // kernels.TILE)
        salt = int(time_s * 1000.0) * 7 + 1

        fixed = (scene, sun, above, rays, eye, self.far, salt)
        _spread(threads, tiles, kernels.render_tiles, *fixed, color, first)
        _spread(threads, tiles, kernels.smooth_tiles, *fixed, color.copy(), color, first)
        return color, first[..., 0].astype(np.float32)

    def render(
        self, camera: Camera, T_world_camera: np.ndarray, time_s: float, threads: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        """An image as by a noiseless camera, uint8 [H, W, 3], and exact depth [H, W] in metres.

        See ``render_linear`` for the arguments; sensors.py models real cameras.
        """
        color, depth = self.render_linear(camera, T_world_camera, time_s, threads)
        return develop(color * exposure_of(color)), depth

    def cast(
        self, origins: np.ndarray, directions: np.ndarray, time_s: float, block: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        """First hits of rays at one instant.

        Args:
            origins, directions: float64 [N, 3], directions of unit length.
            time_s: where the moving bodies are.
            block: this many consecutive rays are neighbours (and share work).

        Returns:
            Ranges float64 [N] in metres, inf without a hit; primitive indices int64 [N], -1
            without a hit.
        """
        ranges, indices = np.empty(len(origins)), np.empty(len(origins), np.int64)
        kernels.cast_rays(
            self.posed(time_s), np.ascontiguousarray(origins, dtype=np.float64),
            np.ascontiguousarray(directions, dtype=np.float64), self.far, block, ranges, indices,
        )  # fmt: skip
        ranges[indices < 0] = np.inf
        return ranges, indices

    def clearance(self, points: np.ndarray, times_s: np.ndarray) -> np.ndarray:
        """Distance float64 [P] from points [P, 3] at times [P] to the nearest bounding box."""
        distance = np.empty(len(points))
        still = len(self.bodies) == 1
        for k, (point, time_s) in enumerate(zip(points, times_s, strict=True)):
            if k == 0 or not still:
                rows = self.posed(float(time_s)).primitives
                center, rotation = rows[:, :3], rows[:, 3:12].reshape(-1, 3, 3)
            local = np.einsum("nji,nj->ni", rotation, point - center)
            gap = np.abs(local) - self.half
            outside = np.linalg.norm(np.maximum(gap, 0.0), axis=1)
            distance[k] = np.min(outside + np.minimum(gap.max(axis=1), 0.0))
        return distance


def _spread(threads: int, tiles: int, kernel: Callable[..., None], *args: object) -> None:
    """Run a kernel on every tile, interleaved over threads; it releases the interpreter lock."""
    if threads == 1:
        kernel(*args, 0, tiles, 1)
        return
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(kernel, *args, k, tiles, threads) for k in range(threads)]:
            done.result()


def exposure_of(color: np.ndarray, target: float = 0.2) -> float:
    """Gain that brings the picture's log-average (robust to lamps and sun) to ``target``."""
    small = color[::4, ::4].mean(axis=-1)
    return float(target / np.exp(np.mean(np.log(small + 1e-3))))


def develop(linear: np.ndarray) -> np.ndarray:
    """Linear radiance to 8-bit sRGB (IEC 61966-2-1), clipped at 1."""
    x = np.clip(linear, 0.0, 1.0)
    x = np.where(x <= 0.0031308, 12.92 * x, 1.055 * np.power(x, 1 / 2.4) - 0.055)
    return np.rint(x * 255.0).astype(np.uint8)


def _grid(
    scene: kernels.Scene, direction: np.ndarray, around: np.ndarray, size: float
) -> kernels.ShadowGrid:
    direction = np.asarray(direction, dtype=np.float64)
    helper = np.eye(3)[int(np.argmin(np.abs(direction)))]
    u = np.cross(direction, helper)
    u /= np.linalg.norm(u)
    v = np.cross(direction, u)
    frame = np.stack([direction, u, v, np.zeros(3)])
    start, items, tops = kernels.build_grid(
        scene.primitives, frame, around[0], around[1], around[2], size, kernels.GRID
    )
    return kernels.ShadowGrid(frame, start, items, tops)
