# SPDX-License-Identifier: Apache-2.0
"""Library of procedural, tileable textures shared by all worlds.

A texture is uint8 [256, 256, 3]: channel 0 mixes a material's first colour with its second,
channel 1 with its third, channel 2 is brightness (128 = unchanged). Colours live in the
materials, so one texture serves many surfaces. For cut-out textures channel 0 is the mask.
Some textures are kept for held-out worlds only.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from .kernels import LEVEL_OFFSETS, LEVELS, TEXTURE_SIZE

N = TEXTURE_SIZE
_V, _U = np.mgrid[0:N, 0:N].astype(np.float32) / N


def noise(rng: np.random.Generator, beta: float, low: int = 1) -> np.ndarray:
    """Periodic noise [N, N] in [0, 1] with amplitude 1/f^beta from ``low`` cycles per tile up."""
    f = np.hypot(np.fft.fftfreq(N)[:, None], np.fft.rfftfreq(N)[None]) * N
    amplitude = np.where(f >= low, np.maximum(f, 1) ** -beta, 0.0)
    phase = rng.random(amplitude.shape) * 2 * np.pi
    field = np.fft.irfft2(amplitude * np.exp(1j * phase), s=(N, N))
    field = (field - field.mean()) / (field.std() + 1e-9)
    return np.clip(0.5 + 0.22 * field, 0, 1).astype(np.float32)


def _pack(a: np.ndarray, b: np.ndarray | float, gain: np.ndarray | float) -> np.ndarray:
    image = np.empty((N, N, 3), np.float32)
    image[..., 0], image[..., 1] = np.clip(a, 0, 1), np.clip(b, 0, 1)
    image[..., 1] = np.minimum(image[..., 1], 1 - image[..., 0])
    image[..., 2] = np.clip(gain, 0, 2) * 0.5
    return np.rint(image * 255).astype(np.uint8)


def _cells(rng: np.random.Generator, u: np.ndarray, v: np.ndarray, nu: int, nv: int) -> np.ndarray:
    """A random number per cell of an nu x nv grid, sampled at (u, v) in tiles."""
    table = rng.random((nv, nu)).astype(np.float32)
    return table[np.floor(v * nv).astype(int) % nv, np.floor(u * nu).astype(int) % nu]


def _edge(x: np.ndarray, width: float) -> np.ndarray:
    """1 near integers of x (within ``width``), else 0."""
    d = np.abs(x - np.round(x))
    return np.clip((width - d) / (0.35 * width) + 0.5, 0, 1)


def _worley(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Distance to the nearest of ``count`` points on the torus, and that point's random tag."""
    points = rng.random((count, 2)).astype(np.float32)
    seeds = np.full((3 * N, 3 * N), 255, np.uint8)
    for dy in range(3):
        for dx in range(3):
            xy = ((points + np.array([dx, dy])) * N).astype(int)
            seeds[np.minimum(xy[:, 1], 3 * N - 1), np.minimum(xy[:, 0], 3 * N - 1)] = 0
    distance, label = cv2.distanceTransformWithLabels(
        seeds, cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL
    )
    tags = rng.random(int(label.max()) + 1).astype(np.float32)
    inner = slice(N, 2 * N)
    return distance[inner, inner] / N * np.sqrt(count), tags[label[inner, inner]]


def _cloudy(rng: np.random.Generator) -> np.ndarray:
    return _pack(
        noise(rng, rng.uniform(1.2, 2.0)), 0.5 * noise(rng, 1.5), 0.7 + 0.6 * noise(rng, 1.0)
    )


def _plain(rng: np.random.Generator) -> np.ndarray:
    return _pack(0.15 * noise(rng, 2.0), 0.1 * noise(rng, 1.6), 0.92 + 0.16 * noise(rng, 1.2))


def _grain(rng: np.random.Generator) -> np.ndarray:
    a = noise(rng, rng.uniform(0.3, 0.9), 4)
    return _pack(a, 0.6 * noise(rng, 0.6, 8), 0.6 + 0.8 * noise(rng, 0.5, 4))


def _marble(rng: np.random.Generator) -> np.ndarray:
    warp = noise(rng, 1.8) * rng.uniform(2, 5)
    k = rng.integers(1, 4)
    veins = np.abs(np.sin(np.pi * (k * _U + k * _V + warp))) ** rng.uniform(0.3, 4)
    return _pack(1 - veins, 0.3 * noise(rng, 1.4), 0.85 + 0.3 * noise(rng, 1.3))


