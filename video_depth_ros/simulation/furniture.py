# SPDX-License-Identifier: Apache-2.0
"""Indoor things built from primitives, each standing at the origin of the current frame."""

from __future__ import annotations

import math

import numpy as np

from .builder import Builder


def table(b: Builder, clutter: float = 1.0) -> None:
    """A table or desk with legs, things on it, chairs round it."""
    r = b.rng
    length, width, height = r.uniform(0.8, 2.2), r.uniform(0.55, 1.1), r.uniform(0.62, 0.95)
    top, leg = (
        b.timber() if r.random() < 0.7 else b.anything(),
        b.timber() if r.random() < 0.5 else b.metal(),
    )
    thick = r.uniform(0.02, 0.06)
    if r.random() < 0.15:
        b.tube((0, 0, height - thick / 2), (width * 1.2, width * 1.2, thick), top)
        b.tube((0, 0, height / 2), (0.08, 0.08, height), leg)
        length = width
    else:
        b.box((0, 0, height - thick / 2), (length, width, thick), top)
        t = r.uniform(0.03, 0.09)
        for sx in (-1, 1):
            for sy in (-1, 1):
                b.box(
                    (sx * (length / 2 - t), sy * (width / 2 - t), height / 2),
                    (t, t, height - thick),
                    leg,
                )
        if r.random() < 0.4:
            b.box((0, 0, height - 0.1), (length - 2 * t, width - 2 * t, 0.08), leg)
        if r.random() < 0.25:
            b.box(
                (length * 0.3, 0, height * 0.45),
                (0.4, width * 0.8, height * 0.6),
                b.print("panels"),
            )
    for _ in range(r.poisson(5 * clutter) + 1):
        with b.frame(
            r.uniform(-0.45, 0.45) * length,
            r.uniform(-0.42, 0.42) * width,
            height,
            r.uniform(0, 6.3),
        ):
            small_thing(b)
            b.target(0, 0, 0.05)
    chair_paint = (b.timber() if r.random() < 0.6 else b.paint(), b.anything())
    for k in range(r.integers(0, 5)):
        side = 1 if k % 2 else -1
        gap = r.uniform(0.1, 0.5)
        with b.frame(r.uniform(-0.4, 0.4) * length, side * (width / 2 + gap), 0,
                     -side * math.pi / 2 + r.normal(0, 0.35)):  # fmt: skip
            chair(b, *chair_paint)


def chair(b: Builder, frame: int, seat: int) -> None:
    """A chair facing +x, slatted, solid or on a post."""
    r = b.rng
    w, h, back = r.uniform(0.38, 0.5), r.uniform(0.42, 0.5), r.uniform(0.35, 0.6)
    b.box((0, 0, h), (w, w, 0.05), seat)
    t = r.uniform(0.025, 0.05)
    if r.random() < 0.2:
        b.tube((0, 0, h / 2), (0.06, 0.06, h), frame)
        b.tube((0, 0, 0.05), (0.5, 0.5, 0.06), frame, taper=0.6)
    else:
        for sx in (-1, 1):
            for sy in (-1, 1):
                b.box((sx * (w / 2 - t), sy * (w / 2 - t), h / 2), (t, t, h), frame)
    x = -w / 2 + t / 2
    style = r.random()
    if style < 0.4:
        b.box((x, 0, h + back / 2 + 0.05), (0.03, w, back), seat, pitch=-0.12)
    else:
        for sy in (-1, 1):
            b.box((x, sy * (w / 2 - t), h + back / 2), (t, t, back), frame, pitch=-0.08)
        n = r.integers(2, 5)
        for k in range(n):
            if style < 0.75:
                b.box((x, 0, h + back * (k + 1) / n - 0.04), (0.02, w, 0.05), frame)
            else:
                b.box((x, w * ((k + 1) / (n + 1) - 0.5), h + back / 2), (0.02, 0.03, back), frame)
        b.box((x, 0, h + back), (0.025, w, 0.06), frame)


