# SPDX-License-Identifier: Apache-2.0
"""Every layout read: tiny ones with known contents, and the real ones where they are."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from video_depth_ros.bags.formats.base import FIRST_STAMP_NS, SourceOptions
from video_depth_ros.bags.formats.files import Trajectory, natural_order, seconds_to_ns
from video_depth_ros.bags.sequences import FORMATS, detect_format, open_sequence
from video_depth_ros.camera import Camera
from video_depth_ros.errors import ConfigError, RecordingError
from video_depth_ros.evaluation.videos import find_videos
from video_depth_ros.poses import inverse, transform

from .layouts import (
    DEPTH_M,
    MAKERS,
    make_euroc,
    make_images,
    make_kitti,
    make_seven_scenes,
    make_tum,
    make_video,
    write_depth,
)
from .samples import picture, shared, wall_scan


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_recognised(tmp_path, name):
    path = MAKERS[name](tmp_path)
    assert detect_format(path) == name
    reader = open_sequence(None, path)
    assert reader.format == name
    frames = list(reader.frames())
    assert len(frames) == reader.frame_count
    stamps = [frame.stamp_ns for frame in frames]
    assert stamps == sorted(set(stamps)) and stamps[0] > 0
    assert all(f.rgb.shape == (48, 64, 3) and f.rgb.dtype == np.uint8 for f in frames)


def test_images_come_in_natural_order_with_their_colours(tmp_path):
    reader = open_sequence("images", make_images(tmp_path), SourceOptions(rate=20.0))
    frames = list(reader.frames())
    for frame, seed in zip(frames, (1, 2, 10), strict=True):
        np.testing.assert_array_equal(frame.rgb, picture(seed))
    assert [f.stamp_ns for f in frames] == [
        FIRST_STAMP_NS,
        FIRST_STAMP_NS + 50_000_000,
        FIRST_STAMP_NS + 100_000_000,
    ]
    assert reader.camera is None


def test_natural_order(tmp_path):
    names = ["b1", "a10.png", "a9.png", "10", "9", "a"]
    ordered = sorted((tmp_path / n for n in names), key=natural_order)
    assert [p.name for p in ordered] == ["9", "10", "a", "a9.png", "a10.png", "b1"]


def test_video_keeps_the_containers_times(tmp_path):
    reader = open_sequence("video", make_video(tmp_path), SourceOptions(hfov=90.0))
    assert np.diff([f.stamp_ns for f in reader.frames()]).tolist() == [50_000_000] * 4
    assert reader.camera is not None
    # 90 degrees across: the image's borders (-0.5 and 63.5) are at x/z = -1 and 1
    edges = reader.camera.normalised(np.array([[-0.5, 23.5], [63.5, 23.5]]))
    np.testing.assert_allclose(edges, [[-1, 0], [1, 0]], atol=1e-12)
    slow = open_sequence("video", reader.path, SourceOptions(rate=10.0))
    assert np.diff([f.stamp_ns for f in slow.frames()]).tolist() == [100_000_000] * 4


def test_seven_scenes(tmp_path):
    reader = open_sequence("seven_scenes", make_seven_scenes(tmp_path))
    first, lost, last = reader.frames()
    assert reader.camera is not None and (reader.camera.fx, reader.camera.fy) == (60.0, 61.0)
    assert first.depth is not None and first.T_world_camera is not None
    assert last.T_world_camera is not None
    assert np.isnan(first.depth[0, 0]) and np.isnan(first.depth[0, -1])
    assert np.nanmin(first.depth) == np.nanmax(first.depth) == pytest.approx(DEPTH_M)
    assert lost.T_world_camera is None and last.T_world_camera[0, 3] == pytest.approx(0.2)
    assert last.stamp_ns - first.stamp_ns == 66_666_667
    # the base looks along its x axis where the camera looks along z
    base = [sample.T_world_base for sample in reader.odometry()]
    np.testing.assert_allclose(base[0][:3, 0], first.T_world_camera[:3, 2])


def test_depth_and_poses_of_7_scenes_are_moved_to_the_colour_camera(tmp_path):
    """Points of the depth camera lie where the colour camera beside it sees them."""
    T = np.array(  # the calibration that users of the data set share, from depth to colour
        [
            [0.99996518, 0.00267651, -0.0079041, -0.02555894],
            [-0.00274093, 0.99996303, -0.00815045, 0.0001011],
            [0.00788199, 0.00817183, 0.99993555, 0.00203183],
            [0.0, 0.0, 0.0, 1.0],
        ]
    )
    raw = np.zeros((480, 640), np.uint16)
    raw[::40, ::40] = 3000
    raw[300, 480] = 800
    stem = tmp_path / "frame-000000"
    cv2.imwrite(f"{stem}.depth.png", raw)
    cv2.imwrite(f"{stem}.color.png", np.zeros((480, 640, 3), np.uint8))
    pose = np.eye(4)
    pose[:3, 3] = (1.0, 2.0, 3.0)
    np.savetxt(f"{stem}.pose.txt", pose)
    reader = open_sequence(None, tmp_path)
    (frame,) = reader.frames()
    assert reader.camera == Camera(640, 480, 525.0, 525.0, 320.0, 240.0)
    assert "taken for a recording of 7-Scenes itself" in reader.assumed
    assert frame.depth is not None and frame.T_world_camera is not None
    np.testing.assert_allclose(frame.T_world_camera @ T, pose, atol=1e-6)
    v, u = np.nonzero(raw)
    z = raw[v, u] / 1000.0
    x, y, z, _ = T @ np.stack([(u - 320) / 585 * z, (v - 240) / 585 * z, z, np.ones_like(z)])
    column, row = np.rint(525 * x / z + 320).astype(int), np.rint(525 * y / z + 240).astype(int)
    inside = (column >= 0) & (column < 640) & (row >= 0) & (row < 480)
    np.testing.assert_allclose(frame.depth[row[inside], column[inside]], z[inside], rtol=1e-5)
    assert np.isfinite(frame.depth).sum() == inside.sum() > 180
    # a copy with JPEG colour and the published camera is the data set's, too
    (tmp_path / "frame-000000.color.png").rename(f"{stem}.color.jpg")
    K = np.array([[585.0, 0, 319.5], [0, 585.0, 239.5], [0, 0, 1]])
    np.savetxt(tmp_path / "camera-intrinsics.txt", K)
    copy = open_sequence(None, tmp_path)
    (again,) = copy.frames()
    assert copy.camera == reader.camera and not copy.assumed
    np.testing.assert_array_equal(again.depth, frame.depth)
    np.testing.assert_array_equal(again.T_world_camera, frame.T_world_camera)


def write_frame(stem: Path, ending: str, size: tuple[int, int]) -> np.ndarray:
    """One frame in the layout of 7-Scenes, its pose the identity; its raw depth."""
    raw = np.zeros(size, np.uint16)
    raw[::20, ::20] = 2000
    assert cv2.imwrite(f"{stem}.depth.png", raw)
    assert cv2.imwrite(f"{stem}.color.{ending}", np.zeros((*size, 3), np.uint8))
    np.savetxt(f"{stem}.pose.txt", np.eye(4))
    return raw


@pytest.mark.parametrize(
    ("ending", "size"), [("jpg", (480, 640)), ("png", (640, 640)), ("jpg", (240, 320))]
)
def test_recordings_of_others_in_the_layout_of_7_scenes_are_registered(tmp_path, ending, size):
    """With a camera of their own depth and poses stay; without one nobody knows it, but for the
    size of 7-Scenes, for which they are then taken."""
    raw = write_frame(tmp_path / "frame-000000", ending, size)
    unknown = open_sequence(None, tmp_path)
    if size == (480, 640):
        assert "taken for a recording of 7-Scenes itself" in unknown.assumed
    else:
        assert unknown.camera is None
        assert f"images of {size[1]}x{size[0]} px" in unknown.assumed
        assert "the camera is not known" in unknown.assumed
    given = SourceOptions(intrinsics=(500.0, 501.0, 160.0, 120.0))
    readers = [open_sequence(None, tmp_path, given)]
    K = np.array([[582.871, 0, 161.0], [0, 582.0, 121.0], [0, 0, 1]])
    np.savetxt(tmp_path / "camera-intrinsics.txt", K)
    readers.append(open_sequence(None, tmp_path))
    for reader, fx in zip(readers, (500.0, 582.871), strict=True):
        assert reader.camera is not None and reader.camera.fx == fx and not reader.assumed
        (frame,) = reader.frames()
        assert frame.depth is not None
        np.testing.assert_array_equal(np.isfinite(frame.depth), raw > 0)
        np.testing.assert_array_equal(frame.T_world_camera, np.eye(4))


def test_the_camera_of_7_scenes_is_for_images_of_its_size(tmp_path):
    raw = write_frame(tmp_path / "frame-000000", "png", (240, 320))
    K = np.array([[585.0, 0, 320.0], [0, 585.0, 240.0], [0, 0, 1]])
    np.savetxt(tmp_path / "camera-intrinsics.txt", K)
    reader = open_sequence(None, tmp_path)
    assert reader.camera is None and "7-Scenes' own, of 640x480 px" in reader.assumed
    (frame,) = reader.frames()
    assert frame.depth is not None
    np.testing.assert_array_equal(np.isfinite(frame.depth), raw > 0)


def test_tum_associates_by_stamps(tmp_path):
    reader = open_sequence("tum_rgbd", make_tum(tmp_path))
    frames = list(reader.frames())
    assert [f.depth is not None for f in frames] == [True, True, False, True]
    depth = frames[0].depth
    assert depth is not None and depth[5, 5] == pytest.approx(DEPTH_M)
    assert depth[0, -1] == pytest.approx(65535 / 5000)  # only 0 is invalid here
    assert frames[0].stamp_ns == 1305031102_175304000
    pose = frames[1].T_world_camera
    assert pose is not None and pose[0, 3] == pytest.approx(1 / 30, abs=1e-4)  # interpolated


@pytest.mark.parametrize(("folder", "fx"), [("rgbd_dataset_freiburg1_xyz", 51.73), ("mine", 52.5)])
def test_tum_calibration_by_folder_name(tmp_path, folder, fx):
    reader = open_sequence("tum_rgbd", make_tum(tmp_path / folder))
    assert reader.camera is not None and reader.camera.fx == pytest.approx(fx)


@pytest.mark.parametrize(
    ("folder", "comment", "fx"),
    [
        ("data", "# file: 'rgbd_dataset_freiburg1_rpy.bag'", 51.73),
        ("data", "# file: 'rgbd_dataset_freiburg3_cabinet - key frame'", 53.54),
        ("data", "# file: 'mine.bag'", 52.5),
        ("rgbd_dataset_freiburg2_desk", "# beside freiburg1", 52.09),  # the folder's name first
    ],
)
def test_tum_calibration_by_the_comments_of_the_listing(tmp_path, folder, comment, fx):
    root = make_tum(tmp_path / folder)
    listing = (root / "rgb.txt").read_text()
    (root / "rgb.txt").write_text(f"# color images\n\n{comment}\n{listing}# freiburg2\n")
    reader = open_sequence("tum_rgbd", root)
    assert reader.camera is not None and reader.camera.fx == pytest.approx(fx)
    assert ("freiburg1 to 3" in reader.assumed) == (fx == 52.5)


def test_what_is_assumed_of_a_recording_in_tums_layout_is_said(tmp_path):
    root = make_tum(tmp_path / "mine")
    camera = (50.0, 50.0, 31.5, 23.5)

    def assumed(**options):
        return open_sequence(None, root, SourceOptions(**options)).assumed

    both = "the camera is 52.5,52.5,31.5,23.5 (--camera) and depth has 5000 units per metre"
    assert both in assumed()
    assert "camera is" not in assumed(intrinsics=camera) and "5000" in assumed(intrinsics=camera)
    assert "camera is" in assumed(depth_scale=1000.0) and "5000" not in assumed(depth_scale=1000.0)
    assert not assumed(intrinsics=camera, depth_scale=1000.0)
    (root / "depth.txt").unlink()
    assert not assumed(intrinsics=camera) and "5000" not in assumed()


def test_depth_scale_of_tums_layout(tmp_path):
    root = make_tum(tmp_path)
    depth = next(open_sequence(None, root, SourceOptions(depth_scale=1000.0)).frames()).depth
    assert depth is not None and depth[5, 5] == pytest.approx(5.0 * DEPTH_M)
    for scale in (0.0, 0.0002, -5000.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="--depth-scale: expected 1 to 1000000"):
            SourceOptions(depth_scale=scale)


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "tum_rgbd"])
def test_depth_scale_is_refused_where_it_is_not_open(tmp_path, name):
    with pytest.raises(
        RecordingError, match=rf"\({name}\): expected --depth-scale for .*tum_rgbd"
    ):
        open_sequence(name, MAKERS[name](tmp_path), SourceOptions(depth_scale=1000.0))


def test_euroc(tmp_path):
    reader = open_sequence("euroc", make_euroc(tmp_path))
    assert reader.grey and reader.camera is not None
    assert reader.camera.distortion_model == "plumb_bob"
    T = reader.T_camera_imu
    assert T is not None
    # a point 1.1 m ahead of the body is 1 m before the camera, which sits 10 cm ahead
    np.testing.assert_allclose(T @ [1.1, 0, 0, 1], [0, 0, 1, 1], atol=1e-12)
    samples = list(reader.imu())
    assert len(samples) == 20
    np.testing.assert_array_equal(samples[0].linear_acceleration, [9.8, 0.0, -0.5])
    frames = list(reader.frames())
    assert frames[0].T_world_camera is None  # a nanosecond before the first true pose
    pose = frames[1].T_world_camera
    assert pose is not None and pose[0, 3] == pytest.approx((50e6 - 1) / 30e6 + 0.1)
    assert open_sequence("euroc", tmp_path / "mav0").frame_count == 3


def test_kitti_calibration_chain_and_depth(tmp_path):
    reader = open_sequence("kitti_raw", make_kitti(tmp_path))
    T = reader.T_camera_lidar
    assert T is not None and reader.camera is not None
    # forward 5 m, left 1 m, up 0.5 m of the LiDAR -> right, down, forward of the left camera
    np.testing.assert_allclose(T @ [5, 1, 0.5, 1], [-1 + 0.06, -0.5, 4.95, 1], atol=1e-12)
    frames, scans = list(reader.frames()), list(reader.scans())
    assert [f.depth is not None for f in frames] == [True, False, True]
    assert [s.stamp_ns for s in scans] == [frames[0].stamp_ns, frames[2].stamp_ns]
    np.testing.assert_allclose(scans[0].points, wall_scan(), atol=1e-6)
    depth = frames[0].depth
    assert depth is not None
    v, u = np.nonzero(np.isfinite(depth))
    # every pixel that got a depth sees the wall x = 4 + 0.8 y there, within a pixel's slant
    x, _ = reader.camera.normalised(np.stack([u, v], axis=1)).T
    wall = (4.0 - 0.05 + 0.8 * 0.06) / (1 + 0.8 * x)
    np.testing.assert_allclose(depth[v, u], wall, rtol=0.012)
    assert 300 < len(v) <= 640


def test_kitti_depth_maps_are_the_only_truth_of_their_drive(tmp_path):
    drive = make_kitti(tmp_path)
    maps = drive / "proj_depth" / "groundtruth" / "image_02"
    maps.mkdir(parents=True)
    scans = [f.depth is not None for f in open_sequence("kitti_raw", drive).frames()]
    assert scans == [True, False, True]  # an empty folder is no truth
    write_depth(maps / "0000000001.png", 256.0)
    depths = [f.depth for f in open_sequence("kitti_raw", drive).frames()]
    assert depths[0] is None and depths[2] is None  # not the scans: they are sparser and less true
    assert depths[1] is not None and depths[1][5, 5] == 2.5


def test_kitti_points_held_out_are_truth_only(tmp_path):
    drive = make_kitti(tmp_path)
    whole = next(open_sequence("kitti_raw", drive).scans()).points
    half = SourceOptions(hold_out=0.5)
    reader, again = (open_sequence("kitti_raw", drive, half) for _ in range(2))
    given, depth = next(reader.scans()).points, next(reader.frames()).depth
    assert 0.4 < len(given) / len(whole) < 0.6
    np.testing.assert_array_equal(given, next(again.scans()).points)
    held = np.array([p for p in whole if not (given == p).all(axis=1).any()])
    T = reader.T_camera_lidar
    assert T is not None and reader.camera is not None and depth is not None
    camera_points = held @ T[:3, :3].T + T[:3, 3]
    uv, valid = reader.camera.project(camera_points)
    pixels = {tuple(p) for p in np.rint(uv[valid]).astype(int)}
    v, u = np.nonzero(np.isfinite(depth))
    assert {(a, b) for a, b in zip(u, v, strict=True)} == pixels


def test_kitti_asks_for_no_calibration_that_nothing_needs(tmp_path):
    drive = make_kitti(tmp_path, oxts=False)
    (tmp_path / "calib_velo_to_cam.txt").unlink()
    with pytest.raises(RecordingError, match=r"calib_velo_to_cam\.txt"):
        open_sequence("kitti_raw", drive)
    for scan in (drive / "velodyne_points" / "data").iterdir():
        scan.unlink()
    dense = drive / "proj_depth" / "groundtruth" / "image_02" / "0000000000.png"
    write_depth(dense, 256.0)
    reader = open_sequence("kitti_raw", drive)
    assert reader.T_base_lidar is None
    depth = next(reader.frames()).depth
    assert depth is not None and depth[5, 5] == 2.5
    (tmp_path / "calib_cam_to_cam.txt").unlink()
    given = SourceOptions(intrinsics=(70.0, 70.0, 31.5, 23.5))
    camera = open_sequence("kitti_raw", drive, given).camera
    assert camera is not None and camera.fx == 70.0
    with pytest.raises(RecordingError, match=r"calib_cam_to_cam\.txt"):
        open_sequence("kitti_raw", drive)


def test_kitti_stamps_and_oxts(tmp_path):
    reader = open_sequence("kitti_raw", make_kitti(tmp_path))
    frames = list(reader.frames())
    assert frames[0].stamp_ns == 1317042145_000000001  # 2011-09-26 13:02:25 UTC
    poses = list(reader.odometry())
    np.testing.assert_allclose(poses[0].T_world_base, np.eye(4), atol=1e-9)
    east = np.radians(2e-5) * 6378137.0 * np.cos(np.radians(49.0))
    np.testing.assert_allclose(poses[2].T_world_base[:3, 3], [east, 0, 0], atol=1e-6)
    samples = list(reader.imu())
    np.testing.assert_allclose(samples[1].angular_velocity, [0.01, 0.02, 0.03])
    np.testing.assert_allclose(samples[1].linear_acceleration, [0.1, 0.2, 9.8])
    assert reader.T_base_imu is not None and not reader.odometry_is_truth


def test_the_line_of_a_lost_kitti_scan_is_empty(tmp_path):
    drive = make_kitti(tmp_path)
    file = drive / "velodyne_points" / "timestamps.txt"
    before = [scan.stamp_ns for scan in open_sequence("kitti_raw", drive).scans()]
    lines = file.read_text().splitlines()
    file.write_text(f"{lines[0]}\n\n{lines[2]}\n")  # of the second there is no file
    after = [scan.stamp_ns for scan in open_sequence("kitti_raw", drive).scans()]
    assert after == before and len(before) == 2
    file.write_text(f"{lines[0]}\n\n\n")
    with pytest.raises(RecordingError, match="a file 2, but no stamp in line 3"):
        list(open_sequence("kitti_raw", drive).scans())


def test_kitti_images_that_are_not_rectified_are_refused(tmp_path):
    drive = make_kitti(tmp_path)
    file = tmp_path / "calib_cam_to_cam.txt"
    text = file.read_text()
    file.write_text(text + "S_02: 70 50\nS_rect_02: 64 48\n")
    open_sequence("kitti_raw", drive)
    file.write_text(text + "S_02: 64 48\nS_rect_02: 60 40\n")
    with pytest.raises(RecordingError, match=r"images of 60x40 px, got 64x48.*_sync"):
        open_sequence("kitti_raw", drive)


def test_data_sets_in_the_layout_of_another_are_refused(tmp_path):
    bonn = make_tum(tmp_path / "rgbd_bonn_balloon")
    with pytest.raises(RecordingError, match=r"Bonn RGB-D Dynamic.*--format bonn"):
        open_sequence(None, bonn)
    scan = make_seven_scenes(tmp_path / "scene0000_00")
    (scan / "_info.txt").write_text("m_calibrationColorIntrinsic = 1170 0 647\n")
    with pytest.raises(RecordingError, match=r"ScanNet.*SensReader/python"):
        open_sequence(None, scan)


def test_kitti_without_stamps_runs_at_10_hz(tmp_path):
    reader = open_sequence("kitti_raw", make_kitti(tmp_path, stamps=False, oxts=False))
    stamps = [frame.stamp_ns for frame in reader.frames()]
    assert stamps == [FIRST_STAMP_NS + i * 100_000_000 for i in range(3)]
    assert [s.stamp_ns for s in reader.scans()] == [stamps[0], stamps[2]]
    assert reader.T_base_imu is None and reader.T_base_lidar is not None


def test_given_camera_replaces_the_sources(tmp_path):
    options = SourceOptions(intrinsics=(50.0, 51.0, 30.0, 20.0))
    reader = open_sequence("kitti_raw", make_kitti(tmp_path), options)
    assert reader.camera is not None
    assert (reader.camera.fx, reader.camera.cy) == (50.0, 20.0)


def test_trajectory_interpolates_and_knows_its_limits():
    a = transform(np.zeros(3), np.array([0, 0, 0, 1.0]))
    b = transform(np.array([1.0, 0, 0]), np.array([0, 0, np.sqrt(0.5), np.sqrt(0.5)]))
    path = Trajectory([200, 100], [b, a], max_gap_ns=100)
    middle = path.at(150)
    assert middle is not None
    half = transform(np.array([0.5, 0, 0]), np.array([0, 0, np.sin(np.pi / 8), np.cos(np.pi / 8)]))
    np.testing.assert_allclose(middle, half, atol=1e-12)
    assert path.at(99) is None and path.at(201) is None
    np.testing.assert_array_equal(path.at(200), b)
    assert Trajectory([0, 200], [a, b], max_gap_ns=100).at(100) is None


def test_seconds_keep_their_nanoseconds():
    assert seconds_to_ns("1305031102.175304") == 1305031102_175304000
    assert seconds_to_ns("7") == 7_000_000_000
    assert seconds_to_ns("1.305031102175303936e+09") == 1305031102_175303936  # as numpy.savetxt
    assert seconds_to_ns("-0.5") == -500_000_000
    with pytest.raises(RecordingError, match="'soon'"):
        seconds_to_ns("soon")
    for text in ("nan", "inf", "1e30", ""):
        with pytest.raises(RecordingError, match="time in seconds"):
            seconds_to_ns(text)


def test_wrong_names_and_paths_are_clear(tmp_path):
    with pytest.raises(RecordingError, match=r"unknown format 'kitti'; expected one of kitti_raw"):
        open_sequence("kitti", tmp_path)
    with pytest.raises(RecordingError, match="does not exist"):
        open_sequence("images", tmp_path / "nothing")
    with pytest.raises(RecordingError, match=r"cannot tell the format.*--format"):
        open_sequence(None, tmp_path)
    (tmp_path / "a.mcap").touch()
    with pytest.raises(RecordingError, match="is a bag already"):
        open_sequence(None, tmp_path / "a.mcap")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "walk.gif",
            r"a video \(\.mp4 .*by --format video\)( or a bag)?; of images and data sets",
        ),
        ("shot.TIF", "it is a single image; give the folder"),
    ],
)
def test_single_files_that_tell_no_format(tmp_path, name, said):
    (tmp_path / name).write_bytes(b"anything")
    with pytest.raises(RecordingError, match=f"cannot tell the format of .*{said}"):
        open_sequence(None, tmp_path / name)
    with pytest.raises(RecordingError, match=f"cannot tell the format of .*{said}") as refusal:
        next(find_videos(tmp_path / name, None))
    assert (" or a bag" in str(refusal.value)) == (name == "walk.gif")  # only evaluate reads bags


@pytest.mark.parametrize("name", FORMATS)
def test_a_path_of_another_format_is_refused(tmp_path, name):
    (tmp_path / "readme.txt").write_text("nothing to see")
    with pytest.raises(RecordingError):
        open_sequence(name, tmp_path)


def _break_depth(root):
    (root / "frame-000007.depth.png").write_bytes(b"")
    return "is empty"


def _break_image(root):
    (root / "frame-000009.color.png").write_bytes(b"no png")
    return "not an image"


def _break_depth_type(root):
    (root / "frame-000007.depth.png").write_bytes((root / "frame-000007.color.png").read_bytes())
    return "16-bit depth image"


def _break_pose(root):
    (root / "frame-000007.pose.txt").write_text("1 0 0\n0 1 0\n")
    return "4x4 matrix"


@pytest.mark.parametrize("damage", [_break_depth, _break_image, _break_depth_type, _break_pose])
def test_damaged_files_are_named(tmp_path, damage):
    root = make_seven_scenes(tmp_path)
    message = damage(root)
    with pytest.raises(RecordingError, match=message):
        list(open_sequence("seven_scenes", root).frames())


def test_truncated_scans_and_missing_calibration_are_named(tmp_path):
    drive = make_kitti(tmp_path)
    scan = drive / "velodyne_points" / "data" / "0000000002.bin"
    scan.write_bytes(scan.read_bytes()[:-3])
    with pytest.raises(RecordingError, match="truncated"):
        list(open_sequence("kitti_raw", drive).scans())
    (tmp_path / "calib_velo_to_cam.txt").unlink()
    with pytest.raises(RecordingError, match=r"expected calib_velo_to_cam\.txt"):
        open_sequence("kitti_raw", drive)


def test_images_of_several_sizes_are_refused(tmp_path):
    make_images(tmp_path)
    (tmp_path / "shot99.png").write_bytes((tmp_path / "shot1.png").read_bytes())
    import cv2

    cv2.imwrite(str(tmp_path / "shot99.png"), np.zeros((10, 10, 3), np.uint8))
    with pytest.raises(RecordingError, match=r"shot99\.png: expected 64x48"):
        list(open_sequence("images", tmp_path).frames())


def test_real_kitti_scan_falls_on_image_edges():
    """The chain is right when depth steps of the projected scan lie on image edges: shifting the
    projection sideways must lower the image gradient under the steps."""
    reader = open_sequence(None, shared("kitti_sfnd_40f"))
    assert reader.format == "kitti_raw" and reader.camera is not None
    T = reader.T_camera_lidar
    assert T is not None
    frame, scan = next(reader.frames()), next(reader.scans())
    grey = frame.rgb.mean(axis=2)
    gradient = np.abs(np.gradient(grey, axis=1))
    points = scan.points @ T[:3, :3].T + T[:3, 3]
    uv, valid = reader.camera.project(points)
    # neighbours in the scan whose depth jumps: the nearer of the two lies on an edge
    z = points[:, 2]
    jump = np.flatnonzero((z[1:] - z[:-1] > 1.0) & valid[1:] & valid[:-1])
    u, v = np.rint(uv[jump]).astype(int).T
    scores = {}
    for shift in (-24, 0, 24):
        columns = np.clip(u[:, None] + shift + np.arange(-3, 4), 0, grey.shape[1] - 1)
        scores[shift] = gradient[v[:, None], columns].max(axis=1).mean()
    assert len(jump) > 100
    assert scores[0] > 1.1 * max(scores[-24], scores[24])


def test_real_seven_scenes_depth_agrees_between_frames():
    """Depth of one frame, moved by the poses, is the depth of a later one."""
    reader = open_sequence(None, shared("7scenes_redkitchen_60f"))
    assert reader.format == "seven_scenes" and reader.camera is not None
    frames = [f for i, f in enumerate(reader.frames()) if i in (0, 20)]
    first, later = frames
    assert first.depth is not None and later.depth is not None
    assert first.T_world_camera is not None and later.T_world_camera is not None
    points = reader.camera.back_project(first.depth)[::8, ::8].reshape(-1, 3)
    points = points[np.isfinite(points[:, 2])]
    T = inverse(later.T_world_camera) @ first.T_world_camera
    moved = points @ T[:3, :3].T + T[:3, 3]
    uv, valid = reader.camera.project(moved)
    u, v = np.rint(uv[valid]).astype(int).T
    seen = later.depth[v, u]
    assert np.nanmedian(np.abs(seen / moved[valid, 2] - 1)) < 0.03


def test_real_euroc_prefers_the_better_truth():
    reader = open_sequence(None, shared("euroc_v1_01_easy_90f"))
    assert reader.format == "euroc" and reader.frame_count == 90
    frame = next(reader.frames())
    assert frame.T_world_camera is not None and reader.T_camera_imu is not None
    T_world_body = frame.T_world_camera @ reader.T_camera_imu
    # OpenVINS gives 2.0051 a second earlier; the official file differs by centimetres
    assert len(list(reader.odometry())) == 130
    np.testing.assert_allclose(T_world_body[:3, 3], [2.2277, 2.5129, 0.9523], atol=0.1)
    assert len(list(reader.imu())) == 1291


def test_real_video():
    reader = open_sequence(None, shared("videos/carnd_solidWhiteRight.mp4"))
    frames = reader.frames()
    first, second = next(frames), next(frames)
    assert second.stamp_ns - first.stamp_ns == 40_000_000
    assert first.rgb.shape == (540, 960, 3) and reader.frame_count == 221
