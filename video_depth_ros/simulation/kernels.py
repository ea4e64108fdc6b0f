# SPDX-License-Identifier: Apache-2.0
# mypy: disable-error-code="no-untyped-def"
# The jitted functions' types are those numba infers from the arrays that scene.py passes.
"""Compiled ray casting and shading.

All jitted code of the simulation lives in this one file: numba keys its on-disk cache by the
source file of the outermost function, so helpers in other files would leave stale machine code
behind when they change. Everything is ``nogil``; callers run ranges of tiles in threads, which
is safe in forked data-loader workers (numba's own thread layers are not).

Conventions: world z up, metres. A primitive is convex, given in its own frame centred on its
bounding box with half sizes ``half``: box (0), ellipsoid (1), elliptic cylinder or cone frustum
along z (2), box tapered towards +z (3). Ray directions are unit length here.
"""

from __future__ import annotations

import math
from collections import namedtuple
from typing import Any

import numpy as np

from video_depth_ros.errors import ConfigError

try:
    import numba
except ImportError as error:  # missing, or made for another NumPy; nothing else here needs it
    raise ConfigError(
        f"the simulation needs numba ({error}); `pip install numba` in the environment that runs "
        "video_depth"
    ) from error

BOX, ELLIPSOID, CYLINDER, TAPERED = 0, 1, 2, 3
TILE = 8
GRID = 64  # cells along each side of a shadow grid
TEXTURE_SIZE = 256
LEVELS = 9
# Offsets of the mip levels (256, 128, ... 1) in a flattened pyramid.
LEVEL_OFFSETS = np.cumsum([0] + [(TEXTURE_SIZE >> i) ** 2 for i in range(LEVELS)]).astype(np.int64)

# Columns of a material row.
(PATTERN, SCALE_U, SCALE_V, OFFSET_U, OFFSET_V, SWAP, COLOR0, COLOR1, COLOR2) = (
    0, 1, 2, 3, 4, 5, 6, 9, 12,
)  # fmt: skip
(DETAIL, DETAIL_SCALE, DETAIL_GAIN, MACRO_SCALE, MACRO_GAIN, SPECULAR, SHININESS, EMISSIVE) = (
    15, 16, 17, 18, 19, 20, 21, 22,
)  # fmt: skip
MIRROR, CUTOUT, FIT, CLOUD, BUMP = 23, 24, 25, 26, 27
MATERIAL_COLUMNS = 28

FAR = 1e9
_EPS = 1e-9

# Columns of a primitive row: centre, rotation world <- primitive (row major), half sizes, taper.
# One flat table, because numba hands every array to a function as seven numbers.
(CENTER, ROTATION, HALF, TAPER, RADIUS, KIND, MATERIAL, MATERIAL_TOP, CASTS, MASKED) = (
    0, 3, 12, 15, 18, 19, 20, 21, 22, 23,
)  # fmt: skip
PRIMITIVE_COLUMNS = 24

# Primitives posed for one instant float64 [N, 24], materials float32 [M, 28], textures uint8
# [P, texels, 3], light float64 [16], lamps [K, 7], sky [14]; scene.py fills it.
Scene = namedtuple("Scene", "primitives materials textures light lamps sky")
# Occluders sorted into the cells of a grid across one light direction; frame float64 [4, 3]:
# direction, the two axes across it, (origin u, origin v, cell size).
# items: primitives of each cell, farthest along the direction first; tops: how far they reach.
ShadowGrid = namedtuple("ShadowGrid", "frame start items tops")


def jit(function: Any) -> Any:
    """``numba.njit`` with an on-disk cache where one can be written, without it elsewhere."""
    return _compile(function, {})


def inline(function: Any) -> Any:
    """``jit`` for small helpers of the inner loops: inlined by LLVM, 20 % faster (measured)."""
    return _compile(function, {"forceinline": True})


def _compile(function: Any, extra: dict[str, Any]) -> Any:
    options = {
        "nogil": True, "error_model": "numpy", "fastmath": {"contract", "arcp", "nsz"}, **extra,
    }  # fmt: skip
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # "no locator available": neither package nor home is writable
        return numba.njit(**options)(function)


@jit
def _clip(a, b, t0, t1):
    """Cut the interval [t0, t1] by the half-space a + b t <= 0."""
    if b > _EPS:
        t1 = min(t1, -a / b)
    elif b < -_EPS:
        t0 = max(t0, -a / b)
    elif a > 0.0:
        t1 = -FAR
    return t0, t1


