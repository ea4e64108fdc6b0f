# SPDX-License-Identifier: Apache-2.0
"""Bags written and read: all storages, old and foreign ones, damaged ones."""

from __future__ import annotations

import re
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from rosbags.highlevel import AnyReader
from rosbags.interfaces import QosDurability
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from video_depth_ros.bags import messages as m
from video_depth_ros.bags.reader import Recording
from video_depth_ros.bags.topics import TopicChoice, find_parts, is_rectified, parts_for
from video_depth_ros.bags.writer import BagWriter, profiles_of, qos
from video_depth_ros.decoding import decode_compressed
from video_depth_ros.errors import RecordingError, VideoDepthError

from .samples import CAMERA, PERIOD, START, model_of, shared, write_robot

NAMES = ("lone.mcap", "lone.db3", "folder")


def write_images(path: Path, *topics: str, pixels: np.ndarray | None = None, **options) -> Path:
    pixels = np.zeros((4, 6, 3), np.uint8) if pixels is None else pixels
    with BagWriter(path, **options) as bag:
        for topic in topics:
            bag.add_topic(topic, m.IMAGE)
            bag.write(topic, START, m.image(START, "camera", pixels))
    return path


@pytest.mark.parametrize("name", NAMES)
def test_every_storage_is_read_back_in_order(tmp_path, name):
    write_robot(tmp_path / name, frames=3)
    with Recording(tmp_path / name) as recording:
        parts = find_parts(recording)
        assert parts.image == "/camera/image_raw"
        assert parts.camera_info == "/camera/camera_info"
        assert (parts.points, parts.imu, parts.odometry) == ("/points", "/imu/data", "/odom")
        received = list(recording.messages())
        times = [message.time_ns for message in received]
        assert times == sorted(times) and len(times) == recording.message_count == 26
        assert (recording.start_ns, recording.end_ns) == (times[0], times[-1])
        info = recording.first("/camera/camera_info")
        assert m.camera_of(info) == CAMERA
    assert sorted(p.name for p in tmp_path.iterdir()) == [name]


@pytest.mark.parametrize("name", NAMES)
def test_static_transforms_are_recorded_as_latched(tmp_path, name):
    """`ros2 bag play` offers what the metadata says; late listeners need transient local."""
    write_robot(tmp_path / name, frames=1)
    with AnyReader([tmp_path / name]) as reader:
        offered = {c.topic: c.ext.offered_qos_profiles[0] for c in reader.connections}
    assert offered["/tf_static"].durability is QosDurability.TRANSIENT_LOCAL
    assert offered["/camera/image_raw"].durability is QosDurability.VOLATILE


def test_folder_metadata_is_what_every_distribution_reads(tmp_path):
    write_robot(tmp_path / "bag", frames=1)
    meta = yaml.safe_load((tmp_path / "bag" / "metadata.yaml").read_text())
    info = meta["rosbag2_bagfile_information"]
    assert info["version"] == 8  # 9 is unknown to Humble and Iron
    assert info["storage_identifier"] == "mcap"
    assert [(tmp_path / "bag" / f).exists() for f in info["relative_file_paths"]] == [True]


def test_sqlite_file_is_a_sound_database(tmp_path):
    path = write_robot(tmp_path / "bag.db3", frames=2)
    database = sqlite3.connect(path)
    assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert database.execute("SELECT count(*) FROM messages").fetchone()[0] == 18
    database.close()


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_left_of_a_bag_that_failed(tmp_path, name):
    with pytest.raises(ZeroDivisionError), BagWriter(tmp_path / name) as bag:
        bag.add_topic("/image", m.IMAGE)
        bag.write("/image", START, m.image(START, "c", np.zeros((2, 2), np.uint8)))
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", NAMES)
def test_an_existing_bag_is_replaced_only_on_demand_and_only_when_complete(tmp_path, name):
    path = write_images(tmp_path / name, "/old")
    with pytest.raises(RecordingError, match="exists already"):
        BagWriter(path)
    with pytest.raises(ZeroDivisionError), BagWriter(path, overwrite=True):
        raise ZeroDivisionError
    with Recording(path) as recording:
        assert list(recording.topics) == ["/old"]
    write_images(path, "/new", overwrite=True)
    with Recording(path) as recording:
        assert list(recording.topics) == ["/new"]
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("name", "storage", "message"),
    [
        ("a.mcap", "sqlite3", "says mcap"),
        ("a", "rosbag", "expected one of mcap, sqlite3"),
        ("missing/a.mcap", None, "does not exist"),
        ("..", None, "expected the name of a bag"),
    ],
)
def test_bad_outputs_are_named(tmp_path, name, storage, message):
    with pytest.raises(RecordingError, match=message):
        BagWriter(tmp_path / name, storage)


