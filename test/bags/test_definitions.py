# SPDX-License-Identifier: Apache-2.0
"""Definitions that cannot be read cost their own topic, and files that are no bags are named."""

from __future__ import annotations

import sqlite3

import numpy as np
import pytest
from rosbags.rosbag1 import Writer as Writer1
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from video_depth_ros.bags import messages as m
from video_depth_ros.bags.bag_files import full_name
from video_depth_ros.bags.reader import Recording
from video_depth_ros.bags.reprocess import reprocess
from video_depth_ros.bags.topics import find_parts, true_depth_of
from video_depth_ros.bags.writer import BagWriter
from video_depth_ros.errors import RecordingError
from video_depth_ros.node_config import DepthNodeConfig

from .samples import PERIOD, START, picture, sloped_laboratory

EVENT = "example_interfaces/srv/AddTwoInts_Event"
AS_ROSBAG2_WRITES_IT = f"MSG: {EVENT}\nint64 a\nint64 b\n---\nint64 sum\n"
HASH = "RIHS01_" + "0" * 64


def write_images(bag: BagWriter, count: int = 5) -> None:
    bag.add_topic("/image", m.IMAGE)
    for i in range(count):
        t = START + i * PERIOD
        bag.write("/image", t, m.image(t, "camera", picture(i)))


@pytest.mark.parametrize(
    ("name", "hashed"), [("in.mcap", True), ("in.db3", True), ("in.db3", False)]
)
def test_a_camera_is_read_beside_a_service_whose_definition_has_no_grammar(tmp_path, name, hashed):
    path = tmp_path / name
    with BagWriter(path) as bag:
        bag.copy_topic("/add/_service_event", EVENT, AS_ROSBAG2_WRITES_IT, HASH, [])
        bag.write_raw("/add/_service_event", START, b"\0\1\0\0whatever")
        write_images(bag)
    if not hashed:
        database = sqlite3.connect(path)
        database.execute("UPDATE topics SET type_description_hash = '' WHERE name LIKE '/add%'")
        database.commit()
        database.close()
    reprocess(path, tmp_path / "out.mcap", DepthNodeConfig(), sloped_laboratory())
    for file in (path, tmp_path / "out.mcap"):
        with Recording(file) as recording:
            assert recording.topics["/add/_service_event"].kind == EVENT and not recording.left_out
            (event,) = recording.messages(["/add/_service_event"])
            assert event.data == b"\0\1\0\0whatever"
            with pytest.raises(RecordingError, match=f"definition of {EVENT} cannot be read"):
                recording.decode(event)
            (connection,) = (c for c in recording.connections() if c.topic == event.topic)
            assert connection.msgdef.data == AS_ROSBAG2_WRITES_IT


def test_a_definition_of_another_hash_is_not_believed(tmp_path):
    store = get_typestore(Stores.ROS2_JAZZY)
    text = store.generate_msgdef(m.IMAGE, ros_version=2)[0]
    path = tmp_path / "in.db3"
    with BagWriter(path) as bag:
        bag.copy_topic("/image", m.IMAGE, text, HASH, [])
        bag.write("/image", START, m.image(START, "camera", picture(0)))
    with (
        Recording(path) as recording,
        pytest.raises(RecordingError, match=f"it does not belong to its hash {HASH}"),
    ):
        recording.first("/image")


@pytest.mark.parametrize("storage", ["mcap", "db3"])
def test_types_named_without_their_folder_are_known(tmp_path, storage):
    """``sensor_msgs/Image``, as recorders that are not ROS's own write it."""
    store = get_typestore(Stores.ROS2_JAZZY)
    text = store.generate_msgdef(m.IMAGE, ros_version=2)[0]
    path = tmp_path / f"in.{storage}"
    with BagWriter(path) as bag:
        bag.copy_topic("/image", "sensor_msgs/Image", text, store.hash_rihs01(m.IMAGE), [])
        for i in range(5):
            t = START + i * PERIOD
            data = store.serialize_cdr(m.image(t, "camera", picture(i)), m.IMAGE)
            bag.write_raw("/image", t, data)
    out = tmp_path / "out.mcap"
    summary = reprocess(path, out, DepthNodeConfig(), sloped_laboratory())
    assert summary.estimates == 5
    with Recording(out) as recording:
        assert recording.topics["/image"].kind == m.IMAGE
    assert full_name("a/srv/B_Event") == "a/srv/B_Event" and full_name("a/B") == "a/msg/B"