@inline
def _span(kind, hx, hy, hz, tx, ty, sx, ox, oy, oz, dx, dy, dz):
    """Interval (t0, t1) of a ray inside a primitive, in its own frame; t0 > t1 is a miss."""
    if kind == BOX:
        ix, iy, iz = 1.0 / dx, 1.0 / dy, 1.0 / dz
        a, b = (-hx - ox) * ix, (hx - ox) * ix
        t0, t1 = min(a, b), max(a, b)
        a, b = (-hy - oy) * iy, (hy - oy) * iy
        t0, t1 = max(t0, min(a, b)), min(t1, max(a, b))
        a, b = (-hz - oz) * iz, (hz - oz) * iz
        return max(t0, min(a, b)), min(t1, max(a, b))
    if kind == ELLIPSOID:
        px, py, pz = ox / hx, oy / hy, oz / hz
        qx, qy, qz = dx / hx, dy / hy, dz / hz
        a = qx * qx + qy * qy + qz * qz
        m = -(px * qx + py * qy + pz * qz) / a
        # Distance of the line from the centre first: no cancellation for far origins.
        cx, cy, cz = px + m * qx, py + m * qy, pz + m * qz
        disc = (1.0 - (cx * cx + cy * cy + cz * cz)) / a
        if disc < 0.0:
            return FAR, -FAR
        root = math.sqrt(disc)
        return m - root, m + root
    if kind == CYLINDER:
        iz = 1.0 / dz
        a, b = (-hz - oz) * iz, (hz - oz) * iz
        t0, t1 = min(a, b), max(a, b)
        # x^2 + y^2 <= (g + k z)^2 in axes scaled by the radii at the bottom (z = -hz).
        k = -0.5 * tx / hz
        g = 1.0 + k * hz
        px, py, qx, qy = ox / hx, oy / hy, dx / hx, dy / hy
        gz, qz = g + k * oz, k * dz
        a = qx * qx + qy * qy - qz * qz
        b = px * qx + py * qy - gz * qz
        c = px * px + py * py - gz * gz
        if abs(a) < 1e-12:
            if abs(b) > 1e-12:
                t = -0.5 * c / b
                if b > 0:
                    return t0, min(t1, t)
                return max(t0, t), t1
            if c > 0.0:
                return FAR, -FAR
            return t0, t1
        disc = b * b - a * c
        if a > 0.0:
            if disc < 0.0:
                return FAR, -FAR
            root = math.sqrt(disc)
            return max(t0, (-b - root) / a), min(t1, (-b + root) / a)
        # Steeper than the cone: inside before the first or after the second crossing, and the
        # end caps leave only the one on the right side of the apex.
        root = math.sqrt(max(disc, 0.0))
        r0, r1 = (-b + root) / a, (-b - root) / a
        if max(t0, r1) <= t1:
            return max(t0, r1), t1
        return t0, min(t1, r0)
    # Tapered box: |x - sx hx s| <= hx (1 - tx s), |y| <= hy (1 - ty s), s = (z/hz + 1)/2.
    s, ds = 0.5 * (oz / hz + 1.0), 0.5 * dz / hz
    t0, t1 = _clip(oz - hz, dz, -FAR, FAR)
    t0, t1 = _clip(-oz - hz, -dz, t0, t1)
    t0, t1 = _clip(ox - hx + hx * (tx - sx) * s, dx + hx * (tx - sx) * ds, t0, t1)
    t0, t1 = _clip(-ox - hx + hx * (tx + sx) * s, -dx + hx * (tx + sx) * ds, t0, t1)
    t0, t1 = _clip(oy - hy + hy * ty * s, dy + hy * ty * ds, t0, t1)
    return _clip(-oy - hy + hy * ty * s, -dy + hy * ty * ds, t0, t1)


@jit
def _normal(kind, hx, hy, hz, tx, ty, sx, x, y, z):
    """Outward unit normal in the primitive's frame at a surface point."""
    if kind == BOX:
        ax, ay, az = abs(x) - hx, abs(y) - hy, abs(z) - hz
        if ax >= ay and ax >= az:
            return (1.0 if x > 0 else -1.0), 0.0, 0.0
        if ay >= az:
            return 0.0, (1.0 if y > 0 else -1.0), 0.0
        return 0.0, 0.0, (1.0 if z > 0 else -1.0)
    if kind == ELLIPSOID:
        nx, ny, nz = x / (hx * hx), y / (hy * hy), z / (hz * hz)
    elif kind == CYLINDER:
        if abs(z) > hz * (1.0 - 1e-6):
            return 0.0, 0.0, (1.0 if z > 0 else -1.0)
        k = -0.5 * tx / hz
        r = 1.0 + k * (hz + z)
        nx, ny, nz = x / (hx * hx), y / (hy * hy), -k * r
    else:
        s = 0.5 * (z / hz + 1.0)
        fx0 = x - hx + hx * (tx - sx) * s
        fx1 = -x - hx + hx * (tx + sx) * s
        fy = abs(y) - hy + hy * ty * s
        fz = abs(z) - hz
        best = max(max(fx0, fx1), max(fy, fz))
        if best == fz:
            return 0.0, 0.0, (1.0 if z > 0 else -1.0)
        if best == fx0:
            nx, ny, nz = 1.0, 0.0, 0.5 * hx * (tx - sx) / hz
        elif best == fx1:
            nx, ny, nz = -1.0, 0.0, 0.5 * hx * (tx + sx) / hz
        else:
            nx, ny, nz = 0.0, (1.0 if y > 0 else -1.0), 0.5 * hy * ty / hz
    n = 1.0 / math.sqrt(nx * nx + ny * ny + nz * nz)
    return nx * n, ny * n, nz * n