def test_an_interrupted_folder_without_metadata_is_read(tmp_path):
    write_robot(tmp_path / "bag", frames=2)
    (tmp_path / "bag" / "metadata.yaml").unlink()
    with Recording(tmp_path / "bag") as recording:
        assert recording.message_count == 18
    write_robot(tmp_path / "bag" / "other.db3", frames=1)
    with (
        pytest.raises(RecordingError, match=r"bag\.mcap, other\.db3 and no metadata"),
        Recording(tmp_path / "bag"),
    ):
        pass


@pytest.mark.parametrize(
    ("plugin", "mode"),
    [
        (StoragePlugin.MCAP, CompressionMode.STORAGE),
        (StoragePlugin.MCAP, CompressionMode.MESSAGE),
        (StoragePlugin.SQLITE3, CompressionMode.FILE),
    ],
)
def test_compressed_recordings_are_read(tmp_path, robot_bag, plugin, mode):
    with Recording(robot_bag) as recording:
        expected = list(recording.messages())
        writer = Writer(tmp_path / "bag", version=8, storage_plugin=plugin)
        writer.set_compression(mode, CompressionFormat.ZSTD)
        with writer:
            store = m.typestore()
            connections = {
                t.name: writer.add_connection(t.name, t.kind, typestore=store)
                for t in recording.topics.values()
            }
            for received in expected:
                writer.write(connections[received.topic], received.time_ns, received.data)
    with Recording(tmp_path / "bag") as recording:
        assert list(recording.messages()) == expected


def _rewrite_qos(folder):
    """As `ros2 bag reindex` does: metadata.yaml then states another depth than the files."""
    meta = folder / "metadata.yaml"
    text = meta.read_text()
    assert text.count("depth: ") > 1
    meta.write_text(re.sub(r"depth: \d+", "depth: 77", text))


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_reindexed_recording_is_read(tmp_path, storage):
    folder = write_robot(tmp_path / "bag", frames=2, storage=storage)
    with Recording(folder) as recording:
        expected = list(recording.messages())
    _rewrite_qos(folder)
    with Recording(folder) as recording:
        assert list(recording.messages()) == expected


def _compressed(folder, robot_bag):
    """Every message by itself."""
    with Recording(robot_bag) as recording:
        writer = Writer(folder, version=8, storage_plugin=StoragePlugin.MCAP)
        writer.set_compression(CompressionMode.MESSAGE, CompressionFormat.ZSTD)
        with writer:
            store = m.typestore()
            for topic in recording.topics.values():
                connection = writer.add_connection(
                    topic.name, topic.kind, typestore=store, offered_qos_profiles=[qos()]
                )
                for received in recording.messages([topic.name]):
                    writer.write(connection, received.time_ns, received.data)


def test_compressed_messages_need_metadata_that_says_so(tmp_path, robot_bag):
    _compressed(tmp_path / "bag", robot_bag)
    _rewrite_qos(tmp_path / "bag")
    with (
        Recording(tmp_path / "bag") as recording,
        pytest.raises(RecordingError, match="stated and none is found"),
    ):
        list(recording.messages())
    (tmp_path / "bag" / "metadata.yaml").unlink()
    with (
        Recording(tmp_path / "bag") as recording,
        pytest.raises(RecordingError, match=r"compressed, which metadata\.yaml has to say"),
    ):
        list(recording.messages())


def test_messages_left_in_a_write_ahead_log_are_not_lost_silently(tmp_path):
    """A recorder of sqlite3's resilient preset that was killed."""
    path = write_robot(tmp_path / "whole.db3", frames=2)
    killed = tmp_path / "killed.db3"
    database = sqlite3.connect(path)
    database.execute("PRAGMA journal_mode=WAL")
    (before,) = database.execute("SELECT count(*) FROM messages").fetchone()
    database.execute(
        "INSERT INTO messages (topic_id, timestamp, data) "
        "SELECT topic_id, timestamp + 1, data FROM messages"
    )
    database.commit()
    shutil.copy(path, killed)
    shutil.copy(f"{path}-wal", f"{killed}-wal")
    database.close()
    with pytest.raises(RecordingError, match=r"wal_checkpoint\(truncate\)"), Recording(killed):
        pass
    database = sqlite3.connect(killed)
    database.execute("PRAGMA wal_checkpoint(truncate)")
    database.close()
    with Recording(killed) as recording:
        assert len(list(recording.messages())) == 2 * before