def small_thing(b: Builder) -> None:
    """Something found on tables, shelves and floors (5 to 40 cm)."""
    r = b.rng
    kind = r.integers(0, 13)
    if kind <= 1:  # packet, box
        size = r.uniform(0.04, 0.3, 3)
        b.box((0, 0, size[2] / 2), size, b.print() if r.random() < 0.7 else b.anything())
    elif kind == 2:  # cup
        d, h = r.uniform(0.06, 0.1), r.uniform(0.06, 0.12)
        m = b.paint()
        b.tube((0, 0, h / 2), (d * 0.8, d * 0.8, h), m, taper=-r.uniform(0, 0.35), top=b.paint())
        b.box((d * 0.52, 0, h / 2), (d * 0.3, 0.01, h * 0.5), m)
    elif kind == 3:  # bottle
        d, h = r.uniform(0.05, 0.1), r.uniform(0.12, 0.26)
        m = b.material(
            "stripes",
            b.palette.any(),
            scale=(0.1, r.uniform(2, 6)),
            swap=True,
            specular=0.6,
            mirror=0.2,
        )
        b.tube((0, 0, h / 2), (d, d, h), m)
        b.tube((0, 0, h * 1.12), (d, d, h * 0.25), m, taper=0.6)
        b.tube((0, 0, h * 1.3), (d * 0.38, d * 0.38, h * 0.3), b.paint())
    elif kind == 4:  # bowl or tub
        d = r.uniform(0.1, 0.28)
        b.tube((0, 0, 0.04), (d * 0.7, d * 0.7, 0.08), b.paint(), taper=-0.45, top=b.anything())
    elif kind == 5:  # container with a lid
        size = np.array([r.uniform(0.12, 0.32), r.uniform(0.1, 0.22), r.uniform(0.05, 0.12)])
        b.wedge((0, 0, size[2] / 2), size * [0.85, 0.85, 1], b.paint(), (-0.15, -0.15, 0))
        b.box((0, 0, size[2]), (size[0] * 1.02, size[1] * 1.02, 0.015), b.print("panels"))
    elif kind == 6:  # pile of books
        z = 0.0
        for _ in range(r.integers(1, 6)):
            t = r.uniform(0.01, 0.045)
            b.box(
                (0, 0, z + t / 2),
                (r.uniform(0.15, 0.3), r.uniform(0.12, 0.22), t),
                b.print(),
                yaw=r.normal(0, 0.2),
            )
            z += t
    elif kind == 7:  # paper, mat, plate
        if r.random() < 0.6:
            b.box(
                (0, 0, 0.002),
                (r.uniform(0.15, 0.42), r.uniform(0.2, 0.3), 0.004),
                b.print(str(r.choice(["page", "poster"]))),
            )
        else:
            d = r.uniform(0.14, 0.28)
            b.tube((0, 0, 0.01), (d * 0.7, d * 0.7, 0.02), b.paint(), taper=-0.4)
    elif kind == 8:  # laptop or monitor
        dark = b.paint(b.palette.hsv(0.6, 0.1, r.choice([0.02, 0.3])))
        screen = b.material(
            "poster",
            b.palette.any(),
            b.palette.any(),
            b.palette.any(),
            fit=True,
            emissive=r.uniform(0, 1.5),
            mirror=0.2,
        )
        if r.random() < 0.5:
            b.box((0, 0, 0.01), (0.24, 0.34, 0.02), dark, top=b.print("panels"))
            b.box((-0.14, 0, 0.12), (0.012, 0.34, 0.23), screen, pitch=-0.25)
        else:
            b.box((0, 0, 0.32), (0.03, r.uniform(0.4, 0.7), 0.36), screen)
            b.box((-0.02, 0, 0.09), (0.03, 0.06, 0.18), dark)
            b.box((0, 0, 0.01), (0.18, 0.22, 0.02), dark)
    elif kind == 9:  # fruit, ball, toy
        m = b.paint(b.palette.hsv(r.random(), 0.8, r.uniform(0.2, 0.7)))
        for _ in range(r.integers(1, 5)):
            d = r.uniform(0.05, 0.12)
            b.ball(
                (r.normal(0, 0.06), r.normal(0, 0.06), d / 2), (d, d * r.uniform(0.7, 1.3), d), m
            )
    elif kind == 10:  # potted plant
        d, h = r.uniform(0.08, 0.2), r.uniform(0.08, 0.2)
        b.tube((0, 0, h / 2), (d * 0.75, d * 0.75, h), b.paint(), taper=-0.3)
        m = b.material(
            "leaves",
            b.palette.plant(),
            third=b.palette.plant(),
            scale=r.uniform(4, 9),
            cutout=0.5,
            bump=0.5,
        )
        for _ in range(r.integers(1, 4)):
            b.ball(
                (r.normal(0, d / 3), r.normal(0, d / 3), h + d * r.uniform(0.5, 1.4)),
                r.uniform(0.9, 2, 3) * d,
                m,
            )
    elif kind == 11:  # desk lamp
        m = b.paint()
        h = r.uniform(0.3, 0.5)
        b.tube((0, 0, 0.01), (0.16, 0.16, 0.02), m)
        b.rod((0, 0, 0), (0.1, 0, h * 0.6), 0.015, m)
        b.rod((0.1, 0, h * 0.6), (-0.05, 0, h), 0.015, m)
        b.tube((-0.05, 0, h), (0.14, 0.14, 0.1), m, taper=0.6)
    else:  # pens, cables, cutlery
        for _ in range(r.integers(1, 5)):
            x, y, a, n = (
                r.normal(0, 0.1),
                r.normal(0, 0.1),
                r.uniform(0, 6.3),
                r.uniform(0.05, 0.12),
            )
            b.rod(
                (x - n * math.cos(a), y - n * math.sin(a), 0.008),
                (x + n * math.cos(a), y + n * math.sin(a), 0.008),
                r.uniform(0.008, 0.02),
                b.paint(),
            )


