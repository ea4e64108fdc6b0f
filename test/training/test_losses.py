# SPDX-License-Identifier: Apache-2.0
"""Losses against direct loops, and the invariances they claim."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from video_depth_ros.training.losses import (
    affine_abs_rel,
    depth_loss,
    depth_offset,
    fit_affine,
    latent_loss,
    pixel_loss,
    relative_weight,
)


def _random(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_latent_loss_is_mse_plus_half_the_three_difference_terms():
    p, z = _random(2, 3, 4, 5, 6, seed=1), _random(2, 3, 4, 5, 6, seed=2)
    a, b = p.numpy(), z.numpy()
    mse = np.mean((a - b) ** 2)
    terms = []
    for axis in (2, 3, 4):  # written out index by index, as in the paper
        n = a.shape[axis]
        later, earlier = np.arange(1, n), np.arange(n - 1)
        da = np.take(a, later, axis) - np.take(a, earlier, axis)
        db = np.take(b, later, axis) - np.take(b, earlier, axis)
        terms.append(np.mean(np.abs(da - db)))
    total, parts = latent_loss(p, z)
    assert float(total) == pytest.approx(mse + 0.5 * sum(terms), rel=1e-12)
    assert [float(parts[k]) for k in ("dt", "dh", "dw")] == pytest.approx(terms, rel=1e-12)


def test_images_have_no_time_term():
    p, z = _random(2, 3, 1, 5, 6, seed=1), _random(2, 3, 1, 5, 6, seed=2)
    total, parts = latent_loss(p, z)
    assert float(parts["dt"]) == 0.0
    assert torch.isfinite(total)
    assert float(latent_loss(p, z, lmr=0.0)[0]) == pytest.approx(float(parts["mse"]))


@settings(max_examples=20, deadline=None)
@given(st.floats(0.2, 5.0), st.floats(-3.0, 3.0), st.integers(0, 99))
def test_fit_recovers_scale_and_shift(scale, shift, seed):
    target = _random(2, 3, 6, 7, seed=seed)
    weight = (_random(2, 3, 6, 7, seed=seed + 1) > 0.3).double()
    s, t = fit_affine((target - shift) / scale, target, weight)
    # the ridge of 1e-4 on the variance bounds the error
    var = float(((target - shift) / scale).var())
    assert s.flatten().tolist() == pytest.approx([scale] * 2, rel=5e-4 / var)
    assert t.shape == (2, 1, 1, 1)


def test_a_flat_prediction_gives_finite_gradients():
    flat = torch.full((1, 2, 8, 8), 0.5, requires_grad=True)
    target = _random(1, 2, 8, 8).float()
    loss, _ = pixel_loss(flat, target, torch.ones_like(target), torch.ones_like(target))
    loss.backward()
    assert flat.grad is not None
    assert torch.isfinite(flat.grad).all()
    assert float(flat.grad.abs().sum()) > 0


def test_pixel_loss_ignores_unknown_pixels_and_a_perfect_affine_prediction():
    target = _random(2, 3, 16, 16)
    known = _random(2, 3, 16, 16, seed=5) > 0.2
    weight = torch.ones_like(target)
    predicted = 1.7 * target + 0.3
    _, parts = pixel_loss(predicted, target, known, weight)
    assert float(parts["l1"]) < 1e-3 and float(parts["grad"]) < 1e-3
    assert float(parts["raw"]) > 0.01  # the term that holds the absolute range
    spoiled = torch.where(known, predicted, torch.full_like(predicted, 50.0))
    _, other = pixel_loss(spoiled, target, known, weight)
    for name in ("l1", "raw", "temp"):
        assert float(other[name]) == pytest.approx(float(parts[name]), abs=1e-12)


def test_temporal_term_sees_flicker_that_the_spatial_one_does_not():
    target = torch.full((1, 4, 8, 8), 0.5, dtype=torch.float64)
    target[..., :4] = 0.1
    flicker = torch.tensor([0.0, 0.1, 0.0, 0.1], dtype=torch.float64).view(1, 4, 1, 1)
    weight = torch.ones_like(target)
    _, steady = pixel_loss(target, target, weight, weight)
    _, shaky = pixel_loss(target + flicker, target, weight, weight)
    assert float(shaky["temp"]) > 0.08 > 1e-3 > float(steady["temp"])
    assert float(shaky["grad"]) < 0.5 * float(shaky["temp"])


def test_relative_weight_has_mean_one_and_favours_the_far():
    target = torch.linspace(0, 1, 64).view(1, 1, 8, 8)
    weight = relative_weight(target, torch.tensor([0.2]), torch.tensor([1.2]))
    assert float(weight.mean()) == pytest.approx(1.0, rel=1e-5)
    flat = weight.flatten()
    assert (flat[1:] < flat[:-1]).all()
    # half of 1 / (d + 0.2): twice the relative error at d = 0 as at d = 0.2, before the average
    ratio = (flat[0] - 0.5) / (flat[-1] - 0.5)
    assert float(ratio) == pytest.approx(1.2 / 0.2, rel=1e-4)


def test_abs_rel_known_answer():
    # metric disparity 0.5 + d; the ends of the range are clipped targets and are not read
    target = torch.linspace(0, 1, 65, dtype=torch.float64).view(1, 1, 5, 13)
    known = torch.ones_like(target)
    low, high = torch.tensor([0.5]), torch.tensor([1.5])
    exact = affine_abs_rel(2 * target - 1, target, known, low, high)
    assert float(exact) < 1e-3
    flat = affine_abs_rel(torch.zeros_like(target), target, known, low, high)
    truth = target[0, 0].flatten()[1:-1] + 0.5
    by_hand = (truth / truth.mean() - 1).abs().mean()
    assert float(flat) == pytest.approx(float(by_hand), rel=1e-6)
    # everything beyond 1 m is left out: only d > 0.5 counts
    near = affine_abs_rel(torch.zeros_like(target), target, known, low, high, max_depth=1.0)
    truth = truth[truth > 1.0]
    assert float(near) == pytest.approx(float((truth / truth.mean() - 1).abs().mean()), rel=1e-6)


def test_depth_loss_is_abs_rel_where_nothing_is_left_out():
    target = 0.05 + 0.9 * _random(2, 3, 6, 7, seed=3)
    aligned = target + 0.1 * (_random(2, 3, 6, 7, seed=4) - 0.5)
    low, high = torch.tensor([0.5, 0.1]).double(), torch.tensor([1.5, 2.1]).double()
    span = (high - low).view(-1, 1, 1, 1)
    truth, predicted = (
        low.view(-1, 1, 1, 1) + span * target,
        low.view(-1, 1, 1, 1) + span * aligned,
    )
    by_hand = ((1 / predicted - 1 / truth).abs() * truth).mean()  # in metres
    loss = depth_loss(aligned, target, torch.ones_like(target), depth_offset(low, high))
    assert float(loss) == pytest.approx(float(by_hand), rel=1e-9)


def test_depth_loss_is_lopsided_bounded_and_blind_to_sky_and_unknown():
    target = torch.full((1, 1, 1, 4), 0.5, dtype=torch.float64)
    offset = torch.tensor([0.5]).double()
    known = torch.ones_like(target)

    def of(disparity: float) -> float:
        return float(depth_loss(torch.full_like(target, disparity), target, known, offset))

    assert of(0.0) == pytest.approx(1.0)  # twice too far
    assert of(1.5) == pytest.approx(0.5)  # twice too near
    assert of(-0.5) == of(-9.0) == pytest.approx(3.0)  # infinitely far, and behind
    aligned = torch.tensor([0.5, 9.0, -9.0, 0.5]).double().view(1, 1, 1, 4).requires_grad_()
    target[..., 1] = 0.0  # sky
    known[..., 3] = 0.0
    loss = depth_loss(aligned, target, known, offset)
    assert float(loss.detach()) == pytest.approx(1.5)  # one exact, one at the bound
    loss.backward()
    assert aligned.grad is not None and not aligned.grad[..., 1:].any()


def test_depth_term_joins_the_pixel_loss_by_its_weight():
    target, weight = _random(2, 3, 16, 16), torch.ones(2, 3, 16, 16).double()
    predicted, offset = _random(2, 3, 16, 16, seed=8), torch.tensor([0.2, 0.4]).double()
    without, _ = pixel_loss(predicted, target, weight, weight)
    total, parts = pixel_loss(predicted, target, weight, weight, offset=offset, depth=0.7)
    assert float(total - without) == pytest.approx(0.7 * float(parts["depth"]), rel=1e-9)