def test_a_recording_split_into_files_is_one(tmp_path):
    """`ros2 bag record --max-bag-size` leaves several files and one metadata.yaml."""
    write_robot(tmp_path / "bag", frames=2)
    meta = tmp_path / "bag" / "metadata.yaml"
    with Recording(tmp_path / "bag") as recording:
        expected = list(recording.messages())
    later = PERIOD * 50
    with Recording(tmp_path / "bag") as recording, BagWriter(tmp_path / "bag" / "b.mcap") as bag:
        for topic in recording.topics.values():
            bag.add_topic(topic.name, topic.kind, latched=topic.name == "/tf_static")
        for received in expected:
            bag.write_raw(received.topic, received.time_ns + later, received.data)
    text = yaml.safe_load(meta.read_text())
    info = text["rosbag2_bagfile_information"]
    info["relative_file_paths"].append("b.mcap")
    info["message_count"] *= 2
    info["duration"]["nanoseconds"] += later
    meta.write_text(yaml.safe_dump(text))
    with Recording(tmp_path / "bag") as recording:
        both = list(recording.messages())
    assert [r.data for r in both] == 2 * [r.data for r in expected]
    assert both[-1].time_ns == expected[-1].time_ns + later


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("name", ["a.mcap", "a.db3"])
def test_truncated_bags_are_one_clear_error(tmp_path, name):
    path = write_robot(tmp_path / name, frames=9)
    _truncate(path)
    with pytest.raises(RecordingError, match="cannot read") as caught, Recording(path) as bag:
        list(bag.messages())
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


@pytest.fixture(scope="module")
def small_bags(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    for suffix in ("mcap", "db3"):
        write_images(folder / f"small.{suffix}", "/camera/image_raw")
    return folder


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(["mcap", "db3"]), st.randoms(use_true_random=False))
def test_damage_of_any_kind_is_read_or_named(small_bags, suffix, random):
    """Bytes changed and the end cut off anywhere: no error but our own comes out."""
    data = bytearray((small_bags / f"small.{suffix}").read_bytes())
    for _ in range(random.randrange(30)):
        data[random.randrange(len(data))] = random.randrange(256)
    if random.random() < 0.3:
        del data[random.randrange(len(data)) :]
    damaged = small_bags / f"damaged.{suffix}"
    damaged.write_bytes(data)
    try:
        with Recording(damaged) as recording:
            find_parts(recording)
            for received in recording.messages():
                recording.decode(received)
    except VideoDepthError as error:
        assert "\n" not in str(error) and str(damaged) in str(error)


@pytest.mark.parametrize("field", [b"string frame_id", b"uint32 height"])
def test_a_definition_without_a_standard_field_is_named(small_bags, tmp_path, field):
    """A changed byte can leave a definition that is parsed, but whose fields nobody finds."""
    data = (small_bags / "small.mcap").read_bytes()
    assert field in data
    damaged = tmp_path / "damaged.mcap"
    damaged.write_bytes(data.replace(field, field[:-1] + b"x"))
    with Recording(damaged) as recording:
        name = field.split()[1].decode()
        with pytest.raises(RecordingError, match=f"lacks the standard field '{name}'") as caught:
            find_parts(recording)
        assert str(damaged) in str(caught.value)


def test_damage_in_the_middle_is_found_while_reading(tmp_path):
    path = write_robot(tmp_path / "a.db3", frames=2)
    database = sqlite3.connect(path)
    database.execute("UPDATE messages SET data = substr(data, 1, 40)")
    database.commit()
    database.close()
    with Recording(path) as recording, pytest.raises(RecordingError, match="cannot read"):
        for received in recording.messages(["/camera/image_raw"]):
            recording.decode(received)


@pytest.mark.parametrize("name", ["a.mcap", "a.db3", "a.bag"])
@pytest.mark.parametrize("content", [b"", b"this is no bag at all, whatever its name says" * 99])
def test_files_that_are_no_bags(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RecordingError, match="cannot read"):
        Recording(tmp_path / name)


