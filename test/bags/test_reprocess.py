# SPDX-License-Identifier: Apache-2.0
"""`video_depth reprocess`: the real pipeline over real bags, with true disparity behind the
regressor contract where a network would be."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest
import torch
from rosbags.highlevel import AnyReader

from video_depth_ros.bags import messages as m
from video_depth_ros.bags.depth_messages import OUTPUTS
from video_depth_ros.bags.reader import Recording
from video_depth_ros.bags.reprocess import ReprocessSummary, TopicChoice, reprocess
from video_depth_ros.bags.static_transforms import StaticTransforms
from video_depth_ros.bags.topics import Parts
from video_depth_ros.bags.writer import BagWriter
from video_depth_ros.cli import main as command
from video_depth_ros.cli.reprocess import report
from video_depth_ros.config import apply_overrides
from video_depth_ros.decoding import decode_depth
from video_depth_ros.errors import InputError, RecordingError, RegressorError
from video_depth_ros.evaluation.laboratory import LaboratoryFaults, LaboratoryRegressor
from video_depth_ros.metric.reasons import Verdict
from video_depth_ros.metric.report import SourceRecord
from video_depth_ros.node_config import DepthNodeConfig
from video_depth_ros.regressors import registry
from video_depth_ros.regressors.preprocessing import cover_size

from .samples import (
    BASE_CAMERA,
    BASE_LIDAR,
    CAMERA,
    PERIOD,
    START,
    layout,
    picture,
    shared,
    write_robot,
)

CONFIG = apply_overrides(DepthNodeConfig(), ["scale.sources=[lidar]"])
BOX = (60, 80)
SIZE = cover_size(CAMERA.height, CAMERA.width, BOX, 1)


def wall_depth() -> np.ndarray:
    """True depth [h, w] of the wall x = 4 + 0.8 y of `wall_scan`, seen by the camera."""
    camera = CAMERA.resized(SIZE[1], SIZE[0])
    ray = camera.rays() @ BASE_CAMERA[:3, :3].T  # in the base
    origin = BASE_CAMERA[:3, 3] - BASE_LIDAR[:3, 3]
    # origin_x + Z ray_x = 4 + 0.8 (origin_y + Z ray_y)
    return (4.0 + 0.8 * origin[1] - origin[0]) / (ray[..., 0] - 0.8 * ray[..., 1])


def laboratory() -> LaboratoryRegressor:
    disparity = torch.from_numpy(1.5 / wall_depth()).float()
    faults = LaboratoryFaults(noise=0.002, outliers=0.0)
    return LaboratoryRegressor(lambda index: disparity, faults)


def raw_messages(path: Path, skip: str = "/depth") -> list[tuple[str, int, bytes]]:
    with AnyReader([path]) as reader:
        kept = [c for c in reader.connections if not c.topic.startswith(skip)]
        return [(c.topic, t, bytes(data)) for c, t, data in reader.messages(kept)]


@pytest.fixture(scope="module")
def done(robot_bag, tmp_path_factory):
    """The robot's bag reprocessed once for several tests."""
    out = tmp_path_factory.mktemp("done") / "depth.mcap"
    steps: list[tuple[int, int]] = []
    summary = reprocess(
        robot_bag, out, CONFIG, laboratory(), progress=lambda *step: steps.append(step)
    )
    return out, summary, steps


def test_every_image_gets_disparity_and_progress_is_complete(done):
    _, summary, steps = done
    assert (summary.images, summary.estimates) == (9, 9)
    assert not summary.dropped
    assert summary.parts.imu is None  # not among the sources in use
    total = steps[-1][1]
    assert steps == [(i, total) for i in range(1, total + 1)]


def test_metric_depth_is_the_walls(done):
    out, summary, _ = done
    assert summary.metric >= 5
    with Recording(out) as recording:
        depths = [
            decode_depth(*layout(recording.decode(r)))
            for r in recording.messages(["/depth/image"])
        ]
    assert len(depths) == summary.metric
    error = np.abs(depths[-1] / wall_depth() - 1.0)
    assert np.nanmedian(error) < 0.02 and np.isfinite(depths[-1]).mean() > 0.99


