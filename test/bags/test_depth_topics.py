# SPDX-License-Identifier: Apache-2.0
"""Depth is told from pictures, and depth of another camera from that of the images."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from video_depth_ros.bags import messages as m
from video_depth_ros.bags.contents import depth_of
from video_depth_ros.bags.depth_topics import holds_depth
from video_depth_ros.bags.reader import Recording
from video_depth_ros.bags.reprocess import reprocess
from video_depth_ros.bags.topics import TopicChoice, camera_info_of, find_parts, true_depth_of
from video_depth_ros.bags.writer import BagWriter
from video_depth_ros.camera import Camera
from video_depth_ros.errors import RecordingError
from video_depth_ros.node_config import DepthNodeConfig
from video_depth_ros.settings import replace_flat

from .samples import CAMERA, PERIOD, START, picture, sloped_laboratory

COLOUR = "/device_0/sensor_1/Color_0"
DEPTH = "/device_0/sensor_0/Depth_0"
OTHER = Camera(64, 48, 38.0, 38.0, 31.5, 23.5)
MILLIMETRES = np.full((48, 64), 4000, np.uint16)


def png(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".png", pixels)[1].tobytes()


def write_viewer(path: Path, depth_camera: Camera) -> Path:
    """As librealsense's viewer records: all in frame "0", depth as mono16."""
    with BagWriter(path) as bag:
        for stream in (COLOUR, DEPTH):
            bag.add_topic(f"{stream}/image/data", m.IMAGE)
            bag.add_topic(f"{stream}/info/camera_info", m.CAMERA_INFO)
        for i in range(9):
            t = START + i * PERIOD
            bag.write(f"{COLOUR}/info/camera_info", t, m.camera_info(t, "", CAMERA))
            bag.write(f"{DEPTH}/info/camera_info", t, m.camera_info(t, "", depth_camera))
            bag.write(f"{DEPTH}/image/data", t, m.image(t, "0", MILLIMETRES, "mono16"))
            bag.write(f"{COLOUR}/image/data", t, m.image(t, "0", picture(i)))
    return path


def test_a_recording_of_the_realsense_viewer(tmp_path):
    with Recording(write_viewer(tmp_path / "in.mcap", OTHER)) as recording:
        parts = find_parts(recording)
        assert parts.image == f"{COLOUR}/image/data"
        assert parts.camera_info == f"{COLOUR}/info/camera_info"
        assert camera_info_of(recording, f"{DEPTH}/image/data") == f"{DEPTH}/info/camera_info"
        assert true_depth_of(recording, parts.image, parts.camera_info) is None
        for choose in (
            lambda: find_parts(recording, sparse_depth=f"{DEPTH}/image/data"),
            lambda: true_depth_of(
                recording, parts.image, parts.camera_info, f"{DEPTH}/image/data"
            ),
        ):
            with pytest.raises(
                RecordingError, match=r"not registered.*38\.0, 38\.0, 31.*60\.0, 60"
            ):
                choose()


def test_depth_of_the_same_camera_is_taken(tmp_path):
    """At half the size, too: what counts is the camera, not its pixels."""
    half = CAMERA.resized(32, 24)
    for camera in (CAMERA, half):
        path = write_viewer(tmp_path / f"{camera.width}.mcap", camera)
        with Recording(path) as recording:
            parts = find_parts(recording, sparse_depth=f"{DEPTH}/image/data")
            assert parts.sparse_depth == f"{DEPTH}/image/data"
            truth = true_depth_of(recording, parts.image, parts.camera_info)
            assert truth == f"{DEPTH}/image/data"
    uncalibrated = m.camera_info(START, "", CAMERA)
    uncalibrated.k[:] = 0.0
    with BagWriter(tmp_path / "none.mcap") as bag:
        bag.add_topic("/colour/image", m.IMAGE)
        bag.add_topic("/depth/image", m.IMAGE)
        bag.add_topic("/colour/camera_info", m.CAMERA_INFO)
        bag.add_topic("/depth/camera_info", m.CAMERA_INFO)
        bag.write("/colour/image", START, m.image(START, "c", picture(0)))
        bag.write("/depth/image", START, m.image(START, "c", MILLIMETRES))
        bag.write("/colour/camera_info", START, m.camera_info(START, "c", CAMERA))
        bag.write("/depth/camera_info", START, uncalibrated)
    with Recording(tmp_path / "none.mcap") as recording:  # it tells nothing, and refuses nothing
        assert true_depth_of(recording, "/colour/image", "/colour/camera_info") == "/depth/image"


@pytest.mark.parametrize(
    ("topic", "form", "depth"),
    [
        ("/cam/image/compressed", "16UC1; png compressed ", True),
        ("/cam/image/compressed", "rgb8; jpeg compressed bgr8", False),
        ("/cam/image/compressed", "jpeg", False),
        ("/cam/image/compressed", "mono16; png compressed ", False),
        ("/depth/image/compressed", "mono16; png compressed ", True),
        ("/cam/packed", "32FC1; compressedDepth png", True),
        ("/cam/image/compressedDepth", "png", True),
    ],
)
def test_compressed_depth_is_no_picture(tmp_path, topic, form, depth):
    with BagWriter(tmp_path / "in.mcap") as bag:
        bag.add_topic(topic, m.COMPRESSED_IMAGE)
        bag.write(topic, START, m.compressed_image(START, "c", png(MILLIMETRES), form))
    with Recording(tmp_path / "in.mcap") as recording:
        assert holds_depth(recording, topic) is depth
        if depth:
            for wanted in (None, topic):
                with pytest.raises(RecordingError, match=r"other than depth|holds depth, not pic"):
                    find_parts(recording, image=wanted)
        else:
            assert find_parts(recording).image == topic