def test_paths_that_are_no_bags(tmp_path):
    with pytest.raises(RecordingError, match="does not exist"):
        Recording(tmp_path / "nothing.mcap")
    with pytest.raises(RecordingError, match=r"holds neither metadata\.yaml"):
        Recording(tmp_path)
    (tmp_path / "a.mp4").write_bytes(b"0")
    with pytest.raises(RecordingError, match="video_depth import"):
        Recording(tmp_path / "a.mp4")


def test_image_topic_choice(tmp_path):
    depth = np.ones((4, 6), np.float32)
    write_images(tmp_path / "depth.mcap", "/depth_only", pixels=depth)
    with (
        Recording(tmp_path / "depth.mcap") as recording,
        pytest.raises(RecordingError, match=r"no image topic.*depth_only"),
    ):
        find_parts(recording)
    write_images(tmp_path / "two.mcap", "/left/image_raw", "/right/image_raw")
    with Recording(tmp_path / "two.mcap") as recording:
        with pytest.raises(RecordingError, match="/left/image_raw, /right/image_raw; choose"):
            find_parts(recording)
        assert find_parts(recording, image="/right/image_raw").image == "/right/image_raw"
        with pytest.raises(RecordingError, match="/up is not there; topics that fit: /left"):
            find_parts(recording, image="/up")


def test_compressed_beside_raw_is_the_same_camera(tmp_path):
    path = tmp_path / "both.mcap"
    with BagWriter(path) as bag:
        bag.add_topic("/cam/image_raw", m.IMAGE)
        bag.add_topic("/cam/image_raw/compressed", m.COMPRESSED_IMAGE)
        bag.write("/cam/image_raw", 1, m.image(1, "c", np.zeros((2, 2), np.uint8)))
        bag.write("/cam/image_raw/compressed", 1, m.compressed_image(1, "c", b"\xff", "jpeg"))
    with Recording(path) as recording:
        assert find_parts(recording).image == "/cam/image_raw"
        wanted = "/cam/image_raw/compressed"
        assert find_parts(recording, image=wanted).image == wanted


def test_parts_can_be_switched_off_and_are_checked(robot_bag):
    with Recording(robot_bag) as recording:
        assert find_parts(recording, points="none").points is None
        with pytest.raises(
            RecordingError, match=r"/odom is nav_msgs/msg/Odometry; topics that fit: /points"
        ):
            find_parts(recording, points="/odom")


def test_rectified_by_name():
    assert is_rectified("/camera/image_rect_color/compressed")
    assert not is_rectified("/camera/image_raw")
    assert not is_rectified("/direct/image")


def test_bag_of_humble_without_definitions(tmp_path):
    """Before Iron, sqlite3 bags held no message definitions; the standard types are known."""
    path = write_robot(tmp_path / "old.db3", frames=1)
    database = sqlite3.connect(path)
    database.executescript(
        "DROP TABLE schema; DROP TABLE message_definitions; DROP TABLE metadata;"
        "ALTER TABLE topics DROP COLUMN type_description_hash;"
    )
    database.close()
    with Recording(path) as recording:
        assert m.camera_of(recording.first("/camera/camera_info")) == CAMERA


def test_real_ros1_camera_bag():
    with Recording(shared("ros1_bags/fiducials_aruco_images.bag")) as recording:
        parts = find_parts(recording)
        assert parts.image == "/raspicam_node/image/compressed"
        camera = model_of(recording.first(str(parts.camera_info)))
        assert (camera.width, camera.height) == (1280, 960)
        assert camera.fx == pytest.approx(1014.343103)
        message = recording.first(parts.image)
        assert decode_compressed(message.data, message.format).shape == (960, 1280, 3)


def test_real_ros1_lidar_bag():
    with Recording(shared("ros1_bags/embag_luminar_test.bag")) as recording:
        with pytest.raises(RecordingError, match="no image topic"):
            find_parts(recording)
        assert recording.first("/luminar_pointcloud").width == 35707


def test_real_ros1_fisheye_bag_has_two_cameras():
    with Recording(shared("ros1_bags/kapture_t265_trimmed_locoffice.bag")) as recording:
        with pytest.raises(RecordingError, match="several image topics"):
            find_parts(recording)
        with pytest.raises(RecordingError, match="several imu topics"):
            find_parts(recording, image="/camera/fisheye1/image_raw")
        parts = find_parts(recording, image="/camera/fisheye1/image_raw", imu="none")
        assert parts.camera_info is None
        assert recording.first(parts.image).encoding == "mono8"


