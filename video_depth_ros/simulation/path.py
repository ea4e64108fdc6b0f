# SPDX-License-Identifier: Apache-2.0
"""Smooth 6-DoF paths with exact derivatives, kept out of the geometry.

A path is a uniform cubic B-spline in position (x, y, z) and ZYX Euler angles (yaw, pitch, roll;
REP-103 body axes: x forward, y left, z up), so position is twice continuously differentiable,
which an IMU needs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from video_depth_ros.errors import ConfigError

from .builder import rotation_zyx
from .scene import World

# Optical frame (x right, y down, z forward) seen from a body frame (x forward, y left, z up).
T_LINK_OPTICAL = np.array(
    [[0.0, 0.0, 1.0, 0.0], [-1.0, 0.0, 0.0, 0.0], [0.0, -1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
)
STYLES = ("handheld", "vehicle", "drone", "static")
_BASIS = np.array([[1, 4, 1, 0], [-3, 0, 3, 0], [3, -6, 3, 0], [-1, 3, -3, 1]], float) / 6.0


@dataclass(frozen=True)
class Path:
    """Pose of a body over time.

    Attributes:
        knots: control points float64 [K, 6]: x, y, z [m], yaw, pitch, roll [rad].
        spacing: time between knots [s].
    """

    knots: np.ndarray
    spacing: float

    @property
    def duration(self) -> float:
        """The path is defined on [0, duration] seconds."""
        return (len(self.knots) - 3) * self.spacing

    def evaluate(self, times: np.ndarray, order: int = 0) -> np.ndarray:
        """The ``order``-th time derivative (0 to 2) of the six coordinates, float64 [T, 6]."""
        x = np.clip(np.asarray(times, float), 0.0, self.duration) / self.spacing
        segment = np.minimum(x.astype(int), len(self.knots) - 4)
        u = x - segment
        zero, one = np.zeros_like(u), np.ones_like(u)
        powers = (
            (one, u, u**2, u**3), (zero, one, 2 * u, 3 * u**2), (zero, zero, 2 * one, 6 * u),
        )[order]  # fmt: skip
        weights = np.stack(powers, -1) @ _BASIS / self.spacing**order
        points = self.knots[segment[:, None] + np.arange(4)]
        return np.einsum("tk,tkc->tc", weights, points)

    def poses(self, times: np.ndarray) -> np.ndarray:
        """T_world_body, float64 [T, 4, 4]."""
        c = self.evaluate(times)
        poses = np.tile(np.eye(4), (len(c), 1, 1))
        poses[:, :3, 3] = c[:, :3]
        poses[:, :3, :3] = [rotation_zyx(*row) for row in c[:, 3:]]
        return poses

    def velocity(self, times: np.ndarray) -> np.ndarray:
        """Of the body's origin in the world, float64 [T, 3] in m/s."""
        return self.evaluate(times, 1)[:, :3]

    def acceleration(self, times: np.ndarray) -> np.ndarray:
        """Of the body's origin in the world, float64 [T, 3] in m/s^2."""
        return self.evaluate(times, 2)[:, :3]

    def angular_rate(self, times: np.ndarray) -> np.ndarray:
        """In body axes, float64 [T, 3] in rad/s (Euler-rate kinematics, ZYX)."""
        _, pitch, roll = self.evaluate(times)[:, 3:].T
        dyaw, dpitch, droll = self.evaluate(times, 1)[:, 3:].T
        return np.stack(
            [
                droll - dyaw * np.sin(pitch),
                dpitch * np.cos(roll) + dyaw * np.cos(pitch) * np.sin(roll),
                -dpitch * np.sin(roll) + dyaw * np.cos(pitch) * np.cos(roll),
            ],
            -1,
        )

    def angular_acceleration(self, times: np.ndarray) -> np.ndarray:
        """In body axes, float64 [T, 3] in rad/s^2, by central differences of the exact rate."""
        h = 1e-4
        t = np.clip(np.asarray(times, float), h, self.duration - h)
        return (self.angular_rate(t + h) - self.angular_rate(t - h)) / (2 * h)


def _smooth(rng: np.random.Generator, count: int, sigma: np.ndarray, memory: float) -> np.ndarray:
    """Correlated noise float64 [count, len(sigma)], zero-mean, standard deviation sigma."""
    out = np.empty((count, len(sigma)))
    state = rng.normal(size=len(sigma))
    for k in range(count):
        state = memory * state + math.sqrt(1 - memory**2) * rng.normal(size=len(sigma))
        out[k] = state * sigma
    return out


def _wander(rng: np.random.Generator, count: int, sigma: np.ndarray, memory: float) -> np.ndarray:
    """A walk of correlated steps from zero, float64 [count, len(sigma)], drawn back to its start
    so that a long one stays near by (half of a displacement is forgotten in about 14 steps)."""
    steps = _smooth(rng, count, sigma, memory)
    out = np.zeros_like(steps)
    for k in range(1, count):
        out[k] = 0.95 * out[k - 1] + steps[k]
    return out


