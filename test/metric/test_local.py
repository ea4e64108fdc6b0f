# SPDX-License-Identifier: Apache-2.0
"""The local correction: what it must gain, and that it keeps out of the way otherwise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from video_depth_ros.metric import MetricScaler, ScaleConfig
from video_depth_ros.metric.config import LocalConfig
from video_depth_ros.metric.local import _footprints, _left_out, _pyramid, fit_local, trust
from video_depth_ros.settings import replace_flat

from .scenes import make_scene

CONFIG = LocalConfig()
SIZE = (240, 320)


def _anchors(seed: int, n: int, error: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    uv = rng.uniform(0.0, 1.0, (n, 2)) * (SIZE[1], SIZE[0])
    fitted = np.exp(rng.uniform(-3.5, -0.5, n))
    field = np.sin(uv[:, 0] / 40.0) * np.cos(uv[:, 1] / 50.0)
    return uv, fitted, fitted * np.exp(error * field)


def test_a_smooth_error_is_corrected() -> None:
    uv, fitted, measured = _anchors(0, 3000, 0.15)
    correction = fit_local(uv, fitted, measured, np.ones(3000), SIZE, CONFIG)
    assert correction is not None and correction.gain > 0.6
    assert 0.15 < np.mean(np.isfinite(correction.errors)) < 0.35
    left = np.nanmean(np.abs(correction.errors))
    assert left < 0.4 * np.mean(np.abs(np.log(measured / fitted)))


def test_noise_and_few_anchors_are_left_alone() -> None:
    uv, fitted, _ = _anchors(0, 3000, 0.0)
    noisy = fitted * np.exp(np.random.default_rng(1).normal(0.0, 0.1, 3000))
    assert fit_local(uv, fitted, noisy, np.ones(3000), SIZE, CONFIG) is None
    uv, fitted, measured = _anchors(0, 100, 0.15)
    assert fit_local(uv, fitted, measured, np.ones(100), SIZE, CONFIG) is None


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 1000), cell=st.sampled_from([8, 16, 24]))
def test_one_grid_holds_all_levels(seed: int, cell: int) -> None:
    """The sum of the nested grids at any place is the value of the finest grid there."""
    config = replace_flat(CONFIG, {"cell": cell})
    uv, fitted, measured = _anchors(seed, 500, 0.2)
    third = np.random.default_rng(seed).uniform(0.0, 1.0, 500)
    corners = _footprints(uv, third, SIZE, config)
    grid, value = _pyramid(corners, np.log(measured / fitted), np.ones(500), 0.1)
    finest = corners[-1]
    read = (grid.reshape(-1)[finest.index] * finest.share).sum(axis=0)
    np.testing.assert_allclose(read, value, atol=2e-3)


def test_pixels_are_corrected_like_anchors() -> None:
    uv, fitted, measured = _anchors(3, 4000, 0.15)
    uv = np.floor(uv)
    correction = fit_local(uv, fitted, measured, np.ones(4000), SIZE, CONFIG)
    assert correction is not None
    pixels = uv.astype(int)
    _, which = np.unique(pixels, axis=0, return_index=True)  # one anchor for each pixel
    u, v = pixels[which].T
    image = torch.full(SIZE, float("nan"), dtype=torch.float64)
    image[v, u] = torch.from_numpy(fitted[which])
    corrected = correction.apply(image)
    assert corrected.isnan().equal(image.isnan())
    now = corrected[v, u].numpy()
    before = np.mean(np.abs(np.log(measured[which] / fitted[which])))
    assert np.mean(np.abs(np.log(measured[which] / now))) < 0.3 * before


def test_gross_outliers_have_no_say() -> None:
    _, fitted, measured = _anchors(4, 2000, 0.1)
    measured[::20] *= 5.0
    weight = trust(fitted, measured, np.full(2000, 1e-4))
    assert (weight[::20] == 0.0).all() and np.delete(weight, np.s_[::20]).min() > 0.2
    imprecise = trust(fitted, measured, 0.5 * measured)
    assert imprecise.max() < 0.05


@pytest.mark.parametrize("seed", range(3))
def test_with_a_lidar_the_error_falls_by_a_third(seed: int) -> None:
    scene = make_scene(seed, error=0.12)
    errors = {}
    for enabled in (False, True):
        scaler = MetricScaler(replace_flat(ScaleConfig(), {"local.enabled": enabled}))
        scaler.add_points(scene.scan(4000), 0, scene.T_camera_lidar)
        scale = scaler.update(scene.tensor, scene.rgb, scene.camera, 0, 0)
        depth, sigma = scaler.depth(scene.tensor, scale)
        off = np.abs(depth.numpy() - scene.depth)
        errors[enabled] = np.nanmean(off / scene.depth)
        known = np.isfinite(depth.numpy())
        assert 0.5 < np.mean(off[known] < sigma.numpy()[known]) < 0.95
        assert scaler.report(0).local is enabled
    assert errors[True] < 0.67 * errors[False]


def test_without_a_ridge_no_vertex_is_undefined() -> None:
    uv, fitted, measured = _anchors(0, 500, 0.2)
    made = fit_local(uv, fitted, measured, np.ones(500), SIZE, LocalConfig(ridge=0.0))
    assert made is None or (np.isfinite(made.grid).all() and np.isfinite(made.gain))


def test_what_is_left_out_to_measure_the_gain_is_left_out_in_whole_cells() -> None:
    """Neighbours on one ring would stand in for single anchors that are left out."""
    uv = np.stack(np.meshgrid(np.arange(320.0), np.arange(240.0)), axis=2).reshape(-1, 2)
    left_out = _left_out(uv, 16).reshape(15, 16, 20, 16)
    cells = np.asarray(left_out.any(axis=(1, 3)))
    np.testing.assert_array_equal(cells, left_out.all(axis=(1, 3)))
    assert cells.mean() == pytest.approx(0.25, abs=0.07)
    assert all(0.0 < cells[half].mean() < 0.5 for half in (slice(0, 7), slice(7, 15)))
