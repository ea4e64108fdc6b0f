# SPDX-License-Identifier: Apache-2.0
"""From the bags of a run to figures and pictures, on recordings made here."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pytest

from video_depth_ros.bags import messages as m
from video_depth_ros.bags.reader import Recording
from video_depth_ros.bags.topics import find_parts
from video_depth_ros.bags.writer import BagWriter
from video_depth_ros.camera import Camera
from video_depth_ros.demo import pictures
from video_depth_ros.demo.matching import matched_frames
from video_depth_ros.demo.measure import Accuracy, timing
from video_depth_ros.demo.report import make_report
from video_depth_ros.point_cloud import pack_cloud

SIZE, SMALL = (48, 64), (24, 32)
COUNT = 12
FRAME = "camera_optical_frame"
SCALE, SHIFT = 2.0, 0.3  # 1/Z = (disparity - SHIFT) / SCALE, by construction below
TOO_FAR = 1.1  # the published metric depth is 10 % too large


def truth(index: int, size: tuple[int, int]) -> np.ndarray:
    v, u = np.mgrid[0 : size[0], 0 : size[1]]
    inverse = 0.1 + 0.4 * (v + 0.5) / size[0] + 0.1 * (u + 0.5) / size[1] + 0.01 * index
    return (1.0 / inverse).astype(np.float32)


def stamp(index: int) -> int:
    return 10_000_000_000 + index * 100_000_000


@dataclass
class Run:
    """What ros.live_run hands over, made without ROS."""

    departures: dict[int, float]
    arrivals: dict[str, dict[int, float]]
    exit_status: int = 0
    drops: dict[str, int] = field(default_factory=dict)

    def dropped(self) -> dict[str, int]:
        return self.drops

    def scale_state(self) -> str:
        return "metric"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    camera = Camera(SIZE[1], SIZE[0], 50.0, 50.0, 31.5, 23.5)
    with BagWriter(tmp_path / "input.mcap") as bag:
        bag.add_topic("/camera/image_raw", m.IMAGE)
        bag.add_topic("/camera/camera_info", m.CAMERA_INFO)
        bag.add_topic("/ground_truth/depth", m.IMAGE)
        for i in range(COUNT):
            rgb = np.full((*SIZE, 3), 10 * i, np.uint8)
            bag.write("/camera/image_raw", stamp(i), m.image(stamp(i), FRAME, rgb))
            bag.write("/camera/camera_info", stamp(i), m.camera_info(stamp(i), FRAME, camera))
            bag.write(
                "/ground_truth/depth", stamp(i) + 5, m.image(stamp(i), FRAME, truth(i, SIZE))
            )
    made = range(1, COUNT)  # the first image gave nothing
    with BagWriter(tmp_path / "output.mcap") as bag:
        bag.add_topic("/depth/disparity", m.IMAGE)
        bag.add_topic("/depth/image", m.IMAGE)
        bag.add_topic("/depth/points", m.POINT_CLOUD)
        for i in made:
            depth = truth(i, SMALL)
            disparity = (SCALE / depth + SHIFT).astype(np.float32)
            bag.write("/depth/disparity", stamp(i), m.image(stamp(i), FRAME, disparity))
            if i > 3:  # metric from the fourth on
                far = m.image(stamp(i), FRAME, depth * np.float32(TOO_FAR))
                bag.write("/depth/image", stamp(i), far)
                points = camera.resized(SMALL[1], SMALL[0]).back_project(depth)
                cloud, _ = pack_cloud(
                    points.astype(np.float32), np.full((*SMALL, 3), (9, 8, 7), np.uint8)
                )
                bag.write("/depth/points", stamp(i), m.organised_cloud(stamp(i), FRAME, cloud))
    departures = {stamp(i): 0.1 * i for i in range(COUNT)}
    arrivals = {stamp(i): 0.1 * i + (0.02 if i % 2 else 0.04) for i in made}
    return Run(
        departures,
        {"/depth/disparity": arrivals, "/depth/image": {stamp(i): 0.0 for i in range(4, COUNT)}},
        drops={"decimated": 1},
    )


def test_frames_are_matched_by_stamp(run, tmp_path):
    with Recording(tmp_path / "input.mcap") as recording:
        parts = find_parts(recording)
        frames = list(matched_frames(recording, parts, tmp_path / "output.mcap"))
    assert [f.stamp_ns for f in frames] == [stamp(i) for i in range(1, COUNT)]
    for i, frame in enumerate(frames, start=1):
        assert (frame.rgb == 10 * i).all()
        np.testing.assert_array_equal(frame.truth, truth(i, SIZE))
        assert (frame.depth is None) == (i <= 3)


def test_summary_has_the_figures_of_the_run(run, tmp_path):
    ticks = []
    with Recording(tmp_path / "input.mcap") as recording:
        make_report(
            recording, find_parts(recording), run, tmp_path, lambda done, total: ticks.append(done)
        )
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["frames_in"] == COUNT and summary["frames_out"] == COUNT - 1
    assert summary["frames_dropped"] == {"decimated": 1}
    assert summary["scale_state"] == "metric"
    # exact shape, 10 % too far: bilinear interpolation is the only other error
    assert summary["abs_rel_affine"] < 0.005
    assert summary["delta1_affine"] == 1.0
    assert summary["abs_rel"] == pytest.approx(TOO_FAR - 1.0, abs=0.005)
    assert summary["scale_error"] == pytest.approx(TOO_FAR - 1.0, abs=0.005)
    assert summary["latency_ms_p50"] == pytest.approx(20.0, abs=1e-6)
    assert summary["latency_ms_p95"] == pytest.approx(40.0, abs=1e-6)
    assert summary["fps"] == pytest.approx(10.0, rel=0.03)
    assert ticks == list(range(1, 2 * (COUNT - 1) + 1))


def test_pictures_can_be_read_back(run, tmp_path):
    with Recording(tmp_path / "input.mcap") as recording:
        make_report(recording, find_parts(recording), run, tmp_path)
    video = cv2.VideoCapture(str(tmp_path / "comparison.mp4"))
    count = 0
    while video.read()[0]:
        count += 1
    assert count == COUNT - 1
    sheet = cv2.imread(str(tmp_path / "contact_sheet.png"))
    assert sheet is not None and sheet.shape[1] == 2 * 3 * SMALL[1]
    assert not list(tmp_path.glob(".*partial*"))
    header, _, body = (tmp_path / "cloud.ply").read_bytes().partition(b"end_header\n")
    assert f"element vertex {SMALL[0] * SMALL[1]}".encode() in header
    vertex = np.dtype([("xyz", "<f4", 3), ("rgb", "u1", 3)])
    cloud = np.frombuffer(body, vertex)
    np.testing.assert_allclose(cloud["xyz"][:, 2], truth(COUNT - 1, SMALL).ravel(), rtol=1e-6)
    assert (cloud["rgb"] == (9, 8, 7)).all()


def test_without_truth_and_scale_the_keys_are_null():
    assert set(Accuracy().result().values()) == {None}
    assert timing({}, {}) == {"fps": None, "latency_ms_p50": None, "latency_ms_p95": None}


def test_one_colour_range_for_the_whole_video():
    near = np.linspace(1, 2, 600, dtype=np.float32).reshape(20, 30)
    limits = pictures.colour_range([near, near, near * np.nan])
    assert limits == pytest.approx((1.02, 1.98), abs=0.01)
    coloured = pictures.colour_disparity(np.where(near > 1.9, np.nan, near), limits)
    assert (coloured[near > 1.9] == 0).all()
    assert coloured[0, 0, 2] > coloured[0, 0, 0]  # far is blue
    assert pictures.colour_range([near * np.nan]) == (0.0, 1.0)