def test_outputs_carry_the_header_of_their_image(done):
    out, summary, _ = done
    with Recording(out) as recording:
        received = {
            r.time_ns: recording.decode(r) for r in recording.messages(["/camera/image_raw"])
        }
        for topic in [t for t in recording.topics if t.startswith("/depth/")]:
            count = 0
            for result in recording.messages([topic]):
                message, source = recording.decode(result), received[result.time_ns]
                assert m.stamp_of(message) == m.stamp_of(source)
                assert message.header.frame_id == "camera_optical_frame"
                count += 1
            assert count == (summary.estimates if topic.endswith("disparity") else summary.metric)
        added = {name for name in recording.topics if name.startswith("/depth/")}
        assert added == {f"/depth/{name}" for name in OUTPUTS}
        times = [r.time_ns for r in recording.messages()]
        assert times == sorted(times)


def test_camera_and_cloud_fit_the_depth_image(done):
    out, _, _ = done
    with Recording(out) as recording:
        camera = m.camera_of(recording.first("/depth/camera_info"))
        assert camera is not None and camera == CAMERA.resized(SIZE[1], SIZE[0])
        depth = decode_depth(*layout(recording.first("/depth/image")))
        cloud = recording.first("/depth/points")
        assert (cloud.height, cloud.width, cloud.point_step) == (*SIZE, 16)
        xyz = np.asarray(cloud.data).reshape(*SIZE, 16)[..., :12].copy().view("<f4")
        np.testing.assert_allclose(xyz, camera.back_project(depth), rtol=1e-5, atol=1e-5)


