# SPDX-License-Identifier: Apache-2.0
"""Rooms and corridors."""

from __future__ import annotations

import math

import numpy as np

from . import furniture
from .builder import Builder
from .scene import Body, Light, World


def indoor_light(
    b: Builder, size: tuple[float, float, float], spacing: float | None = None
) -> Light:
    """One main direction (window or ceiling light), a soft fill and warm or cold lamps."""
    r = b.rng
    elevation, azimuth = r.uniform(0.5, 1.4), r.uniform(0, 2 * math.pi)
    direction = np.array([
        math.cos(elevation) * math.cos(azimuth), math.cos(elevation) * math.sin(azimuth),
        math.sin(elevation),
    ])  # fmt: skip
    warm = 1.0 + np.array([1.0, 0.0, -1.0]) * r.uniform(-0.15, 0.3)
    fill = r.uniform(0.15, 0.6)
    lx, ly, lz = size
    lamps = []
    count = int(r.integers(1, 4)) if spacing is None else min(int(lx / spacing), 8)
    for k in range(count):
        x = r.uniform(-0.35, 0.35) * lx if spacing is None else spacing * (k + 0.5)
        y = r.uniform(-0.35, 0.35) * ly if spacing is None else 0.0
        power = r.uniform(0.4, 1.6) * warm * (1 + 0.1 * r.normal(size=3))
        lamps.append([x, y, lz - 0.2, *power, r.uniform(1.0, 2.5)])
    sky = np.zeros(14)
    sky[0:3], sky[3:6] = 0.5 * fill * warm, 0.4 * fill * warm  # what glossy things mirror
    return Light(
        direction=direction, color=r.uniform(0.1, 1.0) * warm, shadow=r.uniform(0.5, 0.95),
        penumbra=r.uniform(0.005, 0.04), reach=r.uniform(0.15, 0.5), above=fill * warm,
        below=fill * r.uniform(0.3, 0.8) * warm, haze=0.0,
        lamps=np.array(lamps).reshape(-1, 7), sky=sky,
    )  # fmt: skip


def _wall_surface(b: Builder) -> int:
    r, p = b.rng, b.palette
    kind = r.random()
    if kind < 0.55:
        return b.material("plain", p.wall(), scale=r.uniform(0.2, 1), detail=r.uniform(0, 0.12))
    if kind < 0.65:
        c = p.brick()
        return b.material(
            "bricks", c, p.stone(), p.mixed(c), scale=r.uniform(0.6, 1.5), aligned=True
        )
    if kind < 0.78:
        c = p.wall()
        return b.material(
            "tiles", c, p.mixed(c), p.any(), scale=r.uniform(0.6, 2.5), specular=0.3, mirror=0.1
        )
    if kind < 0.88:
        return b.material(
            str(r.choice(["stripes", "fabric", "plaid", "marble"])),
            p.wall(),
            p.wall(),
            p.wall(),
            scale=r.uniform(0.5, 2),
        )
    if kind < 0.95:
        return b.timber(r.uniform(0.3, 0.8))
    return b.material("cloudy", p.stone(), p.stone(), scale=r.uniform(0.2, 0.7))


def floor_surface(b: Builder) -> int:
    """Boards, tiles, carpet, concrete."""
    r, p = b.rng, b.palette
    kind = r.random()
    gloss = r.uniform(0, 0.25) * (r.random() < 0.5)
    if kind < 0.35:
        c = p.wood()
        return b.material(
            "planks", c, p.mixed(c, 0.3), scale=r.uniform(0.4, 1.2), specular=gloss, mirror=gloss
        )
    if kind < 0.6:
        c = p.stone()
        return b.material(
            str(r.choice(["tiles", "checker", "paving"])),
            c,
            p.stone(),
            p.mixed(c),
            scale=r.uniform(0.3, 1.3),
            specular=gloss,
            mirror=gloss,
        )
    if kind < 0.85:
        return b.material(
            str(r.choice(["fabric", "grain", "stripes", "plaid"])),
            p.any(),
            p.any(),
            scale=r.uniform(0.6, 3),
        )
    return b.material("cloudy", p.stone(), scale=r.uniform(0.2, 0.8), specular=gloss, mirror=gloss)