@jit
def _surface_uv(kind, hx, hy, hz, x, y, z, nx, ny, nz, m):
    """Texture coordinates (in tiles) of a surface point, and the texture's scale (tiles/m)."""
    if kind == ELLIPSOID or (kind == CYLINDER and abs(nz) < 0.99):
        u = math.atan2(y, x) / (2.0 * math.pi)
        v = 0.5 * (z / hz + 1.0)
        if m[FIT] > 0.0:
            return u * m[SCALE_U], v * m[SCALE_V], m[SCALE_U] / (6.0 * max(hx, hy))
        around = max(1.0, round(6.283 * max(hx, hy) * m[SCALE_U]))
        return u * around + m[OFFSET_U], z * m[SCALE_V] + m[OFFSET_V], m[SCALE_U]
    ax, ay, az = abs(nx), abs(ny), abs(nz)
    if az >= ax and az >= ay:
        a, b, ha, hb = x, y, hx, hy
    elif ax >= ay:
        a, b, ha, hb = y, z, hy, hz
    else:
        a, b, ha, hb = x, z, hx, hz
    if m[SWAP] > 0.0:
        a, b, ha, hb = b, a, hb, ha
    if m[FIT] > 0.0:
        return (
            0.5 * (a / ha + 1.0) * m[SCALE_U] + m[OFFSET_U],
            0.5 * (b / hb + 1.0) * m[SCALE_V] + m[OFFSET_V],
            max(0.5 * m[SCALE_U] / ha, 0.5 * m[SCALE_V] / hb),
        )
    return a * m[SCALE_U] + m[OFFSET_U], b * m[SCALE_V] + m[OFFSET_V], max(m[SCALE_U], m[SCALE_V])


@inline
def _bilinear(textures, pattern, level, u, v):
    n = TEXTURE_SIZE >> level
    x, y = u * n - 0.5, v * n - 0.5
    fx, fy = math.floor(x), math.floor(y)
    wx, wy = x - fx, y - fy
    x0, y0 = int(fx) & (n - 1), int(fy) & (n - 1)
    x1, y1 = (x0 + 1) & (n - 1), (y0 + 1) & (n - 1)
    base = LEVEL_OFFSETS[level]
    i00, i01, i10, i11 = (
        base + y0 * n + x0,
        base + y0 * n + x1,
        base + y1 * n + x0,
        base + y1 * n + x1,
    )
    w00, w01, w10, w11 = (1 - wx) * (1 - wy), wx * (1 - wy), (1 - wx) * wy, wx * wy
    t, p = textures, pattern
    return (
        w00 * t[p, i00, 0] + w01 * t[p, i01, 0] + w10 * t[p, i10, 0] + w11 * t[p, i11, 0],
        w00 * t[p, i00, 1] + w01 * t[p, i01, 1] + w10 * t[p, i10, 1] + w11 * t[p, i11, 1],
        w00 * t[p, i00, 2] + w01 * t[p, i01, 2] + w10 * t[p, i10, 2] + w11 * t[p, i11, 2],
    )


@inline
def _sample(textures, pattern, u, v, footprint):
    """Sample in [0, 255] (three channels), bilinear in the nearest mip level.

    footprint is a pixel's width in tiles. Blending two levels would double the time.
    """
    level = min(int(math.log2(max(footprint * TEXTURE_SIZE, 1.0)) + 0.5), LEVELS - 1)
    return _bilinear(textures, pattern, level, u, v)


@jit
def _noise(textures, pattern, u, v, footprint):
    """Channel 0 in [-1, 1] at the nearest mip level: cheap detail."""
    level = min(int(math.log2(max(footprint * TEXTURE_SIZE, 1.0)) + 0.5), LEVELS - 1)
    n = TEXTURE_SIZE >> level
    x, y = u * n - 0.5, v * n - 0.5
    fx, fy = math.floor(x), math.floor(y)
    wx, wy = x - fx, y - fy
    x0, y0 = int(fx) & (n - 1), int(fy) & (n - 1)
    x1, y1 = (x0 + 1) & (n - 1), (y0 + 1) & (n - 1)
    base = LEVEL_OFFSETS[level]
    low = (1 - wx) * textures[pattern, base + y0 * n + x0, 0]
    low += wx * textures[pattern, base + y0 * n + x1, 0]
    high = (1 - wx) * textures[pattern, base + y1 * n + x0, 0]
    high += wx * textures[pattern, base + y1 * n + x1, 0]
    return ((1 - wy) * low + wy * high) / 127.5 - 1.0


@jit
def _opaque(prims, materials, textures, i, x, y, z):
    """Cut-out test of leaves, fences and slats: finest texel above the material's threshold."""
    m = materials[int(prims[i, MATERIAL])]
    kind, hx, hy, hz = int(prims[i, KIND]), prims[i, 12], prims[i, 13], prims[i, 14]
    nx, ny, nz = _normal(kind, hx, hy, hz, prims[i, 15], prims[i, 16], prims[i, 17], x, y, z)
    u, v, _ = _surface_uv(kind, hx, hy, hz, x, y, z, nx, ny, nz, m)
    n = TEXTURE_SIZE
    px, py = math.floor(u * n) & (n - 1), math.floor(v * n) & (n - 1)
    return textures[int(m[PATTERN]), py * n + px, 0] >= m[CUTOUT]


