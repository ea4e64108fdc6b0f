# SPDX-License-Identifier: Apache-2.0
"""Collects primitives, materials and bodies into a World; colours and frames for the layouts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from . import kernels
from .scene import Body, Light, World
from .textures import texture_library

Numbers = Sequence[float] | np.ndarray
Color = Numbers


def spawned(rng: np.random.Generator) -> np.random.Generator:
    """An independent stream: ``rng.spawn(1)[0]``, which NumPy has since 1.25."""
    bits: Any = rng.bit_generator
    seeds = bits.seed_seq if hasattr(bits, "seed_seq") else bits._seed_seq
    return np.random.Generator(type(bits)(seeds.spawn(1)[0]))


def rotation_zyx(yaw: float, pitch: float = 0.0, roll: float = 0.0) -> np.ndarray:
    """Rz(yaw) Ry(pitch) Rx(roll), float64 [3, 3] (REP-103 axes, angles in radians)."""
    cy, sy, cp, sp, cr, sr = (
        math.cos(yaw), math.sin(yaw), math.cos(pitch), math.sin(pitch), math.cos(roll),
        math.sin(roll),
    )  # fmt: skip
    return np.array(
        [
            [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
            [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
            [-sp, cp * sr, cp * cr],
        ]
    )


class Palette:
    """Random linear albedos by family."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def hsv(self, hue: float, saturation: float, value: float) -> np.ndarray:
        """Linear RGB of a hue in [0, 1); value is the largest channel."""
        k = (np.array([5.0, 3.0, 1.0]) + 6.0 * hue) % 6.0
        ramp = np.clip(np.minimum(k, 4.0 - k), 0.0, 1.0)
        return np.asarray(value * (1.0 - saturation * ramp))

    def any(self) -> np.ndarray:
        """Any colour a thing may have: mostly muted, some vivid, many greys."""
        r = self.rng
        kind = r.random()
        if kind < 0.3:
            return self.hsv(r.random(), r.uniform(0, 0.08), r.uniform(0.02, 0.8) ** 1.3)
        if kind < 0.75:
            return self.hsv(r.random(), r.uniform(0.1, 0.6), r.uniform(0.04, 0.7))
        return self.hsv(r.random(), r.uniform(0.6, 0.95), r.uniform(0.15, 0.7))

    def wall(self) -> np.ndarray:
        """Paint and plaster."""
        r = self.rng
        if r.random() < 0.15:
            return self.any()
        return self.hsv(r.uniform(0.02, 0.18), r.uniform(0.0, 0.25), r.uniform(0.35, 0.85))

    def wood(self) -> np.ndarray:
        """From birch to wenge."""
        r = self.rng
        return self.hsv(r.uniform(0.05, 0.11), r.uniform(0.35, 0.75), r.uniform(0.06, 0.55))

    def stone(self) -> np.ndarray:
        """Concrete, asphalt, stone."""
        r = self.rng
        return self.hsv(r.uniform(0.05, 0.65), r.uniform(0.0, 0.15), r.uniform(0.06, 0.5))

    def brick(self) -> np.ndarray:
        """Fired clay and sandstone."""
        r = self.rng
        return self.hsv(r.uniform(0.01, 0.12), r.uniform(0.2, 0.7), r.uniform(0.15, 0.5))

    def plant(self) -> np.ndarray:
        """Leaves and grass, fresh to dry."""
        r = self.rng
        return self.hsv(r.uniform(0.14, 0.36), r.uniform(0.4, 0.85), r.uniform(0.06, 0.32))

    def car(self) -> np.ndarray:
        """Car paint: white, silver, grey, black, and a few colours."""
        r = self.rng
        if r.random() < 0.7:
            return self.hsv(
                r.random(), r.uniform(0, 0.06), r.choice([0.02, 0.05, 0.15, 0.35, 0.75])
            )
        return self.hsv(r.choice([0.0, 0.02, 0.58, 0.62, 0.35, 0.12]), 0.8, r.uniform(0.08, 0.5))

    def mixed(self, color: Color, spread: float = 0.35) -> np.ndarray:
        """A relative of a colour."""
        r = self.rng
        return np.clip(
            np.asarray(color) * np.exp(r.normal(0, spread) + r.normal(0, 0.1, 3)), 0.01, 0.9
        )


