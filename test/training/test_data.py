# SPDX-License-Identifier: Apache-2.0
"""Clips: simulation, cache, data-set layouts, augmentation, data words of the command."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from video_depth_ros.errors import ConfigError, InputError, RecordingError
from video_depth_ros.training.augment import AugmentConfig, augment
from video_depth_ros.training.batches import BatchConfig, BatchSource, _positions
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


def test_stages_with_clips_of_other_lengths_share_a_cache(tmp_path, monkeypatch):
    def rendered(self, index):
        return Clip(np.stack([_frame(7, (32, 48))] * self.frames), _ramp(self.frames))

    monkeypatch.setattr(SimulatedClips, "clip", rendered)
    for frames in (5, 9):  # as `latent` and `pixel` of the documented sequence
        config = BatchConfig(image_share=0.0, frames=frames, heights=(32,), widths=(48,))
        data = parse(["simulated"], frames, 4, 1, tmp_path)
        assert data.batches(config, 0)[0].rgb.shape[:2] == (4, frames)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["videos_5", "videos_9"]


def test_clips_that_are_too_short_are_a_named_error(tmp_path):
    class Short:  # promises more than it holds
        frames = 9

        def __len__(self):
            return 1

        def clip(self, index):
            return Clip(np.stack([_frame(7, (32, 48))] * 5), _ramp(5))

    config = BatchConfig(image_share=0.0, frames=9, heights=(32,), widths=(48,))
    for source, said in (
        (Short(), "got 5 in clip 0"),
        (CachedClips(Short(), tmp_path), "--cache"),
    ):
        with pytest.raises(RecordingError, match=said):
            BatchSource((source,), (1.0,), config, 0)[0]


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


def test_no_clip_jumps_over_a_missing_file(tmp_path):
    frames = tmp_path / "Scene01" / "clone" / "frames"
    for i in range(10):
        if i != 6:  # an image
            _write(frames / "rgb" / "Camera_0" / f"rgb_{i:05d}.jpg", _frame(10 * i))
        if i not in (2, 9):  # depth
            depth = np.full((12, 16), 100 * (i + 1), np.uint16)
            _write(frames / "depth" / "Camera_0" / f"depth_{i:05d}.png", depth)
    source = vkitti2(tmp_path, 2)
    found = [np.rint(source.clip(k).depth[:, 0, 0] - 1).tolist() for k in range(len(source))]
    assert found == [[0, 1], [3, 4], [7, 8]]
    for i in (1, 3, 5, 7, 9):  # every second frame is a sequence too, at half the rate
        (frames / "rgb" / "Camera_0" / f"rgb_{i:05d}.jpg").unlink()
    _write(frames / "rgb" / "Camera_0" / "rgb_00006.jpg", _frame(60))
    source = vkitti2(tmp_path, 2)
    found = [np.rint(source.clip(k).depth[:, 0, 0] - 1).tolist() for k in range(len(source))]
    assert found == [[4, 6]]


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
    depth = source.clip(0).depth
    np.testing.assert_array_equal(depth, planar_depth(np.full((12, 16), 3.0, np.float32))[None])
    assert (depth < 3.0).all()
    path = geometry / "frame.0000.depth_meters.hdf5"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(RecordingError, match="Hypersim distance"):
        source.clip(0)


def test_hypersim_scenes_have_cameras_of_their_own(tmp_path):
    h5py = pytest.importorskip("h5py", reason="Hypersim is stored as HDF5")
    shifted = np.array([[0.8, 0.01, 0.05], [0.0, 0.6, -0.1], [0.02, 0.03, -1.0]])
    names = [f"M_cam_from_uv_{i}{j}" for i in range(3) for j in range(3)]
    table = tmp_path / "metadata_camera_parameters.csv"
    row = ",".join(["ai_001_001", *map(str, shifted.ravel())])
    table.write_text(f"{','.join(['scene_name', *names])}\n{row}\n")
    u, v = np.meshgrid((np.arange(16) + 0.5) / 8 - 1, 1 - (np.arange(12) + 0.5) / 6)
    rays = np.stack([u, v, np.ones_like(u)], axis=2) @ shifted.T
    wall = rays * (3.0 / -rays[..., 2:])  # points of the plane 3 m ahead; z points backward
    for scene in ("ai_001_001", "ai_001_002"):
        images = tmp_path / scene / "images"
        _write(images / "scene_cam_00_final_preview" / "frame.0000.tonemap.jpg", _frame(9))
        geometry = images / "scene_cam_00_geometry_hdf5"
        geometry.mkdir(parents=True)
        with h5py.File(geometry / "frame.0000.depth_meters.hdf5", "w") as file:
            file["dataset"] = np.linalg.norm(wall, axis=2).astype(np.float32)
    source = hypersim(tmp_path, 1)
    np.testing.assert_allclose(source.clip(0).depth, 3.0, rtol=1e-5)
    assert np.abs(source.clip(1).depth - 3.0).max() > 0.1  # not in the table
    table.write_text("scene_name\nai_001_001\n")
    with pytest.raises(RecordingError, match="expected Hypersim's cameras"):
        hypersim(tmp_path, 1)


def test_planar_depth_of_a_wall():
    # points of the plane Z = 4 seen by a camera of 1024 x 768 have distance 4 / cos
    v, u = np.mgrid[0:768, 0:1024]
    x, y = (u + 0.5 - 512) / 886.81, (v + 0.5 - 384) / 886.81
    distance = (4.0 * np.sqrt(x**2 + y**2 + 1)).astype(np.float32)
    np.testing.assert_allclose(planar_depth(distance), 4.0, rtol=1e-5)


def test_data_words(tmp_path):
    sources, shares, videos = parse(["simulated"], frames=9, images=30, videos=10, cache=tmp_path)
    assert [s.frames for s in sources] == [1, 9]
    assert shares == videos == pytest.approx([30 / 120, 90 / 120])
    save_clip(tmp_path / "mine" / "clip_000003.npz", Clip(_frame(1)[None], np.ones((1, 12, 16))))
    mine = f"cache:{tmp_path / 'mine'}"
    sources, shares, videos = parse([f"{mine}@2.5"], 9, 1, 1, None)
    assert shares == videos == [2.5] and len(sources[0]) == 1
    for word, error in (
        ("kitti:/data", ConfigError),
        ("simulated@no", ConfigError),
        ("simulated@0", ConfigError),
        ("simulated@", ConfigError),
        ("simulated@0,0", ConfigError),
        ("simulated@1,2,3", ConfigError),
        ("simulated@1,-2", ConfigError),
        ("simulated@nan,1", ConfigError),
        (f"tartanair:{tmp_path}", RecordingError),
        (f"cache:{tmp_path}", RecordingError),
    ):
        with pytest.raises(error):
            parse([word], 9, 1, 1, None)
    with pytest.raises(ConfigError):
        parse([], 9, 1, 1, None)


def test_shares_of_images_and_videos_apart(tmp_path):
    for name, frames in (("stills", 1), ("both", 5), ("films", 5)):
        made = Clip(np.stack([_frame(len(name), (32, 48))] * frames), _ramp(frames))
        save_clip(tmp_path / name / "clip_000000.npz", made)
    words = [f"cache:{tmp_path}/{w}" for w in ("stills@9,0", "both@1,10", "films@0,40")]
    data = parse(words, 5, 1, 1, None)
    assert (data.shares, data.video_shares) == ([9.0, 1.0, 0.0], [0.0, 10.0, 40.0])
    plain = BatchConfig(
        images=200, videos=200, frames=5, heights=(32,), widths=(48,), augment=PLAIN
    )
    counted = {}
    for share in (1.0, 0.0):
        config = dataclasses.replace(plain, image_share=share)
        rgb = data.batches(config, seed=1)[0].rgb
        counted[share] = [int((rgb[:, 0, 0, 0, 0] == n).sum()) for n in (6, 4, 5)]
    assert counted[1.0][2] == 0 and counted[1.0][0] > 6 * counted[1.0][1] > 0
    assert counted[0.0][0] == 0 and counted[0.0][2] > 2 * counted[0.0][1] > 0
    simulated = parse(["simulated@1,3"], 5, 30, 10, None)
    assert simulated.video_shares == pytest.approx([3 * s for s in simulated.shares])
    with pytest.raises(ConfigError, match="draw images from"):
        parse(words[2:], 5, 1, 1, None).batches(BatchConfig(frames=5), seed=1)
    with pytest.raises(ConfigError, match="clips of 5 frames, got at most 0"):
        parse(words[:1], 5, 1, 1, None).batches(BatchConfig(frames=5), seed=1)


def test_half_of_the_clips_are_played_backwards_unless_switched_off():
    class Counted:
        frames = 5

        def __len__(self):
            return 1

        def clip(self, index):
            return Clip(np.stack([_frame(20 * t, (32, 48)) for t in range(5)]), _ramp(5))

    plain = BatchConfig(
        image_share=0.0, videos=40, frames=5, heights=(32,), widths=(48,), augment=PLAIN
    )
    forward = dataclasses.replace(plain, augment=dataclasses.replace(PLAIN, reverse=False))
    first = []
    for config in (plain, forward):
        batch = BatchSource((Counted(),), (1.0,), config, 3)[0]
        first.append(batch.rgb[:, 0, 0, 0, 0])
    assert set(first[0].tolist()) == {0, 80} and 10 < int((first[0] == 80).sum()) < 30
    assert set(first[1].tolist()) == {0}


def test_the_switch_for_backwards_leaves_the_draws_as_they_are():
    for seed in range(8):
        ends = []
        for reverse in (True, False):
            rng = np.random.default_rng(seed)
            config = BatchConfig(frames=5, stride=2, augment=AugmentConfig(reverse=reverse))
            ends.append((sorted(_positions(13, 5, config, rng)), rng.random()))
        assert ends[0] == ends[1]
        rng = np.random.default_rng(seed)  # as batches have always been drawn
        step = int(rng.integers(1, 3))
        start = int(rng.integers(13 - 4 * step))
        index = [start + step * k for k in range(5)]
        index = index[::-1] if rng.random() < 0.5 else index
        config = BatchConfig(frames=5, stride=2)
        assert _positions(13, 5, config, np.random.default_rng(seed)) == index


def test_an_image_from_a_run_reads_one_frame_and_the_batch_is_the_same(tmp_path):
    root = tmp_path / "office" / "Easy" / "P000"
    (root / "depth_left").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(9):
        _write(
            root / "image_left" / f"{i:06d}_left.png", rng.integers(0, 255, (32, 48, 3), np.uint8)
        )
        np.save(root / "depth_left" / f"{i:06d}_left_depth.npy", rng.uniform(1, 9, (32, 48)))
    whole = tartanair(tmp_path, 9)
    read = []

    def read_depth(path):
        read.append(path)
        return whole.read_depth(path)

    counting = dataclasses.replace(whole, read_depth=read_depth)

    class Whole:  # without part()
        frames, clip, __len__ = 9, staticmethod(whole.clip), lambda self: len(whole)

    for share, count in ((1.0, 1), (0.0, 5)):
        config = BatchConfig(
            image_share=share, images=1, videos=1, frames=5, stride=2, heights=(32,), widths=(48,)
        )
        a = BatchSource((counting,), (1.0,), config, 3)[0]
        b = BatchSource((Whole(),), (1.0,), config, 3)[0]
        assert len(read) == count
        read.clear()
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    with pytest.raises(RecordingError, match=r"depth \[12, 16\]"):
        np.save(root / "depth_left" / "000000_left_depth.npy", np.ones((3, 4)))
        _write(root / "image_left" / "000000_left.png", _frame(1))
        tartanair(tmp_path, 9).clip(0)


def test_damaged_files_are_named_outcomes(tmp_path):
    path = tmp_path / "cache" / "clip_000000.npz"
    save_clip(path, Clip(np.stack([_frame(1)] * 3), np.ones((3, 12, 16), np.float32)))
    whole = path.read_bytes()
    for data in (b"", whole[:100], whole[:-30], b"PK" + bytes(50), np.float32(1).tobytes()):
        path.write_bytes(data)
        with pytest.raises(InputError, match=r"clip_000000.npz.*delete the file"):
            load_clip(path)
    with path.open("wb") as file:
        np.savez(file, rgb=np.zeros((2, 4, 4, 3), np.uint8), disparity=np.zeros((3, 4, 4)))
    with pytest.raises(InputError, match=r"disparity \[3, 4, 4\]"):
        load_clip(path)
    path.write_bytes(whole)
    short = path.with_name("clip_000001.npz")
    save_clip(short, Clip(_frame(1)[None], np.ones((1, 12, 16), np.float32)))
    source = saved(path.parent)
    assert source.frames == 3 and len(source.clip(0).rgb) == 3
    with pytest.raises(RecordingError, match=r"got 1 in .*clip_000001"):
        source.clip(1)

    root = tmp_path / "office" / "Easy" / "P000"
    (root / "depth_left").mkdir(parents=True)
    _write(root / "image_left" / "000000_left.png", _frame(0))
    depth = root / "depth_left" / "000000_left_depth.npy"
    for data in (b"", b"PK\x03\x04" + bytes(40), b"no depth"):
        depth.write_bytes(data)
        with pytest.raises(RecordingError, match="000000_left_depth"):
            tartanair(tmp_path, 1).clip(0)


def test_vkitti_depth_of_eight_bits_is_refused(tmp_path):
    frames = tmp_path / "Scene01" / "clone" / "frames"
    _write(frames / "rgb" / "Camera_0" / "rgb_00000.jpg", _frame(100))
    _write(frames / "depth" / "Camera_0" / "depth_00000.png", np.full((12, 16), 9, np.uint8))
    with pytest.raises(RecordingError, match=r"16 bit.*uint8"):
        vkitti2(tmp_path, 1).clip(0)


def _ramp(frames):
    depth = 1.0 + np.arange(48, dtype=np.float32) / 10
    return np.broadcast_to(depth, (frames, 32, 48)).copy()
