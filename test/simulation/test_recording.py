# SPDX-License-Identifier: Apache-2.0
"""Sensors against the path and the picture; bags against what was asked for."""

import argparse
import itertools
from typing import Any

import numpy as np
import pytest
from rosbags.highlevel import AnyReader
from rosbags.typesys import Stores, get_typestore

from video_depth_ros.cli import simulate
from video_depth_ros.errors import ConfigError, RecordingError
from video_depth_ros.simulation import imu, lidar, odometry
from video_depth_ros.simulation.path import make_path
from video_depth_ros.simulation.recording import Simulation, SimulationConfig, record
from video_depth_ros.simulation.rig import Rig
from video_depth_ros.simulation.worlds import make_world

SMALL: dict[str, Any] = {"seconds": 0.5, "rate": 10.0, "width": 64, "height": 48, "threads": 1}
STREAMS = {
    "/camera/camera_info": 5, "/camera/image_raw": 5, "/ground_truth/depth": 5,
    "/ground_truth/pose": 5, "/points": 5, "/imu/data": 100, "/odom": 25, "/tf": 25,
    "/tf_static": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def drive() -> Simulation:
    return Simulation.of(
        SimulationConfig(world="corridor", seed=3, seconds=4.0, width=96, height=72)
    )


def read(path):
    """Every message of a bag by topic, as (received, message)."""
    store = get_typestore(Stores.ROS2_JAZZY)
    found: dict[str, list] = {}
    with AnyReader([path], default_typestore=store) as reader:
        for connection, received, data in reader.messages():
            message = reader.deserialize(data, connection.msgtype)
            found.setdefault(connection.topic, []).append((received, message))
    return found


def test_lidar_sees_the_depth_image(drive):
    """A still sensor's noiseless ranges, put into the camera, lie on its depth image."""
    path = make_path(drive.world, 1, 2.0, "static")
    rig = Rig.on(path, "static")
    still = lidar.Lidar(rings=16, columns=720, noise=0.0, dropout=0.0)
    turn = lidar.scan(drive.world, path, rig, still, 1.0, np.random.default_rng(0))
    camera = drive.camera
    pose = rig.camera_poses(path, np.array([1.0]))[0]
    # The camera is put where the LiDAR is, so that both look along the same rays.
    pose[:3, 3] = rig.lidar_poses(path, np.array([1.0]))[0, :3, 3]
    _, depth = drive.world.render(camera, pose, 1.0)
    world = rig.lidar_poses(path, np.array([1.0]))[0]
    points = turn.points @ world[:3, :3].T + world[:3, 3]
    seen = (points - pose[:3, 3]) @ pose[:3, :3]
    uv, valid = camera.project(seen)
    cell = np.rint(uv).astype(int)
    inside = valid & (cell >= 0).all(1) & (cell < [camera.width, camera.height]).all(1)
    assert inside.sum() > 200
    close = np.abs(uv - cell).max(1) < 0.15  # nearly the pixel's own ray
    u, v = cell[inside & close].T
    ratio = seen[inside & close, 2] / depth[v, u]
    assert np.mean(np.abs(ratio - 1) < 0.02) > 0.9


def test_the_sensors_sit_apart_as_on_a_robot(drive):
    rig = drive.rig
    places = [T[:3, 3] for T in (rig.T_base_camera_link, rig.T_base_lidar, rig.T_base_imu)]
    for k, place in enumerate(places):
        assert all(np.linalg.norm(place - other) > 0.02 for other in places[k + 1 :])
    assert rig.T_base_lidar[2, 3] > 0.0 and rig.T_base_camera_link[2, 3] > 0.0
    assert np.linalg.norm(rig.T_link_imu[:3, 3]) > 0.02  # a lever arm for the IMU


def test_lidar_range_noise_and_dropouts_are_as_specified(drive):
    clean = lidar.Lidar(noise=0.0, dropout=0.0)
    noisy = lidar.Lidar(noise=0.05, dropout=0.3)
    rng = np.random.default_rng
    a = lidar.scan(drive.world, drive.path, drive.rig, clean, 1.0, rng(1))
    b = lidar.scan(drive.world, drive.path, drive.rig, noisy, 1.0, rng(1))
    key = lambda s: {  # noqa: E731
        (int(r), round(float(t) * 1e6)): float(np.linalg.norm(p))
        for r, t, p in zip(s.ring, s.offset_s, s.points, strict=True)
    }
    ka, kb = key(a), key(b)
    both = sorted(set(ka) & set(kb))
    difference = np.array([kb[k] - ka[k] for k in both])
    assert np.std(difference) == pytest.approx(0.05, rel=0.1)
    assert 0.6 < len(kb) / len(ka) < 0.8
    assert a.ring.max() <= 15 and np.abs(a.offset_s).max() <= 0.05


def test_imu_integrates_back_to_the_path(drive):
    """Strapdown integration of error-free samples follows the true base within millimetres."""
    rate, dt = 200.0, 1 / 200.0
    times = np.arange(0, 3.0, dt)
    gyro, force = imu.ideal(drive.path, drive.rig, times + dt / 2)
    truth = drive.path.poses(times) @ drive.rig.T_link_imu
    rotation, place = truth[0, :3, :3].copy(), truth[0, :3, 3].copy()
    after = (drive.path.poses(np.array([1e-5])) @ drive.rig.T_link_imu)[0, :3, 3]
    velocity = (after - place) / 1e-5
    for w, f in zip(gyro[:-1], force[:-1], strict=True):
        half = rotation @ odometry._rotation(w * dt / 2)
        a = half @ f - [0, 0, imu.GRAVITY]
        place = place + velocity * dt + 0.5 * a * dt**2
        velocity = velocity + a * dt
        rotation = rotation @ odometry._rotation(w * dt)
    assert rate * dt == 1.0
    np.testing.assert_allclose(place, truth[-1, :3, 3], atol=5e-3)
    np.testing.assert_allclose(rotation, truth[-1, :3, :3], atol=1e-4)


def test_imu_at_rest_reads_gravity_upward_and_its_own_noise():
    world = make_world("clutter", 2)
    path = make_path(world, 2, 20.0, "static")
    rig = Rig.on(path, "static")
    times = np.arange(0, 20, 1 / 200)
    gyro, force = imu.ideal(path, rig, times)
    np.testing.assert_allclose(np.linalg.norm(force, axis=1), imu.GRAVITY, rtol=1e-9)
    np.testing.assert_allclose(gyro, 0.0, atol=1e-9)
    model = imu.Imu()
    w, f = imu.measure(path, rig, model, times, np.random.default_rng(0))
    white = np.diff(w - gyro, axis=0).std() / np.sqrt(2)
    assert white == pytest.approx(model.gyro_noise * np.sqrt(200), rel=0.05)
    white = np.diff(f - force, axis=0).std() / np.sqrt(2)
    assert white == pytest.approx(model.accel_noise * np.sqrt(200), rel=0.05)


def test_odometry_drifts_within_its_covariance(drive):
    times = np.arange(0, 4.0, 0.02)
    truth = np.linalg.inv(drive.rig.base_poses(drive.path, times[:1])) @ drive.rig.base_poses(
        drive.path, times
    )
    errors, sigmas = [], []
    for seed in range(20):
        track = odometry.measure(
            drive.path, drive.rig, odometry.Odometry(), times, np.random.default_rng(seed)
        )
        errors.append(track.poses[-1, :2, 3] - truth[-1, :2, 3])
        sigmas.append(np.sqrt(track.covariance[-1, 0, 0]))
    errors = np.linalg.norm(errors, axis=1)
    travelled = np.linalg.norm(truth[-1, :2, 3])
    assert travelled > 0.5
    assert errors.min() > 0.0 and errors.max() < 0.1 * travelled + 0.05
    assert 0.2 < np.sqrt(np.mean(errors**2)) / np.mean(sigmas) < 3.0


@pytest.mark.parametrize("name", ["run.mcap", "run.db3", "folder"])
def test_bag_holds_every_stream_in_order(tmp_path, name):
    simulation = Simulation.of(SimulationConfig(world="street", seed=1, distortion=True, **SMALL))
    summary = record(simulation, tmp_path / name)
    found = read(tmp_path / name)
    assert {k: len(v) for k, v in found.items()} == STREAMS == summary.counts
    for messages in found.values():
        received = [t for t, _ in messages]
        assert received == sorted(received)
        stamped = [m for _, m in messages if hasattr(m, "header")]
        stamps = [m.header.stamp.sec * 10**9 + m.header.stamp.nanosec for m in stamped]
        assert all(b > a for a, b in itertools.pairwise(stamps))
    info = found["/camera/camera_info"][0][1]
    assert info.distortion_model == "plumb_bob" and info.d[0] < 0
    image = found["/camera/image_raw"][0][1]
    assert (image.encoding, image.width, image.height, image.step) == ("rgb8", 64, 48, 192)
    depth = found["/ground_truth/depth"][0][1]
    assert depth.encoding == "32FC1"
    values = np.frombuffer(bytes(depth.data), "<f4")
    assert np.nanmin(values) > 0 and np.isfinite(values).mean() > 0.3
    cloud = found["/points"][0][1]
    assert [f.name for f in cloud.fields] == ["x", "y", "z", "intensity", "ring", "time"]
    assert len(cloud.data) == cloud.width * cloud.point_step
    edges = {(t.header.frame_id, t.child_frame_id) for t in found["/tf_static"][0][1].transforms}
    assert edges == {
        ("base_link", "camera_link"), ("camera_link", "camera_optical_frame"),
        ("base_link", "lidar"), ("base_link", "imu"),
    }  # fmt: skip


def test_static_tf_odometry_and_truth_are_one_geometry(tmp_path):
    """T_world_base from the true camera pose and the mounting agrees with the rig's."""
    simulation = Simulation.of(SimulationConfig(world="corridor", seed=2, **SMALL))
    T = simulation.rig
    times = simulation.image_times()
    optical = T.camera_poses(simulation.path, times)
    base = T.base_poses(simulation.path, times)
    link = np.eye(4)
    link[:3, :3] = [[0, 0, 1], [-1, 0, 0], [0, -1, 0]]
    np.testing.assert_allclose(base @ T.T_base_camera_link @ link, optical, atol=1e-12)
    assert abs(base[0, 2, 3]) < 0.05  # a vehicle's base_link is on the ground


def test_same_configuration_same_bag(tmp_path):
    config = SimulationConfig(world="clutter", seed=9, compressed=True, **SMALL)
    bags = []
    for name in ("a.mcap", "b.mcap"):
        record(Simulation.of(config), tmp_path / name)
        bags.append(read(tmp_path / name))
    assert bags[0].keys() == bags[1].keys()
    for topic in ("/camera/image_raw/compressed", "/points"):
        for (t1, m1), (t2, m2) in zip(bags[0][topic], bags[1][topic], strict=True):
            assert t1 == t2
            np.testing.assert_array_equal(m1.data, m2.data)


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    simulate.add_parser(parser.add_subparsers())
    return parser.parse_args(["simulate", *words])


def test_command_writes_and_reports(tmp_path, capsys):
    out = tmp_path / "run.mcap"
    args = parse(str(out), "--seconds", "0.3", "--size", "48x32", "--rate", "10", "--no-lidar",
                 "--no-imu", "--no-odometry", "--no-truth", "--threads", "1")  # fmt: skip
    assert args.run(args) == 0
    assert "frames/s" in capsys.readouterr().out
    assert set(read(out)) == {"/camera/camera_info", "/camera/image_raw", "/tf_static"}


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (("--world", "moon"), "world: expected one of room"),
        (("--size", "640"), "--size: expected WxH"),
        (("--size", "4x4"), "width: expected 16"),
        (("--seconds", "0"), "seconds: expected 0.2"),
        (("--seconds", "nan"), "seconds: expected 0.2"),
        (("--rate", "1000"), "rate: expected 1"),
        (("--rings", "0"), "rings: expected 1"),
        (("--hfov", "120", "--distortion"), "hfov: plumb_bob"),
        (("--path", "swim"), "path: expected one of handheld"),
        (("--seed", "-1"), "seed: expected 0"),
    ],
)
def test_bad_arguments_leave_nothing(tmp_path, words, match):
    args = parse(str(tmp_path / "run.mcap"), *words)
    with pytest.raises(ConfigError, match=match):
        args.run(args)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_after_a_failure(tmp_path):
    out = tmp_path / "run.mcap"
    simulation = Simulation.of(SimulationConfig(**SMALL))

    def stop(frames: int) -> None:
        if frames == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        record(simulation, out, progress=stop)
    assert list(tmp_path.iterdir()) == []
    out.write_bytes(b"mine")
    with pytest.raises(RecordingError, match="exists"):
        record(simulation, out)
    assert out.read_bytes() == b"mine"
