# SPDX-License-Identifier: Apache-2.0
"""The affine fit: exactness, invariances, outliers of every kind, verdicts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from video_depth_ros.alignment import (
    AlignmentConfig,
    FitLimits,
    FitVerdict,
    fit_affine,
    fit_dvd,
)
from video_depth_ros.alignment.start import best_start

LIMITS = FitLimits(scale_low=0.7, scale_high=1.5)
WIDE = FitLimits(flat_spread=1e-6)


def disparities(n: int, seed: int) -> np.ndarray:
    """Inverse depths of a robot's view: many far, few near."""
    return 1.0 / np.exp(np.random.default_rng(seed).uniform(np.log(1.3), np.log(30.0), n))


@settings(max_examples=40, deadline=None)
@given(
    scale=st.floats(0.05, 20.0),
    shift=st.floats(-3.0, 3.0),
    seed=st.integers(0, 1000),
    n=st.sampled_from([64, 500, 3000, 9000]),
)
def test_recovers_any_affine_map_exactly(scale, shift, seed, n):
    cur = disparities(n, seed)
    fit = fit_affine(cur, scale * cur + shift, limits=WIDE)
    assert fit.verdict is FitVerdict.ACCEPTED
    assert fit.scale == pytest.approx(scale, rel=1e-6)
    assert fit.shift == pytest.approx(shift, abs=1e-6 * max(1.0, scale))
    assert fit.inlier_share == 1.0


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000))
def test_order_of_pixels_does_not_matter(seed):
    rng = np.random.default_rng(seed)
    cur = disparities(1500, seed)
    ref = 1.2 * cur + 0.1 + rng.normal(0.0, 0.01, cur.size)
    ref[rng.random(cur.size) < 0.3] = 0.5
    order = rng.permutation(cur.size)
    one, two = fit_affine(cur, ref), fit_affine(cur[order], ref[order])
    assert two.scale == pytest.approx(one.scale, rel=1e-9)
    assert two.shift == pytest.approx(one.shift, abs=1e-9)
    assert two.verdict is one.verdict


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    a=st.floats(0.2, 5.0),
    b=st.floats(-2.0, 2.0),
    c=st.floats(0.2, 5.0),
    e=st.floats(-2.0, 2.0),
)
def test_equivariant_to_affine_changes_of_both_sides(seed, a, b, c, e):
    rng = np.random.default_rng(seed)
    cur = disparities(1500, seed)
    noisy = cur + rng.normal(0.0, 0.005, cur.size)
    ref = 1.1 * cur + 0.05 + rng.normal(0.0, 0.005, cur.size)
    ref[rng.random(cur.size) < 0.2] = 0.4
    plain = fit_affine(noisy, ref, limits=WIDE)
    # with the prior changed alike, the whole problem is the same
    prior = (c / a, e - c / a * b)
    changed = fit_affine(a * noisy + b, c * ref + e, prior=prior, limits=WIDE)
    assert changed.scale == pytest.approx(plain.scale * c / a, rel=1e-5)
    expected = c * plain.shift + e - changed.scale * b
    assert changed.shift == pytest.approx(expected, abs=1e-5 * (1.0 + abs(b) * c / a))


def test_symmetric_slope_has_no_attenuation_where_least_squares_has():
    rng = np.random.default_rng(0)
    truth = disparities(40_000, 0)
    cur = (truth - 0.02) / 1.1 + rng.normal(0.0, 0.04, truth.size)
    ref = truth + rng.normal(0.0, 0.044, truth.size)
    fit = fit_affine(cur, ref, limits=LIMITS)
    least_squares, _ = fit_dvd(cur, ref)
    assert fit.scale == pytest.approx(1.1, rel=0.01)
    assert least_squares < 1.06


def test_noise_ratio_of_an_averaged_reference():
    rng = np.random.default_rng(1)
    truth = disparities(40_000, 1)
    cur = truth + rng.normal(0.0, 0.04, truth.size)
    ref = truth + rng.normal(0.0, 0.02, truth.size)  # average of four
    assert fit_affine(cur, ref, noise_ratio=0.25).scale == pytest.approx(1.0, rel=0.01)
    assert fit_affine(cur, ref, noise_ratio=1.0).scale < 0.99


def test_pixels_cut_off_at_the_ends_do_not_bias():
    rng = np.random.default_rng(2)
    truth = np.concatenate([np.full(6000, 0.06), disparities(6000, 2)])
    cur = np.clip(truth - 0.05 + rng.normal(0.0, 0.01, truth.size), 0.0, 1.0)
    ref = np.clip(truth + rng.normal(0.0, 0.01, truth.size), 0.0, 1.0)
    usable = (cur > 0.005) & (ref > 0.005)
    fit = fit_affine(cur[usable], ref[usable], cur_range=(0.005, 0.995), ref_range=(0.005, 0.995))
    assert fit.scale == pytest.approx(1.0, abs=0.005)
    assert fit.shift == pytest.approx(0.05, abs=0.001)


def test_the_start_is_as_good_as_a_fit_to_the_right_pixels():
    """A fifth of the pixels follows another map: the start lies within the right ones' noise."""
    rng = np.random.default_rng(7)
    for seed in range(20):
        x = disparities(4000, seed)
        y = 1.2 * x + 0.05 + rng.normal(0.0, 0.01, x.size)
        wrong = rng.random(x.size) < 0.2
        y[wrong] = 0.8 * x[wrong] + 0.3 + rng.normal(0.0, 0.01, wrong.sum())
        scale, shift = best_start(x, y, 1.0, 0.0, LIMITS)
        assert scale == pytest.approx(1.2, rel=0.02)
        assert shift == pytest.approx(0.05, abs=0.004)