class Builder:
    """Primitives are placed relative to the current frame (see ``frame`` and ``moving``)."""

    def __init__(self, rng: np.random.Generator, heldout: bool = False) -> None:
        self.rng = rng
        self.heldout = heldout
        self.palette = Palette(rng)
        self.pyramids, train, held = texture_library()
        self.names = held if heldout else train
        self.rotation, self.origin, self.body = np.eye(3), np.zeros(3), 0
        self.bodies: list[Body] = [Body()]
        self.materials: list[np.ndarray] = []
        self.rows: list[tuple] = []
        self.targets: list[np.ndarray] = []

    # -- frames ---------------------------------------------------------------------------

    @contextmanager
    def frame(self, x: float, y: float, z: float = 0.0, yaw: float = 0.0) -> Iterator[None]:
        """Work in a frame placed in the current one."""
        before = self.rotation, self.origin
        self.origin = self.origin + self.rotation @ np.array([x, y, z])
        self.rotation = self.rotation @ rotation_zyx(yaw)
        yield
        self.rotation, self.origin = before

    @contextmanager
    def moving(self, body: Body) -> Iterator[None]:
        """Work in a new body's own frame."""
        before = self.rotation, self.origin, self.body
        self.bodies.append(body)
        self.rotation, self.origin, self.body = np.eye(3), np.zeros(3), len(self.bodies) - 1
        yield
        self.rotation, self.origin, self.body = before

    # -- materials ------------------------------------------------------------------------

    def material(
        self,
        texture: str,
        color: Color,
        second: Color | None = None,
        third: Color | None = None,
        *,
        scale: float | tuple[float, float] = 1.0,
        detail: float | None = None,
        macro: float | None = None,
        specular: float = 0.0,
        shininess: float = 30.0,
        emissive: float = 0.0,
        mirror: float = 0.0,
        cutout: float = 0.0,
        fit: bool = False,
        swap: bool = False,
        bump: float = 0.0,
        aligned: bool = False,
    ) -> int:
        """Add a material; returns its index.

        Args:
            texture: a name of the texture library; a variant is drawn.
            color, second, third: linear albedos mixed by the texture's channels.
            scale: texture repeats per metre (with ``fit``: repeats per face), u and v.
            detail, macro: strength of fine and coarse brightness noise; drawn if None.
            specular, shininess: highlight. emissive: own light. mirror: sky reflection.
            cutout: mask threshold, 0 for none. fit: stretch to the face. swap: u and v.
            bump: normal noise. aligned: no random offset.
        """
        r = self.rng
        row = np.zeros(kernels.MATERIAL_COLUMNS, np.float32)
        row[kernels.PATTERN] = r.choice(self.names[texture])
        su, sv = (scale, scale) if isinstance(scale, int | float) else scale
        row[kernels.SCALE_U], row[kernels.SCALE_V] = su, sv
        if not (fit or aligned):
            row[kernels.OFFSET_U], row[kernels.OFFSET_V] = r.random(2)
        row[kernels.SWAP] = swap
        row[6:9] = color
        row[9:12] = self.palette.mixed(color) if second is None else second
        row[12:15] = self.palette.mixed(color) if third is None else third
        row[kernels.DETAIL] = r.choice(self.names[str(r.choice(["cloudy", "grain"]))])
        row[kernels.DETAIL_SCALE] = np.exp(r.uniform(np.log(0.8), np.log(5.0)))
        row[kernels.DETAIL_GAIN] = r.uniform(0.02, 0.25) if detail is None else detail
        row[kernels.MACRO_SCALE] = np.exp(r.uniform(np.log(0.03), np.log(0.3)))
        row[kernels.MACRO_GAIN] = r.uniform(0.0, 0.3) if macro is None else macro
        row[kernels.SPECULAR], row[kernels.SHININESS] = specular, shininess
        row[kernels.EMISSIVE], row[kernels.MIRROR] = emissive, mirror
        row[kernels.CUTOUT] = cutout * 255.0
        row[kernels.FIT], row[kernels.BUMP] = fit, bump
        self.materials.append(row)
        return len(self.materials) - 1

    def paint(self, color: Color | None = None, gloss: float | None = None) -> int:
        """A nearly uniform surface, sometimes glossy."""
        r = self.rng
        color = self.palette.any() if color is None else color
        gloss = (r.uniform(0.1, 0.8) if r.random() < 0.4 else 0.0) if gloss is None else gloss
        return self.material("plain", color, scale=r.uniform(0.5, 2), detail=r.uniform(0, 0.1),
                             macro=0.1, specular=gloss, shininess=r.uniform(10, 80),
                             mirror=0.3 * gloss)  # fmt: skip

    def metal(self) -> int:
        """Steel, aluminium, chrome, dark iron."""
        r = self.rng
        value = r.choice([0.03, 0.15, 0.35, 0.6])
        return self.material("plain", np.full(3, value), detail=0.05, specular=0.8,
                             shininess=r.uniform(15, 60), mirror=r.uniform(0.1, 0.5))  # fmt: skip

    def timber(self, scale: float | None = None) -> int:
        """Furniture wood."""
        r, color = self.rng, self.palette.wood()
        name = str(r.choice(["wood", "planks", "planks", "plain"]))
        return self.material(
            name,
            color,
            self.palette.mixed(color, 0.25),
            scale=scale or r.uniform(0.4, 1.4),
            specular=r.uniform(0, 0.3),
            shininess=20,
            swap=bool(r.random() < 0.5),
            mirror=r.uniform(0, 0.12),
        )

    def print(self, name: str = "poster") -> int:
        """Packaging, posters, screens: a picture stretched over each face."""
        p = self.palette
        return self.material(name, p.any(), p.any(), p.any(), fit=True, detail=0.03, macro=0.0)

    def anything(self) -> int:
        """A random surface for a random object."""
        r, p = self.rng, self.palette
        name = str(r.choice(["plain", "plain", "cloudy", "grain", "marble", "tiles", "checker",
                             "stripes", "plaid", "wood", "fabric", "poster", "page",
                             "corrugated", "panels"]))  # fmt: skip
        return self.material(
            name,
            p.any(),
            p.any(),
            p.any(),
            scale=np.exp(r.uniform(-1, 1.6)),
            specular=r.uniform(0, 0.6) * (r.random() < 0.4),
            fit=bool(r.random() < 0.3),
            bump=0.3 * (r.random() < 0.1),
        )

    # -- primitives -----------------------------------------------------------------------

    def add(
        self, kind: int, center: Numbers, size: Numbers, material: int, *,
        yaw: float = 0.0, pitch: float = 0.0, roll: float = 0.0, top: int | None = None,
        taper: Numbers = (0.0, 0.0, 0.0), casts: bool = True,
    ) -> None:  # fmt: skip
        """A primitive with full extents ``size`` at ``center`` of the current frame."""
        self.rows.append(
            (kind, np.maximum(np.asarray(size, float) / 2, 1e-3), taper,
             self.rotation @ rotation_zyx(yaw, pitch, roll),
             self.origin + self.rotation @ np.asarray(center, float), self.body, material,
             material if top is None else top, casts)
        )  # fmt: skip

    def box(self, center: Numbers, size: Numbers, material: int, **kw: Any) -> None:
        """An oriented box."""
        self.add(kernels.BOX, center, size, material, **kw)

    def ball(self, center: Numbers, size: Numbers, material: int, **kw: Any) -> None:
        """An ellipsoid."""
        self.add(kernels.ELLIPSOID, center, size, material, **kw)

    def wedge(
        self, center: Numbers, size: Numbers, material: int,
        taper: Numbers, **kw: Any,
    ) -> None:  # fmt: skip
        """A box tapered to its top: (shrink x, shrink y, shift x), each 0 to 1."""
        self.add(kernels.TAPERED, center, size, material, taper=taper, **kw)

    def tube(
        self, center: Numbers, size: Numbers, material: int, taper: float = 0.0,
        **kw: Any,
    ) -> None:  # fmt: skip
        """An elliptic cylinder, or a frustum whose top is (1 - taper) of its bottom."""
        self.add(kernels.CYLINDER, center, size, material, taper=(taper, 0.0, 0.0), **kw)

    def rod(self, start: Numbers, stop: Numbers, thickness: float, material: int) -> None:
        """A thin cylinder from point to point."""
        a, b = np.asarray(start, float), np.asarray(stop, float)
        d = b - a
        length = float(np.linalg.norm(d)) + 1e-6
        pitch = math.acos(float(np.clip(d[2] / length, -1, 1)))
        self.tube((a + b) / 2, (thickness, thickness, length), material,
                  yaw=math.atan2(d[1], d[0]), pitch=pitch)  # fmt: skip

    def target(self, x: float, y: float, z: float) -> None:
        """Mark a point worth looking at."""
        self.targets.append(self.origin + self.rotation @ np.array([x, y, z]))

    def build(
        self, name: str, light: Light, stage: tuple[Numbers, Numbers],
        route: tuple[float, float] = (0.0, 0.0), far: float = 400.0,
    ) -> World:  # fmt: skip
        """Freeze everything into a World."""
        columns = list(zip(*self.rows, strict=True))
        return World(
            name=name,
            kind=np.array(columns[0], np.int64), half=np.array(columns[1]),
            taper=np.array(columns[2], float), rotation=np.array(columns[3]),
            center=np.array(columns[4]), body=np.array(columns[5], np.int64),
            material=np.array(columns[6], np.int64), material_top=np.array(columns[7], np.int64),
            casts=np.array(columns[8], bool), materials=np.array(self.materials),
            textures=self.pyramids, bodies=tuple(self.bodies), light=light,
            stage=(np.asarray(stage[0], float), np.asarray(stage[1], float)),
            targets=np.array(self.targets).reshape(-1, 3), route=route, far=far,
        )  # fmt: skip