def shelf(b: Builder) -> None:
    """An open bookcase against a wall at x = 0, facing +x."""
    r = b.rng
    w, d, h = r.uniform(0.5, 1.6), r.uniform(0.22, 0.4), r.uniform(0.8, 2.2)
    wood = b.timber() if r.random() < 0.7 else b.paint()
    for s in (-1, 1):
        b.box((d / 2, s * w / 2, h / 2), (d, 0.025, h), wood)
    b.box((0.01, 0, h / 2), (0.02, w, h), wood)
    n = int(r.integers(2, 7))
    for k in range(n + 1):
        z = 0.05 + (h - 0.07) * k / n
        b.box((d / 2, 0, z), (d, w, 0.025), wood)
        if k == n and r.random() < 0.5:
            continue
        room = (h - 0.07) / n
        if r.random() < 0.5:
            row, high = w * r.uniform(0.4, 0.95), min(room * 0.85, r.uniform(0.2, 0.32))
            b.box((d * 0.45, 0, z + high / 2), (d * 0.7, row, high), b.print("books"))
        else:
            for _ in range(r.integers(0, 4)):
                with b.frame(d / 2, r.uniform(-0.4, 0.4) * w, z + 0.012, r.uniform(0, 6.3)):
                    small_thing(b)
    b.target(d / 2, 0, h / 2)


def cabinet(b: Builder) -> None:
    """Cupboards, wardrobes, kitchen counters: facing +x from a wall at x = 0."""
    r = b.rng
    w, d, h = r.uniform(0.5, 2.4), r.uniform(0.35, 0.65), r.choice([0.85, 0.9, 1.2, 1.9, 2.1])
    p = b.palette
    color = p.wood() if r.random() < 0.5 else p.any()
    front = b.material(
        "panels",
        color,
        p.any(),
        p.mixed(color, 0.1),
        fit=True,
        scale=(max(1, round(w)), 1),
        specular=r.uniform(0, 0.5),
        mirror=r.uniform(0, 0.15),
    )
    b.box((d / 2, 0, h / 2), (d, w, h), front, top=b.timber())
    if h < 1.3:
        b.box((d / 2, 0, h + 0.015), (d + 0.04, w + 0.02, 0.03), b.anything())
        for _ in range(r.integers(0, 6)):
            with b.frame(
                d * r.uniform(0.3, 0.7), r.uniform(-0.45, 0.45) * w, h + 0.03, r.uniform(0, 6.3)
            ):
                small_thing(b)
                b.target(0, 0, 0)
        if r.random() < 0.5:
            b.box((0.17, 0, h + r.uniform(0.7, 0.9)), (0.34, w, 0.6), front)


def sofa(b: Builder) -> None:
    """A sofa or bed with cushions, facing +x."""
    r, p = b.rng, b.palette
    color = p.any()
    m = b.material("fabric", color, p.any(), p.mixed(color), scale=r.uniform(0.7, 3), bump=0.15)
    w = r.uniform(0.8, 2.2)
    if r.random() < 0.35:
        b.box((1.0, 0, 0.25), (2.0, w, 0.4), m)
        b.box((0.03, 0, 0.5), (0.06, w, 1.0), b.timber())
        for s in (-1, 1):
            b.ball(
                (0.35, s * w / 4, 0.5), (0.45, 0.65, 0.22), b.material("fabric", p.any(), scale=2)
            )
        return
    b.box((0.45, 0, 0.22), (0.9, w, 0.42), m)
    b.wedge((0.14, 0, 0.62), (0.28, w, 0.5), m, (0.4, 0.02, -0.3))
    for s in (-1, 1):
        b.box((0.45, s * (w / 2 + 0.08), 0.32), (0.9, 0.17, 0.6), m)
    for _ in range(r.integers(0, 4)):
        b.ball(
            (0.35, r.uniform(-0.4, 0.4) * w, 0.58),
            (0.16, 0.42, 0.4),
            b.anything(),
            pitch=-0.3,
            yaw=r.normal(0, 0.3),
        )
    b.target(0.5, 0, 0.5)


def radiator(b: Builder) -> None:
    """A ribbed radiator on the wall."""
    w = b.rng.uniform(0.5, 1.4)
    m = b.material("corrugated", np.full(3, 0.7), scale=(w * 1.5, 1), fit=True)
    b.box((0.07, 0, 0.4), (0.08, w, 0.5), m)