@inline
def _hit(prims, materials, textures, i, ox, oy, oz, dx, dy, dz, near, best, leave):
    """Distance of the first surface of primitive i in (near, best), else FAR.

    ``leave``: whether leaving a primitive the ray starts in counts as a hit.
    """
    px, py, pz = ox - prims[i, 0], oy - prims[i, 1], oz - prims[i, 2]
    along = px * dx + py * dy + pz * dz  # the bounding sphere first
    bound = prims[i, RADIUS] * prims[i, RADIUS]
    if px * px + py * py + pz * pz - along * along > bound:
        return FAR
    lx = prims[i, 3] * px + prims[i, 6] * py + prims[i, 9] * pz
    ly = prims[i, 4] * px + prims[i, 7] * py + prims[i, 10] * pz
    lz = prims[i, 5] * px + prims[i, 8] * py + prims[i, 11] * pz
    ex = prims[i, 3] * dx + prims[i, 6] * dy + prims[i, 9] * dz
    ey = prims[i, 4] * dx + prims[i, 7] * dy + prims[i, 10] * dz
    ez = prims[i, 5] * dx + prims[i, 8] * dy + prims[i, 11] * dz
    t0, t1 = _span(int(prims[i, KIND]), prims[i, 12], prims[i, 13], prims[i, 14], prims[i, 15],
                   prims[i, 16], prims[i, 17], lx, ly, lz, ex, ey, ez)  # fmt: skip
    if not t0 <= t1 or t1 <= near or t0 >= best:
        return FAR
    if prims[i, MASKED] > 0.0:
        if t0 > near and _opaque(
            prims, materials, textures, i, lx + t0 * ex, ly + t0 * ey, lz + t0 * ez
        ):
            return t0
        if t1 < best and _opaque(
            prims, materials, textures, i, lx + t1 * ex, ly + t1 * ey, lz + t1 * ez
        ):
            return t1
        return FAR
    if t0 > near:
        return t0
    return t1 if leave and t1 < best else FAR


@inline
def _trace(prims, materials, textures, items, nears, count, ox, oy, oz, dx, dy, dz):
    best, index = FAR, -1
    for k in range(count):
        if nears[k] >= best:
            break
        t = _hit(prims, materials, textures, items[k], ox, oy, oz, dx, dy, dz, 1e-4, best, True)
        if t < best:
            best, index = t, items[k]
    return best, index


@jit
def gather(prims, ox, oy, oz, ax, ay, az, sine, far, items, nears):
    """Primitives that a cone of rays can meet, nearest possible hit first; returns the count.

    The cone has its apex at o, unit axis a and half-angle of sine ``sine``. A primitive within
    ``reach`` metres lies, for every ray of the cone, in the bounding box inflated by
    sine * reach around the axis: a slab test of that box is conservative, and its entry
    distance bounds the hit from below.
    """
    count = 0
    cosine = math.sqrt(1.0 - sine * sine)
    for i in range(prims.shape[0]):
        px, py, pz = ox - prims[i, 0], oy - prims[i, 1], oz - prims[i, 2]
        distance = math.sqrt(px * px + py * py + pz * pz)
        radius = prims[i, RADIUS]
        if distance - radius > far:
            continue
        along = -(px * ax + py * ay + pz * az)
        if distance > radius:
            across = math.sqrt(max(distance * distance - along * along, 0.0))
            if across * cosine - along * sine > radius:
                continue
        grow = 1.5 * sine * (distance + radius)
        t0, t1 = _span(
            BOX, prims[i, 12] + grow, prims[i, 13] + grow, prims[i, 14] + grow, 0.0, 0.0, 0.0,
            prims[i, 3] * px + prims[i, 6] * py + prims[i, 9] * pz,
            prims[i, 4] * px + prims[i, 7] * py + prims[i, 10] * pz,
            prims[i, 5] * px + prims[i, 8] * py + prims[i, 11] * pz,
            prims[i, 3] * ax + prims[i, 6] * ay + prims[i, 9] * az,
            prims[i, 4] * ax + prims[i, 7] * ay + prims[i, 10] * az,
            prims[i, 5] * ax + prims[i, 8] * ay + prims[i, 11] * az,
        )  # fmt: skip
        if not t0 <= t1 or t1 < 0.0:
            continue
        k = count
        while k > 0 and nears[k - 1] > t0:
            nears[k], items[k] = nears[k - 1], items[k - 1]
            k -= 1
        nears[k], items[k] = t0, i
        count += 1
    return count


@jit
def build_grid(prims, frame, cx, cy, cz, size, cells):
    """Sort shadow casters into cells across a direction around the point c (CSR layout).

    Fills the last row of ``frame`` (see ShadowGrid); returns (start, items, tops).
    """
    cell = size / cells
    frame[3, 0] = frame[1, 0] * cx + frame[1, 1] * cy + frame[1, 2] * cz - 0.5 * size
    frame[3, 1] = frame[2, 0] * cx + frame[2, 1] * cy + frame[2, 2] * cz - 0.5 * size
    frame[3, 2] = cell
    n = prims.shape[0]
    bounds = np.empty((n, 4), np.int64)
    start = np.zeros(cells * cells + 1, np.int64)
    for i in range(n):
        bounds[i, 0] = -1
        if prims[i, CASTS] == 0.0:
            continue
        for axis in range(2):
            mid, ext = 0.0, 0.02
            for j in range(3):
                mid += frame[axis + 1, j] * prims[i, j]
                dot = 0.0
                for k in range(3):
                    dot += frame[axis + 1, k] * prims[i, ROTATION + 3 * k + j]
                ext += abs(dot) * prims[i, HALF + j]
            lo = math.floor((mid - ext - frame[3, axis]) / cell)
            hi = math.floor((mid + ext - frame[3, axis]) / cell)
            if hi < 0 or lo >= cells:
                bounds[i, 0] = -1
                break
            bounds[i, 2 * axis] = max(lo, 0)
            bounds[i, 2 * axis + 1] = min(hi, cells - 1)
        if bounds[i, 0] < 0:
            continue
        for a in range(bounds[i, 0], bounds[i, 1] + 1):
            for b in range(bounds[i, 2], bounds[i, 3] + 1):
                start[a * cells + b + 1] += 1
    for k in range(cells * cells):
        start[k + 1] += start[k]
    reach = np.empty(n)
    for i in range(n):
        reach[i] = 0.0
        for j in range(3):
            reach[i] += frame[0, j] * prims[i, j]
            dot = 0.0
            for k in range(3):
                dot += frame[0, k] * prims[i, ROTATION + 3 * k + j]
            reach[i] += abs(dot) * prims[i, HALF + j]
    items = np.empty(start[-1], np.int64)
    tops = np.empty(start[-1])
    fill = start[:-1].copy()
    for i in np.argsort(-reach):
        if bounds[i, 0] < 0:
            continue
        for a in range(bounds[i, 0], bounds[i, 1] + 1):
            for b in range(bounds[i, 2], bounds[i, 3] + 1):
                items[fill[a * cells + b]] = i
                tops[fill[a * cells + b]] = reach[i]
                fill[a * cells + b] += 1
    return start, items, tops