def test_clouds_may_be_fewer_and_thinner(robot_bag, tmp_path):
    out = tmp_path / "out.mcap"
    changed = ["output.cloud_max_rate=4.0", "output.cloud_decimation=2"]  # images come at 10 Hz
    reprocess(robot_bag, out, apply_overrides(CONFIG, changed), laboratory())
    with Recording(out) as recording:
        stamps = {
            name: [m.stamp_of(recording.decode(r)) for r in recording.messages([f"/depth/{name}"])]
            for name in ("image", "points")
        }
        assert stamps["points"] == stamps["image"][::3]
        cloud = recording.first("/depth/points")
        assert (cloud.height, cloud.width) == (-(-SIZE[0] // 2), -(-SIZE[1] // 2))


def test_original_topics_are_copied_byte_for_byte(robot_bag, done):
    out, _, _ = done
    assert raw_messages(out) == raw_messages(robot_bag)
    with AnyReader([robot_bag]) as before, AnyReader([out]) as after:
        offered = {c.topic: c.ext.offered_qos_profiles for c in after.connections}
        for connection in before.connections:
            assert offered[connection.topic] == connection.ext.offered_qos_profiles


def test_it_is_causal(robot_bag, done, tmp_path):
    """Cutting the recording short does not change what came before."""
    out, _, _ = done
    cut = write_robot(tmp_path / "cut.mcap", frames=5)  # a whole number of groups: 1 + 4
    reprocess(cut, tmp_path / "cut_depth.mcap", CONFIG, laboratory())

    def results(path):
        with AnyReader([path]) as reader:
            ours = [c for c in reader.connections if c.topic.startswith("/depth")]
            return [(c.topic, t, bytes(d)) for c, t, d in reader.messages(ours)]

    short = results(tmp_path / "cut_depth.mcap")
    last = START + 4 * PERIOD + 5_000_000
    assert short == [r for r in results(out) if r[1] <= last]


def test_mounting_comes_from_parameters_where_the_bag_has_none(robot_bag, tmp_path):
    bare = tmp_path / "bare.mcap"
    with Recording(robot_bag) as recording, BagWriter(bare) as bag:
        for topic in ("/camera/image_raw", "/camera/camera_info", "/points"):
            bag.add_topic(topic, recording.topics[topic].kind)
            for received in recording.messages([topic]):
                bag.write_raw(topic, received.time_ns, received.data)
    without = reprocess(bare, tmp_path / "without.mcap", CONFIG, laboratory())
    assert without.metric == 0 and without.estimates == 9
    assert without.dropped == {"points_transform": 9}
    assert "extrinsics.points" in without.first_problems["points_transform"]
    T = np.linalg.inv(BASE_CAMERA) @ BASE_LIDAR
    pose = [*T[:3, 3].tolist(), 0.5, -0.5, 0.5, 0.5]
    given = apply_overrides(CONFIG, [f"extrinsics.points={pose}"])
    assert reprocess(bare, tmp_path / "with.mcap", given, laboratory()).metric >= 5


def test_bad_measurements_are_counted_and_the_rest_goes_on(tmp_path):
    """A truncated scan, an image of unknown encoding, one that comes twice."""
    path = write_robot(tmp_path / "in.mcap")
    faulty = tmp_path / "faulty.mcap"
    with Recording(path) as recording, BagWriter(faulty) as bag:
        for topic in recording.topics.values():
            bag.add_topic(topic.name, topic.kind)
        images = 0
        for received in recording.messages():
            data = received.data
            if received.topic == "/camera/image_raw":
                images += 1
                message = recording.decode(received)
                if images == 4:
                    bag.write_raw(received.topic, received.time_ns, data)
                if images == 6:
                    message.encoding = "mystery"
                    data = m.serialise(message, m.IMAGE)
            if received.topic == "/points" and images == 2:
                message = recording.decode(received)
                message.data = message.data[:100]
                data = m.serialise(message, m.POINT_CLOUD)
            bag.write_raw(received.topic, received.time_ns, data)
    summary = reprocess(faulty, tmp_path / "out.mcap", CONFIG, laboratory())
    assert summary.dropped == {
        "image_duplicate": 1,
        "image_encoding": 1,
        "points_truncated": 1,
    }
    assert (summary.images, summary.estimates) == (10, 8)


@pytest.mark.parametrize("frame", ["depth_camera", "camera_optical_frame", ""])
def test_sparse_depth_must_be_registered_to_the_images(robot_bag, tmp_path, frame):
    path = tmp_path / "in.mcap"
    with Recording(robot_bag) as recording, BagWriter(path) as bag:
        for topic in ("/camera/image_raw", "/camera/camera_info"):
            bag.add_topic(topic, recording.topics[topic].kind)
        bag.add_topic("/sparse", m.IMAGE)
        for received in recording.messages(["/camera/image_raw", "/camera/camera_info"]):
            bag.write_raw(received.topic, received.time_ns, received.data)
            if received.topic == "/camera/image_raw":
                stamp_ns = m.stamp_of(recording.decode(received))
                depth = np.full((CAMERA.height, CAMERA.width), 4.0, np.float32)
                bag.write("/sparse", received.time_ns, m.image(stamp_ns, frame, depth))
    config = apply_overrides(DepthNodeConfig(), ["scale.sources=[sparse_depth]"])
    choice = TopicChoice(sparse_depth="/sparse")
    summary = reprocess(path, tmp_path / "out.mcap", config, laboratory(), topics=choice)
    refused = {"sparse_depth_frame": 9} if frame == "depth_camera" else {}
    assert summary.dropped == refused


def test_images_of_another_camera_start_the_stream_anew(tmp_path):
    frames = ["left"] * 6 + ["right"] * 6
    with BagWriter(tmp_path / "bag.mcap") as bag:
        bag.add_topic("/image", m.IMAGE)
        for i, frame in enumerate(frames):
            t = START + i * PERIOD
            bag.write("/image", t, m.image(t, frame, picture(i)))
    summary = reprocess(tmp_path / "bag.mcap", tmp_path / "out.mcap", CONFIG, laboratory())
    assert (summary.images, summary.estimates, summary.resets) == (12, 12, 1)
    with Recording(tmp_path / "out.mcap") as recording:
        disparities = [
            recording.decode(received)
            for received in recording.messages()
            if received.topic == "/depth/disparity"
        ]
    assert [str(message.header.frame_id) for message in disparities] == frames


def test_nothing_is_left_when_the_network_fails(robot_bag, tmp_path):
    class Failing(LaboratoryRegressor):
        def open(self, height, width):
            session = super().open(height, width)
            session.push = _fail  # type: ignore[method-assign]
            return session

    disparity = torch.ones(SIZE)
    with pytest.raises(RegressorError, match="out of order"):
        reprocess(robot_bag, tmp_path / "out.mcap", CONFIG, Failing(lambda i: disparity))
    assert list(tmp_path.iterdir()) == []


def _fail(*_):
    raise RegressorError("out of order")


def test_ros1_bags_become_rosbag2_with_depth(tmp_path):
    source = shared("ros1_bags/kapture_t265_trimmed_locoffice.bag")
    topic_name = "/camera/fisheye1/image_raw"
    choice = TopicChoice(image=topic_name)
    height, width = cover_size(800, 848, BOX, 1)
    regressor = LaboratoryRegressor(
        lambda i: torch.rand(height, width, generator=torch.Generator().manual_seed(i))
    )
    out = tmp_path / "out"
    summary = reprocess(source, out, CONFIG, regressor, topics=choice)
    assert (summary.images, summary.estimates, summary.metric) == (3, 3, 0)
    with Recording(source) as before, Recording(out) as after:
        for name, topic in before.topics.items():
            assert after.topics[name] == topic
        one, two = before.first(topic_name), after.first(topic_name)
        np.testing.assert_array_equal(one.data, two.data)
        assert m.stamp_of(one) == m.stamp_of(two)


def test_types_of_ones_own_survive_a_bag_without_definitions(tmp_path):
    """Humble's sqlite3 bags name types without defining them."""
    path = write_robot(tmp_path / "old.db3", frames=5)
    database = sqlite3.connect(path)
    database.executescript(
        "DROP TABLE schema; DROP TABLE message_definitions; DROP TABLE metadata;"
        "UPDATE topics SET name = '/thing', type = 'mine/msg/Thing' WHERE name = '/imu/data';"
        "ALTER TABLE topics DROP COLUMN type_description_hash;"
    )
    database.close()
    for out in (tmp_path / "out.mcap", tmp_path / "out.db3"):
        reprocess(path, out, CONFIG, laboratory())
        with Recording(out) as recording:
            assert recording.topics["/thing"].kind == "mine/msg/Thing"
            copied = [r.data for r in recording.messages(["/thing"])]
        with Recording(path) as recording:
            assert copied == [r.data for r in recording.messages(["/thing"])]


@pytest.mark.parametrize("late", [1, 4])
def test_an_image_that_comes_again_after_others_starts_the_stream_anew(tmp_path, late):
    """0.1 s or 0.4 s late: time moves back to the stamp of an image whose depth may not be out."""
    path = write_robot(tmp_path / "in.mcap")
    again = tmp_path / "again.mcap"
    with Recording(path) as recording, BagWriter(again) as bag:
        for topic in recording.topics.values():
            bag.add_topic(topic.name, topic.kind)
        stamps: list[int] = []
        for received in recording.messages():
            bag.write_raw(received.topic, received.time_ns, received.data)
            if received.topic == "/camera/image_raw":
                stamps.append(m.stamp_of(recording.decode(received)))
                if len(stamps) == 2:
                    repeated = received.data
                if len(stamps) == 2 + late:
                    bag.write_raw(received.topic, received.time_ns + 1, repeated)
    out = tmp_path / "out.mcap"
    config = apply_overrides(CONFIG, ["stream.max_backward=0.05"])
    summary = reprocess(again, out, config, laboratory())
    assert (summary.images, summary.dropped) == (len(stamps) + 1, {})
    assert summary.resets >= 1
    with Recording(out) as recording:
        seen = [m.stamp_of(recording.decode(r)) for r in recording.messages(["/depth/disparity"])]
    assert sorted(seen) == sorted([*stamps, stamps[1]])


def test_a_static_transform_that_is_none_costs_itself_alone():
    turned = np.diag([-1.0, -1.0, 1.0, 1.0])
    frames = StaticTransforms([("base", "camera", turned), ("base", "gripper", None)])
    np.testing.assert_allclose(frames.lookup("camera", "base"), turned)
    with pytest.raises(InputError, match=r"no poses, and passed over: base to gripper"):
        frames.lookup("camera", "gripper")


def test_static_transforms_compose_along_the_chain(robot_bag):
    with Recording(robot_bag) as recording:
        frames = StaticTransforms.of(recording)
    expected = np.linalg.inv(BASE_CAMERA) @ BASE_LIDAR
    T = frames.lookup("/camera_optical_frame", "lidar")
    np.testing.assert_allclose(T, expected, atol=1e-12)
    with pytest.raises(InputError, match=r"'sonar'.*its frames are base_link"):
        frames.lookup("base_link", "sonar")


@pytest.fixture
def video_depth(monkeypatch):
    """The command with only the subcommand under test."""
    monkeypatch.setattr(command, "COMMANDS", ("reprocess",))
    return command.main


def test_the_command_reports_what_it_did(robot_bag, tmp_path, video_depth, capsys, monkeypatch):
    monkeypatch.setattr(registry, "load", lambda config: laboratory())
    out, params = tmp_path / "out.db3", tmp_path / "params.yaml"
    params.write_text("depth_node:\n  ros__parameters:\n    scale: {sources: [lidar]}\n")
    arguments = ["reprocess", str(robot_bag), str(out), "--params", str(params)]
    assert video_depth(arguments) == 0
    printed = capsys.readouterr()
    assert f"{out}: 9 images, 9 disparity and" in printed.out and not printed.err.strip()
    assert video_depth(arguments) == 2
    assert "exists already" in capsys.readouterr().err
    encoding = ["--set", "output.encoding=16UC1", "--overwrite"]
    assert video_depth([*arguments, *encoding]) == 0
    with Recording(out) as recording:
        image = recording.first("/depth/image")
        assert image.encoding == "16UC1"
        assert np.nanmedian(decode_depth(*layout(image)) / wall_depth()) == pytest.approx(
            1, abs=0.05
        )
    capsys.readouterr()
    assert video_depth([*arguments, "--points-topic", "none", "--overwrite"]) == 0
    assert "no metric depth: the scale stayed unknown" in capsys.readouterr().err
    assert video_depth([*arguments, "--set", "scale.sources=[none]", "--overwrite"]) == 0
    assert "metric depth:" not in capsys.readouterr().err
    with Recording(out) as recording:
        assert recording.of_kind(m.IMAGE) == ["/camera/image_raw", "/depth/disparity"]


@pytest.mark.parametrize("metric", [5, 9])
def test_the_command_tells_why_much_of_the_depth_is_not_metric(metric, capsys):
    told = SourceRecord(received=9)
    for verdict in [Verdict.ACCEPTED] * 5 + [Verdict.MISALIGNED] * 4:
        told.count(verdict)
    summary = ReprocessSummary(Parts("/image", None, None, None, None, None), 9, 9, metric)
    summary.sources["lidar"] = told
    report(summary, Path("out.mcap"))
    printed = capsys.readouterr()
    assert f"9 disparity and {metric} metric" in printed.out
    line = "lidar: 9 received; accepted 5, misaligned 4 (see docs/metric.md)"
    assert printed.err.strip() == (line if metric == 5 else "")


def test_the_command_names_what_was_left_out_and_a_missing_camera_info(capsys):
    summary = ReprocessSummary(Parts("/image", None, None, None, None, None), 9, 9, 0)
    summary.left_out["/thing"] = "its definition of mine/msg/Thing: it is empty"
    report(summary, Path("out.mcap"))
    printed = capsys.readouterr().err
    assert "/thing is not in out.mcap: its definition of mine/msg/Thing: it is empty" in printed
    assert "no camera_info belongs to /image by its name or frame_id" in printed


def _no_images(folder: Path) -> str:
    with BagWriter(folder / "bag.mcap") as bag:
        bag.add_topic("/points", m.POINT_CLOUD)
        bag.write("/points", 1, m.cloud(1, "lidar", np.zeros((1, 3))))
    return "has no image topic"


def _two_cameras(folder: Path) -> str:
    with BagWriter(folder / "bag.mcap") as bag:
        for topic in ("/left/image_raw", "/right/image_raw"):
            bag.add_topic(topic, m.IMAGE)
            bag.write(topic, 1, m.image(1, "camera", picture(0)))
    return "several image topics: /left/image_raw, /right/image_raw"


def _missing(folder: Path) -> str:
    return "does not exist"


def _unreadable(folder: Path) -> str:
    (folder / "bag.mcap").write_bytes(b"\x89MCAP0\r\n but then nothing of the kind")
    return "cannot read"


def _truncated(folder: Path) -> str:
    write_robot(folder / "bag.mcap")
    data = (folder / "bag.mcap").read_bytes()
    (folder / "bag.mcap").write_bytes(data[:-1000])
    return "cannot read"


@pytest.mark.parametrize("damage", [_no_images, _two_cameras, _missing, _unreadable, _truncated])
def test_bad_bags_are_one_clear_line(tmp_path, video_depth, capsys, damage):
    message = damage(tmp_path)
    before = sorted(p.name for p in tmp_path.iterdir())
    assert video_depth(["reprocess", str(tmp_path / "bag.mcap"), str(tmp_path / "out.mcap")]) == 2
    printed = capsys.readouterr()
    assert message in printed.err and printed.err.strip().count("\n") == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "scale.speed=3"], "unknown parameter 'scale.speed'"),
        (["--set", "regressor.name=nobody"], "unknown regressor 'nobody'"),
        (["--params", "{tmp}/none.yaml"], "cannot read parameters"),
        (["--points-topic", "/nowhere"], "/nowhere is not there"),
        (["--prefix", "depth"], "expected a prefix like /depth"),
        (["--storage", "tape"], "unknown storage 'tape'"),
    ],
)
def test_bad_options_are_one_clear_line(
    robot_bag, tmp_path, video_depth, capsys, arguments, message
):
    filled = [a.format(tmp=tmp_path) for a in arguments]
    out = str(tmp_path / "out.mcap")
    assert video_depth(["reprocess", str(robot_bag), out, *filled]) == 2
    printed = capsys.readouterr()
    assert message in printed.err and printed.err.strip().count("\n") == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("part", "kind"), [("image", m.IMAGE), ("points", m.POINT_CLOUD)])