def plant(b: Builder) -> None:
    """A potted plant on the floor."""
    r = b.rng
    d, h = r.uniform(0.25, 0.45), r.uniform(0.25, 0.4)
    b.tube((0.3, 0, h / 2), (d * 0.8, d * 0.8, h), b.anything(), taper=-0.25)
    m = b.material(
        "leaves",
        b.palette.plant(),
        third=b.palette.plant(),
        scale=r.uniform(1.5, 4),
        cutout=r.uniform(0.45, 0.65),
        bump=0.5,
    )
    for _ in range(r.integers(3, 8)):
        b.ball(
            (0.3 + r.normal(0, 0.15), r.normal(0, 0.2), h + r.uniform(0.15, 1.0)),
            r.uniform(0.25, 0.6, 3),
            m,
        )
    b.rod((0.3, 0, h), (0.3, 0, h + 0.8), 0.04, b.timber())


def floor_lamp(b: Builder) -> None:
    """A lamp on a thin pole."""
    r = b.rng
    m, h = b.metal(), r.uniform(1.3, 1.8)
    b.tube((0.25, 0, 0.015), (0.3, 0.3, 0.03), m)
    b.tube((0.25, 0, h / 2), (0.025, 0.025, h), m)
    b.tube(
        (0.25, 0, h),
        (0.4, 0.4, 0.3),
        b.material("fabric", b.palette.wall(), emissive=r.uniform(0, 1.5)),
        taper=0.4,
    )


def boxes(b: Builder) -> None:
    """A pile of cartons or crates."""
    r = b.rng
    z = 0.0
    for _ in range(r.integers(1, 4)):
        s = r.uniform(0.2, 0.6, 3)
        color = (
            b.palette.hsv(0.08, 0.5, r.uniform(0.2, 0.5)) if r.random() < 0.6 else b.palette.any()
        )
        m = b.material("poster", color, b.palette.any(), b.palette.mixed(color, 0.1), fit=True)
        b.box((0.35, r.normal(0, 0.05), z + s[2] / 2), s, m, yaw=r.normal(0, 0.3))
        z += s[2]
    b.target(0.35, 0, z)


def rack(b: Builder) -> None:
    """A wire or slatted rack: cut-out planes round a frame."""
    r = b.rng
    w, d, h = r.uniform(0.6, 1.4), r.uniform(0.35, 0.5), r.uniform(1.0, 2.0)
    m = b.metal()
    mesh = b.material("grid", b.palette.any(), scale=r.uniform(1, 3), cutout=0.4, aligned=True)
    for sx in (0, 1):
        for sy in (-1, 1):
            b.tube((0.02 + sx * d, sy * w / 2, h / 2), (0.03, 0.03, h), m)
    for z in np.linspace(0.15, h - 0.05, r.integers(2, 5)):
        b.box((d / 2, 0, z), (d, w, 0.015), mesh)
        for _ in range(r.integers(0, 3)):
            with b.frame(d / 2, r.uniform(-0.4, 0.4) * w, z, r.uniform(0, 6.3)):
                small_thing(b)
    b.target(d / 2, 0, h / 2)


def person(b: Builder) -> None:
    """A standing or walking figure, 1.5 to 1.95 m, at the origin, facing +x."""
    r, p = b.rng, b.palette
    h = r.uniform(1.5, 1.95)
    skin = b.paint(p.hsv(r.uniform(0.03, 0.08), r.uniform(0.3, 0.6), r.uniform(0.1, 0.6)), 0.1)
    coat = b.material("fabric", p.any(), p.any(), scale=2, bump=0.3)
    trousers = b.material("fabric", p.mixed(p.any() * 0.5), scale=2, bump=0.2)
    stride = r.uniform(0.02, 0.25)
    for s in (-1, 1):
        b.rod((s * stride, s * 0.09, 0.04), (0, s * 0.08, 0.5 * h), 0.15, trousers)
        b.box((s * stride + 0.05, s * 0.09, 0.04), (0.26, 0.1, 0.08), b.paint())
        b.rod((-s * stride * 0.9, s * 0.27, 0.46 * h), (0, s * 0.2, 0.8 * h), 0.1, coat)
        b.ball((-s * stride * 0.9, s * 0.27, 0.44 * h), (0.1, 0.08, 0.12), skin)
    b.tube((0, 0, 0.65 * h), (0.25, 0.36, 0.36 * h), coat, taper=-0.12)
    b.ball((0, 0, 0.82 * h), (0.26, 0.44, 0.14), coat)
    b.ball((0.01, 0, 0.925 * h), (0.2, 0.16, 0.25), skin)
    b.ball(
        (-0.02, 0, 0.95 * h), (0.21, 0.18, 0.2), b.paint(p.hsv(0.08, 0.6, r.uniform(0.01, 0.3)), 0)
    )
    if r.random() < 0.3:
        b.ball((-0.2, 0, 0.68 * h), (0.22, 0.3, 0.45), b.anything())