@inline
def _occluder(prims, materials, textures, frame, start, items, tops, x, y, z, far, any_hit):
    """Distance to an occluder (the nearest, or any) from a point along the grid's direction."""
    dx, dy, dz, cell = frame[0, 0], frame[0, 1], frame[0, 2], frame[3, 2]
    u = frame[1, 0] * x + frame[1, 1] * y + frame[1, 2] * z - frame[3, 0]
    v = frame[2, 0] * x + frame[2, 1] * y + frame[2, 2] * z - frame[3, 1]
    a, b = math.floor(u / cell), math.floor(v / cell)
    if a < 0 or b < 0 or a >= GRID or b >= GRID:
        return FAR
    best, level = far, dx * x + dy * y + dz * z + 1e-3
    for k in range(start[a * GRID + b], start[a * GRID + b + 1]):
        if tops[k] < level:
            break
        t = _hit(prims, materials, textures, items[k], x, y, z, dx, dy, dz, 1e-3, best, False)
        if t < best:
            best = t
            if any_hit:
                return best
    return best if best < far else FAR


@jit
def _sky(textures, light, s, dx, dy, dz):
    """Sky radiance along a direction: gradient, clouds, glow round the sun."""
    up = max(dz, 0.0)
    w = 1.0 - math.exp(-4.0 * up)
    r, g, b = (
        s[0] + w * (s[3] - s[0]),
        s[1] + w * (s[4] - s[1]),
        s[2] + w * (s[5] - s[2]),
    )
    if s[6] > 0.0 and dz > 0.0:
        k = s[8] / (dz + 0.12)
        c, _, _ = _sample(textures, int(s[7]), dx * k + s[9], dy * k + s[10], 0.004 * k)
        cover = min(max((c / 255.0 - s[11]) * 4.0, 0.0), 1.0) * s[6] * min(1.0, 6.0 * dz)
        r, g, b = r + cover * (s[12] - r), g + cover * (s[12] - g), b + cover * (s[12] - b)
    glow = max(dx * light[0] + dy * light[1] + dz * light[2], 0.0)
    glow = s[13] * glow**60.0 if glow > 0.9 else 0.0
    return r + glow * light[3], g + glow * light[4], b + glow * light[5]


@jit
def _hash(n):
    """A uniform number in [0, 1) from an integer (Wang hash)."""
    n = np.uint32(n)
    n = (n ^ np.uint32(61)) ^ (n >> np.uint32(16))
    n = np.uint32(n * np.uint32(9))
    n = n ^ (n >> np.uint32(4))
    n = np.uint32(n * np.uint32(0x27D4EB2D))
    n = n ^ (n >> np.uint32(15))
    return n * (1.0 / 4294967296.0)


