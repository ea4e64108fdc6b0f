# SPDX-License-Identifier: Apache-2.0
"""Known answers of the boundary measures."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from video_depth_ros.evaluation.boundary import (
    BoundaryMeter,
    EdgeCounts,
    depth_boundary_f1,
    directed_edges,
    image_edges,
    thin_edges,
)


def step(near=2.0, far=4.0, column=8, shape=(12, 16)):
    depth = np.full(shape, far)
    depth[:, :column] = near
    return depth


def matched(predicted, reference):
    counts = EdgeCounts()
    counts.add(predicted, reference)
    return counts.result()


def columns(edges):
    return np.flatnonzero(edges.any(axis=0)).tolist()


@pytest.mark.parametrize("edges_of", [thin_edges, directed_edges])
def test_an_edge_is_one_pixel_wide_on_the_nearer_side(edges_of):
    assert columns(edges_of(step())) == [7]
    assert columns(edges_of(step()[:, ::-1])) == [8]
    assert columns(edges_of(step().T).T) == [7]


def test_ratio_decides_not_difference():
    assert not thin_edges(step(100.0, 104.9)).any()
    assert thin_edges(step(1.0, 1.06)).any()


@pytest.mark.parametrize("edges_of", [thin_edges, directed_edges])
def test_of_a_steep_slope_only_the_steepest_step_remains(edges_of):
    row = np.array([1.0, 1.1, 1.3, 1.7, 1.9, 2.0])  # ratios 1.10 1.18 1.31 1.12 1.05
    assert columns(edges_of(row[None])) == [2]


def test_a_ridge_has_one_thin_edge_and_two_directed_ones():
    row = np.array([2.0, 2.0, 3.0, 2.0, 2.0])
    assert columns(thin_edges(row[None])) == [3]
    assert columns(directed_edges(row[None])) == [1, 3]


def test_image_edges_are_relative_to_the_strongest_of_the_frame():
    image = np.zeros((12, 16, 3), np.uint8)
    image[:, 5:14] = 100
    image[:, 11:14] = 110  # a tenth of the strongest
    assert columns(image_edges(image)[3:9]) == [4, 5, 13, 14]
    assert not image_edges(np.zeros((12, 16, 3), np.uint8)).any()


def test_matching_within_one_pixel():
    reference = np.zeros((9, 9), dtype=bool)
    reference[:, 4] = True
    beside = np.roll(reference, 1, axis=1)
    assert matched(beside, reference) == {"precision": 1.0, "recall": 1.0, "f1": 1.0}
    assert matched(np.roll(reference, 2, axis=1), reference)["f1"] == 0.0
    half = reference.copy()
    half[4:] = False
    half[0, 8] = True  # one wrong of five, five of nine found (one by the tolerance)
    got = matched(half, reference)
    assert (got["precision"], got["recall"]) == (4 / 5, 5 / 9)
    assert got["f1"] == pytest.approx(2 * (4 / 5) * (5 / 9) / (4 / 5 + 5 / 9))
    nothing = matched(np.zeros_like(reference), reference)
    assert math.isnan(nothing["precision"])
    assert (nothing["recall"], nothing["f1"]) == (0.0, 0.0)
    assert matched(half, np.zeros_like(reference)) == {}


def test_edges_of_the_image_count_where_the_truth_is_valid():
    image = np.zeros((12, 16, 3), np.uint8)
    image[:, 8:] = 200
    valid = np.zeros((12, 16), dtype=bool)
    valid[:, :4] = True
    meter = BoundaryMeter()
    meter.add(step(), image, valid)
    assert meter.result() == {}  # nothing to find there
    valid[3:9, :12] = True  # of the step, and not of the bright rim
    meter.add(step(), image, valid)
    assert meter.result()["boundary_f1"] == 1.0


def test_figures_are_those_of_dvds_formulas_over_the_whole_video():
    rng = np.random.default_rng(4)
    rgb = rng.integers(0, 256, (3, 20, 28, 3), np.uint8)
    rgb[1:] //= 4
    depth = np.exp(0.15 * rng.standard_normal((3, 20, 28))).round(1) + 0.5  # with equal steps
    depth[0] = 1.0
    valid = rng.random((3, 20, 28)) < 0.6
    meter = BoundaryMeter()
    for frame in zip(depth, rgb, valid, strict=True):
        meter.add(*frame)
    got = meter.result()
    wanted = _by_pooling(*map(torch.from_numpy, (depth, rgb, valid)))
    for name, value in zip(("precision", "recall", "f1"), wanted, strict=True):
        assert got[f"boundary_{name}"] == pytest.approx(value, abs=1e-6)


def _by_pooling(depth, rgb, valid):
    """Ratios to the four neighbours, suppressed and matched by max-pooling, as torch has it."""
    grey = (rgb.double() / 255 @ torch.tensor([0.299, 0.587, 0.114]).double())[:, None]
    across = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]]).double()
    kernels = torch.stack((across, across.T))[:, None]
    size = (functional.conv2d(grey, kernels, padding=1).square().sum(1) + 1e-6).sqrt()
    low, high = (f(size, dim=(1, 2))[:, None, None] for f in (torch.amin, torch.amax))
    reference = ((size - low) / (high - low + 1e-6) > 0.15) & valid
    wide = functional.pad(depth[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    edges = torch.zeros_like(valid)
    for beside, window in (
        (wide[:, 1:-1, 2:], (1, 3)), (wide[:, 1:-1, :-2], (1, 3)),
        (wide[:, 2:, 1:-1], (3, 1)), (wide[:, :-2, 1:-1], (3, 1)),
    ):  # fmt: skip
        ratio = beside / depth
        padding = (window[0] // 2, window[1] // 2)
        largest = functional.max_pool2d(ratio[:, None], window, 1, padding)[:, 0]
        edges |= (ratio > 1.05) & (ratio == largest)
    edges &= valid
    grown = [functional.max_pool2d(m[:, None].double(), 3, 1, 1)[:, 0] for m in (reference, edges)]
    precision = float((edges * grown[0]).sum() / edges.sum())
    recall = float((reference * grown[1]).sum() / reference.sum())
    return precision, recall, 2 * precision * recall / (precision + recall)


def test_a_frame_whose_depth_follows_the_truth():
    assert depth_boundary_f1(step(), step()) == 1.0
    sparse = np.full((12, 16), np.nan)
    sparse[::3] = 2.0
    assert depth_boundary_f1(step(), sparse) is None


def test_edges_next_to_unknown_truth_are_not_judged():
    truth = step(column=4)
    predicted = step(column=4)
    predicted[:, 12:] = 9.0
    truth[:, 10:14] = 0.0
    assert depth_boundary_f1(predicted, truth) == 1.0
