# SPDX-License-Identifier: Apache-2.0
"""The ray caster against closed forms, and pictures against poses."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from video_depth_ros.camera import Camera
from video_depth_ros.errors import ConfigError
from video_depth_ros.simulation import outdoor
from video_depth_ros.simulation.builder import Builder, rotation_zyx
from video_depth_ros.simulation.path import T_LINK_OPTICAL, make_path
from video_depth_ros.simulation.scene import Body, World
from video_depth_ros.simulation.worlds import NAMES, make_world

CAMERA = Camera(96, 64, 70.0, 70.0, 47.5, 31.5)


def stage(add, heldout: bool = False) -> World:
    """A world with only what ``add`` puts there."""
    builder = Builder(np.random.default_rng(1), heldout)
    add(builder)
    light = outdoor.daylight(builder)
    return builder.build("clutter", light, ((-20, -20, 0), (20, 20, 5)))


def looking(x=0.0, y=0.0, z=0.0, yaw=0.0, pitch=0.0, roll=0.0) -> np.ndarray:
    """T_world_camera of a camera looking along +x, turned."""
    pose = np.eye(4)
    pose[:3, :3] = rotation_zyx(yaw, pitch, roll)
    pose[:3, 3] = [x, y, z]
    return pose @ T_LINK_OPTICAL


def rays_of(camera: Camera, pose: np.ndarray) -> np.ndarray:
    return camera.rays() @ pose[:3, :3].T


@settings(deadline=None, max_examples=15)
@given(st.floats(0.5, 3), st.floats(-0.5, 0.5), st.floats(-0.4, 0.4), st.floats(-0.5, 0.5))
def test_ground_plane_depth_is_exact(height, yaw, pitch, roll):
    world = stage(lambda b: b.box((0, 0, -5), (2000, 2000, 10), b.paint(), casts=False))
    pose = looking(z=height, yaw=yaw, pitch=pitch, roll=roll)
    _, depth = world.render(CAMERA, pose, 0.0)
    down = rays_of(CAMERA, pose)[..., 2]
    expected = np.where(down < 0, -height / np.where(down < 0, down, -1), np.inf)
    near = (expected < 350) | ~np.isfinite(expected)
    np.testing.assert_allclose(depth[near], expected[near], rtol=1e-5)


@settings(deadline=None, max_examples=15)
@given(st.floats(1.5, 6), st.floats(-1, 1), st.floats(0.2, 1.0))
def test_sphere_depth_is_exact(x, y, radius):
    world = stage(lambda b: b.ball((x, y, 0), (2 * radius,) * 3, b.paint()))
    pose = looking()
    _, depth = world.render(CAMERA, pose, 0.0)
    rays = rays_of(CAMERA, pose)
    center = np.array([x, y, 0.0])
    a = (rays**2).sum(-1)
    b = rays @ center
    disc = b**2 - a * (center @ center - radius**2)
    expected = np.where(disc >= 0, (b - np.sqrt(np.maximum(disc, 0))) / a, np.inf)
    clear = np.abs(disc) > 1e-6
    np.testing.assert_allclose(depth[clear], expected[clear], rtol=1e-5)


@pytest.mark.parametrize("kind", ["box", "tube", "wedge"])
@settings(deadline=None, max_examples=10)
@given(yaw=st.floats(-3, 3), pitch=st.floats(-1, 1), taper=st.floats(0.0, 0.9))
def test_surfaces_lie_on_the_solid(kind, yaw, pitch, taper):
    """Back-projected hits satisfy the solid's implicit equation, whatever its orientation."""
    size = np.array([1.2, 0.9, 1.6])

    def add(b):
        m = b.paint()
        if kind == "box":
            b.box((4, 0, 0), size, m, yaw=yaw, pitch=pitch)
        elif kind == "tube":
            b.tube((4, 0, 0), size, m, taper=taper, yaw=yaw, pitch=pitch)
        else:
            b.wedge((4, 0, 0), size, m, (taper, 0.5 * taper, 0.1), yaw=yaw, pitch=pitch)

    pose = looking()
    _, depth = stage(add).render(CAMERA, pose, 0.0)
    hit = np.isfinite(depth)
    assert hit.sum() > 100
    points = rays_of(CAMERA, pose)[hit] * depth[hit][:, None].astype(float)
    local = (points - [4, 0, 0]) @ rotation_zyx(yaw, pitch)
    x, y, z = (local / (size / 2)).T
    s = 0.5 * (z + 1)
    if kind == "box":
        level = np.maximum.reduce([abs(x), abs(y), abs(z)])
    elif kind == "tube":
        level = np.maximum(np.hypot(x, y) + taper * s, abs(z))
    else:
        level = np.maximum.reduce([abs(x - 0.1 * s) + taper * s, abs(y) + 0.5 * taper * s, abs(z)])
    np.testing.assert_allclose(level, 1.0, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_candidate_lists_lose_no_primitive(name):
    """Tiles see what rays that test every primitive see, so culling is conservative."""
    world = make_world(name, 5)
    path = make_path(world, 5, 1.0)
    pose = (path.poses(np.array([0.4])) @ T_LINK_OPTICAL)[0]
    _, depth = world.render(CAMERA, pose, 0.4)
    rays = rays_of(CAMERA, pose).reshape(-1, 3)
    length = np.linalg.norm(rays, axis=1)
    # One ray a block: every list is made for that ray alone.
    ranges, _ = world.cast(np.tile(pose[:3, 3], (len(rays), 1)), rays / length[:, None], 0.4)
    # Rays that graze an edge, or the border of a leaf's texel, may fall on either side of it.
    assert np.mean(np.isclose(depth.reshape(-1), ranges / length, rtol=1e-5)) > 0.998


def test_depth_and_poses_agree_between_frames():
    """Points of one view, seen from another, lie at that view's depth or behind it."""
    world = dataclasses.replace(make_world("room", 3), bodies=(Body(),))
    still = world.body == 0
    keep = {
        f: getattr(world, f)[still]
        for f in ("kind", "half", "taper", "rotation", "center", "body", "material",
                  "material_top", "casts")
    }  # fmt: skip
    world = dataclasses.replace(world, **keep)
    path = make_path(world, 8, 2.0, "handheld")
    poses = path.poses(np.array([0.2, 0.6])) @ T_LINK_OPTICAL
    (_, first), (_, second) = (world.render(CAMERA, pose, 0.0) for pose in poses)
    points = (CAMERA.rays() * first[..., None]).reshape(-1, 3)
    motion = np.linalg.inv(poses[1]) @ poses[0]
    moved = points @ motion[:3, :3].T + motion[:3, 3]
    uv, valid = CAMERA.project(moved)
    u, v = np.rint(uv[:, 0]).astype(int), np.rint(uv[:, 1]).astype(int)
    inside = valid & (u >= 0) & (v >= 0) & (u < CAMERA.width) & (v < CAMERA.height)
    error = moved[inside, 2] / second[v[inside], u[inside]] - 1.0
    assert inside.mean() > 0.5
    assert np.mean(np.abs(error) < 0.03) > 0.75
    assert np.mean(error < -0.05) < 0.05  # nothing floats in front of what is seen


def test_lens_distortion_is_the_cameras():
    """A ball's centre appears where Camera.project puts it, off-centre, through a bent lens."""
    camera = Camera(
        160, 120, 90.0, 90.0, 79.5, 59.5, "plumb_bob", (-0.28, 0.075, 2e-4, -1e-4, 0.0)
    )
    place = np.array([3.0, 1.6, 1.1])
    world = stage(lambda b: b.ball(place, (0.3, 0.3, 0.3), b.paint()))
    pose = looking()
    _, depth = world.render(camera, pose, 0.0)
    v, u = np.nonzero(np.isfinite(depth))
    optical = np.linalg.inv(pose) @ np.append(place, 1.0)
    uv, _ = camera.project(optical[None, :3])
    np.testing.assert_allclose([u.mean(), v.mean()], uv[0], atol=0.7)


def test_rendering_depends_on_nothing_but_its_arguments():
    world, again = make_world("street", 2), make_world("street", 2)
    pose = looking(y=world.route[1], z=1.65)
    rgb, depth = world.render(CAMERA, pose, 0.5)
    for other, threads in ((again, 1), (world, 3)):
        rgb2, depth2 = other.render(CAMERA, pose, 0.5, threads)
        np.testing.assert_array_equal(rgb, rgb2)
        np.testing.assert_array_equal(depth, depth2)


def test_moving_bodies_move():
    body = Body((4.0, -1.0, 0.0), yaw=np.pi / 2, speed=2.0)

    def add(b):
        with b.moving(body):
            b.ball((0, 0, 0), (0.6, 0.6, 0.6), b.paint())

    world = stage(add)
    columns = []
    for t in (0.0, 1.0):
        _, depth = world.render(CAMERA, looking(), t)
        columns.append(np.nonzero(np.isfinite(depth))[1].mean())
    # 2 m to the left at 4 m: 35 pixels.
    assert columns[0] - columns[1] == pytest.approx(35.0, abs=1.0)


def test_arc_ends_where_a_circle_does():
    pose = Body((0, 0, 0), 0.0, speed=np.pi, yaw_rate=np.pi / 2).pose(1.0)
    np.testing.assert_allclose(pose[:3, 3], [2.0, 2.0, 0.0], atol=1e-9)


def test_unknown_names_are_refused():
    with pytest.raises(ConfigError, match=r"room, corridor, street, clutter.*moon"):
        make_world("moon", 0)
    with pytest.raises(ConfigError, match=r"handheld.*swim"):
        make_path(make_world("clutter", 0), 0, 1.0, "swim")