@jit
def _shade(scene, sun, above, i, t, ox, oy, oz, dx, dy, dz, spread, key):
    """Linear radiance of a hit at distance t on primitive i (or of the sky, i < 0)."""
    prims, materials, textures = scene.primitives, scene.materials, scene.textures
    light, lamps, sky = scene.light, scene.lamps, scene.sky
    if i < 0:
        return _sky(textures, light, sky, dx, dy, dz)
    wx, wy, wz = ox + t * dx, oy + t * dy, oz + t * dz
    px, py, pz = wx - prims[i, 0], wy - prims[i, 1], wz - prims[i, 2]
    x = prims[i, 3] * px + prims[i, 6] * py + prims[i, 9] * pz
    y = prims[i, 4] * px + prims[i, 7] * py + prims[i, 10] * pz
    z = prims[i, 5] * px + prims[i, 8] * py + prims[i, 11] * pz
    kind, hx, hy, hz = int(prims[i, KIND]), prims[i, 12], prims[i, 13], prims[i, 14]
    ax, ay, az = _normal(kind, hx, hy, hz, prims[i, 15], prims[i, 16], prims[i, 17], x, y, z)
    m = materials[int(prims[i, MATERIAL_TOP] if az > 0.9 else prims[i, MATERIAL])]
    u, v, scale = _surface_uv(kind, hx, hy, hz, x, y, z, ax, ay, az, m)
    nx = prims[i, 3] * ax + prims[i, 4] * ay + prims[i, 5] * az
    ny = prims[i, 6] * ax + prims[i, 7] * ay + prims[i, 8] * az
    nz = prims[i, 9] * ax + prims[i, 10] * ay + prims[i, 11] * az
    facing = -(nx * dx + ny * dy + nz * dz)
    if facing < 0.0:  # the far side of a cut-out shell
        nx, ny, nz, facing = -nx, -ny, -nz, -facing
    # Isotropic footprint between the across and along sizes of the slanted pixel.
    width = t * spread / math.sqrt(max(facing, 0.02))
    c0, c1, c2 = _sample(textures, int(m[PATTERN]), u, v, width * scale)
    a, b, gain = c0 / 255.0, c1 / 255.0, c2 / 127.5
    if m[CUTOUT] > 0.0:
        a = 0.0  # channel 0 is the mask there
    fine = 0.0
    if m[DETAIL_GAIN] > 0.0:
        k = m[DETAIL_SCALE] / scale
        fine = _noise(textures, int(m[DETAIL]), u * k, v * k, width * m[DETAIL_SCALE])
        gain *= 1.0 + m[DETAIL_GAIN] * fine
    if m[MACRO_GAIN] > 0.05:
        k = m[MACRO_SCALE] / scale
        gain *= 1.0 + m[MACRO_GAIN] * _noise(
            textures, int(m[DETAIL]), u * k + 0.37, v * k + 0.11, width * m[MACRO_SCALE]
        )
    gain = max(gain, 0.0)
    base = 1.0 - a - b
    red = gain * max(base * m[6] + a * m[9] + b * m[12], 0.0)
    green = gain * max(base * m[7] + a * m[10] + b * m[13], 0.0)
    blue = gain * max(base * m[8] + a * m[11] + b * m[14], 0.0)
    if m[BUMP] > 0.0:  # lumpy foliage and cloth: tilt the normal by texture noise
        nx += m[BUMP] * fine
        ny += m[BUMP] * (c1 / 127.5 - 1.0)
        nz += m[BUMP] * (c2 / 127.5 - 1.0)
        k = 1.0 / math.sqrt(nx * nx + ny * ny + nz * nz)
        nx, ny, nz = nx * k, ny * k, nz * k

    # Direct light, with a shadow ray from a jittered start: a cheap penumbra.
    lift = 2e-3 + 1e-4 * t
    sx, sy, sz = wx + lift * nx, wy + lift * ny, wz + lift * nz
    direct = nx * light[0] + ny * light[1] + nz * light[2]
    if direct > 0.0 and light[6] > 0.0:
        f = sun.frame
        ju, jv = light[7] * (_hash(key) - 0.5), light[7] * (_hash(key + 7919) - 0.5)
        if _occluder(prims, materials, textures, f, sun.start, sun.items, sun.tops,
                     sx + ju * f[1, 0] + jv * f[2, 0], sy + ju * f[1, 1] + jv * f[2, 1],
                     sz + ju * f[1, 2] + jv * f[2, 2], 200.0, True) < FAR:  # fmt: skip
            direct *= 1.0 - light[6]
    direct = max(direct, 0.0)
    # Ambient: hemisphere light, dimmed under nearby things and at the foot of the scene.
    reach = light[8]
    ju = 0.06 * reach * (_hash(key + 104729) - 0.5)
    jv = 0.06 * reach * (_hash(key + 1299709) - 0.5)
    cover = _occluder(
        prims, materials, textures, above.frame, above.start, above.items, above.tops,
        sx + ju, sy + jv, sz, 2.0 * reach, False,
    )  # fmt: skip
    ambient = 1.0
    if cover < FAR:
        ambient -= 0.65 * math.exp(-cover / reach)
    if wz < 2.0 * reach:
        ambient *= 1.0 - 0.3 * math.exp(-max(wz, 0.0) / (0.4 * reach)) * (1.0 - abs(nz))
    h = 0.5 + 0.5 * nz
    er = direct * light[3] + ambient * (light[12] + h * (light[9] - light[12]))
    eg = direct * light[4] + ambient * (light[13] + h * (light[10] - light[13]))
    eb = direct * light[5] + ambient * (light[14] + h * (light[11] - light[14]))
    for k in range(lamps.shape[0]):
        qx, qy, qz = lamps[k, 0] - wx, lamps[k, 1] - wy, lamps[k, 2] - wz
        d2 = qx * qx + qy * qy + qz * qz
        wrap = 0.15 + 0.85 * max(nx * qx + ny * qy + nz * qz, 0.0) / math.sqrt(d2 + 1e-6)
        wrap *= ambient / (1.0 + d2 / (lamps[k, 6] * lamps[k, 6]))
        er, eg, eb = er + wrap * lamps[k, 3], eg + wrap * lamps[k, 4], eb + wrap * lamps[k, 5]
    e = m[EMISSIVE]
    red, green, blue = red * (er + e), green * (eg + e), blue * (eb + e)
    if m[SPECULAR] > 0.0 or m[MIRROR] > 0.0:
        # Blinn's half vector for the light, one mirrored look at the sky for gloss.
        qx, qy, qz = light[0] - dx, light[1] - dy, light[2] - dz
        k = 1.0 / math.sqrt(qx * qx + qy * qy + qz * qz + 1e-12)
        peak = max((nx * qx + ny * qy + nz * qz) * k, 0.0) ** m[SHININESS]
        peak *= m[SPECULAR] * (1.0 if direct > 0.0 else 0.0)
        red, green, blue = red + peak * light[3], green + peak * light[4], blue + peak * light[5]
        if m[MIRROR] > 0.0:
            k = 2.0 * facing
            mr, mg, mb = _sky(textures, light, sky, dx + k * nx, dy + k * ny, dz + k * nz)
            fresnel = m[MIRROR] * (0.15 + 0.85 * (1.0 - facing) ** 4) * ambient
            if dz + k * nz < 0.0:
                mr, mg, mb = 0.25 * mr, 0.25 * mg, 0.25 * mb
            red += fresnel * (mr - red)
            green += fresnel * (mg - green)
            blue += fresnel * (mb - blue)
    if light[15] > 0.0:
        haze = 1.0 - math.exp(-t * light[15])
        red += haze * (sky[0] - red)
        green += haze * (sky[1] - green)
        blue += haze * (sky[2] - blue)
    return red, green, blue