def test_ros1_types_become_ros2s(tmp_path):
    """Latched /tf_static of the old tf/tfMessage type, and CameraInfo whose fields had other
    names, written by hand as ROS 1 bags hold them."""
    store = get_typestore(Stores.ROS1_NOETIC)
    store.register(
        get_types_from_msg("geometry_msgs/TransformStamped[] transforms\n", "tf/msg/tfMessage")
    )
    t = store.types
    stamp = t["builtin_interfaces/msg/Time"](7, 8)

    def header(frame):
        return t["std_msgs/msg/Header"](seq=3, stamp=stamp, frame_id=frame)

    turn = t["geometry_msgs/msg/Quaternion"](0.0, 0.0, 0.0, 1.0)
    move = t["geometry_msgs/msg/Transform"](t["geometry_msgs/msg/Vector3"](1.0, 2.0, 3.0), turn)
    edge = t["geometry_msgs/msg/TransformStamped"](header("/base"), "/camera", move)
    tf = t["tf/msg/tfMessage"]([edge])
    region = t["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
    k = np.array([60.0, 0, 31.5, 0, 61.0, 23.5, 0, 0, 1])
    info = t["sensor_msgs/msg/CameraInfo"](
        header("camera"), 48, 64, "plumb_bob", np.zeros(5), k, np.eye(3).ravel(),
        np.zeros(12), 0, 0, region,
    )  # fmt: skip
    with Writer1(tmp_path / "old.bag") as bag:
        for topic, kind, message, latching in (
            ("/tf_static", "tf/msg/tfMessage", tf, 1),
            ("/camera/camera_info", "sensor_msgs/msg/CameraInfo", info, None),
        ):
            connection = bag.add_connection(topic, kind, typestore=store, latching=latching)
            bag.write(connection, 9, store.serialize_ros1(message, kind))
    with Recording(tmp_path / "old.bag") as recording:
        assert recording.topics["/tf_static"].kind == m.TF_MESSAGE
        ((parent, child, T),) = m.transforms_of(recording.first("/tf_static"))
        assert T is not None
        assert (parent, child, T[:3, 3].tolist()) == ("base", "camera", [1.0, 2.0, 3.0])
        read = recording.first("/camera/camera_info")
        assert m.stamp_of(read) == 7_000_000_008
        assert model_of(read).fy == 61.0
        latched = {c.topic: profiles_of(c) for c in recording.connections()}
    assert latched["/tf_static"][0].durability is QosDurability.TRANSIENT_LOCAL
    assert latched["/camera/camera_info"] == []


def test_own_message_types_are_kept_apart(tmp_path):
    """A type of the user's own does not leak from one recording into another."""
    store = get_typestore(Stores.ROS2_JAZZY)
    store.register(get_types_from_msg("float64 x\nstring name\n", "mine/msg/Thing"))
    path = tmp_path / "own.mcap"
    with BagWriter(path) as bag:
        definition = store.generate_msgdef("mine/msg/Thing", ros_version=2)[0]
        digest = store.hash_rihs01("mine/msg/Thing")
        bag.copy_topic("/thing", "mine/msg/Thing", definition, digest, [])
        thing = store.types["mine/msg/Thing"](x=2.5, name="a")
        bag.write_raw("/thing", 5, store.serialize_cdr(thing, "mine/msg/Thing"))
    with Recording(path) as recording:
        assert recording.first("/thing").x == 2.5
    assert "mine/msg/Thing" not in get_typestore(Stores.ROS2_JAZZY).fielddefs


def test_sources_that_are_not_in_use_need_no_topic(robot_bag):
    taken = {"lidar": "points", "imu": "imu", "odometry": "odometry"}
    with Recording(robot_bag) as recording:
        every = parts_for(recording, TopicChoice(), taken)
        assert (every.points, every.imu, every.odometry) == ("/points", "/imu/data", "/odom")
        named = TopicChoice(sparse_depth="/camera/image_raw", odometry="/odom")
        assert parts_for(recording, named, ["sparse_depth"]).sparse_depth == "/camera/image_raw"
        for source, part in taken.items():
            one = parts_for(recording, named, [source])
            assert getattr(one, part) == getattr(every, part)
            assert one.sparse_depth is None
            assert all(getattr(one, other) is None for other in taken.values() if other != part)
