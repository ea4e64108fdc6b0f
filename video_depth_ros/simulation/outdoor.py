# SPDX-License-Identifier: Apache-2.0
"""Streets and open ground with many objects."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from . import furniture, kernels, vehicles
from .builder import Builder, spawned
from .scene import Body, Light, World

# (arc length, lateral offset) to (x, y, heading) on the road
Along = Callable[[float, float], tuple[float, float, float]]


def daylight(b: Builder) -> Light:
    """Sun or overcast sky, clear or hazy air."""
    r = b.rng
    elevation, azimuth = r.uniform(0.25, 1.35), r.uniform(0, 2 * math.pi)
    overcast = r.random() < 0.35
    direction = np.array([
        math.cos(elevation) * math.cos(azimuth), math.cos(elevation) * math.sin(azimuth),
        math.sin(elevation),
    ])  # fmt: skip
    warm = np.array(
        [1.0, 0.93 - 0.1 * math.exp(-3 * elevation), 0.85 - 0.3 * math.exp(-3 * elevation)]
    )
    sun = warm * (r.uniform(0.05, 0.4) if overcast else r.uniform(1.2, 3.0))
    grey = b.palette.hsv(0.6, r.uniform(0.0, 0.15), r.uniform(0.6, 1.4))
    zenith = grey * 0.9 if overcast else np.array([0.25, 0.45, 0.9]) * r.uniform(0.4, 1.1)
    sky = np.zeros(14)
    sky[0:3], sky[3:6] = grey, zenith
    sky[6], sky[7] = r.uniform(0.0, 1.0), r.choice(b.names["cloudy"])
    sky[8], sky[9:11], sky[11] = r.uniform(0.1, 0.4), r.random(2), r.uniform(0.35, 0.6)
    sky[12], sky[13] = r.uniform(0.8, 1.8), 0.0 if overcast else r.uniform(0.0, 1.5)
    return Light(
        direction=direction,
        color=sun,
        shadow=r.uniform(0.3, 0.7) if overcast else r.uniform(0.85, 0.97),
        penumbra=0.08 if overcast else r.uniform(0.01, 0.05),
        reach=r.uniform(0.4, 1.0),
        above=0.5 * (grey + zenith) * r.uniform(0.5, 1.0),
        below=grey * r.uniform(0.12, 0.3),
        haze=math.exp(r.uniform(math.log(2e-4), math.log(8e-3))),
        lamps=np.zeros((0, 7)),
        sky=sky,
    )


def tree(b: Builder) -> None:
    """Broad-leaved, conifer, palm-like or bare."""
    r = b.rng
    h = r.uniform(3, 11)
    bark = b.material(
        "grain", b.palette.hsv(0.08, 0.4, r.uniform(0.05, 0.25)), scale=(1, 0.4), bump=0.3
    )
    d = r.uniform(0.15, 0.5)
    b.tube((0, 0, h * 0.3), (d, d, h * 0.6), bark, taper=0.5)
    color = b.palette.plant()
    leaves = b.material(
        "leaves",
        color,
        third=b.palette.mixed(color),
        scale=r.uniform(0.25, 0.7),
        cutout=r.uniform(0.4, 0.62),
        bump=0.7,
        macro=0.3,
    )
    kind = r.random()
    if kind < 0.2:
        for k in range(r.integers(2, 5)):
            z = h * (0.25 + 0.2 * k)
            s = h * (0.4 - 0.08 * k)
            b.tube((0, 0, z + 0.12 * h), (s, s, 0.3 * h), leaves, taper=0.85)
    elif kind < 0.3:
        for _ in range(r.integers(5, 14)):
            z, a = h * r.uniform(0.3, 0.6), r.uniform(0, 6.3)
            n = h * r.uniform(0.15, 0.35)
            b.rod((0, 0, z), (n * math.cos(a), n * math.sin(a), z + n), 0.05, bark)
    else:
        spread = h * r.uniform(0.2, 0.32)
        for _ in range(r.integers(3, 8)):
            s = spread * r.uniform(0.8, 1.5)
            b.ball((r.normal(0, spread * 0.5), r.normal(0, spread * 0.5), h * r.uniform(0.5, 0.9)),
                   (s, s, s * r.uniform(0.7, 1.1)), leaves, yaw=r.uniform(0, 6))  # fmt: skip


def bush(b: Builder) -> None:
    """A low round shrub or a piece of hedge."""
    r, color = b.rng, b.palette.plant()
    m = b.material(
        "leaves",
        color,
        third=b.palette.mixed(color),
        scale=r.uniform(0.6, 1.4),
        cutout=r.uniform(0.3, 0.55),
        bump=0.7,
    )
    if r.random() < 0.4:
        b.box((0, 0, 0.5), (r.uniform(1, 5), r.uniform(0.4, 0.9), r.uniform(0.8, 1.8)), m)
        return
    for _ in range(r.integers(1, 4)):
        s = r.uniform(0.5, 1.7)
        b.ball((r.normal(0, 0.5), r.normal(0, 0.5), s * 0.35), (s, s, s * 0.9), m)


def pole(b: Builder) -> None:
    """Street lamp, sign, traffic light, bollard or mast, at the kerb with the road at -y."""
    r, p = b.rng, b.palette
    m, kind = b.metal(), r.integers(0, 5)
    if kind == 0:
        h, d = r.uniform(5, 9), r.uniform(0.1, 0.2)
        b.tube((0, 0, h / 2), (d, d, h), m, taper=0.4)
        b.rod((0, 0, h), (0, -r.uniform(0.8, 2.5), h + 0.3), 0.07, m)
        b.box((0, -1.6, h + 0.25), (0.25, 0.6, 0.12), b.paint())
    elif kind == 1:
        h, s = r.uniform(2.0, 3.0), r.uniform(0.45, 0.9)
        b.tube((0, 0, h / 2), (0.06, 0.06, h), m)
        face = b.print()
        if r.random() < 0.5:
            b.tube((-0.04, 0, h), (s, s, 0.02), face, pitch=1.5708, top=face)
        else:
            b.box((-0.04, 0, h), (0.02, s, s * r.uniform(0.5, 1.4)), face)
    elif kind == 2:
        h = r.uniform(3, 5)
        b.tube((0, 0, h / 2), (0.12, 0.12, h), m)
        b.box((-0.12, 0, h - 0.4), (0.2, 0.3, 0.9), b.paint(np.full(3, 0.02)))
        for k in range(3):
            glow = 3.0 if k == r.integers(3) else 0.1
            b.ball(
                (-0.22, 0, h - 0.68 + 0.28 * k),
                (0.1, 0.2, 0.2),
                b.material("plain", p.hsv(0.33 * (2 - k) / 2, 0.9, 0.7), emissive=glow),
            )
    elif kind == 3:
        for k in range(r.integers(1, 4)):
            b.tube(
                (1.5 * k, 0, 0.45),
                (0.13, 0.13, 0.9),
                b.material("stripes", p.any(), p.any(), scale=(1, 1), swap=True),
            )
    else:
        h = r.uniform(6, 9)
        b.tube((0, 0, h / 2), (0.25, 0.25, h), b.timber())
        for s in (-0.4, 0.4):
            b.rod((-20, s, h - 0.6), (20, s, h - 0.6), 0.03, b.paint(np.full(3, 0.02)))
        b.box((0, 0, h - 0.7), (0.1, 1.2, 0.12), b.timber())


def building(b: Builder, width: float) -> None:
    """A house or block with its front at y = 0, facing -y, ``width`` along x."""
    r, p = b.rng, b.palette
    storeys, high, deep = int(r.integers(1, 7)), r.uniform(2.7, 3.6), r.uniform(7, 14)
    color = p.brick() if r.random() < 0.5 else p.wall()
    glass = np.full(3, r.uniform(0.01, 0.1))
    bay = r.uniform(2, 6)
    h = storeys * high
    front = b.material(
        "facade",
        color,
        glass,
        p.wall(),
        scale=(max(1, round(width / bay)), max(1, round(h / bay))),
        fit=True,
        specular=0.1,
        mirror=0.0,
        detail=0.15,
    )
    roof = b.material("tiles", p.brick(), scale=0.8)
    b.box((0, deep / 2, h / 2), (width, deep, h), front, top=roof)
    if r.random() < 0.5:
        shop = b.material(
            "shop", p.any(), glass, p.any(), scale=(max(1, round(width / 5)), 1), fit=True
        )
        b.box((0, -0.1, high / 2), (width * 0.98, 0.3, high * 0.98), shop)
        if r.random() < 0.4:
            b.wedge(
                (0, -0.8, high * 0.85),
                (width * 0.5, 1.5, 0.3),
                b.material("stripes", p.any(), p.any(), scale=1),
                (0, 0.8, 0),
            )
    if r.random() < 0.5:
        rise = r.uniform(1.5, 4)
        b.wedge(
            (0, deep / 2, h + rise / 2), (width * 1.03, deep + 0.8, rise), roof, (0.02, 0.95, 0)
        )
    if r.random() < 0.4:
        for k in range(storeys - 1):
            x = r.uniform(-0.35, 0.35) * width
            z = (k + 1) * high
            b.box((x, -0.5, z), (2.2, 1.0, 0.15), b.paint(p.wall()))
            b.box(
                (x, -1.0, z + 0.5),
                (2.2, 0.04, 0.9),
                b.material("grid", p.any(), scale=1.5, cutout=0.4),
            )
    b.box((r.uniform(-0.4, 0.4) * width, -0.02, 1.05), (1.0, 0.12, 2.1), b.print("panels"))


def fence(b: Builder, length: float) -> None:
    """A fence, wall or guard rail along x."""
    r, p = b.rng, b.palette
    h, kind = r.uniform(0.8, 2.0), r.random()
    if kind < 0.45:
        b.box(
            (0, 0, h / 2),
            (length, 0.03, h),
            b.material("grid", p.any(), scale=r.uniform(0.6, 2), cutout=0.4, aligned=True),
        )
        for x in np.arange(-length / 2, length / 2, 2.5):
            b.tube((x, 0, h / 2), (0.07, 0.07, h + 0.1), b.metal())
    elif kind < 0.75:
        b.box(
            (0, 0, h / 2), (length, 0.25, h), b.material("bricks", p.brick(), p.stone(), scale=0.8)
        )
    else:
        b.box(
            (0, 0, 0.65),
            (length, 0.08, 0.3),
            b.material("corrugated", np.full(3, 0.4), scale=(0.1, 4), swap=True, mirror=0.2),
        )
        for x in np.arange(-length / 2, length / 2, 3):
            b.box((x, 0.1, 0.35), (0.1, 0.1, 0.7), b.metal())


def street(rng: np.random.Generator, heldout: bool, length: float = 110.0) -> World:
    """A road along +x with traffic; held-out ones may be car parks or lined by guard rails."""
    b = Builder(rng, heldout)
    r, p = rng, b.palette
    curvature = 0.0 if r.random() < 0.55 else r.choice([-1, 1]) / r.uniform(90, 400)
    lane, lanes = r.uniform(2.8, 3.7), int(r.integers(2, 6))
    own = -lane / 2 if r.random() < 0.75 else -lane * 1.5  # lateral place of the ego lane
    right = own - lane / 2 - lane * r.integers(0, 2)
    left = right + lane * max(lanes, 3 if own < -lane else 2)
    start, end = -25.0, length + 90.0

    def at(s: float, lateral: float) -> tuple[float, float, float]:
        if curvature == 0.0:
            return s, lateral, 0.0
        a, radius = s * curvature, 1.0 / curvature - lateral
        return radius * math.sin(a), 1.0 / curvature - radius * math.cos(a), a

    ground = p.plant() if r.random() < 0.6 else p.stone()
    b.box(
        (length / 2, 0, -25.2),
        (1600, 1600, 50),
        b.material(
            "grass" if r.random() < 0.6 else "gravel",
            ground,
            p.mixed(ground),
            scale=r.uniform(0.15, 0.5),
        ),
        casts=False,
    )
    tone = p.hsv(0.6, r.uniform(0, 0.08), r.uniform(0.05, 0.22))
    line = p.hsv(0.13, r.choice([0.0, 0.0, 0.6]), r.uniform(0.4, 0.8))
    road = b.material(
        "lane",
        tone,
        tone * r.uniform(0.6, 1.3),
        line,
        scale=(1 / lane, 1 / r.uniform(8, 14)),
        aligned=True,
        swap=True,
        detail=0.2,
        specular=0.05,
    )
    width = left - right
    piece = (end - start) if curvature == 0.0 else 6.0
    kerb, raise_ = b.material("paving", p.stone(), scale=0.5), r.uniform(0.02, 0.18)
    c = p.stone()
    walk = b.material(
        str(r.choice(["paving", "tiles", "cloudy", "gravel"])),
        c,
        p.mixed(c),
        scale=r.uniform(0.2, 0.8),
    )
    walk_width = r.uniform(1.2, 4.5)
    # The road texture starts at the right edge: an integer number of lanes from its centre.
    b.materials[road][kernels.OFFSET_U] = 0.5 * (round(width / lane) % 2)
    for s in np.arange(start, end, piece):
        m = s + piece / 2
        over = 1.0 if curvature == 0.0 else 1.06
        for lateral, w, z, mat in (
            ((left + right) / 2, width, 0.0, road),
            (left + 0.1, 0.2, raise_, kerb),
            (right - 0.1, 0.2, raise_, kerb),
            (left + 0.2 + walk_width / 2, walk_width, raise_ - 0.01, walk),
            (right - 0.2 - walk_width / 2, walk_width, raise_ - 0.01, walk),
        ):
            x, y, yaw = at(m, lateral)
            b.box((x, y, z - 0.25), (piece * over, w, 0.5), mat, yaw=yaw, casts=False)
    if r.random() < 0.4:
        x, y, yaw = at(r.uniform(5, length), (left + right) / 2)
        b.box(
            (x, y, 0.0),
            (3.0, width, 0.02),
            b.material("stripes", tone, line, scale=(0.3, 0.3), swap=True),
            yaw=yaw,
            casts=False,
        )

    _roadside(b, at, left + 0.2, right - 0.2, walk_width, start, end)
    _traffic(b, at, curvature, lane, own, right, left, length)
    if r.random() < 0.25:  # a bridge across
        x, y, yaw = at(r.uniform(25, length + 40), 0)
        z, m = r.uniform(4.8, 6.5), b.material("cloudy", p.stone(), scale=0.1)
        with b.frame(x, y, 0, yaw + r.normal(0, 0.2)):
            b.box((0, 0, z + 0.6), (r.uniform(5, 12), 120, 1.2), m)
            b.box(
                (-5, 0, z + 1.7),
                (0.1, 120, 1.0),
                b.material("grid", p.any(), scale=0.6, cutout=0.4),
            )
            for s in (left + 4, right - 4):
                b.box((0, s, z / 2), (1.2, 1.0, z), m)
    for _ in range(r.integers(0, 9)):  # skyline
        a, far = r.uniform(-1.2, 1.2), r.uniform(150, 330)
        m = (
            b.material("grass", p.plant() * 0.7, scale=0.05, bump=0.2)
            if r.random() < 0.6
            else b.material("facade", p.stone(), scale=0.08)
        )
        if r.random() < 0.6:
            b.ball(
                (far * math.cos(a), far * math.sin(a), -3),
                (r.uniform(60, 200), r.uniform(60, 200), r.uniform(15, 60)),
                m,
                casts=False,
            )
        else:
            b.box(
                (far * math.cos(a), far * math.sin(a), 10),
                (20, 20, r.uniform(20, 60)),
                m,
                casts=False,
            )
    lower = min(right, -2.0)
    return b.build(
        "street",
        daylight(b),
        ((start, lower - 3, 0.2), (end, left + 3, 12.0)),
        route=(curvature, own),
    )


def _roadside(
    b: Builder, at: Along, left: float, right: float, walk: float, start: float, end: float
) -> None:
    r = b.rng
    for side in (-1, 1):
        style = r.choice(["town", "town", "suburb", "park", "open"])
        edge = left if side > 0 else right
        setback = walk + (0.0 if style == "town" else r.uniform(2, 8))
        turn = 0.0 if side > 0 else math.pi
        s = start
        while s < end:
            width = r.uniform(7, 22) if style == "town" else r.uniform(8, 14)
            x, y, yaw = at(s + width / 2, edge + side * setback)
            with b.frame(x, y, 0, yaw + turn):
                if style == "town" or (style == "suburb" and r.random() < 0.75):
                    if r.random() < 0.9:
                        building(b, width * 0.98)
                    if style == "suburb" and r.random() < 0.6:
                        with b.frame(0, -setback + walk + 0.3):
                            fence(b, width)
                elif style == "park" and r.random() < 0.7:
                    for _ in range(r.integers(1, 4)):
                        with b.frame(r.uniform(-0.5, 0.5) * width, r.uniform(0, 8)):
                            tree(b) if r.random() < 0.7 else bush(b)
                elif style == "open" and r.random() < 0.4:
                    fence(b, width)
                    if r.random() < 0.5:
                        with b.frame(0, r.uniform(3, 20)):
                            tree(b)
            s += width + (
                r.uniform(4, 12) if r.random() < (0.15 if style == "town" else 0.5) else 0
            )
        every = r.uniform(6, 25)
        trees = r.random()
        for s in np.arange(start + r.uniform(0, every), end, every):
            x, y, yaw = at(s, edge + side * r.uniform(0.4, 0.9))
            with b.frame(x, y, 0, yaw + turn):
                if r.random() < trees * 0.6:
                    tree(b)
                else:
                    pole(b)
                if r.random() < 0.3:
                    with b.frame(2.0, 0.3):
                        furniture.boxes(b) if r.random() < 0.4 else bush(b)
        for _ in range(r.integers(0, 7)):
            x, y, yaw = at(
                r.uniform(start, end - 60), edge + side * r.uniform(0.5, max(walk - 0.4, 0.6))
            )
            with b.moving(
                Body((x, y, 0.1), yaw + r.choice([0.0, math.pi]), speed=r.uniform(0, 1.6))
            ):
                furniture.person(b)


def _traffic(
    b: Builder, at: Along, curvature: float, lane: float, own: float, right: float, left: float,
    length: float,
) -> None:  # fmt: skip
    r = b.rng

    def park(s: float, lateral: float, turned: float = 0.0) -> None:
        x, y, yaw = at(s, lateral)
        with b.frame(x, y, 0, yaw + turned + r.normal(0, 0.03)):
            vehicles.car(b) if r.random() < 0.88 else vehicles.truck(b)

    across = b.heldout and r.random() < 0.5
    for side, edge in ((1, left), (-1, right)):
        if r.random() < (0.9 if across else 0.55):
            if abs(edge - side * 1.1 - own) < 2.6:
                edge += side * 2.2  # park beyond the kerb rather than in the ego lane
            s, fill = r.uniform(-10, 10), r.uniform(0.3, 0.95)
            while s < length + 20:
                if r.random() < fill:
                    if across:
                        park(s, edge + side * 2.0, math.pi / 2)
                    else:
                        park(s, edge - side * 1.1, r.choice([0.0, math.pi]))
                s += 2.8 if across else r.uniform(6.0, 8.0)
    speed = r.choice([0.0, r.uniform(0.5, 4), r.uniform(4, 14)])
    # A stream of its own decides about dense traffic, so that the other streets stay as they are.
    dense = spawned(r)
    jam, heavy = dense.random() < 0.3, 0.2
    if jam:
        speed, heavy = dense.choice([0.0, dense.uniform(0, 3)]), dense.uniform(0.1, 0.6)
    lateral = right + lane / 2
    while lateral < left:
        same = (lateral < own + lane * 1.2 - 1e-6 and lateral <= own + 0.1) or r.random() < 0.15
        flow = speed * r.uniform(0.7, 1.2) if same else r.uniform(0, 14)
        s = r.uniform(-20, 15)
        if abs(lateral - own) < 0.6 * lane:  # the ego lane: keep clear of the camera's start
            s, flow = r.uniform(9, 40), speed * r.uniform(1.0, 1.3) + r.uniform(0, 1)
            s = min(s, 14.0) if jam else s
        gap = r.uniform(8, 40)
        reach = length + (0 if same else 12 * flow)
        while s < reach and r.random() < 0.9:
            x, y, yaw = at(s, lateral + r.normal(0, 0.2))
            heading = yaw if same else yaw + math.pi
            turn = flow * curvature * (1 if same else -1)
            with b.moving(Body((x, y, 0.0), heading, speed=flow, yaw_rate=turn)):
                big = r.random()
                vehicles.car(b) if big < 1 - heavy else (
                    vehicles.truck(b) if big < 0.95 else vehicles.cycle(b)
                )
            if jam and same:
                s += (12.5 if 1 - heavy <= big < 0.95 else 6.0) + dense.uniform(0.3, 4)
            else:
                s += 9 + gap * r.random() * 2
        lateral += lane


def clutter(rng: np.random.Generator, heldout: bool) -> World:
    """Open ground or a hall full of random objects, thin ones too; held out: also a forest."""
    b = Builder(rng, heldout)
    r, p = rng, b.palette
    half = r.uniform(6, 16)
    hall = r.random() < 0.35
    color = p.stone() if r.random() < 0.5 else p.plant()
    name = str(r.choice(["grass", "gravel", "paving", "cloudy", "tiles", "planks", "checker"]))
    b.box(
        (0, 0, -5),
        (900, 900, 10),
        b.material(name, color, p.mixed(color), p.any(), scale=r.uniform(0.15, 0.8)),
        casts=False,
    )
    forest = (heldout and r.random() < 0.4) or r.random() < 0.15
    for _ in range(int(r.integers(15, 60))):
        x, y = r.uniform(-half, half, 2)
        with b.frame(x, y, 0, r.uniform(0, 6.3)):
            k = r.random()
            size = np.exp(r.uniform(np.log(0.2), np.log(2.5), 3))
            if forest and k < 0.6:
                tree(b)
            elif k < 0.3:
                b.box(
                    (0, 0, size[2] / 2),
                    size,
                    b.anything(),
                    roll=r.normal(0, 0.3) * (r.random() < 0.3),
                )
            elif k < 0.42:
                b.ball((0, 0, size[2] * r.uniform(0.2, 0.5)), size, b.anything())
            elif k < 0.55:
                b.tube(
                    (0, 0, size[2] / 2),
                    (size[0], size[0], size[2]),
                    b.anything(),
                    taper=r.uniform(-0.4, 0.9),
                )
            elif k < 0.62:
                b.wedge(
                    (0, 0, size[2] / 2),
                    size,
                    b.anything(),
                    (r.uniform(0, 0.9), r.uniform(0, 0.9), 0),
                )
            elif k < 0.76:  # poles, beams, branches, wires
                thick = np.exp(r.uniform(np.log(0.02), np.log(0.2)))
                m = b.anything()
                for _ in range(r.integers(1, 5)):
                    q = r.normal(0, 0.8, 2)
                    b.rod(
                        (q[0], q[1], 0),
                        (q[0] + r.normal(0, 1), q[1] + r.normal(0, 1), r.uniform(1, 5)),
                        thick,
                        m,
                    )
            elif k < 0.82:
                fence(b, r.uniform(2, 8))
            elif k < 0.88:
                tree(b) if not hall else furniture.shelf(b)
            elif k < 0.92:
                bush(b) if not hall else furniture.table(b)
            elif k < 0.96:
                furniture.chair(b, b.metal(), b.anything())
            else:
                vehicles.car(b) if half > 9 else furniture.boxes(b)
            b.target(0, 0, r.uniform(0.2, 1.2))
    for _ in range(r.integers(0, 12)):  # things in the air, some of them moving
        size = np.exp(r.uniform(np.log(0.15), np.log(1.2), 3))
        place = (*r.uniform(-half, half, 2), r.uniform(0.6, 4))
        body = Body(
            place,
            r.uniform(0, 6),
            yaw_rate=r.normal(0, 0.5),
            sway=tuple(r.normal(0, 0.6, 3)),
            frequency=r.uniform(0.05, 0.25),
            phase=r.uniform(0, 6),
        )
        with b.moving(body):
            (b.box, b.ball, b.tube)[int(r.integers(3))](
                (0, 0, 0), size, b.anything(), roll=r.uniform(0, 3), pitch=r.uniform(0, 3)
            )
    for _ in range(r.integers(0, 4)):
        with b.moving(
            Body((*r.uniform(-half, half, 2), 0.0), r.uniform(0, 6), speed=r.uniform(0, 1.5))
        ):
            furniture.person(b)
    if hall:
        from .indoor import indoor_light, shell

        h, wide = r.uniform(4, 8), half + 2
        shell(b, -wide, wide, -wide, wide, h)
        light, top = indoor_light(b, (wide, wide, h)), h
    else:
        light, top = daylight(b), 10.0
        for _ in range(r.integers(0, 8)):
            a, d = r.uniform(0, 6.3), half + r.uniform(8, 40)
            with b.frame(d * math.cos(a), d * math.sin(a), 0, a - math.pi / 2):
                building(b, r.uniform(8, 25)) if r.random() < 0.4 else tree(b)
    return b.build("clutter", light, ((-half, -half, 0.0), (half, half, min(top, 6.0))))