def _bricks(rng: np.random.Generator) -> np.ndarray:
    rows, cols = int(rng.integers(3, 7)) * 2, int(rng.integers(2, 5))
    v = _V * rows
    u = _U * cols + 0.5 * (np.floor(v) % 2)
    tone = _cells(rng, u / cols, _V, cols, rows)
    mortar = np.maximum(_edge(v, 0.07), _edge(u, 0.07 * cols / rows * 1.2))
    return _pack(mortar, (1 - mortar) * tone, 0.65 + 0.3 * tone + 0.3 * noise(rng, 0.9, 3))


def _tiles(rng: np.random.Generator) -> np.ndarray:
    k, m = int(rng.integers(1, 7)), int(rng.integers(1, 7))
    tone = _cells(rng, _U, _V, k, m)
    grout = np.maximum(_edge(_U * k, 0.02 * k**0.5), _edge(_V * m, 0.02 * m**0.5))
    vary = rng.uniform(0, 0.5)
    return _pack(
        grout, (1 - grout) * vary * tone, 0.9 + 0.2 * vary * tone + 0.12 * noise(rng, 1.3)
    )


def _checker(rng: np.random.Generator) -> np.ndarray:
    k = int(rng.integers(1, 6)) * 2
    a = ((np.floor(_U * k) + np.floor(_V * k)) % 2).astype(np.float32)
    return _pack(a, 0.2 * noise(rng, 1.5), 0.8 + 0.4 * noise(rng, 1.0))


def _stripes(rng: np.random.Generator) -> np.ndarray:
    k = int(rng.integers(2, 16))
    tone = _cells(rng, _U, _V, k * 2, 1)
    return _pack(tone > 0.5, (tone < 0.25) * 0.8, 0.85 + 0.3 * noise(rng, 1.2))


def _plaid(rng: np.random.Generator) -> np.ndarray:
    k = int(rng.integers(3, 9))
    a, b = _cells(rng, _U, _V, k, 1), _cells(rng, _U, _V, 1, k)
    weave = 0.9 + 0.2 * ((np.floor(_U * 64) + np.floor(_V * 64)) % 2)
    return _pack(0.5 * (a > 0.5) + 0.5 * (b > 0.5), 0.5 * (a < 0.2), weave)


