# SPDX-License-Identifier: Apache-2.0
"""Known answers of the boundary measures."""

from __future__ import annotations

import math

import numpy as np
import pytest

from video_depth_ros.evaluation.boundary import (
    boundary_metrics,
    depth_edges,
    image_edges,
    match_edges,
)


def step(near=2.0, far=4.0, column=8, shape=(12, 16)):
    depth = np.full(shape, far)
    depth[:, :column] = near
    return depth


def test_an_edge_is_one_pixel_wide_on_the_nearer_side():
    edges = depth_edges(step())
    assert np.flatnonzero(edges.any(axis=0)).tolist() == [7]
    assert np.flatnonzero(depth_edges(step()[:, ::-1]).any(axis=0)).tolist() == [8]
    assert np.flatnonzero(depth_edges(step().T).any(axis=1)).tolist() == [7]


def test_ratio_decides_not_difference():
    assert not depth_edges(step(100.0, 104.9)).any()
    assert depth_edges(step(1.0, 1.06)).any()


def test_of_a_steep_slope_only_the_steepest_step_remains():
    row = np.array([1.0, 1.1, 1.3, 1.7, 1.9, 2.0])  # ratios 1.10 1.18 1.31 1.12 1.05
    assert np.flatnonzero(depth_edges(row[None])[0]).tolist() == [2]


def test_image_edges_are_relative_to_the_strongest_of_the_frame():
    image = np.zeros((12, 16, 3), np.uint8)
    image[:, 5:] = 100
    image[:, 11:] = 110  # a tenth of the strongest
    assert np.flatnonzero(image_edges(image).any(axis=0)).tolist() == [4, 5]
    assert not image_edges(np.full((12, 16, 3), 7, np.uint8)).any()


def test_matching_within_one_pixel():
    reference = np.zeros((9, 9), dtype=bool)
    reference[:, 4] = True
    beside = np.roll(reference, 1, axis=1)
    assert match_edges(beside, reference) == {"precision": 1.0, "recall": 1.0, "f1": 1.0}
    assert match_edges(np.roll(reference, 2, axis=1), reference)["f1"] == 0.0
    half = reference.copy()
    half[4:] = False
    half[0, 8] = True  # one wrong of five, five of nine found (one by the tolerance)
    got = match_edges(half, reference)
    assert (got["precision"], got["recall"]) == (4 / 5, 5 / 9)
    assert got["f1"] == pytest.approx(2 * (4 / 5) * (5 / 9) / (4 / 5 + 5 / 9))
    nothing = match_edges(np.zeros_like(reference), reference)
    assert math.isnan(nothing["precision"])
    assert (nothing["recall"], nothing["f1"]) == (0.0, 0.0)
    assert match_edges(half, np.zeros_like(reference)) == {}


def test_a_frame_whose_depth_follows_the_image():
    image = np.zeros((12, 16, 3), np.uint8)
    image[:, 8:] = 200
    got = boundary_metrics(step(), image, step())
    assert got["boundary_f1"] == 1.0
    assert got["depth_boundary_f1"] == 1.0
    sparse = np.full((12, 16), np.nan)
    sparse[::3] = 2.0
    assert "depth_boundary_f1" not in boundary_metrics(step(), image, sparse)


def test_edges_next_to_unknown_truth_are_not_judged():
    image = np.zeros((12, 16, 3), np.uint8)
    image[:, 8:] = 200
    truth = step(column=4)
    predicted = step(column=4)
    predicted[:, 12:] = 9.0
    truth[:, 10:14] = 0.0
    assert boundary_metrics(predicted, image, truth)["depth_boundary_f1"] == 1.0