def _handheld(
    world: World, rng: np.random.Generator, seconds: float, spacing: float
) -> np.ndarray:
    """Around a thing worth seeing, from arm's length to across the room, with shake and roll."""
    low, high = world.stage
    if len(world.targets) and rng.random() < 0.9:
        target = world.targets[rng.integers(len(world.targets))]
    else:
        target = rng.uniform(low, high)
    reach = math.exp(rng.uniform(math.log(0.45), math.log(4.5)))
    away = rng.uniform(0, 2 * math.pi)
    lift = rng.uniform(-0.1, 0.9)
    start = target + reach * np.array(
        [math.cos(lift) * math.cos(away), math.cos(lift) * math.sin(away), math.sin(lift)]
    )
    start = np.clip(start, low + 0.25, high - 0.25)
    if rng.random() < 0.5:
        start[2] = np.clip(rng.normal(1.45, 0.2), low[2] + 0.2, high[2] - 0.3)
    count = int(seconds / spacing) + 4
    speed = rng.choice([0.1, 0.3, 0.6, 1.0])
    walk = _wander(rng, count, np.array([1, 1, 0.35]) * speed * spacing, 0.8)
    position = start + walk + _smooth(rng, count, np.full(3, 0.004), 0.3)
    gaze = target + _wander(rng, count, np.full(3, 0.25 * reach * spacing), 0.8)
    d = gaze - position
    flat = np.hypot(d[:, 0], d[:, 1])
    yaw = np.unwrap(np.arctan2(d[:, 1], d[:, 0]))
    pitch = np.clip(np.arctan2(-d[:, 2], np.maximum(flat, 0.15)), -1.1, 1.2)
    roll = rng.normal(0, 0.12) * (2.0 if rng.random() < 0.2 else 1.0)
    angles = np.stack([yaw, pitch, np.full(count, roll)], -1)
    angles += _smooth(rng, count, np.array([0.01, 0.01, 0.02]), 0.6)
    angles += _wander(rng, count, np.array([0.15, 0.08, 0.06]) * spacing, 0.9)
    return np.concatenate([position, angles], -1)


def _vehicle(world: World, rng: np.random.Generator, seconds: float, spacing: float) -> np.ndarray:
    """Along the route, or straight on: level, slow turns, a little pitch and roll."""
    low, high = world.stage
    count = int(seconds / spacing) + 4
    curvature, lateral = world.route
    if world.name == "street":
        top = min(15.0, max(0.5, (high[0] - 80.0) / seconds))
        speed = rng.choice([0.3, 0.7, 1.0]) * top if rng.random() < 0.8 else rng.uniform(0, 1)
        height, start = rng.uniform(1.3, 2.0), 0.0
    else:
        speed = min(rng.uniform(0.2, 1.6), 0.7 * (high[0] - low[0]) / seconds)
        height = rng.uniform(0.25, 1.6)
        start = low[0] + rng.uniform(0.8, 1.6)
    rate = np.clip(speed * (1 + _smooth(rng, count, np.array([0.25]), 0.95)[:, 0]), 0, None)
    s = np.concatenate([[0.0], np.cumsum(rate * spacing)[:-1]])
    if world.name not in ("street", "corridor"):  # anywhere, any heading
        x0, y0 = rng.uniform(low[:2] + 0.4, high[:2] - 0.4)
        heading = math.atan2(-y0, -x0) + rng.normal(0, 0.5)
        yaw = heading + np.cumsum(_smooth(rng, count, np.array([0.35 * spacing]), 0.95)[:, 0])
        x = x0 + np.concatenate([[0.0], np.cumsum(np.cos(yaw[:-1]) * rate[:-1] * spacing)])
        y = y0 + np.concatenate([[0.0], np.cumsum(np.sin(yaw[:-1]) * rate[:-1] * spacing)])
    else:
        s = s + start
        side = lateral + _smooth(rng, count, np.array([0.12]), 0.97)[:, 0]
        if world.name == "corridor":
            side += rng.uniform(-0.25, 0.25) * (high[1] - low[1])
        slope = (
            np.gradient(side)
            / np.maximum(np.gradient(s), 0.05)
            * np.minimum(np.gradient(s) / 0.05, 1)
        )
        if abs(curvature) > 0:
            radius = 1 / curvature - side
            x, y = radius * np.sin(s * curvature), 1 / curvature - radius * np.cos(s * curvature)
        else:
            x, y = s, side
        yaw = s * curvature + np.clip(slope, -0.2, 0.2)
    bounce = _smooth(rng, count, np.array([0.008, 0.006, 0.006]), 0.6)
    tilt = rng.normal(0, [0.035, 0.015]) if world.name == "street" else rng.normal(0, [0.12, 0.03])
    return np.stack(
        [x, y, height + bounce[:, 0], yaw, tilt[0] + bounce[:, 1], tilt[1] + bounce[:, 2]], -1
    )