TWICE = "float64 x\nfloat64 x\n"  # parsed, and refused when it is to be used
OTHER_HEADER = f"std_msgs/Header header\n{'=' * 80}\nMSG: std_msgs/Header\nstring frame_id\n"


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("text", [TWICE, OTHER_HEADER, "not a definition"])
@pytest.mark.parametrize("name", ["in.mcap", "in.db3"])
def test_a_wrong_definition_costs_its_own_type_alone(tmp_path, name, text, first):
    """Whichever comes first, and whatever types the wrong one defines beside its own."""
    path = tmp_path / name
    with BagWriter(path) as bag:
        if first:
            bag.copy_topic("/a_thing", "mine/msg/Thing", text, HASH, [])
        write_images(bag)
        if not first:
            bag.copy_topic("/a_thing", "mine/msg/Thing", text, HASH, [])
        bag.write_raw("/a_thing", START, b"\0\1\0\0whatever")
    with Recording(path) as recording:
        assert find_parts(recording).image == "/image"
        assert recording.first("/image").header.frame_id == "camera"


@pytest.mark.parametrize("kind", [m.IMU, m.POINT_CLOUD, m.CAMERA_INFO, m.TF_MESSAGE])
def test_a_topic_that_cannot_be_read_plays_no_part(tmp_path, kind):
    path = tmp_path / "in.mcap"
    with BagWriter(path) as bag:
        bag.copy_topic("/tf_static", kind, "not a definition", HASH, [])
        bag.write_raw("/tf_static", START, b"\0\1\0\0whatever")
        write_images(bag)
    summary = reprocess(path, tmp_path / "out.mcap", DepthNodeConfig(), sloped_laboratory())
    assert summary.estimates == 5 and not summary.dropped
    with Recording(tmp_path / "out.mcap") as recording:
        assert list(recording.unreadable) == ["/tf_static"]
        with pytest.raises(RecordingError, match=r"/tf_static cannot be read: its definition of"):
            recording.require("/tf_static", kind)


def test_damage_of_a_topic_that_nobody_asks_for_is_passed_over(tmp_path):
    path = tmp_path / "in.mcap"
    with BagWriter(path) as bag:
        write_images(bag)
        for topic, kind in (("/other/compressed", m.COMPRESSED_IMAGE), ("/third", m.IMAGE)):
            bag.add_topic(topic, kind)
            bag.write_raw(topic, START, b"\0\1\0\0\7")
    with Recording(path) as recording:
        assert find_parts(recording, image="/image").image == find_parts(recording).image
        assert true_depth_of(recording, "/image", None) is None


def test_files_that_overlap_in_time_are_read_in_the_order_of_reception(tmp_path):
    folder = tmp_path / "split"
    folder.mkdir()
    for k, times in enumerate(([1, 4, 5], [2, 3, 6])):
        with BagWriter(folder / f"{k}.mcap") as bag:
            bag.add_topic("/image", m.IMAGE)
            for t in times:
                bag.write("/image", t, m.image(t, "camera", picture(t)))
    with Recording(folder) as recording:
        assert [received.time_ns for received in recording.messages()] == [1, 2, 3, 4, 5, 6]


