# SPDX-License-Identifier: Apache-2.0
"""Cars, trucks, buses, cycles, built from primitives at the origin of the frame, facing +x."""

from __future__ import annotations

import numpy as np

from .builder import Builder
from .furniture import person


def _wheel(b: Builder, x: float, y: float, d: float, width: float) -> None:
    tyre = b.paint(np.full(3, 0.015), 0.0)
    b.tube((x, y, d / 2), (d, d, width), tyre, roll=1.5708)
    b.tube((x, y, d / 2), (0.62 * d, 0.62 * d, width + 0.02), b.metal(), roll=1.5708)


def car(b: Builder) -> None:
    """Hatchback, estate, saloon, van or pick-up."""
    r, p = b.rng, b.palette
    length, width, height = r.uniform(3.6, 4.9), r.uniform(1.65, 1.9), r.uniform(1.38, 1.65)
    van = r.random() < 0.2
    if van:
        length, width, height = r.uniform(4.4, 6), r.uniform(1.8, 2.05), r.uniform(1.8, 2.6)
    color = p.car()
    paint = b.paint(color, r.uniform(0.3, 0.9))
    glass = b.material(
        "plain",
        np.full(3, 0.015),
        specular=1.0,
        shininess=60,
        mirror=r.uniform(0.3, 0.7),
        detail=0,
    )
    black = b.paint(np.full(3, 0.02), 0.1)
    d = r.uniform(0.58, 0.72)
    sill, belt = 0.22, height * r.uniform(0.58, 0.66)
    # Lower body, then the cabin: a glass wedge inside roof and pillars.
    b.wedge((0, 0, (sill + belt) / 2), (length, width, belt - sill), paint, (0.04, 0.08, 0.0))
    b.box((0, 0, sill), (length * 0.96, width * 0.94, 0.12), black)
    cabin = height - belt
    back = 0.9 if van else r.choice([0.35, 0.75, 0.9])
    front = 0.55 if van else 0.3
    start, stop = -0.5 * length * back, 0.5 * length * front
    cx, cl = (start + stop) / 2, stop - start
    rake_back, rake_front = (0.05 if back > 0.8 else 0.3), r.uniform(0.25, 0.4)
    shrink, shift = (rake_back + rake_front) / 2, -(rake_front - rake_back) / 2
    b.wedge(
        (cx, 0, belt + cabin / 2 - 0.02),
        (cl, width * 0.93, cabin),
        glass,
        (shrink, 0.22, shift),
        top=paint,
    )
    roof = cl * (1 - shrink)
    roof_x = cx + shift * cl / 2
    b.wedge((roof_x, 0, height - 0.01), (roof * 1.02, width * 0.76, 0.06), paint, (0.05, 0.1, 0))
    if van and r.random() < 0.7:
        b.wedge(
            (start + 0.32 * cl, 0, belt + cabin / 2),
            (cl * 0.62, width * 0.96, cabin),
            paint,
            (0.04, 0.12, 0.02),
        )
    else:
        for x in (start + cl * 0.42, start + cl * 0.72):
            b.wedge(
                (x + shift * 0.1, 0, belt + cabin / 2),
                (0.1, width * 0.95, cabin),
                paint,
                (0, 0.22, 0),
            )
    for x in (-0.31 * length, 0.31 * length):
        for s in (-1, 1):
            _wheel(b, x, s * (width / 2 - 0.1), d, 0.21)
            b.tube(
                (x, s * (width / 2 - 0.07), d / 2), (d * 1.18, d * 1.18, 0.15), black, roll=1.5708
            )
    glow = r.uniform(0, 3) * (r.random() < 0.5)
    red = b.material("plain", [0.5, 0.02, 0.02], emissive=glow, specular=0.5, detail=0)
    white = b.material(
        "plain", [0.7, 0.7, 0.65], emissive=glow, specular=0.9, mirror=0.3, detail=0
    )
    for s in (-1, 1):
        b.box((-length / 2 + 0.03, s * width * 0.38, belt * 0.8), (0.12, width * 0.16, 0.16), red)
        b.box(
            (length / 2 - 0.05, s * width * 0.36, belt * 0.72), (0.14, width * 0.18, 0.12), white
        )
        b.box(
            (stop - 0.25 * cl * rake_front, s * (width / 2 + 0.06), belt + 0.06),
            (0.1, 0.16, 0.12),
            paint,
        )
    for x in (-length / 2 + 0.01, length / 2 - 0.01):
        b.box((x, 0, 0.42), (0.1, width * 0.96, 0.24), paint if r.random() < 0.5 else black)
        plate = b.material("page", np.full(3, 0.75), fit=True, detail=0)
        b.box((x * 1.005, 0, 0.5), (0.1, 0.5, 0.11), plate)
    b.target(0, 0, 0.8)