def test_a_named_topic_without_messages_is_one_clear_line(
    robot_bag, tmp_path, video_depth, capsys, part, kind
):
    path = tmp_path / "in.mcap"
    with Recording(robot_bag) as recording, BagWriter(path) as bag:
        bag.add_topic("/silent", kind)
        bag.add_topic("/camera/image_raw", m.IMAGE)
        for received in recording.messages(["/camera/image_raw"]):
            bag.write_raw(received.topic, received.time_ns, received.data)
    out = tmp_path / "out.mcap"
    assert video_depth(["reprocess", str(path), str(out), f"--{part}-topic", "/silent"]) == 2
    printed = capsys.readouterr()
    assert "/silent holds no message; topics that fit: " in printed.err
    assert printed.err.strip().count("\n") == 0 and not out.exists()


def test_input_and_earlier_outputs_are_protected(robot_bag, done, tmp_path):
    with pytest.raises(RecordingError, match="is the input itself"):
        reprocess(robot_bag, robot_bag, CONFIG, laboratory(), overwrite=True)
    with pytest.raises(RecordingError, match=r"holds /depth/image.*--prefix"):
        reprocess(done[0], tmp_path / "again.mcap", CONFIG, laboratory())
    again = reprocess(
        done[0], tmp_path / "again.mcap", CONFIG, laboratory(), prefix="/second/depth"
    )
    assert again.parts.points == "/points" and again.metric >= 5
