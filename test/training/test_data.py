# SPDX-License-Identifier: Apache-2.0
"""Clips: simulation, cache, data-set layouts, augmentation, data words of the command."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from video_depth_ros.errors import ConfigError, InputError, RecordingError
from video_depth_ros.training.augment import AugmentConfig, augment
from video_depth_ros.training.clips import (
    CachedClips,
    Clip,
    SimulatedClips,
    load_clip,
    save_clip,
)
from video_depth_ros.training.datasets import hypersim, planar_depth, tartanair, vkitti2
from video_depth_ros.training.sources import parse, saved

PLAIN = AugmentConfig(flip=False, crop=1.0, aspect=1.0, roll=0.0, colour=0.0)


def _frame(value, size=(12, 16)):
    return np.full((*size, 3), value, np.uint8)


def test_simulated_clips_are_a_function_of_the_index_and_splits_differ():
    train = SimulatedClips(10, 2, ((24, 32), (16, 48)))
    a, b = train.clip(1), train.clip(11)
    assert a.rgb.shape == (2, 16, 48, 3) and a.rgb.dtype == np.uint8
    assert a.depth.shape == (2, 16, 48) and a.depth.dtype == np.float32
    np.testing.assert_array_equal(a.rgb, b.rgb)  # the index wraps around
    assert train.clip(2).rgb.shape == (2, 24, 32, 3)
    held = SimulatedClips(10, 2, ((24, 32), (16, 48)), split="heldout").clip(1)
    assert not np.array_equal(held.depth, a.depth)


def test_cache_keeps_sky_unknown_and_depth(tmp_path):
    depth = np.array([[[0.5, 7.0, np.inf, np.nan]]], np.float32)
    save_clip(tmp_path / "clip_000000.npz", Clip(np.zeros((1, 1, 4, 3), np.uint8), depth))
    read = load_clip(tmp_path / "clip_000000.npz").depth
    np.testing.assert_allclose(read[0, 0, :2], depth[0, 0, :2], rtol=1e-3)
    assert np.isposinf(read[0, 0, 2]) and np.isnan(read[0, 0, 3])
    assert [path.name for path in tmp_path.iterdir()] == ["clip_000000.npz"]


def test_cache_renders_once(tmp_path):
    class Counting:
        frames = 1

        def __init__(self):
            self.made = []

        def __len__(self):
            return 3

        def clip(self, index):
            self.made.append(index)
            return Clip(_frame(index)[None], np.ones((1, 12, 16), np.float32))

    source = Counting()
    cached = CachedClips(source, tmp_path)
    for index in (0, 1, 0, 4, 1):
        assert cached.clip(index).rgb[0, 0, 0, 0] == index % 3
    assert source.made == [0, 1]
    cached.path(1).write_bytes(b"not a clip")
    with pytest.raises(InputError, match="delete the file"):
        cached.clip(1)
    assert len(saved(tmp_path)) == 2


def test_plain_view_is_the_image_itself():
    rng = np.random.default_rng(0)
    clip = Clip(
        rng.integers(0, 255, (2, 12, 16, 3), dtype=np.uint8),
        rng.uniform(1, 5, (2, 12, 16)).astype(np.float32),
    )
    same = augment(clip, (12, 16), PLAIN, rng)
    np.testing.assert_array_equal(same.rgb, clip.rgb)
    np.testing.assert_array_equal(same.depth, clip.depth)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_a_view_moves_colour_and_depth_alike(seed):
    # depth is written into the colours, so that both must land in the same place
    v, u = np.mgrid[0:48, 0:64]
    depth = (1.0 + u / 64 + v / 48).astype(np.float32)
    rgb = np.repeat(((depth - 1) * 100).astype(np.uint8)[..., None], 3, axis=2)
    config = AugmentConfig(colour=0.0, crop=0.5, roll=30.0)
    view = augment(Clip(rgb[None], depth[None]), (24, 40), config, np.random.default_rng(seed))
    inside = np.isfinite(view.depth[0])
    assert inside.mean() > 0.3
    read = view.rgb[0, ..., 0][inside] / 100.0 + 1.0
    assert np.abs(read - view.depth[0][inside]).max() < 0.06  # a pixel and a grey level


def test_colour_is_the_same_change_for_all_frames_up_to_exposure():
    clip = Clip(np.stack([_frame(90, (24, 32))] * 3), np.ones((3, 24, 32), np.float32))
    view = augment(clip, (24, 32), AugmentConfig(), np.random.default_rng(3))
    means = view.rgb.mean(axis=(1, 2))
    assert np.ptp(means, axis=0).max() < 25
    np.testing.assert_array_equal(view.depth, clip.depth)


def _write(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)


def test_tartanair_layout(tmp_path):
    root = tmp_path / "office" / "Easy" / "P000"
    (root / "depth_left").mkdir(parents=True)
    for i in range(5):
        _write(root / "image_left" / f"{i:06d}_left.png", _frame(i)[..., ::-1])
        np.save(root / "depth_left" / f"{i:06d}_left_depth.npy", np.full((12, 16), 30.0 * (i + 1)))
    source = tartanair(tmp_path, 2)
    assert len(source) == 2 and source.frames == 2  # the fifth frame fills no run
    clip = source.clip(1)
    assert clip.rgb[:, 0, 0, 0].tolist() == [2, 3]
    assert clip.depth[:, 0, 0].tolist() == [50.0, 50.0]  # clamped as DVD does
    assert source.clip(0).depth[0, 0, 0] == 30.0


def test_vkitti_layout(tmp_path):
    frames = tmp_path / "Scene01" / "clone" / "frames"
    for i in range(2):
        _write(frames / "rgb" / "Camera_0" / f"rgb_{i:05d}.jpg", _frame(100))
        depth = np.full((12, 16), 1234, np.uint16)
        depth[0] = 65535  # sky
        _write(frames / "depth" / "Camera_0" / f"depth_{i:05d}.png", depth)
    clip = vkitti2(tmp_path, 2).clip(0)
    assert np.isposinf(clip.depth[:, 0]).all()
    np.testing.assert_allclose(clip.depth[:, 1:], 12.34, rtol=1e-6)


def test_hypersim_distance_becomes_planar_depth(tmp_path):
    h5py = pytest.importorskip("h5py", reason="Hypersim is stored as HDF5")
    scene = tmp_path / "ai_001_001" / "images"
    _write(scene / "scene_cam_00_final_preview" / "frame.0000.tonemap.jpg", _frame(9))
    geometry = scene / "scene_cam_00_geometry_hdf5"
    geometry.mkdir(parents=True)
    with h5py.File(geometry / "frame.0000.depth_meters.hdf5", "w") as file:
        file["dataset"] = np.full((12, 16), 3.0, np.float32)
    source = hypersim(tmp_path, 45)
    assert source.frames == 1
    assert (source.clip(0).depth < 3.0).all()


def test_planar_depth_of_a_wall():
    # points of the plane Z = 4 seen by a camera of 1024 x 768 have distance 4 / cos
    v, u = np.mgrid[0:768, 0:1024]
    x, y = (u + 0.5 - 512) / 886.81, (v + 0.5 - 384) / 886.81
    distance = (4.0 * np.sqrt(x**2 + y**2 + 1)).astype(np.float32)
    np.testing.assert_allclose(planar_depth(distance), 4.0, rtol=1e-5)


def test_data_words(tmp_path):
    sources, shares = parse(["simulated"], frames=9, images=30, videos=10, cache=tmp_path)
    assert [s.frames for s in sources] == [1, 9]
    assert shares == pytest.approx([30 / 120, 90 / 120])
    save_clip(tmp_path / "mine" / "clip_000003.npz", Clip(_frame(1)[None], np.ones((1, 12, 16))))
    sources, shares = parse([f"cache:{tmp_path / 'mine'}@2.5"], 9, 1, 1, None)
    assert shares == [2.5] and len(sources[0]) == 1
    for word, error in (
        ("kitti:/data", ConfigError),
        ("simulated@no", ConfigError),
        ("simulated@0", ConfigError),
        (f"tartanair:{tmp_path}", RecordingError),
        (f"cache:{tmp_path}", RecordingError),
    ):
        with pytest.raises(error):
            parse([word], 9, 1, 1, None)
    with pytest.raises(ConfigError):
        parse([], 9, 1, 1, None)
