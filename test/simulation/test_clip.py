# SPDX-License-Identifier: Apache-2.0
"""Random clips: deterministic, varied, split cleanly."""

import numpy as np
import pytest

from video_depth_ros.errors import ConfigError
from video_depth_ros.simulation.builder import spawned
from video_depth_ros.simulation.clip import random_clip
from video_depth_ros.simulation.path import STYLES, make_path
from video_depth_ros.simulation.sensor import Exposer, Sensor
from video_depth_ros.simulation.textures import texture_library
from video_depth_ros.simulation.worlds import NAMES, make_world

SHAPE = (3, 48, 64)


def test_clip_has_the_promised_form():
    clip = random_clip(1, *SHAPE)
    assert clip.rgb.shape == (3, 48, 64, 3) and clip.rgb.dtype == np.uint8
    assert clip.depth.shape == SHAPE and clip.depth.dtype == np.float32
    assert np.all(clip.depth > 0)
    assert clip.T_world_camera.shape == (3, 4, 4)
    np.testing.assert_allclose(
        clip.T_world_camera[:, :3, :3] @ clip.T_world_camera[:, :3, :3].transpose(0, 2, 1),
        np.tile(np.eye(3), (3, 1, 1)),
        atol=1e-12,
    )
    assert np.all(np.diff(clip.stamps_ns) > 0)
    assert (clip.camera.width, clip.camera.height) == (64, 48)
    assert clip.world in NAMES


def test_same_seed_same_clip_other_seed_other_clip():
    first, again, other = (random_clip(seed, *SHAPE) for seed in (7, 7, 8))
    np.testing.assert_array_equal(first.rgb, again.rgb)
    np.testing.assert_array_equal(first.depth, again.depth)
    assert np.mean(first.rgb != other.rgb) > 0.5


def test_heldout_shares_neither_seeds_nor_all_textures():
    train, held = (random_clip(3, *SHAPE, split=s, world="room") for s in ("train", "heldout"))
    assert np.mean(train.rgb != held.rgb) > 0.5
    _, names, held_names = texture_library()
    seen = {i for indices in names.values() for i in indices}
    kept = {i for indices in held_names.values() for i in indices} - seen
    assert len(kept) >= 15
    used = make_world("room", 3, heldout=True).materials[:, 0].astype(int)
    assert kept & set(used)
    for name in NAMES:
        for seed in range(3):
            used = make_world(name, seed).materials[:, 0].astype(int)
            assert not kept & set(used)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", NAMES)
def test_paths_stay_out_of_things(name, style):
    world = make_world(name, 4)
    path = make_path(world, 4, 3.0, style)
    times = np.linspace(0, 3.0, 31)
    assert world.clearance(path.evaluate(times)[:, :3], times).min() > 0.0


def test_path_derivatives_are_those_of_the_path():
    path = make_path(make_world("clutter", 1), 1, 4.0, "drone")
    t, h = np.linspace(0.5, 3.5, 20), 1e-4
    places = [path.evaluate(t + k * h)[:, :3] for k in (-1, 0, 1)]
    np.testing.assert_allclose((places[2] - places[0]) / (2 * h), path.velocity(t), atol=1e-5)
    np.testing.assert_allclose(
        (places[2] - 2 * places[1] + places[0]) / h**2, path.acceleration(t), atol=1e-3
    )
    before, now, after = (path.poses(t + k * h)[:, :3, :3] for k in (-1, 0, 1))
    spin = now.transpose(0, 2, 1) @ (after - before) / (2 * h)
    rate = np.stack([spin[:, 2, 1], spin[:, 0, 2], spin[:, 1, 0]], -1)
    np.testing.assert_allclose(rate, path.angular_rate(t), atol=1e-5)


def test_exposure_follows_the_light_and_noise_is_new_each_frame():
    sensor = Sensor(shot=0.02, read=0.01, lag=0.5)
    exposer = Exposer(sensor, 40, 60, 0)
    dark = np.full((40, 60, 3), 0.02, np.float32)
    frames = [exposer.expose(dark * g, 0.0).astype(float) for g in (1, 1, 16, *[16] * 12)]
    assert np.std(frames[0] - frames[1]) > 1.0
    assert frames[2].mean() > frames[1].mean() + 30
    assert frames[-1].mean() == pytest.approx(frames[1].mean(), abs=4)


def test_motion_blur_smears_along_the_motion():
    image = np.zeros((41, 61, 3), np.float32)
    image[20, 30] = 1.0
    sharp = Exposer(Sensor(), 41, 61, 0).expose(image, 0.0, np.array([8.0, 0.0]))
    smeared = Exposer(Sensor(shutter=1.0), 41, 61, 0).expose(image, 0.0, np.array([8.0, 0.0]))
    floor = int(smeared.min())
    assert ((sharp[..., 0] > floor).sum(1) > 0).sum() == 1
    assert (smeared[20, :, 0] > floor).sum() >= 5
    assert (smeared[..., 0] > floor).any(axis=1).sum() <= 3


@pytest.mark.parametrize(
    ("args", "match"),
    [
        ({"split": "test"}, "train or heldout.*test"),
        ({"world": "moon"}, "world: expected.*moon"),
        ({"frames": 0}, "clip: expected.*got 0"),
        ({"height": 4}, "clip: expected.*64x4"),
        ({"seed": -1}, "seed: expected 0 or more, got -1"),
    ],
)
def test_bad_arguments_are_named(args, match):
    with pytest.raises(ConfigError, match=match):
        random_clip(**{"seed": 0, "frames": 1, "height": 48, "width": 64, **args})


def test_a_world_of_a_negative_seed_is_refused():
    with pytest.raises(ConfigError, match="seed: expected 0 or more, got -2"):
        make_world("room", -2)


@pytest.mark.skipif(not hasattr(np.random.Generator, "spawn"), reason="NumPy has it since 1.25")
def test_a_stream_of_its_own_is_numpys():
    ours, theirs = (np.random.default_rng((3, 1)) for _ in range(2))
    for _ in range(2):
        assert spawned(ours).random() == theirs.spawn(1)[0].random()
        assert ours.random() == theirs.random()