@pytest.mark.parametrize("topic", ["/infrared/image", "/depth_camera/ir/image_raw"])
def test_infrared_images_of_16_bits_are_pictures(tmp_path, topic):
    with BagWriter(tmp_path / "in.mcap") as bag:
        bag.add_topic(topic, m.IMAGE)
        bag.write(topic, START, m.image(START, "c", MILLIMETRES, "mono16"))
    with Recording(tmp_path / "in.mcap") as recording:
        assert find_parts(recording).image == topic
        assert true_depth_of(recording, topic, None) is None


def test_rectified_images_are_compared_by_the_matrix_that_holds(tmp_path):
    """Colour is rectified to 50 px, as depth is; its K of 60 px is of the raw image."""
    colour = m.camera_info(START, "c", CAMERA)
    colour.d = np.array([0.1, 0.0, 0.0, 0.0, 0.0])
    colour.p = np.array([50.0, 0, 31.5, 0, 0, 50.0, 23.5, 0, 0, 0, 1, 0])
    depth = m.camera_info(START, "c", Camera(64, 48, 50.0, 50.0, 31.5, 23.5))
    with BagWriter(tmp_path / "in.mcap") as bag:
        for folder, info, pixels in (("cam", colour, picture(0)), ("depth", depth, MILLIMETRES)):
            bag.add_topic(f"/{folder}/image_rect", m.IMAGE)
            bag.add_topic(f"/{folder}/camera_info", m.CAMERA_INFO)
            bag.write(f"/{folder}/image_rect", START, m.image(START, "c", pixels))
            bag.write(f"/{folder}/camera_info", START, info)
    with Recording(tmp_path / "in.mcap") as recording:
        parts = find_parts(recording, sparse_depth="/depth/image_rect")
        assert parts.sparse_depth == "/depth/image_rect"
        assert true_depth_of(recording, parts.image, parts.camera_info) == "/depth/image_rect"


def test_truth_is_what_can_be_decoded_and_counts_once(tmp_path):
    """RVL is not known here; PNG by two transports is one image."""
    rvl = m.compressed_image(START, "c", bytes(40), "16UC1; compressedDepth rvl")
    packed = m.compressed_image(
        START, "c", bytes(12) + png(MILLIMETRES), "16UC1; compressedDepth png"
    )
    plain = m.compressed_image(START, "c", png(MILLIMETRES), "16UC1; png compressed")
    for name, topics, truth in (
        ("rvl", {"/d/image/compressedDepth": rvl}, None),
        ("both", {"/d/image/compressed": plain, "/d/image/compressedDepth": packed}, "/d/image/"),
    ):
        with BagWriter(tmp_path / f"{name}.mcap") as bag:
            bag.add_topic("/cam/image", m.IMAGE)
            bag.write("/cam/image", START, m.image(START, "c", picture(0)))
            for topic, message in topics.items():
                bag.add_topic(topic, m.COMPRESSED_IMAGE)
                bag.write(topic, START, message)
        with Recording(tmp_path / f"{name}.mcap") as recording:
            assert find_parts(recording).image == "/cam/image"
            found = true_depth_of(recording, "/cam/image", None)
            assert found is None if truth is None else str(found).startswith(truth)


@pytest.mark.parametrize("transport", ["compressedDepth", "compressed"])
def test_compressed_depth_gives_scale_and_truth(tmp_path, transport):
    header, form = (bytes(12), "16UC1; compressedDepth png")
    if transport == "compressed":
        header, form = (b"", "16UC1; png compressed ")
    path, topic = tmp_path / "in.mcap", f"/aligned_depth/image_raw/{transport}"
    with BagWriter(path) as bag:
        bag.add_topic("/colour/image_raw", m.IMAGE)
        bag.add_topic("/colour/camera_info", m.CAMERA_INFO)
        bag.add_topic(topic, m.COMPRESSED_IMAGE)
        for i in range(9):
            t = START + i * PERIOD
            bag.write("/colour/camera_info", t, m.camera_info(t, "c", CAMERA))
            message = m.compressed_image(t, "c", header + png(MILLIMETRES), form)
            bag.write(topic, t, message)
            np.testing.assert_allclose(depth_of(message), 4.0)
            bag.write("/colour/image_raw", t, m.image(t, "c", picture(i)))
    with Recording(path) as recording:
        assert true_depth_of(recording, "/colour/image_raw", "/colour/camera_info") == topic
    config = replace_flat(DepthNodeConfig(), {"scale.sources": ("sparse_depth",)})
    choice = TopicChoice(sparse_depth=topic)
    out = tmp_path / "out.mcap"
    summary = reprocess(path, out, config, sloped_laboratory(), topics=choice)
    assert not summary.dropped and summary.sources["sparse_depth"].received == 9


def test_the_lens_of_librealsense_is_known():
    info = m.camera_info(START, "", CAMERA)
    info.distortion_model, info.d = "Brown Conrady", np.array([0.1, -0.2, 0.001, 0.0, 0.03])
    camera = m.camera_of(info)
    assert camera is not None and camera.distortion_model == "plumb_bob"