@jit
def _tile_cone(rays, rotation, y0, y1, x0, x1):
    """Axis and sine of the half-angle of a cone round a tile's rays (one pixel of margin)."""
    ax, ay, az = 0.0, 0.0, 0.0
    for k in range(4):
        y, x = (y0 if k < 2 else y1 - 1), (x0 if k % 2 == 0 else x1 - 1)
        r = rays[y, x]
        n = 1.0 / math.sqrt(r[0] * r[0] + r[1] * r[1] + r[2] * r[2])
        ax, ay, az = ax + r[0] * n, ay + r[1] * n, az + r[2] * n
    n = 1.0 / math.sqrt(ax * ax + ay * ay + az * az)
    ax, ay, az = ax * n, ay * n, az * n
    worst = 0.0
    for y in range(y0, y1):
        for x in range(x0, x1):
            if y > y0 and y < y1 - 1 and x > x0 and x < x1 - 1:
                continue
            r = rays[y, x]
            cx, cy, cz = r[1] * az - r[2] * ay, r[2] * ax - r[0] * az, r[0] * ay - r[1] * ax
            sine2 = (cx * cx + cy * cy + cz * cz) / (r[0] * r[0] + r[1] * r[1] + r[2] * r[2])
            worst = max(worst, sine2)
    sine = min(math.sqrt(worst) * (1.0 + 2.0 / TILE) + 1e-3, 0.99)
    q = rotation
    return (
        q[0, 0] * ax + q[0, 1] * ay + q[0, 2] * az,
        q[1, 0] * ax + q[1, 1] * ay + q[1, 2] * az,
        q[2, 0] * ax + q[2, 1] * ay + q[2, 2] * az,
        sine,
    )