def truck(b: Builder) -> None:
    """Lorry with a box, tank, flat bed or tarpaulin, or a bus."""
    r, p = b.rng, b.palette
    width, height = r.uniform(2.2, 2.55), r.uniform(2.8, 3.7)
    length = r.uniform(6, 13)
    paint = b.paint(p.car(), 0.4)
    dark = b.paint(np.full(3, 0.02), 0.1)
    glass = b.material(
        "plain", np.full(3, 0.015), specular=1.0, shininess=60, mirror=0.5, detail=0
    )
    if r.random() < 0.25:
        side = b.material(
            "facade",
            p.any(),
            np.full(3, 0.02),
            p.any(),
            fit=True,
            scale=(4, 1),
            mirror=0.1,
            specular=0.3,
        )
        b.box((0, 0, 0.35 + (height - 0.35) / 2), (length, width, height - 0.35), side, top=paint)
        b.box((length / 2, 0, 1.9), (0.08, width * 0.92, 1.3), glass)
        b.box((-length / 2, 0, 2.2), (0.08, width * 0.8, 0.8), glass)
    else:
        cab = 2.0
        b.wedge(
            (length / 2 - cab / 2, 0, 1.75), (cab, width * 0.96, 2.4), paint, (0.1, 0.05, -0.1)
        )
        b.box((length / 2 - 0.05, 0, 2.1), (0.12, width * 0.85, 0.8), glass, pitch=-0.08)
        for s in (-1, 1):
            b.box((length / 2 - 0.8, s * width * 0.475, 2.1), (0.8, 0.05, 0.7), glass)
            b.box((length / 2 - 0.1, s * (width / 2 + 0.2), 2.2), (0.15, 0.22, 0.5), dark)
        rest = length - cab - 0.3
        cx = -length / 2 + rest / 2
        b.box((-0.5, 0, 0.95), (length - 1.2, 1.0, 0.25), dark)
        kind = r.random()
        if kind < 0.5:
            m = b.print() if r.random() < 0.4 else b.paint(p.any(), 0.2)
            if r.random() < 0.4:
                m = b.material("corrugated", p.any(), scale=1.0)
            b.box((cx, 0, 1.1 + (height - 1.1) / 2), (rest, width, height - 1.1), m)
        elif kind < 0.75:
            m = b.paint(p.hsv(0.1, 0.05, 0.6), 0.8)
            b.tube((cx, 0, 2.1), (2.0, width * 0.95, rest), m, pitch=1.5708)
            for k in (-0.3, 0.0, 0.3):
                b.tube(
                    (cx + k * rest, 0, 2.1), (2.05, width * 0.97, 0.08), b.metal(), pitch=1.5708
                )
        else:
            b.box((cx, 0, 1.2), (rest, width, 0.15), b.timber())
            for s in (-1, 1):
                b.box((cx, s * width / 2, 1.5), (rest, 0.05, 0.5), paint)
            b.box((cx, 0, 1.9), (rest * 0.9, width * 0.9, r.uniform(0.6, 1.4)), b.anything())
        b.box(
            (-length / 2, 0, 0.9),
            (0.08, width, 0.25),
            b.material("stripes", [0.5, 0.03, 0.02], [0.7, 0.6, 0.1], scale=1.0),
        )
    for x in (-0.4 * length, -0.27 * length, 0.33 * length):
        for s in (-1, 1):
            _wheel(b, x, s * (width / 2 - 0.18), 0.95, 0.32)
    for s in (-1, 1):
        b.box(
            (-length / 2 - 0.03, s * width * 0.4, 1.0),
            (0.08, 0.3, 0.16),
            b.material("plain", [0.5, 0.02, 0.02], emissive=0.8),
        )
    b.target(0, 0, 1.6)


def cycle(b: Builder) -> None:
    """A bicycle with its rider."""
    m = b.paint()
    for x in (-0.5, 0.5):
        b.tube(
            (x, 0, 0.34),
            (0.68, 0.68, 0.03),
            b.material("grid", np.full(3, 0.03), scale=2, cutout=0.3),
            roll=1.5708,
        )
    b.rod((-0.5, 0, 0.34), (0.1, 0, 0.4), 0.04, m)
    b.rod((0.5, 0, 0.34), (0.4, 0, 1.0), 0.04, m)
    b.rod((-0.15, 0, 0.8), (0.42, 0, 0.8), 0.04, m)
    with b.frame(-0.1, 0, 0.15):
        person(b)
