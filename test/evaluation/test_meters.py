# SPDX-License-Identifier: Apache-2.0
"""What a meter makes of missing maps, missing truth and missing poses."""

from __future__ import annotations

import numpy as np
import pytest

from video_depth_ros.bags.formats.base import SequenceFrame
from video_depth_ros.camera import Camera
from video_depth_ros.evaluation.meters import TrueFrame, TruePair, VideoMeter
from video_depth_ros.evaluation.protocols import protocol_of

CAMERA = Camera(40, 30, 40.0, 40.0, 19.5, 14.5)
RGB = np.zeros((30, 40, 3), np.uint8)


def seen(index, depth, pose=None):
    truth = None if depth is None else np.full((30, 40), depth, np.float32)
    return TrueFrame(index, SequenceFrame(index, RGB, truth, pose), truth)


def meter():
    return VideoMeter(protocol_of("default"), lambda values, shape: values)


def test_a_frame_without_a_map_counts_against_coverage_only():
    taken = meter()
    taken.add(np.full((30, 40), 2.2), seen(0, 2.0), None)
    taken.add(None, seen(1, 2.0), None)
    taken.add(None, seen(2, None), None)  # nobody knows what is missing here
    got = taken.result()
    assert got["coverage"] == 0.5
    assert got["abs_rel"] == pytest.approx(0.1)
    assert taken.frames == 1


def test_unknown_depth_has_no_errors_but_is_not_covered():
    taken = meter()
    taken.add(np.full((30, 40), np.nan), seen(0, 2.0), None)
    assert taken.result() == {"coverage": 0.0}


def test_pairs_need_truth_in_two_consecutive_frames():
    assert TruePair.of(seen(0, 2.0), seen(2, 2.0), CAMERA) is None
    assert TruePair.of(seen(0, 2.0), seen(1, None), CAMERA) is None
    by_place = TruePair.of(seen(0, 2.0), seen(1, 2.0), CAMERA)
    assert by_place is not None
    assert by_place.T_1_0 is None
    assert len(by_place.points.first) == 1200


def test_pose_of_the_pair_maps_points_of_the_first_frame_to_the_second():
    moved = np.eye(4)
    moved[2, 3] = 0.5  # half a metre forward
    pair = TruePair.of(seen(0, 2.0, np.eye(4)), seen(1, 1.5, moved), CAMERA)
    assert pair is not None
    assert pair.T_1_0 is not None
    assert pair.T_1_0[2, 3] == -0.5
    taken = meter()
    taken.add(np.full((30, 40), 2.0), seen(0, 2.0), None)
    taken.add(np.full((30, 40), 1.5), seen(1, 1.5), pair)
    got = taken.result()
    assert got["temporal_alignment_error"] == pytest.approx(0.0, abs=1e-6)
    assert got["flicker"] == pytest.approx(0.0, abs=1e-6)
    assert got["relative_temporal_difference"] == pytest.approx(0.0, abs=1e-6)