@jit
def render_tiles(scene, sun, above, rays, pose, far, salt, color, first, start, stop, step):
    """Cast and shade the tiles start, start + step, ... < stop.

    rays [H, W, 3] with z = 1 (camera frame), pose [4, 4] world <- camera. Writes linear colour
    [H, W, 3] and into ``first`` [H, W, 2] the distance t along the ray with z = 1 (that is the
    depth) and the primitive's index (-1: nothing).
    """
    height, width = rays.shape[0], rays.shape[1]
    columns = (width + TILE - 1) // TILE
    prims, materials, textures = scene.primitives, scene.materials, scene.textures
    n = prims.shape[0]
    items, nears = np.empty(n, np.int64), np.empty(n)
    q = pose
    ox, oy, oz = q[0, 3], q[1, 3], q[2, 3]
    middle, centre = height // 2, width // 2
    spread = abs(rays[middle, min(centre + 1, width - 1), 0] - rays[middle, centre - 1, 0]) * 0.5
    for tile in range(start, stop, step):
        y0, x0 = (tile // columns) * TILE, (tile % columns) * TILE
        y1, x1 = min(y0 + TILE, height), min(x0 + TILE, width)
        ax, ay, az, sine = _tile_cone(rays, pose, y0, y1, x0, x1)
        count = gather(prims, ox, oy, oz, ax, ay, az, sine, far, items, nears)
        for y in range(y0, y1):
            for x in range(x0, x1):
                r0, r1 = rays[y, x, 0], rays[y, x, 1]
                inv = 1.0 / math.sqrt(r0 * r0 + r1 * r1 + 1.0)
                dx = (q[0, 0] * r0 + q[0, 1] * r1 + q[0, 2]) * inv
                dy = (q[1, 0] * r0 + q[1, 1] * r1 + q[1, 2]) * inv
                dz = (q[2, 0] * r0 + q[2, 1] * r1 + q[2, 2]) * inv
                t, i = _trace(
                    prims, materials, textures, items, nears, count, ox, oy, oz, dx, dy, dz
                )
                first[y, x, 0] = t * inv if i >= 0 else np.inf
                first[y, x, 1] = i
                key = salt + y * width + x
                color[y, x, 0], color[y, x, 1], color[y, x, 2] = _shade(
                    scene, sun, above, i, t, ox, oy, oz, dx, dy, dz, spread, key
                )


@inline
def _edge(color, first, y, x, v, u):
    """Whether two pixels show different primitives in colours that differ by a tenth."""
    if first[y, x, 1] == first[v, u, 1]:
        return False
    total, gap = 1e-3, 0.0
    for k in range(3):
        total += color[y, x, k] + color[v, u, k]
        gap += abs(color[y, x, k] - color[v, u, k])
    return gap > 0.05 * total


@jit
def smooth_tiles(
    scene, sun, above, rays, pose, far, salt, before, color, first, start, stop, step
):
    """Anti-alias silhouettes: two more samples where a neighbour shows another primitive.

    Edges are sought in ``before``, an untouched copy of the colours, so that the result does not
    depend on the order of the tiles.
    """
    height, width = rays.shape[0], rays.shape[1]
    columns = (width + TILE - 1) // TILE
    prims, materials, textures = scene.primitives, scene.materials, scene.textures
    n = prims.shape[0]
    items, nears = np.empty(n, np.int64), np.empty(n)
    q = pose
    ox, oy, oz = q[0, 3], q[1, 3], q[2, 3]
    middle, centre = height // 2, width // 2
    spread = abs(rays[middle, min(centre + 1, width - 1), 0] - rays[middle, centre - 1, 0]) * 0.5
    for tile in range(start, stop, step):
        y0, x0 = (tile // columns) * TILE, (tile % columns) * TILE
        y1, x1 = min(y0 + TILE, height), min(x0 + TILE, width)
        count = -1
        for y in range(y0, y1):
            for x in range(x0, x1):
                ya, yb = max(y - 1, 0), min(y + 1, height - 1)
                xa, xb = max(x - 1, 0), min(x + 1, width - 1)
                if not (
                    _edge(before, first, y, x, ya, x) or _edge(before, first, y, x, yb, x)
                    or _edge(before, first, y, x, y, xa) or _edge(before, first, y, x, y, xb)
                ):  # fmt: skip
                    continue
                if count < 0:
                    ax, ay, az, sine = _tile_cone(rays, pose, y0, y1, x0, x1)
                    count = gather(prims, ox, oy, oz, ax, ay, az, sine, far, items, nears)
                xn, yn = (x + 1 if x + 1 < width else x - 1), (y + 1 if y + 1 < height else y - 1)
                su, sv = float(xn - x), float(yn - y)
                red, green, blue = color[y, x, 0], color[y, x, 1], color[y, x, 2]
                red, green, blue = min(red, 3.0), min(green, 3.0), min(blue, 3.0)
                for k in range(2):
                    fu = 0.37 if k == 0 else -0.33
                    fv = 0.23 if k == 0 else -0.31
                    r0 = rays[y, x, 0] + fu * su * (rays[y, xn, 0] - rays[y, x, 0])
                    r1 = rays[y, x, 1] + fu * su * (rays[y, xn, 1] - rays[y, x, 1])
                    r0 += fv * sv * (rays[yn, x, 0] - rays[y, x, 0])
                    r1 += fv * sv * (rays[yn, x, 1] - rays[y, x, 1])
                    inv = 1.0 / math.sqrt(r0 * r0 + r1 * r1 + 1.0)
                    dx = (q[0, 0] * r0 + q[0, 1] * r1 + q[0, 2]) * inv
                    dy = (q[1, 0] * r0 + q[1, 1] * r1 + q[1, 2]) * inv
                    dz = (q[2, 0] * r0 + q[2, 1] * r1 + q[2, 2]) * inv
                    t, j = _trace(
                        prims, materials, textures, items, nears, count, ox, oy, oz, dx, dy, dz
                    )
                    key = salt + (k + 1) * 15485863 + y * width + x
                    a, b, c = _shade(scene, sun, above, j, t, ox, oy, oz, dx, dy, dz, spread, key)
                    red, green, blue = red + min(a, 3.0), green + min(b, 3.0), blue + min(c, 3.0)
                color[y, x, 0], color[y, x, 1], color[y, x, 2] = (
                    red / 3.0, green / 3.0, blue / 3.0,
                )  # fmt: skip


@jit
def cast_rays(scene, origins, directions, far, block_size, ranges, indices):
    """Range [N] (FAR: no return) and primitive [N] along unit rays, for any sensor.

    Consecutive rays are expected to be neighbours: each block of ``block_size`` shares one
    candidate list where its rays start at one point (one firing of a spinning LiDAR).
    """
    prims, materials, textures = scene.primitives, scene.materials, scene.textures
    n = prims.shape[0]
    items, nears = np.empty(n, np.int64), np.empty(n)
    total = origins.shape[0]
    for block in range(0, total, block_size):
        end = min(block + block_size, total)
        ax, ay, az, mx, my, mz = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        for k in range(block, end):
            ax, ay, az = ax + directions[k, 0], ay + directions[k, 1], az + directions[k, 2]
            mx, my, mz = mx + origins[k, 0], my + origins[k, 1], mz + origins[k, 2]
        w = 1.0 / (end - block)
        mx, my, mz = mx * w, my * w, mz * w
        norm = math.sqrt(ax * ax + ay * ay + az * az)
        sine, moved = 1.0, 0.0
        if norm > 1e-3:
            ax, ay, az = ax / norm, ay / norm, az / norm
            low = 1.0
            for k in range(block, end):
                low = min(low, ax * directions[k, 0] + ay * directions[k, 1]
                          + az * directions[k, 2])  # fmt: skip
                gap = abs(origins[k, 0] - mx) + abs(origins[k, 1] - my) + abs(origins[k, 2] - mz)
                moved = max(moved, gap)
            sine = math.sqrt(max(1.0 - low * low, 0.0)) + 1e-3 if low > 0.3 else 1.0
        if sine < 0.9 and moved < 1e-9:
            count = gather(prims, mx, my, mz, ax, ay, az, sine, far, items, nears)
        else:
            count = n
            for i in range(n):
                items[i], nears[i] = i, 0.0
        for k in range(block, end):
            ranges[k], indices[k] = _trace(
                prims, materials, textures, items, nears, count,
                origins[k, 0], origins[k, 1], origins[k, 2],
                directions[k, 0], directions[k, 1], directions[k, 2],
            )  # fmt: skip
