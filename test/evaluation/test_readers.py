# SPDX-License-Identifier: Apache-2.0
"""Data-set layouts, made here in small, and how recordings are found under a root."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest

from video_depth_ros.bags import messages as m
from video_depth_ros.bags.formats.base import FIRST_STAMP_NS, SourceOptions
from video_depth_ros.bags.importer import import_sequence
from video_depth_ros.bags.sequences import open_sequence
from video_depth_ros.bags.writer import BagWriter
from video_depth_ros.camera import Camera
from video_depth_ros.errors import ConfigError, RecordingError
from video_depth_ros.evaluation.readers.bonn import Bonn
from video_depth_ros.evaluation.readers.recording import BagTopics, RosRecording
from video_depth_ros.evaluation.readers.simulated import Simulated
from video_depth_ros.evaluation.readers.sintel import read_cam, read_dpt
from video_depth_ros.evaluation.videos import Video, find_videos, simulated_videos

from .layouts import POSE, bonn, bonn_cut, depth_png, image, nyuv2, scannet, sintel

T = TypeVar("T")


def have(value: T | None) -> T:
    """What a reader must give."""
    assert value is not None
    return value


@pytest.fixture
def lock(monkeypatch):
    """Takes every right to a folder; where nothing stops this process, as root, by imitation."""
    locked: list[Path] = []
    looks = {name: getattr(Path, name) for name in ("iterdir", "stat")}

    def refusing(name):
        def look(path, *args, **kwargs):
            inside = [f for f in locked if f in path.parents or (f == path and name != "stat")]
            if inside:
                raise PermissionError(13, "Permission denied", str(path))
            return looks[name](path, *args, **kwargs)

        return look

    def take(folder):
        folder.chmod(0)
        if os.access(folder, os.R_OK):
            locked.append(folder)
            for name in looks:
                monkeypatch.setattr(Path, name, refusing(name))

    return take


@pytest.mark.parametrize("format_name", [None, "scannet", "images"])
def test_a_folder_that_may_not_be_read_is_no_recording(tmp_path, lock, format_name):
    locked = tmp_path / "lost+found"
    locked.mkdir()
    if format_name == "images":
        image(tmp_path / "walk" / "1.png")
    else:
        scannet(tmp_path, "walk")
    lock(locked)
    assert [video.name for video in find_videos(tmp_path, format_name)] == ["walk"]
    with pytest.raises(
        RecordingError, match=r"lost\+found: expected a recording that may be read"
    ):
        list(find_videos(locked, format_name))
    failed = []
    if format_name != "images":
        lock(tmp_path / "walk" / "color")
        list(find_videos(tmp_path, "scannet", failed=lambda *said: failed.append(said)))
        assert failed[0][0] == "walk" and "ls -ld" in str(failed[0][1])


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


def test_of_a_sintel_scene_in_both_passes_the_final_one_counts(tmp_path):
    clean = sintel(tmp_path).parents[1] / "clean"
    shutil.copytree(tmp_path / "training" / "final", clean)
    assert [v.name for v in find_videos(tmp_path, "sintel")] == ["training/final/alley_1"]
    assert [v.name for v in find_videos(clean, "sintel")] == ["alley_1"]
    shutil.rmtree(tmp_path / "training" / "final")
    assert [v.name for v in find_videos(tmp_path, "sintel")] == ["training/clean/alley_1"]


def test_bonn_sequence_has_its_own_camera_and_no_camera_poses(tmp_path):
    bonn(tmp_path)
    (video,) = find_videos(tmp_path, "bonn")
    frames = list(video.frames())
    assert len(frames) == 2
    assert all(f.T_world_camera is None for f in frames)
    assert have(frames[0].depth)[5, 5] == 2.0
    assert have(video.camera).fx == pytest.approx(542.822841)
    assert have(video.camera).distorted


def test_depth_scale_is_of_tums_layout_alone(tmp_path):
    folder, options = bonn(tmp_path, "office"), SourceOptions(depth_scale=1000.0)
    (video,) = find_videos(folder, "tum_rgbd", options=options)
    assert have(next(video.frames()).depth)[5, 5] == 10.0
    (published,) = find_videos(folder, "bonn")
    assert isinstance(published.sequence, Bonn) and not published.sequence.assumed
    with pytest.raises(RecordingError, match=r"\(bonn\): expected --depth-scale for"):
        list(find_videos(folder, "bonn", options=options))


def test_bonn_cut_of_110_frames(tmp_path):
    folder = bonn_cut(tmp_path)
    (video,) = find_videos(folder, "bonn")
    frames = list(video.frames())
    assert [f.stamp_ns for f in frames] == [1548266505000000000, 1548266505500000000]
    assert have(frames[0].depth)[5, 5] == 1.0
    (folder / "depth_110" / "1548266505.00000.png").unlink()
    (video,) = find_videos(folder, "bonn")  # goes by time, not by place
    assert [f.depth is not None for f in video.frames()] == [False, True]
    (folder / "depth_110" / "1548266505.50000.png").unlink()
    with pytest.raises(RecordingError, match="expected images in rgb_110 and depth_110, got 2"):
        list(find_videos(folder, "bonn"))


def test_frames_of_a_bonn_cut_go_by_time_whatever_zeros_their_names_leave_out(tmp_path):
    folder = tmp_path / "rgbd_bonn_balloon"
    colour = ("1548266633.46123", "1548266633.49523", "1548266633.5283", "1548266633.56217")
    depth = ("1548266633.4612", "1548266633.49523", "1548266633.52834", "1548266633.562")
    for metres, (rgb_stamp, depth_stamp) in enumerate(zip(colour, depth, strict=True), start=1):
        image(folder / "rgb_110" / f"{rgb_stamp}.png", (64, 48))
        depth_png(folder / "depth_110" / f"{depth_stamp}.png", 5000 * metres, (64, 48))
    (video,) = find_videos(folder, "bonn")
    frames = list(video.frames())
    assert [have(f.depth)[5, 5] for f in frames] == [1.0, 2.0, 3.0, 4.0]
    stamps = [f.stamp_ns for f in frames]
    assert stamps == sorted(stamps) and stamps[2] == 1548266633528300000


def test_nyuv2_images_are_videos_of_one_frame(tmp_path):
    nyuv2(tmp_path)
    videos = list(find_videos(tmp_path, "nyuv2"))
    assert [v.name for v in videos] == ["bathroom/rgb_0045.png", "office/rgb_00001.jpg"]
    assert [have(next(v.frames()).depth)[300, 300] for v in videos] == [2.0, 3.0]
    valid = videos[0].protocol.valid(have(next(videos[0].frames()).depth))
    rows, columns = np.flatnonzero(valid.any(axis=1)), np.flatnonzero(valid.any(axis=0))
    assert (rows[0], rows[-1], columns[0], columns[-1]) == (45, 470, 41, 600)


def test_bag_gives_images_with_the_depth_of_their_stamp(tmp_path):
    folder = bonn(tmp_path, "office")
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


def truth_of(video: Video) -> str | None:
    assert isinstance(video.sequence, RosRecording)
    return video.sequence.truth


def rgbd_bag(path: Path, delay_ms: int = 3) -> Path:
    """Two cameras; the left one's depth comes later than its image, the right one has none."""
    with BagWriter(path) as bag:
        for topic in ("/left/image", "/right/image", "/left/depth", "/other/depth"):
            bag.add_topic(topic, m.IMAGE)
        for k in range(4):
            at = FIRST_STAMP_NS + k * 33_000_000
            rgb = np.full((24, 32, 3), 50 * k, np.uint8)
            bag.write("/left/image", at, m.image(at, "left", rgb))
            bag.write("/right/image", at, m.image(at, "right", rgb + 1))
            depth = np.full((24, 32), 1.0 + k, np.float32)
            late = at + delay_ms * 1_000_000
            if k != 2:  # a camera's driver leaves one out
                bag.write("/left/depth", late, m.image(late, "left", depth))
            bag.write("/other/depth", at, m.image(at, "elsewhere", depth))
    return path