def _drone(world: World, rng: np.random.Generator, seconds: float, spacing: float) -> np.ndarray:
    """Fast, banked, any height of the stage."""
    low, high = world.stage
    count = int(seconds / spacing) + 4
    start = rng.uniform(low + 0.4, high - 0.4)
    start[2] = rng.uniform(low[2] + 0.4, min(high[2] - 0.3, low[2] + 5.0))
    aim = np.append(rng.uniform(low[:2], high[:2]) * 0.6, 0.0)
    heading = math.atan2(aim[1] - start[1], aim[0] - start[0])
    speed = rng.uniform(0.2, 4.0)
    velocity = speed * np.array([math.cos(heading), math.sin(heading), rng.normal(0, 0.1)])
    legs = np.minimum(1.0, 4.0 / seconds)  # short flights go straight, long ones wander
    velocity = legs * velocity * np.exp(-0.1 * spacing * np.arange(count))[:, None]
    position = start + np.cumsum(velocity * spacing, 0) - velocity[0] * spacing
    position += _wander(rng, count, np.array([0.5, 0.5, 0.25]) * speed * spacing, 0.95)
    yaw = heading + rng.normal(0, 0.4) + _wander(rng, count, np.array([0.6 * spacing]), 0.95)[:, 0]
    bank = _smooth(rng, count, np.array([0.06, 0.08]), 0.95)
    pitch = rng.normal(0.12, 0.25) + bank[:, 0]
    return np.concatenate([position, np.stack([yaw, pitch, bank[:, 1]], -1)], -1)


def make_path(
    world: World, seed: int, seconds: float, style: str | None = None, clearance: float = 0.22
) -> Path:
    """A path through free space; the same arguments give the same path.

    Candidates are drawn until one keeps ``clearance`` metres from every bounding box at every
    time; a path that cannot keep it is shortened towards its start, in the end to a static view.

    Args:
        world: where to go.
        seed: any non-negative integer.
        seconds: duration.
        style: handheld, vehicle, drone or static; drawn to suit the world if None.
        clearance: distance to keep from things [m].

    Raises:
        ConfigError: unknown style.
    """
    rng = np.random.default_rng((seed, 77))
    usual = {
        "room": (0.72, 0.08, 0.12, 0.08), "corridor": (0.3, 0.55, 0.1, 0.05),
        "street": (0.05, 0.85, 0.05, 0.05), "clutter": (0.3, 0.2, 0.42, 0.08),
    }[world.name]  # fmt: skip
    if style is None:
        style = str(rng.choice(STYLES, p=usual))
    if style not in STYLES:
        raise ConfigError(f"path style: expected one of {', '.join(STYLES)}, got {style!r}")
    draw = {"handheld": _handheld, "vehicle": _vehicle, "drone": _drone, "static": _handheld}[
        style
    ]
    if style == "static" and world.name == "street":
        draw = _vehicle
    spacing = 0.2 if style != "vehicle" else 0.4
    # First paths that really move, then the same squeezed towards their start.
    rounds = ((0.0,),) if style == "static" else ((1.0, 0.4), (0.1, 0.0))
    if style == "vehicle" and world.name == "street":
        rounds = ((1.0,),)  # a car that hardly moves is drawn as such, not squeezed
    best, best_gap = None, -np.inf
    for shrinks in rounds:
        for _ in range(16):
            knots = draw(world, rng, seconds, spacing)
            for shrink in shrinks:
                path = Path(knots[:1] + shrink * (knots - knots[:1]), spacing)
                gap = _gap(world, path, seconds)
                if gap >= clearance:
                    return path
                if best is None or gap > best_gap:
                    best, best_gap = path, gap
    assert best is not None
    return best if best_gap > 0.02 else _escape(world, rng, seconds)


def _gap(world: World, path: Path, seconds: float) -> float:
    """Smallest clearance along a path; negative outside the stage."""
    times = np.linspace(0.0, seconds, max(5, int(seconds / 0.12)))
    points = path.evaluate(times)[:, :3]
    low, high = world.stage
    if world.name != "street" and (np.any(points < low + 0.1) or np.any(points > high - 0.1)):
        return -1.0
    first = float(world.clearance(points[:1], times[:1])[0])
    return first if first < 0.05 else min(first, float(world.clearance(points, times).min()))


def _escape(world: World, rng: np.random.Generator, seconds: float) -> Path:
    """A static view from the roomiest of many places."""
    low, high = world.stage
    points = rng.uniform(low + 0.3, high - 0.3, (200, 3))
    ends = [world.clearance(points, np.full(200, t)) for t in np.linspace(0.0, seconds, 5)]
    place = points[int(np.argmax(np.min(ends, 0)))]
    aim = (world.stage[0] + world.stage[1]) / 2 - place
    row = [*place, math.atan2(aim[1], aim[0]), 0.15, 0.0]
    return Path(np.tile(row, (int(seconds / 0.5) + 5, 1)), 0.5)