def shell(
    b: Builder, x0: float, x1: float, y0: float, y1: float, h: float, casts: bool = False
) -> None:
    """Floor, ceiling and four walls, 10 cm thick, outside the given box; skirting and cornice."""
    r = b.rng
    cx, cy, lx, ly, t = (x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0, 0.1
    b.box((cx, cy, -t / 2), (lx + 2 * t, ly + 2 * t, t), floor_surface(b), casts=casts)
    ceiling = b.material(
        str(r.choice(["plain", "plain", "tiles", "planks"])),
        b.palette.wall(),
        scale=r.uniform(0.4, 1.7),
    )
    b.box((cx, cy, h + t / 2), (lx + 2 * t, ly + 2 * t, t), ceiling, casts=False)
    main = _wall_surface(b)
    for center, size in (
        ((x0 - t / 2, cy, h / 2), (t, ly, h)), ((x1 + t / 2, cy, h / 2), (t, ly, h)),
        ((cx, y0 - t / 2, h / 2), (lx, t, h)), ((cx, y1 + t / 2, h / 2), (lx, t, h)),
    ):  # fmt: skip
        b.box(center, size, main if r.random() < 0.6 else _wall_surface(b), casts=False)
    if r.random() < 0.7:
        skirt, z = b.paint(), r.uniform(0.05, 0.15)
        b.box((x0, cy, z / 2), (0.03, ly, z), skirt, casts=False)
        b.box((x1, cy, z / 2), (0.03, ly, z), skirt, casts=False)
        b.box((cx, y0, z / 2), (lx, 0.03, z), skirt, casts=False)
        b.box((cx, y1, z / 2), (lx, 0.03, z), skirt, casts=False)


def wall_thing(b: Builder, height: float) -> None:
    """Something on a wall at x = 0, facing +x: door, window, picture, shelf, screen, board."""
    r, p = b.rng, b.palette
    kind = r.integers(0, 9)
    if kind == 0:
        w, frame = r.uniform(0.8, 1.1), b.paint() if r.random() < 0.5 else b.timber()
        door = b.material("panels", p.wood() if r.random() < 0.5 else p.any(), fit=True, scale=1)
        b.box((0.01, 0, 1.02), (0.04, w, 2.04), door)
        for s in (-1, 1):
            b.box((0.03, s * (w / 2 + 0.04), 1.03), (0.08, 0.08, 2.1), frame)
        b.box((0.03, 0, 2.09), (0.08, w + 0.16, 0.08), frame)
        b.box((0.07, 0.42 * w, 1.05), (0.06, 0.12, 0.03), b.metal())
        b.target(0.1, 0, 1.2)
    elif kind == 1:
        w, h, z = r.uniform(0.7, 2.0), r.uniform(0.8, 1.4), r.uniform(1.4, 1.7)
        bright = r.uniform(0.3, 3.0)
        m = b.material(
            "cloudy",
            p.hsv(0.58, 0.2, 0.8),
            p.plant(),
            p.stone(),
            fit=True,
            emissive=bright,
            detail=0.1,
        )
        frame = b.paint(p.wall())
        b.box((0.0, 0, z), (0.02, w, h), m)
        for s in (-1, 0, 1):
            b.box((0.02, s * w / 2, z), (0.06, 0.06, h + 0.06), frame)
        for s in (-1, 1):
            b.box((0.02, 0, z + s * h / 2), (0.06, w, 0.06), frame)
        b.box((0.09, 0, z - h / 2 - 0.04), (0.2, w + 0.1, 0.03), frame)
        if r.random() < 0.5:
            cloth = b.material("fabric", p.any(), p.any(), scale=(6, 0.5), bump=0.3)
            for s in (-1, 1):
                b.box(
                    (0.1, s * (w / 2 + 0.1), z - 0.1), (0.08, r.uniform(0.15, 0.5), h + 0.5), cloth
                )
    elif kind in (2, 3):
        for _ in range(r.integers(1, 4)):
            w, h = r.uniform(0.2, 0.9, 2)
            y, z = r.uniform(-0.6, 0.6), r.uniform(1.1, max(1.2, height - 0.6))
            b.box(
                (0.01, y, z),
                (0.03, w, h),
                b.print(str(r.choice(["poster", "poster", "page", "marble"]))),
            )
            if r.random() < 0.5:
                b.box((0.005, y, z), (0.025, w + 0.08, h + 0.08), b.timber())
    elif kind == 4:
        w, z = r.uniform(0.6, 1.8), r.uniform(1.0, 1.7)
        b.box((0.13, 0, z), (0.26, w, 0.03), b.timber() if r.random() < 0.5 else b.paint())
        for _ in range(r.integers(2, 8)):
            with b.frame(0.13, r.uniform(-0.45, 0.45) * w, z + 0.015, r.normal(0, 0.4)):
                furniture.small_thing(b)
        b.target(0.13, 0, z)
    elif kind == 5:
        w = r.uniform(0.7, 1.4)
        m = b.material(
            "poster",
            p.any(),
            p.any(),
            p.any(),
            fit=True,
            emissive=r.uniform(0, 1.5) * (r.random() < 0.6),
            mirror=0.3,
        )
        b.box((0.06, 0, 1.5), (0.07, w, w * 0.56), m)
        b.box((0.05, 0, 1.5), (0.06, w + 0.05, w * 0.56 + 0.05), b.paint(np.full(3, 0.02)))
    elif kind == 6:
        furniture.radiator(b)
    elif kind == 7:
        for _ in range(r.integers(1, 4)):
            y = r.uniform(-0.5, 0.5)
            b.rod(
                (0.05, y, 0.0 if r.random() < 0.5 else 1.0),
                (0.05, y + r.normal(0, 0.03), height),
                r.uniform(0.015, 0.1),
                b.paint(),
            )
    else:
        b.box(
            (0.02, 0, 1.3),
            (0.03, r.uniform(1.2, 2.0), 1.0),
            b.material("page", np.full(3, 0.8), p.any(), fit=True, specular=0.4, mirror=0.2),
        )


def _ceiling_lights(b: Builder, lx: float, ly: float, h: float) -> None:
    r = b.rng
    glow = b.material("plain", np.full(3, 0.9), emissive=r.uniform(1, 4), detail=0.0)
    for _ in range(r.integers(0, 4)):
        x, y = r.uniform(-0.4, 0.4) * lx, r.uniform(-0.4, 0.4) * ly
        if r.random() < 0.5:
            b.box(
                (x, y, h - 0.03),
                (r.uniform(0.2, 1.3), r.uniform(0.2, 0.6), 0.05),
                glow,
                casts=False,
            )
        else:
            drop = r.uniform(0.2, 0.7)
            b.rod((x, y, h - drop), (x, y, h), 0.012, b.paint())
            b.tube((x, y, h - drop), (0.35, 0.35, 0.2), glow, taper=0.5, casts=False)


def room(rng: np.random.Generator, heldout: bool) -> World:
    """A furnished room of 3 to 9 m; held-out rooms may be workshops or have columns and stairs."""
    b = Builder(rng, heldout)
    r = rng
    lx, ly, h = r.uniform(3, 8), r.uniform(3, 7), r.uniform(2.3, 3.4)
    shell(b, -lx / 2, lx / 2, -ly / 2, ly / 2, h)
    along_wall = [furniture.shelf, furniture.cabinet, furniture.cabinet, furniture.sofa,
                  furniture.plant, furniture.floor_lamp, furniture.boxes, furniture.rack,
                  lambda c: _against(c)]  # fmt: skip
    density = r.uniform(0.4, 1.0)
    for x, y, yaw, length in (
        (-lx / 2, 0, 0, ly),
        (lx / 2, 0, math.pi, ly),
        (0, -ly / 2, math.pi / 2, lx),
        (0, ly / 2, -math.pi / 2, lx),
    ):
        slots = max(1, int(length / 1.5))
        for k in range(slots):
            offset = ((k + 0.5) / slots - 0.5) * (length - 0.8)
            with b.frame(x, y, 0, yaw), b.frame(0.005, offset + r.normal(0, 0.1)):
                if r.random() < density:
                    along_wall[int(r.integers(len(along_wall)))](b)
                if r.random() < 0.6:
                    wall_thing(b, h)
    for _ in range(int(r.integers(1, 1 + max(1, round(lx * ly / 9))))):
        with b.frame(r.uniform(-0.3, 0.3) * lx, r.uniform(-0.3, 0.3) * ly, 0, r.uniform(0, 6.3)):
            if r.random() < 0.8:
                furniture.table(b, r.uniform(0.4, 2.5))
            else:
                along_wall[int(r.integers(len(along_wall)))](b)
    if r.random() < 0.5:
        c = b.palette.any()
        b.box(
            (r.normal(0, 0.5), r.normal(0, 0.5), 0.006),
            (r.uniform(1, 3), r.uniform(1, 2), 0.012),
            b.material(
                str(r.choice(["plaid", "fabric", "poster", "stripes"])),
                c,
                b.palette.any(),
                b.palette.any(),
                fit=True,
            ),
            yaw=r.uniform(0, 3),
            casts=False,
        )
    for _ in range(r.integers(0, 6)):
        with b.frame(
            r.uniform(-0.45, 0.45) * lx, r.uniform(-0.45, 0.45) * ly, 0, r.uniform(0, 6.3)
        ):
            furniture.small_thing(b) if r.random() < 0.7 else furniture.boxes(b)
    _ceiling_lights(b, lx, ly, h)
    if heldout and r.random() < 0.7:
        _columns_and_stairs(b, lx, ly, h)
    if r.random() < 0.35:
        _walkers(b, int(r.integers(1, 3)), (-lx / 4, lx / 4), (-ly / 4, ly / 4), sway=True)
    return b.build(
        "room", indoor_light(b, (lx, ly, h)), ((-lx / 2, -ly / 2, 0.0), (lx / 2, ly / 2, h))
    )


def _against(b: Builder) -> None:
    with b.frame(0.55, 0, 0, math.pi / 2):
        furniture.table(b, b.rng.uniform(0.5, 2))


def _columns_and_stairs(b: Builder, lx: float, ly: float, h: float) -> None:
    r = b.rng
    m = _wall_surface(b)
    for _ in range(r.integers(1, 4)):
        b.tube((r.uniform(-0.4, 0.4) * lx, r.uniform(-0.4, 0.4) * ly, h / 2), (0.3, 0.3, h), m)
    steps, x, y = int(r.integers(4, 9)), lx / 2 - 0.3, r.uniform(-0.3, 0.3) * ly
    for k in range(steps):
        b.box((x - 0.27 * (steps - k), y, 0.09 * (k + 1)), (0.27, 1.0, 0.18 * (k + 1)), m)


def _walkers(
    b: Builder, count: int, xs: tuple[float, float], ys: tuple[float, float], sway: bool
) -> None:
    r = b.rng
    for _ in range(count):
        start = (r.uniform(*xs), r.uniform(*ys), 0.0)
        yaw = r.uniform(0, 6.3) if sway else r.choice([0.0, math.pi])
        if sway:
            a = r.uniform(0, 0.8)
            body = Body(
                start,
                yaw,
                sway=(a * math.cos(yaw), a * math.sin(yaw), 0),
                frequency=r.uniform(0.05, 0.2),
                phase=r.uniform(0, 6),
            )
        else:
            body = Body(start, yaw, speed=r.uniform(0.4, 1.6))
        with b.moving(body):
            furniture.person(b)


def corridor(rng: np.random.Generator, heldout: bool, length: float = 30.0) -> World:
    """A corridor of 1.6 to 4.5 m; held-out ones may be warehouse aisles lined with racks."""
    b = Builder(rng, heldout)
    r = rng
    lx, w, h = length + r.uniform(0, 20), r.uniform(1.6, 4.5), r.uniform(2.2, 4.0)
    shell(b, -2, lx, -w / 2, w / 2, h)
    gap = r.uniform(1.6, 5)
    aisle = heldout and r.random() < 0.6
    for side in (-1, 1):
        x = -1.0
        while x < lx - 1:
            with b.frame(x, side * w / 2, 0, -side * math.pi / 2):
                if aisle and w > 2.2:
                    furniture.rack(b)
                elif r.random() < 0.8:
                    wall_thing(b, h)
                if w > 2.4 and r.random() < 0.25:
                    [furniture.boxes, furniture.cabinet, furniture.plant, furniture.shelf,
                     furniture.rack][int(r.integers(5))](b)  # fmt: skip
            x += gap * r.uniform(0.5, 1.2)
    beams, m = r.random(), _wall_surface(b)
    for x in np.arange(1.0, lx, r.uniform(2.5, 6)):
        if beams < 0.35:
            b.box((x, 0, h - 0.12), (0.3, w, 0.24), m)
        if beams < 0.25:
            for s in (-1, 1):
                b.box((x, s * (w / 2 - 0.08), h / 2), (0.3, 0.16, h), m)
    glow = b.material("plain", np.full(3, 0.9), emissive=r.uniform(1, 4), detail=0.0)
    spacing = r.uniform(2.5, 7)
    for x in np.arange(spacing / 2, lx, spacing):
        b.box((x, 0, h - 0.02), (r.uniform(0.6, 1.4), 0.3, 0.05), glow, casts=False)
    for _ in range(r.integers(0, 4)):
        y, z, d = r.uniform(-0.45, 0.45) * w, h - r.uniform(0.1, 0.4), r.uniform(0.03, 0.25)
        b.rod((-2, y, z), (lx, y, z), d, b.paint() if r.random() < 0.5 else b.metal())
    for _ in range(r.integers(0, 7)):
        side = r.choice([-1, 1])
        with b.frame(r.uniform(2, lx), side * (w / 2 - r.uniform(0.2, 0.5)), 0, r.uniform(0, 6.3)):
            furniture.small_thing(b) if r.random() < 0.5 else furniture.boxes(b)
    _walkers(b, int(r.integers(0, 4)), (3, lx), (-0.35 * w, 0.35 * w), sway=False)
    return b.build("corridor", indoor_light(b, (lx, w, h), spacing),
                   ((-2.0, -w / 2, 0.0), (lx, w / 2, h)), route=(0.0, 0.0))  # fmt: skip