def _planks(rng: np.random.Generator) -> np.ndarray:
    rows, cols = int(rng.integers(2, 9)), int(rng.integers(1, 3))
    v = _V * rows
    shift = rng.random(rows)[np.floor(v).astype(int) % rows]
    u = _U * cols + shift
    tone = _cells(rng, u / cols, _V, cols, rows)
    gap = np.maximum(_edge(v, 0.02), _edge(u, 0.006))
    grain = np.roll(cv2.resize(noise(rng, 0.9, 3)[:, : N // 8], (N, N)), int(rng.integers(N)), 0)
    a = 0.25 * tone + 0.45 * grain
    return _pack(a, 0.15 * noise(rng, 1.5), (0.8 + 0.25 * tone + 0.2 * grain) * (1 - 0.6 * gap))


def _wood(rng: np.random.Generator) -> np.ndarray:
    warp = noise(rng, 2.2) * rng.uniform(0.5, 1.5)
    k = int(rng.integers(4, 14))
    ring = 0.5 + 0.5 * np.sin(2 * np.pi * (k * _V + 3 * warp))
    fibre = cv2.blur(noise(rng, 0.3, 8), (41, 1), borderType=cv2.BORDER_REFLECT)
    return _pack(0.5 * ring, 0.8 * fibre - 0.2, 0.75 + 0.5 * fibre)


def _poster(rng: np.random.Generator) -> np.ndarray:
    image = np.zeros((N, N, 3), np.float32)
    image[..., 2] = 1
    for _ in range(int(rng.integers(3, 14))):
        color = (float(rng.random() < 0.5) * rng.random(), rng.random(), 0.3 + rng.random())
        p, q = rng.integers(0, N, 2), rng.integers(8, N // 2, 2)
        if rng.random() < 0.6:
            cv2.rectangle(image, p.tolist(), (p + q).tolist(), color, -1)
        else:
            cv2.circle(image, p.tolist(), int(q[0] // 2), color, int(rng.choice([-1, 3, 8])), 16)
    _write(rng, image, int(rng.integers(2, 10)))
    border = int(rng.integers(0, 12))
    if border:
        image[:border] = image[-border:] = image[:, :border] = image[:, -border:] = (0, 0, 1.3)
    return _pack(image[..., 0], image[..., 1], image[..., 2])


def _write(rng: np.random.Generator, image: np.ndarray, lines: int) -> None:
    """Text-like rows of small dark or light marks."""
    y = int(rng.integers(4, 60))
    for _ in range(lines):
        size = int(rng.choice([4, 6, 8, 14, 26]))
        x, ink = (
            int(rng.integers(6, 60)),
            (0.0, float(rng.random()), float(rng.choice([0.1, 1.8]))),
        )
        while x < N - 20 and rng.random() > 0.04:
            w = int(rng.integers(size // 2, size + size // 5 + 1))
            if rng.random() < 0.5:
                cv2.ellipse(
                    image,
                    (x + w // 2, y + size // 2),
                    (w // 2, size // 2),
                    0,
                    0,
                    int(rng.integers(120, 361)),
                    ink,
                    max(1, size // 5),
                    16,
                )
            else:
                cv2.rectangle(image, (x, y), (x + max(1, w // 3), y + size), ink, -1)
            x += w + 1 + size // 4 + (size if rng.random() < 0.18 else 0)
        y += int(size * 1.7)
        if y > N - 30:
            return


def _page(rng: np.random.Generator) -> np.ndarray:
    image = np.zeros((N, N, 3), np.float32)
    image[..., 2] = 1
    for _ in range(3):
        _write(rng, image, 14)
    return _pack(image[..., 0], 0.0, image[..., 2])


def _books(rng: np.random.Generator) -> np.ndarray:
    image = np.zeros((N, N, 3), np.float32)
    x = 0
    while x < N:
        w, top = int(rng.integers(6, 24)), int(rng.integers(0, 70))
        a = rng.random() ** 2
        shade = (a, (1 - a) * rng.random(), rng.uniform(0.3, 1.6))
        cv2.rectangle(image, (x, 0), (x + w - 2, N - top), shade, -1)
        for _ in range(int(rng.integers(0, 4))):
            y = int(rng.integers(10, N - top - 10))
            cv2.rectangle(image, (x + 1, y), (x + w - 3, y + int(rng.integers(2, 40))),
                          (rng.random(), 0, rng.uniform(0.4, 1.8)), -1)  # fmt: skip
        x += w
    return _pack(image[..., 0], image[..., 1], image[..., 2])


def _facade(rng: np.random.Generator) -> np.ndarray:
    """Bays with windows: channel 0 glass, channel 1 frames and ledges."""
    nu, nv = int(rng.integers(1, 4)), int(rng.integers(1, 4))
    u, v = (_U * nu) % 1, (_V * nv) % 1
    w, h = rng.uniform(0.18, 0.44), rng.uniform(0.2, 0.42)
    cx, cy = np.abs(u - 0.5), np.abs(v - 0.52)
    glass = ((cx < w) & (cy < h)).astype(np.float32)
    frame = ((cx < w + 0.04) & (cy < h + 0.04)) * (1 - glass)
    cross = (cx < 0.012) | (np.abs(v - 0.52 - 0.3 * h) < 0.012)
    frame = np.maximum(frame, glass * cross * (rng.random() < 0.7))
    ledge = (v < 0.05) * (rng.random() < 0.6)
    tone = _cells(rng, _U, _V, nu, nv)
    curtain = glass * (np.abs(v - 0.52 - h) < 2 * h * tone) * (rng.random() < 0.6)
    a = glass * (1 - 0.6 * curtain) * (1 - frame)
    wall = 0.85 + 0.3 * noise(rng, 1.2)
    return _pack(a, np.maximum(frame, np.maximum(ledge, 0.6 * curtain)),
                 wall * (1 - a) + a * (0.3 + 0.9 * tone + 0.5 * (v - 0.5)))  # fmt: skip


def _shop(rng: np.random.Generator) -> np.ndarray:
    base = _facade(rng).astype(np.float32) / 255
    image = np.zeros((N, N, 3), np.float32)
    image[..., 2] = 1
    _write(rng, image, 2)
    band = slice(int(0.68 * N), int(0.86 * N))
    base[band, :, 1] = 0.8
    base[band, :, 0] = 0
    base[band, :, 2] = 0.5 * image[30 : 30 + band.stop - band.start, :, 2]
    return np.rint(np.clip(base, 0, 1) * 255).astype(np.uint8)


def _lane(rng: np.random.Generator) -> np.ndarray:
    """One lane of road: u across, v along; markings in channel 1, patches in channel 0."""
    dash = (rng.uniform(0.25, 0.55) > _V) if rng.random() < 0.75 else np.ones_like(_V, bool)
    width = rng.uniform(0.015, 0.025)
    worn = np.clip(1.4 - 1.2 * noise(rng, 0.8), 0.3, 1)
    line = _edge(_U, width) * dash * worn
    patch = (_cells(rng, _U, _V, 3, 4) > 0.8) * 0.5
    cracks = np.clip(1 - 30 * np.abs(noise(rng, 1.6) - 0.5), 0, 1) * rng.uniform(0, 0.5)
    tracks = 0.08 * np.cos(4 * np.pi * _U)
    gain = 0.85 + 0.35 * noise(rng, 0.4, 4) + tracks
    return _pack(patch, line, gain * (1 - cracks) * (1 + 0.8 * line))


def _grass(rng: np.random.Generator) -> np.ndarray:
    blades = cv2.blur(noise(rng, 0.1, 8), (1, 5), borderType=cv2.BORDER_REFLECT)
    blades = np.clip((blades - 0.5) * 2.5 + 0.5, 0, 1)
    patch = noise(rng, 1.6)
    return _pack(blades * 0.7, np.clip(2 * (patch - 0.5), 0, 1), 0.5 + 0.6 * blades + 0.4 * patch)


def _gravel(rng: np.random.Generator) -> np.ndarray:
    d, tag = _worley(rng, int(rng.integers(80, 900)))
    return _pack(tag, 0.5 * (tag > 0.7), np.clip(1.5 - 1.2 * d, 0.2, 1.5) * (0.6 + 0.6 * tag))


def _paving(rng: np.random.Generator) -> np.ndarray:
    k = int(rng.integers(4, 12))
    tone = _cells(rng, _U + 0.5 / k * (np.floor(_V * k) % 2), _V, k, k)
    u = _U * k + 0.5 * (np.floor(_V * k) % 2)
    gap = np.maximum(_edge(u, 0.07), _edge(_V * k, 0.07))
    return _pack(
        0.5 * tone,
        0.3 * noise(rng, 1),
        (0.7 + 0.3 * tone + 0.3 * noise(rng, 0.8)) * (1 - 0.5 * gap),
    )


def _panels(rng: np.random.Generator) -> np.ndarray:
    k, m = int(rng.integers(1, 5)), int(rng.integers(1, 4))
    u, v = (_U * k) % 1, (_V * m) % 1
    inset = (np.minimum(u, 1 - u) < 0.06) | (np.minimum(v, 1 - v) < 0.06)
    seam = np.maximum(_edge(_U * k, 0.012), _edge(_V * m, 0.012))
    knob = (np.hypot(u - 0.85, (v - 0.5) * k / m) < 0.04).astype(np.float32)
    return _pack(
        knob, 0.3 * inset, (0.95 + 0.1 * noise(rng, 1.5) + 0.06 * inset) * (1 - 0.7 * seam)
    )


def _corrugated(rng: np.random.Generator) -> np.ndarray:
    k = int(rng.integers(6, 24))
    wave = 0.5 + 0.5 * np.sin(2 * np.pi * k * _U)
    rust = np.clip(3 * (noise(rng, 1.5) - 0.6), 0, 1)
    return _pack(rust, 0.0, 0.55 + 0.6 * wave)


def _fabric(rng: np.random.Generator) -> np.ndarray:
    k = int(rng.integers(16, 50))
    weave = 0.5 + 0.25 * np.sin(2 * np.pi * k * _U) + 0.25 * np.sin(2 * np.pi * k * _V)
    d, tag = _worley(rng, int(rng.integers(6, 30)))
    dots = (d < rng.uniform(0.1, 0.35)).astype(np.float32) * (rng.random() < 0.5)
    return _pack(dots, 0.4 * tag, 0.75 + 0.3 * weave + 0.2 * (noise(rng, 1.6) - 0.5))


def _leaves(rng: np.random.Generator) -> np.ndarray:
    """Cut-out foliage: mask in channel 0, leaf tone in channel 1."""
    d, tag = _worley(rng, int(rng.integers(150, 420)))
    clump = noise(rng, 1.3, 2)
    mask = np.clip(1.15 - 0.75 * d + 1.6 * (clump - 0.5), 0, 1)
    return _pack_mask(mask, tag, np.clip(0.3 + 0.9 * tag * (1.2 - d) + 0.5 * clump, 0, 2))


def _grid(rng: np.random.Generator) -> np.ndarray:
    """Cut-out bars: fences, railings, slats, racks."""
    nu, nv = int(rng.integers(0, 9)), int(rng.integers(0, 9))
    nu = nu if nu + nv else 4
    w = rng.uniform(0.06, 0.2)
    mask = np.maximum(_edge(_U * nu, w) if nu else 0, _edge(_V * nv, w) if nv else 0)
    mask = np.maximum(mask, _edge(_V, 0.02)) * np.ones_like(_U)
    return _pack_mask(mask, 0.3 * noise(rng, 1.5), 0.8 + 0.4 * noise(rng, 1))


def _pack_mask(mask: np.ndarray, b: np.ndarray, gain: np.ndarray) -> np.ndarray:
    image = np.stack([np.clip(mask, 0, 1), np.clip(b, 0, 1), np.clip(gain, 0, 2) * 0.5], -1)
    return np.rint(image * 255).astype(np.uint8)


def _scribble(rng: np.random.Generator) -> np.ndarray:
    """Held-out only: curves and blobs unlike any training pattern."""
    image = np.zeros((N, N, 3), np.float32)
    image[..., 2] = 1
    for _ in range(int(rng.integers(6, 24))):
        points = np.cumsum(rng.normal(0, 22, (30, 2)), 0) + rng.integers(0, N, 2)
        color = (rng.random() * (rng.random() < 0.5), rng.random(), rng.uniform(0.3, 1.6))
        cv2.polylines(image, [points.astype(np.int32)], False, color, int(rng.integers(1, 9)), 16)
    return _pack(image[..., 0], image[..., 1], image[..., 2])


def _hexagons(rng: np.random.Generator) -> np.ndarray:
    """Held-out only: cells of a jittered lattice with dark joints."""
    d, tag = _worley(rng, int(rng.integers(12, 90)))
    joint = np.clip((d - 0.55) * 6, 0, 1)
    return _pack(tag * (1 - joint), 0.3 * (1 - tag), (0.7 + 0.5 * tag) * (1 - 0.6 * joint))


_TRAIN = {
    "cloudy": (_cloudy, 4), "plain": (_plain, 3), "grain": (_grain, 4), "marble": (_marble, 3),
    "bricks": (_bricks, 4), "tiles": (_tiles, 5), "checker": (_checker, 2),
    "stripes": (_stripes, 4), "plaid": (_plaid, 2), "planks": (_planks, 4), "wood": (_wood, 4),
    "poster": (_poster, 10), "page": (_page, 3), "books": (_books, 4), "facade": (_facade, 8),
    "shop": (_shop, 4), "lane": (_lane, 5), "grass": (_grass, 3), "gravel": (_gravel, 4),
    "paving": (_paving, 4), "panels": (_panels, 4), "corrugated": (_corrugated, 2),
    "fabric": (_fabric, 4), "leaves": (_leaves, 5), "grid": (_grid, 6),
}  # fmt: skip
_HELDOUT = {
    "cloudy": (_cloudy, 1),
    "bricks": (_bricks, 1),
    "tiles": (_tiles, 2),
    "wood": (_wood, 1),
    "planks": (_planks, 1),
    "poster": (_scribble, 4),
    "facade": (_facade, 3),
    "lane": (_lane, 1),
    "fabric": (_hexagons, 2),
    "leaves": (_leaves, 1),
    "books": (_books, 1),
    "paving": (_hexagons, 1),
    "grid": (_grid, 1),
    "shop": (_shop, 1),
}


def _pyramid(image: np.ndarray) -> np.ndarray:
    flat = np.empty((int(LEVEL_OFFSETS[-1]), 3), np.uint8)
    level = image.astype(np.float32)
    for i in range(LEVELS):
        flat[LEVEL_OFFSETS[i] : LEVEL_OFFSETS[i + 1]] = np.rint(level).reshape(-1, 3)
        if i + 1 < LEVELS:
            level = 0.25 * (
                level[::2, ::2] + level[1::2, ::2] + level[::2, 1::2] + level[1::2, 1::2]
            )
    return flat


@lru_cache(maxsize=1)
def texture_library() -> tuple[np.ndarray, dict[str, list[int]], dict[str, list[int]]]:
    """All textures as mip pyramids, uint8 [P, texels, 3], and their indices by name.

    Returns (pyramids, train, heldout): ``train`` lists the textures of training worlds by
    name; ``heldout`` those of held-out worlds, which prefer textures no training world has.
    """
    pyramids: list[np.ndarray] = []
    train: dict[str, list[int]] = {}
    heldout: dict[str, list[int]] = {}
    for salt, (table, names) in enumerate(((_TRAIN, train), (_HELDOUT, heldout))):
        for k, (name, (paint, count)) in enumerate(table.items()):
            names[name] = []
            for variant in range(count):
                names[name].append(len(pyramids))
                pyramids.append(_pyramid(paint(np.random.default_rng((salt, k, variant)))))
    stack = np.stack(pyramids)
    stack.setflags(write=False)
    return stack, train, {**train, **heldout}