def test_a_sound_definition_serves_the_other_connections_of_its_type(tmp_path):
    store = get_typestore(Stores.ROS1_NOETIC)
    kind = "std_msgs/msg/Header"
    header = store.types[kind](
        seq=3, stamp=store.types["builtin_interfaces/msg/Time"](7, 8), frame_id="c"
    )
    text, digest = store.generate_msgdef(kind)
    for order in (["/sound", "/empty"], ["/empty", "/sound"]):
        path = tmp_path / f"{order[0][1:]}.bag"
        with Writer1(path) as bag:
            for topic in order:
                given = text if topic == "/sound" else ""
                connection = bag.add_connection(topic, kind, msgdef=given, md5sum=digest)
                bag.write(connection, 9, store.serialize_ros1(header, kind))
        with Recording(path) as recording:
            assert not recording.left_out
            assert {recording.first(t).frame_id for t in ("/sound", "/empty")} == {"c"}


def test_a_ros_1_topic_without_definition_is_left_out_and_named(tmp_path):
    store = get_typestore(Stores.ROS1_NOETIC)
    store.register(get_types_from_msg("float64 x\n", "mine/msg/Thing"))
    t = store.types
    header = t["std_msgs/msg/Header"](
        seq=3, stamp=t["builtin_interfaces/msg/Time"](7, 8), frame_id="c"
    )
    pixels = np.zeros((48, 64, 3), np.uint8)
    picture = t["sensor_msgs/msg/Image"](header, 48, 64, "rgb8", 0, 192, pixels.ravel())
    thing = t["mine/msg/Thing"](2.5)
    path = tmp_path / "in.bag"
    with Writer1(path) as bag:
        image = bag.add_connection("/image", "sensor_msgs/msg/Image", typestore=store)
        bag.write(image, 9, store.serialize_ros1(picture, "sensor_msgs/msg/Image"))
        digest = store.generate_msgdef("mine/msg/Thing")[1]
        other = bag.add_connection("/thing", "mine/msg/Thing", msgdef="", md5sum=digest)
        bag.write(other, 10, store.serialize_ros1(thing, "mine/msg/Thing"))
    summary = reprocess(path, tmp_path / "out.mcap", DepthNodeConfig(), sloped_laboratory())
    assert summary.images == 1 and list(summary.left_out) == ["/thing"]
    assert "definition of mine/msg/Thing: it does not belong" in summary.left_out["/thing"]
    with Recording(tmp_path / "out.mcap") as recording:
        assert "/image" in recording.topics and "/thing" not in recording.topics


def test_a_camera_without_definition_is_named(tmp_path):
    with Writer1(tmp_path / "in.bag") as bag:
        bag.add_connection("/image", "sensor_msgs/msg/Image", msgdef="", md5sum="0" * 32)
    with (
        Recording(tmp_path / "in.bag") as recording,
        pytest.raises(RecordingError, match="holds no topics; /image cannot be read: its def"),
    ):
        find_parts(recording)


def test_what_is_no_recording_of_ros_is_not_called_interrupted(tmp_path):
    path = tmp_path / "a.mcap"
    with BagWriter(path) as bag:
        write_images(bag, 1)
    foreign = path.read_bytes().replace(b"\x04\0\0\0ros2", b"\x04\0\0\0mine", 1)
    (tmp_path / "foreign.mcap").write_bytes(foreign)
    (tmp_path / "text.bag").write_text('{"a": "bag by its name alone"}')
    for name, said in (("foreign.mcap", "not recorded by ROS 2"), ("text.bag", "it is no bag")):
        with pytest.raises(RecordingError, match=said) as caught:
            Recording(tmp_path / name)
        assert "recover" not in str(caught.value)


def test_missing_files_of_a_recording_are_asked_for(tmp_path):
    with BagWriter(tmp_path / "bag") as bag:
        write_images(bag, 1)
    (tmp_path / "bag" / "bag.mcap").unlink()
    with pytest.raises(RecordingError, match=r"bag\.mcap.*put them beside metadata\.yaml"):
        Recording(tmp_path / "bag")
