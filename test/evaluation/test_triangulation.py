# SPDX-License-Identifier: Apache-2.0
"""Depth made from true poses."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from video_depth_ros.bags.formats.base import SequenceFrame
from video_depth_ros.bags.sequences import open_sequence
from video_depth_ros.camera import Camera
from video_depth_ros.errors import RecordingError
from video_depth_ros.evaluation.triangulation import Triangulated, triangulate

SHARED = Path(os.environ.get("VIDEO_DEPTH_SHARED", Path(__file__).parents[3] / "shared")) / "data"
CAMERA = Camera(160, 120, 140.0, 140.0, 79.5, 59.5, "plumb_bob", (-0.1, 0.02, 0.001, 0.0, 0.0))


class Wall:
    """A textured wall 4 m away, and a camera that moves 3 cm to the right per frame."""

    frame_count = 12

    def __init__(self, poses: bool = True, still: bool = False) -> None:
        self.camera: Camera | None = Camera(160, 120, 140.0, 140.0, 79.5, 59.5)
        self._poses, self._step = poses, 0.0 if still else 0.03
        noise = np.random.default_rng(0).uniform(0, 255, (160, 260)).astype(np.float32)
        texture = cv2.GaussianBlur(noise, (0, 0), 2.0)
        self._texture = cv2.normalize(texture, np.empty_like(texture), 0, 255, cv2.NORM_MINMAX)

    def frames(self):
        for k in range(self.frame_count):
            shift = 140.0 * self._step * k / 4.0
            M = np.array([[1.0, 0.0, -shift], [0.0, 1.0, 0.0]])
            grey = cv2.warpAffine(self._texture, M, (160, 120), flags=cv2.INTER_CUBIC)
            pose = np.eye(4)
            pose[0, 3] = self._step * k
            rgb = np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, axis=2)
            yield SequenceFrame(k, rgb, None, pose if self._poses else None)


@settings(deadline=None, max_examples=25)
@given(
    x=st.floats(-0.8, 0.8), y=st.floats(-0.6, 0.6), z=st.floats(2.0, 6.0),
    angle=st.floats(-0.1, 0.1),
)  # fmt: skip
def test_exact_views_give_the_exact_point(x, y, z, angle):
    poses = []
    for k in range(4):
        T = np.eye(4)
        T[:3, :3] = cv2.Rodrigues(np.array([0.0, angle * k / 3, 0.02 * k]))[0]
        T[:3, 3] = (0.15 * k + 100.0, 0.01 * k - 50.0, 0.02 * k)
        poses.append(T)
    point = np.array([x + 100.0, y - 50.0, z, 1.0])
    seen = np.array([(np.linalg.inv(T) @ point)[:3] for T in poses])
    uv, valid = CAMERA.project(seen)
    depths = triangulate(CAMERA, uv, np.array(poses))
    if valid.all():
        assert depths is not None
        np.testing.assert_allclose(depths, seen[:, 2], rtol=1e-6)
        uv[2] += 20.0  # it has moved
        assert triangulate(CAMERA, uv, np.array(poses)) is None


def test_a_pixel_past_the_fold_of_the_lens_gives_no_depth():
    folded = Camera(640, 480, 500.0, 500.0, 319.5, 239.5, "plumb_bob", (-0.4, 0.0, 0.0, 0.0, 0.0))
    poses = np.stack([np.eye(4), np.eye(4)])
    poses[1, 0, 3] = 0.5
    assert triangulate(folded, np.array([[0.0, 0.0], [10.0, 0.0]]), poses) is None


def test_a_wall_is_found_where_it_stands():
    frames = list(Triangulated(Wall()).frames())
    for frame in (frames[0], frames[-1]):
        assert frame.depth is not None
        known = frame.depth[np.isfinite(frame.depth)]
        assert len(known) > 20
        assert np.abs(np.median(known) / 4.0 - 1.0) < 0.01
        assert np.abs(known / 4.0 - 1.0).max() < 0.1


def test_without_baseline_there_is_no_depth():
    for frame in Triangulated(Wall(still=True)).frames():
        assert frame.depth is not None
        assert not np.isfinite(frame.depth).any()


def test_what_is_missing_is_named():
    with pytest.raises(RecordingError, match="true poses"):
        list(Triangulated(Wall(poses=False)).frames())
    blind = Wall()
    blind.camera = None
    with pytest.raises(RecordingError, match="camera model"):
        list(Triangulated(blind).frames())


def test_only_the_frames_asked_for_are_read():
    sequence = Triangulated(Wall(), max_frames=5)
    assert sequence.frame_count == 5
    assert len(list(sequence.frames())) == 5


def test_euroc_views_agree_on_the_room():
    path = SHARED / "euroc_v1_01_easy_90f"
    if not path.is_dir():
        pytest.skip("recording euroc_v1_01_easy_90f is not there (VIDEO_DEPTH_SHARED)")
    frames = list(Triangulated(open_sequence("euroc", path), max_frames=30).frames())
    counts = [np.isfinite(f.depth).sum() for f in frames if f.depth is not None]
    assert np.median(counts) > 50
    depths = np.concatenate([f.depth[np.isfinite(f.depth)] for f in frames if f.depth is not None])
    low, high = np.quantile(depths, (0.02, 0.98))
    assert 0.5 < low < high < 15.0  # a room of about 8 m