def test_limits_are_those_of_the_configuration():
    config = AlignmentConfig(
        min_pixels=100, min_inliers=0.4, min_explained=0.6, flat_spread=0.02, max_scale_sigma=0.07
    )
    assert FitLimits.of(config) == FitLimits(100, 0.4, 0.6, 0.02, 0.07)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.45])
def test_random_outliers(share):
    rng = np.random.default_rng(3)
    cur = disparities(8000, 3)
    ref = 1.3 * cur - 0.02 + rng.normal(0.0, 0.01, cur.size)
    wrong = rng.random(cur.size) < share
    ref[wrong] = rng.uniform(0.0, 1.0, wrong.sum())
    fit = fit_affine(cur, ref, limits=LIMITS)
    assert fit.verdict is FitVerdict.ACCEPTED
    assert fit.scale == pytest.approx(1.3, rel=0.02)
    assert fit.inlier_share == pytest.approx(1.0 - share, abs=0.06)
    worst = np.abs(fit_dvd(cur, ref)[0] - 1.3) / 1.3
    assert worst > 0.05  # what plain least squares makes of it


@pytest.mark.parametrize("far_side", [False, True], ids=["nearest", "farthest"])
@pytest.mark.parametrize("share", [0.2, 0.4])
def test_structured_outliers_recover_or_are_refused(far_side, share):
    """A contiguous block of depths reads one wrong distance (glass, own structure, rain)."""
    rng = np.random.default_rng(4)
    cur = disparities(6000, 4)
    ref = 1.1 * cur + 0.01 + rng.normal(0.0, 0.005, cur.size)
    if far_side:
        ref[cur < np.quantile(cur, share)] = 1.1 / 2.0
    else:
        ref[cur > np.quantile(cur, 1.0 - share)] = 1.1 / 30.0
    fit = fit_affine(cur, ref, prior=(1.08, 0.0), limits=LIMITS)
    if fit.verdict is FitVerdict.ACCEPTED:
        assert fit.scale == pytest.approx(1.1, rel=0.06)
    else:
        assert fit.scale == 1.08
    if share == 0.2:
        assert fit.verdict is FitVerdict.ACCEPTED


def test_flat_wall_holds_the_scale_and_follows_the_level():
    rng = np.random.default_rng(5)
    cur = 0.4 + rng.normal(0.0, 0.003, 4000)
    ref = 0.47 + rng.normal(0.0, 0.003, 4000)
    fit = fit_affine(cur, ref, prior=(1.1, 0.0), limits=LIMITS)
    assert fit.verdict is FitVerdict.FLAT
    assert fit.scale == 1.1
    assert fit.scale * 0.4 + fit.shift == pytest.approx(0.47, abs=0.002)


def test_clipped_scale_solves_the_shift_anew():
    cur = disparities(2000, 6)
    fit = fit_affine(cur, 2.0 * cur + 0.1, prior=(1.0, 0.0), limits=LIMITS)
    assert fit.verdict is FitVerdict.CLIPPED
    assert fit.scale == 1.5
    # the level still agrees in the middle, unlike with DVD's clip
    middle = np.mean(2.0 * cur + 0.1 - 1.5 * cur - fit.shift)
    assert abs(middle) < 0.05
    scale, shift = fit_dvd(cur, 2.0 * cur + 0.1)
    assert (scale, shift) == pytest.approx((1.5, 0.1))


@pytest.mark.parametrize(
    ("make", "verdict"),
    [
        (lambda x, rng: rng.permutation(x), FitVerdict.UNRELATED),
        (lambda x, rng: x[:0], FitVerdict.TOO_FEW),
        (lambda x, rng: 1.0 - x, FitVerdict.UNRELATED),
    ],
    ids=["another scene", "no pixels", "inverted"],
)
def test_what_cannot_be_fitted_keeps_the_prior(make, verdict):
    rng = np.random.default_rng(7)
    cur = disparities(3000, 7)
    ref = make(cur, rng)
    fit = fit_affine(cur[: ref.size], ref, prior=(1.2, -0.1), limits=LIMITS)
    assert fit.verdict in (verdict, FitVerdict.INVERTED)
    assert (fit.scale, fit.shift) == (1.2, -0.1)


def test_covariance_tells_the_spread_of_repeated_fits():
    fits = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        truth = disparities(1000, 99)
        cur = truth + rng.normal(0.0, 0.01, truth.size)
        ref = truth + rng.normal(0.0, 0.01, truth.size)
        fits.append(fit_affine(cur, ref))
    spread = np.std([fit.scale for fit in fits])
    stated = np.mean([np.sqrt(fit.covariance[0, 0]) for fit in fits])
    assert 0.6 < spread / stated < 1.6


def test_dvd_formula_is_ordinary_least_squares():
    rng = np.random.default_rng(8)
    cur = rng.random((3, 20, 30))
    ref = 0.9 * cur + 0.05 + rng.normal(0.0, 0.05, cur.shape)
    slope, offset = np.polyfit(cur.ravel(), ref.ravel(), 1)
    assert fit_dvd(cur, ref) == pytest.approx((slope, offset))
    assert fit_dvd(np.full(10, 0.3), rng.random(10)) == (1.0, 0.0)
    low = fit_dvd(cur, 0.1 * cur)
    assert low[0] == 0.7
    # the published behaviour: the shift is that of the scale before the clip
    assert low[1] == pytest.approx(0.0, abs=1e-12)
