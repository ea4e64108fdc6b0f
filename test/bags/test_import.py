# SPDX-License-Identifier: Apache-2.0
"""`video_depth import`: every layout becomes a bag that reads back; bad input leaves nothing."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from video_depth_ros.bags import messages as m
from video_depth_ros.bags.importer import import_sequence
from video_depth_ros.bags.reader import Recording
from video_depth_ros.bags.sequences import FORMATS, open_sequence
from video_depth_ros.bags.static_transforms import StaticTransforms
from video_depth_ros.bags.topics import find_parts
from video_depth_ros.cli import main as command
from video_depth_ros.decoding import decode_compressed, decode_depth, decode_image
from video_depth_ros.errors import RecordingError
from video_depth_ros.point_cloud import read_points

from .layouts import DEPTH_M, MAKERS, make_euroc, make_images, make_kitti, make_tum, make_video
from .samples import layout, picture, shared, wall_scan


@pytest.fixture
def video_depth(monkeypatch):
    """The command with only the subcommand under test."""
    monkeypatch.setattr(command, "COMMANDS", ("import_",))
    return command.main


def images_of(path: Path) -> list:
    with Recording(path) as recording:
        topic = find_parts(recording, imu="none", odometry="none").image
        return [recording.decode(received) for received in recording.messages([topic])]


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_becomes_a_bag(tmp_path, video_depth, name, capsys):
    source = MAKERS[name](tmp_path / "source" if name != "video" else tmp_path)
    out = tmp_path / "out.mcap"
    assert video_depth(["import", str(source), str(out)]) == 0
    assert f"({name})" in capsys.readouterr().out
    reader = open_sequence(name, source)
    frames, messages = list(reader.frames()), images_of(out)
    assert [m.stamp_of(x) for x in messages] == [f.stamp_ns for f in frames]
    for frame, message in zip(frames, messages, strict=True):
        assert message.header.frame_id == "camera_optical_frame"
        np.testing.assert_array_equal(decode_image(*layout(message)), frame.rgb)
    with Recording(out) as recording:
        times = [received.time_ns for received in recording.messages()]
        assert times == sorted(times)
        if reader.camera is not None:
            assert m.camera_of(recording.first("/camera/camera_info")) == reader.camera


def test_kitti_bag_holds_scans_depth_odometry_and_mounting(tmp_path):
    reader = open_sequence("kitti_raw", make_kitti(tmp_path))
    assert reader.T_camera_lidar is not None and reader.T_camera_imu is not None
    counts = import_sequence(reader, tmp_path / "out", storage="sqlite3")
    assert counts == {
        "/tf_static": 1,
        "/camera/camera_info": 3,
        "/camera/image_raw": 3,
        "/ground_truth/depth": 2,
        "/points": 2,
        "/imu/data": 3,
        "/odom": 3,
    }
    with Recording(tmp_path / "out") as recording:
        frames = StaticTransforms.of(recording)
        np.testing.assert_allclose(
            frames.lookup("camera_optical_frame", "lidar"), reader.T_camera_lidar, atol=1e-9
        )
        np.testing.assert_allclose(
            frames.lookup("camera_optical_frame", "imu"), reader.T_camera_imu, atol=1e-9
        )
        scan = recording.first("/points")
        assert scan.header.frame_id == "lidar"
        points = read_points(
            scan.data, scan.fields, scan.height, scan.width, scan.point_step, scan.row_step, 0
        )
        np.testing.assert_allclose(points, wall_scan(), atol=1e-6)
        depth = decode_depth(*layout(recording.first("/ground_truth/depth")))
        truth = next(reader.frames()).depth
        assert truth is not None
        np.testing.assert_array_equal(depth, truth)
        assert find_parts(recording).ground_truth_depth == "/ground_truth/depth"


def test_compressed_keeps_the_files_bytes(tmp_path, video_depth):
    source = make_images(tmp_path / "source")
    out = tmp_path / "out.mcap"
    assert video_depth(["import", str(source), str(out), "--compressed", "--hfov", "60"]) == 0
    messages = images_of(out)
    assert bytes(messages[0].data) == (source / "shot1.png").read_bytes()
    assert messages[0].format == "png"
    np.testing.assert_array_equal(decode_compressed(messages[2].data, "png"), picture(10))
    scans = tmp_path / "scans"
    scans.mkdir()
    assert cv2.imwrite(str(scans / "a.bmp"), picture(3)[..., ::-1])  # not what a topic carries
    import_sequence(open_sequence(None, scans), tmp_path / "scans.mcap", compressed=True)
    message = images_of(tmp_path / "scans.mcap")[0]
    assert message.format.startswith("jpeg") and bytes(message.data[:2]) == b"\xff\xd8"
    video = make_video(tmp_path)
    import_sequence(open_sequence(None, video), tmp_path / "video.mcap", compressed=True)
    seen = decode_compressed(images_of(tmp_path / "video.mcap")[0].data, "jpeg")
    first = next(open_sequence(None, video).frames()).rgb
    assert np.abs(seen.astype(int) - first).mean() < 3.0


def test_grey_sources_stay_grey_and_true_poses_can_be_odometry(tmp_path, video_depth):
    source, out = make_euroc(tmp_path / "source"), tmp_path / "out.mcap"
    assert video_depth(["import", str(source), str(out), "--poses-as-odometry"]) == 0
    assert images_of(out)[0].encoding == "mono8"
    with Recording(out) as recording:
        odom = recording.first("/odom")
        assert (odom.header.frame_id, odom.child_frame_id) == ("odom", "base_link")
        T_camera_base = StaticTransforms.of(recording).lookup("camera_optical_frame", "base_link")
        expected = open_sequence("euroc", source).T_camera_base
        np.testing.assert_allclose(T_camera_base, expected, atol=1e-9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "kitti", "{source}", "{out}"], "unknown format 'kitti'; expected one of"),
        (["{source}/nothing", "{out}"], "does not exist"),
        (["--format", "euroc", "{source}", "{out}"], "not in the EuRoC layout"),
        (["{source}", "{out}", "--camera", "500,500"], "expected FX,FY,CX,CY"),
        (["{source}", "{out}", "--camera=-1,500,3,4"], "positive focal lengths"),
        (["{source}", "{out}", "--hfov", "190"], "field of view"),
        (["{source}", "{out}", "--hfov", "70", "--camera", "9,9,3,4"], "got both"),
        (["{source}", ""], "or an empty name"),
        (["{source}", "{out}", "--rate", "0"], "--rate"),
        (["{source}", "{out}", "--depth-scale", "0.001"], "(millimetres: 1000), got 0.001"),
        (["{source}", "{out}", "--depth-scale", "1000"], "of the tum_rgbd layout alone"),
        (["{source}", "{out}", "--storage", "sqlite3"], "the name says mcap"),
        (["{source}", "{source}/no/folder/out.mcap"], "create it first"),
    ],
)
def test_bad_input_is_one_clear_line(tmp_path, video_depth, capsys, arguments, message):
    source, out = make_images(tmp_path / "source"), tmp_path / "out.mcap"
    filled = [a.format(source=source, out=out) for a in arguments]
    assert video_depth(["import", *filled]) == 2
    printed = capsys.readouterr()
    assert message in printed.err and printed.err.strip().count("\n") == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["source"]


def test_assumptions_are_one_line_and_options_replace_them(tmp_path, video_depth, capsys):
    source, out = make_tum(tmp_path / "mine"), tmp_path / "out.mcap"
    assert video_depth(["import", str(source), str(out)]) == 0
    (said,) = [line for line in capsys.readouterr().err.splitlines() if "assumed" in line]
    assert said.startswith(f"{source}: ") and "--camera" in said and "--depth-scale" in said
    given = ["--camera", "60,60,31.5,23.5", "--depth-scale", "1000", "--overwrite"]
    assert video_depth(["import", str(source), str(out), *given]) == 0
    assert "assumed" not in capsys.readouterr().err
    with Recording(out) as recording:
        depth = decode_depth(*layout(recording.first("/ground_truth/depth")))
    assert depth[5, 5] == pytest.approx(5.0 * DEPTH_M)


def test_nothing_is_left_when_the_source_breaks_half_way(tmp_path):
    source = make_images(tmp_path / "source")
    (source / "shot10.png").write_bytes(b"damaged")
    with pytest.raises(RecordingError, match=r"shot10\.png is not an image"):
        import_sequence(open_sequence(None, source), tmp_path / "out.mcap")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["source"]


def test_a_video_that_ends_early_is_said_to(tmp_path, video_depth, capsys):
    whole = shared("videos/carnd_solidWhiteRight.mp4")
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[:100_000])
    assert video_depth(["import", str(cut), str(tmp_path / "out.mcap")]) == 0
    assert "speaks of 221 frames but only" in " ".join(capsys.readouterr().err.split())


def test_memory_does_not_hold_the_sequence(tmp_path):
    """Frames are read when the bag asks for them, and only one at a time is alive."""
    import gc
    import weakref

    source = make_images(tmp_path / "source")
    for i in range(20, 60):
        (source / f"shot{i}.png").write_bytes((source / "shot1.png").read_bytes())
    reader = open_sequence(None, source)
    alive: list[weakref.ref] = []
    most = 0
    original = reader.frames

    def watched():
        nonlocal most
        for frame in original():
            alive.append(weakref.ref(frame))
            most = max(most, sum(r() is not None for r in alive))
            yield frame

    reader.frames = watched  # type: ignore[method-assign]
    import_sequence(reader, tmp_path / "out.mcap")
    gc.collect()
    assert len(alive) == 43 and most <= 3


def test_real_kitti_import(tmp_path):
    reader = open_sequence(None, shared("kitti_sfnd_40f"))
    counts = import_sequence(reader, tmp_path / "kitti.mcap", compressed=True)
    assert counts["/camera/image_raw/compressed"] == counts["/points"] == 40
    with Recording(tmp_path / "kitti.mcap") as recording:
        parts = find_parts(recording)
        assert (parts.points, parts.camera_info) == ("/points", "/camera/camera_info")
        camera = m.camera_of(recording.first("/camera/camera_info"))
        assert camera is not None and camera.fx == pytest.approx(721.5377)
