# SPDX-License-Identifier: Apache-2.0
"""Data-set layouts, made here in small, and how recordings are found under a root."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import pytest

from video_depth_ros.bags.importer import import_sequence
from video_depth_ros.bags.sequences import open_sequence
from video_depth_ros.errors import ConfigError, RecordingError
from video_depth_ros.evaluation.readers.simulated import Simulated
from video_depth_ros.evaluation.readers.sintel import read_cam, read_dpt
from video_depth_ros.evaluation.videos import find_videos, simulated_videos

from .layouts import POSE, bonn, depth_png, image, nyuv2, scannet, sintel

T = TypeVar("T")


def have(value: T | None) -> T:
    """What a reader must give."""
    assert value is not None
    return value


def test_scannet_scan(tmp_path):
    scannet(tmp_path)
    (video,) = find_videos(tmp_path, "scannet")
    assert (video.name, video.protocol.name, video.frame_count) == ("scene0707_00", "scannet", 4)
    frames = list(video.frames())
    assert [f.stamp_ns - frames[0].stamp_ns for f in frames] == [0, 33333333, 66666667, 333333333]
    assert frames[0].rgb.shape == (48, 64, 3)
    assert frames[0].rgb[5, 5].tolist() == [200, 0, 0]
    assert have(frames[0].depth)[5, 5] == 2.5
    assert np.isnan(have(frames[0].depth)[0, 0])
    np.testing.assert_array_equal(frames[0].T_world_camera, POSE)
    np.testing.assert_array_equal(frames[2].T_world_camera, POSE)
    assert frames[3].T_world_camera is None
    assert (have(video.camera).width, have(video.camera).fx, have(video.camera).cx) == (
        64,
        58.0,
        31.75,
    )


def test_sintel_scene(tmp_path):
    scene = sintel(tmp_path)
    (video,) = find_videos(tmp_path, "sintel")
    assert (video.name, video.frame_count) == ("training/final/alley_1", 2)
    frames = list(video.frames())
    assert have(frames[1].depth)[0, :3].tolist() == [2.0, 3.0, 4.0]
    np.testing.assert_allclose(have(frames[0].T_world_camera), POSE, atol=1e-12)
    assert (have(video.camera).fx, have(video.camera).fy, have(video.camera).cx) == (
        70.0,
        71.0,
        31.0,
    )
    dpt = tmp_path / "training" / "depth" / "alley_1" / "frame_0001.dpt"
    dpt.write_bytes(dpt.read_bytes()[:-4])
    with pytest.raises(RecordingError, match="header"):
        read_dpt(dpt)
    with pytest.raises(RecordingError, match="tag"):
        read_cam(scene / "frame_0001.png")


def test_bonn_sequence_has_its_own_camera_and_no_camera_poses(tmp_path):
    bonn(tmp_path)
    (video,) = find_videos(tmp_path, "bonn")
    frames = list(video.frames())
    assert len(frames) == 2
    assert all(f.T_world_camera is None for f in frames)
    assert have(frames[0].depth)[5, 5] == 2.0
    assert have(video.camera).fx == pytest.approx(542.822841)
    assert have(video.camera).distorted


def test_bonn_cut_of_110_frames(tmp_path):
    folder = tmp_path / "rgbd_bonn_crowd2"
    for stamp in ("1548266505.00000", "1548266505.50000"):
        image(folder / "rgb_110" / f"{stamp}.png", (640, 480))
        depth_png(folder / "depth_110" / f"{stamp}.png", 5000, (640, 480))
    (video,) = find_videos(folder, "bonn")
    frames = list(video.frames())
    assert [f.stamp_ns for f in frames] == [1548266505000000000, 1548266505500000000]
    assert have(frames[0].depth)[5, 5] == 1.0
    (folder / "depth_110" / "1548266505.50000.png").unlink()
    with pytest.raises(RecordingError, match="as many images"):
        list(find_videos(folder, "bonn"))


def test_nyuv2_images_are_videos_of_one_frame(tmp_path):
    nyuv2(tmp_path)
    videos = list(find_videos(tmp_path, "nyuv2"))
    assert [v.name for v in videos] == ["bathroom/rgb_0045.png", "office/rgb_00001.jpg"]
    assert [have(next(v.frames()).depth)[300, 300] for v in videos] == [2.0, 3.0]
    valid = videos[0].protocol.valid(have(next(videos[0].frames()).depth))
    rows, columns = np.flatnonzero(valid.any(axis=1)), np.flatnonzero(valid.any(axis=0))
    assert (rows[0], rows[-1], columns[0], columns[-1]) == (45, 470, 41, 600)


def test_bag_gives_images_with_the_depth_of_their_stamp(tmp_path):
    folder = bonn(tmp_path)
    bag = tmp_path / "tum.mcap"
    import_sequence(open_sequence("tum_rgbd", folder), bag)
    (video,) = find_videos(bag, None)
    direct = list(open_sequence("tum_rgbd", folder).frames())
    read = list(video.frames())
    assert [f.stamp_ns for f in read] == [f.stamp_ns for f in direct]
    for a, b in zip(read, direct, strict=True):
        np.testing.assert_array_equal(a.rgb, b.rgb)
        np.testing.assert_allclose(have(a.depth), have(b.depth), rtol=1e-6)
    assert video.camera == open_sequence("tum_rgbd", folder).camera
    assert video.frame_count == 2


def test_sequences_of_the_import_formats_are_found_under_a_root(tmp_path):
    bonn(tmp_path / "set", "a")
    bonn(tmp_path / "set" / "deeper", "b")
    names = [v.name for v in find_videos(tmp_path / "set", "tum_rgbd", max_frames=1)]
    assert names == ["a", "deeper/b"]
    (first, _) = find_videos(tmp_path / "set", "tum_rgbd", max_frames=1)
    assert (first.frame_count, len(list(first.frames()))) == (1, 1)


def test_kitti_protocol_crops_image_truth_and_camera_alike(tmp_path):
    folder = bonn(tmp_path)
    for k in range(2):
        image(folder / "rgb" / f"{k}.png", (1242, 375), value=k)
        depth_png(folder / "depth" / f"{k}.png", 10_000, (1242, 375))
    whole = have(open_sequence("tum_rgbd", folder).camera)
    (video,) = find_videos(folder, "tum_rgbd", protocol="kitti")
    frame = next(video.frames())
    assert frame.rgb.shape == (352, 1216, 3)
    assert have(frame.depth).shape == (352, 1216)
    assert (have(video.camera).width, have(video.camera).height) == (1216, 352)
    assert (have(video.camera).cx, have(video.camera).cy) == (whole.cx - 13, whole.cy - 23)
    valid = video.protocol.valid(have(frame.depth))
    rows, columns = np.flatnonzero(valid.any(axis=1)), np.flatnonzero(valid.any(axis=0))
    assert (rows[0], rows[-1] + 1) == (int(0.3324324 * 352), int(0.91351351 * 352))
    assert (columns[0], columns[-1] + 1) == (int(0.0359477 * 1216), int(0.96405229 * 1216))


def test_simulated_videos_are_made_once_and_know_no_sky_depth():
    (video,) = simulated_videos(0, 1, 3, 32, 48, "heldout")
    first, second = list(video.frames()), list(video.frames())
    assert len(first) == 3
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.rgb, b.rgb)
    assert first[0].rgb.shape == (32, 48, 3)
    assert not np.isinf(have(first[0].depth)).any()
    assert have(first[0].T_world_camera).shape == (4, 4)
    trained = next(Simulated(0, 3, 32, 48, "train").frames())
    assert (trained.rgb != first[0].rgb).any()


@pytest.mark.parametrize(
    ("name", "format_name", "protocol", "error", "match"),
    [
        ("missing", None, None, RecordingError, "does not exist"),
        (".", "kitty", None, RecordingError, "unknown format"),
        (".", "scannet", None, RecordingError, "no scannet recording"),
        (".", "scannet", "kitty", ConfigError, "unknown protocol"),
        (".", None, None, RecordingError, "--format"),
    ],
)
def test_bad_sources_are_named(tmp_path, name, format_name, protocol, error, match):
    with pytest.raises(error, match=match):
        list(find_videos(tmp_path / name, format_name, protocol))


def test_incomplete_data_sets_are_named(tmp_path):
    scan = scannet(tmp_path)
    (scan / "depth" / "2.png").unlink()
    (video,) = find_videos(tmp_path, "scannet")
    with pytest.raises(RecordingError, match=r"2\.png"):
        list(video.frames())