def test_depth_of_a_bag_is_the_nearest_of_the_images_own_frame(tmp_path):
    bag = rgbd_bag(tmp_path / "rgbd.mcap")
    with pytest.raises(RecordingError, match="--image-topic"):
        list(find_videos(bag, None))
    (video,) = find_videos(bag, None, topics=BagTopics(image="/left/image"))
    assert truth_of(video) == "/left/depth"
    frames = list(video.frames())
    assert [f.rgb[0, 0, 0] for f in frames] == [0, 50, 100, 150]
    assert [None if f.depth is None else f.depth[0, 0] for f in frames] == [1.0, 2.0, None, 4.0]
    (right,) = find_videos(bag, None, topics=BagTopics(image="/right/image"))
    assert truth_of(right) is None
    topics = BagTopics("/right/image", depth="/other/depth")
    (told,) = find_videos(bag, None, topics=topics)
    assert [have(f.depth)[0, 0] for f in told.frames()] == [1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize(
    ("width", "height", "model", "seen"),
    [(64, 48, "plumb_bob", 32), (64, 64, "plumb_bob", None), (64, 48, "mystery", None)],
)
def test_camera_info_of_another_size_is_brought_to_the_images_or_left_out(
    tmp_path, caplog, width, height, model, seen
):
    bag = tmp_path / "in.mcap"
    with BagWriter(bag) as writer:
        writer.add_topic("/camera/image", m.IMAGE)
        writer.add_topic("/camera/camera_info", m.CAMERA_INFO)
        info = m.camera_info(FIRST_STAMP_NS, "c", Camera(width, height, 50.0, 50.0, 31.5, 23.5))
        info.distortion_model = model
        info.d[:2] = 0.1, -0.05
        writer.write("/camera/camera_info", FIRST_STAMP_NS, info)
        rgb = np.zeros((24, 32, 3), np.uint8)
        writer.write("/camera/image", FIRST_STAMP_NS, m.image(FIRST_STAMP_NS, "c", rgb))
    (video,) = find_videos(bag, None)
    assert (None if video.camera is None else video.camera.width) == seen
    assert ("no camera from /camera/camera_info" in caplog.text) == (seen is None)


def test_depth_too_far_in_time_is_no_truth(tmp_path):
    bag = rgbd_bag(tmp_path / "late.mcap", delay_ms=-60)
    (video,) = find_videos(bag, None, topics=BagTopics("/left/image", depth="/left/depth"))
    # k * 33 - 60 ms: of 0, 1 and 3 the nearest to an image are 33 - 60 = -27 and 99 - 60 = 39
    found = [None if f.depth is None else f.depth[0, 0] for f in video.frames()]
    assert found == [None, 4.0, None, None]


def test_topics_are_for_bags(tmp_path):
    with pytest.raises(ConfigError, match="no bag"):
        list(find_videos(bonn(tmp_path), None, topics=BagTopics("/x")))


def test_sequences_of_the_import_formats_are_found_under_a_root(tmp_path):
    bonn(tmp_path / "set", "a")
    bonn(tmp_path / "set" / "deeper", "b")
    names = [v.name for v in find_videos(tmp_path / "set", "tum_rgbd", max_frames=1)]
    assert names == ["a", "deeper/b"]
    (first, _) = find_videos(tmp_path / "set", "tum_rgbd", max_frames=1)
    assert (first.frame_count, len(list(first.frames()))) == (1, 1)


def test_kitti_protocol_crops_image_truth_and_camera_alike(tmp_path):
    folder = bonn(tmp_path, "office")
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


def test_an_image_without_depth_has_no_truth(tmp_path):
    scan = scannet(tmp_path)
    (scan / "depth" / "2.png").unlink()
    (video,) = find_videos(tmp_path, "scannet")
    assert [frame.depth is None for frame in video.frames()] == [False, False, True, False]
    (scan / "depth" / "1.png").write_bytes(b"torn")
    with pytest.raises(RecordingError, match=r"1\.png"):
        list(video.frames())


@pytest.mark.parametrize("root", [True, False])
@pytest.mark.parametrize("make", [scannet, sintel, bonn])
def test_layouts_are_recognised_by_looking(tmp_path, make, root):
    recording = make(tmp_path)
    (video,) = find_videos(tmp_path if root else recording, None)
    assert video.protocol.name == make.__name__


def test_a_folder_of_nyuv2_images_is_recognised(tmp_path):
    nyuv2(tmp_path)
    assert [v.protocol.name for v in find_videos(tmp_path, None)] == ["nyuv2", "nyuv2"]
    (video,) = find_videos(tmp_path / "office", None)
    assert video.name == "rgb_00001.jpg"


def test_a_root_of_several_layouts_must_be_named(tmp_path):
    scannet(tmp_path)
    bonn(tmp_path)
    with pytest.raises(RecordingError, match=r"bonn, scannet.*--format"):
        list(find_videos(tmp_path, None))


def test_depth_of_another_resolution_is_brought_to_the_image(tmp_path):
    folder = bonn(tmp_path)
    for k in range(2):
        depth_png(folder / "depth" / f"{k}.png", 10_000, (320, 240))
    (video,) = find_videos(folder, "bonn")
    depth = have(next(video.frames()).depth)
    assert depth.shape == (480, 640)
    assert np.isnan(depth[:2, :2]).all() and np.isnan(depth).sum() == 4  # the unknown pixel
    assert (depth[2:] == 2.0).all()
    depth_png(folder / "depth" / "0.png", 10_000, (320, 200))
    with pytest.raises(RecordingError, match=r"640x480 px, its true depth 320x200"):
        next(video.frames())


def test_published_cameras_follow_the_resolution(tmp_path):
    folder = bonn(tmp_path)
    for k in range(2):
        image(folder / "rgb" / f"{k}.png", (320, 240))
        depth_png(folder / "depth" / f"{k}.png", 10_000, (320, 240))
    (video,) = find_videos(folder, "bonn")
    camera = have(video.camera)
    assert (camera.width, camera.height) == (320, 240)
    assert camera.fx == pytest.approx(542.822841 / 2)
    (cut,) = find_videos(bonn_cut(tmp_path / "cut", (320, 240)), "bonn")
    assert cut.camera == camera


def test_a_scene_is_found_from_within_its_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(sintel(tmp_path))
    (video,) = find_videos(Path(), "sintel")
    assert (video.name, len(list(video.frames()))) == ("alley_1", 2)


def test_half_a_cut_is_named(tmp_path):
    folder = bonn_cut(tmp_path)
    shutil.rmtree(folder / "depth_110")
    with pytest.raises(RecordingError, match="depth_110 beside"):
        list(find_videos(folder, "bonn"))
