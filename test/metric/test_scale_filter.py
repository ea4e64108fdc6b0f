# SPDX-License-Identifier: Apache-2.0
"""The filter over (log a, b): fusion, gate, re-initialisation, unobservable directions."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from video_depth_ros.metric.config import FilterConfig
from video_depth_ros.metric.fit import ScaleFit
from video_depth_ros.metric.parts import PARTS
from video_depth_ros.metric.reasons import Verdict
from video_depth_ros.metric.scale_filter import ScaleFilter


def _fit(
    a: float, b: float, centre: float = 0.5, sigma: float = 0.01, common: float = 0.0
) -> ScaleFit:
    level = a * centre + b
    return ScaleFit(Verdict.ACCEPTED, a, level, centre, sigma * level, sigma * a, common)


def _level(a: float, b: float, centre: float) -> ScaleFit:
    level = a * centre + b
    return ScaleFit(Verdict.LEVEL_ONLY, a, level, centre, 0.01 * level, math.inf)


def test_the_first_fit_is_the_state() -> None:
    f = ScaleFilter(FilterConfig())
    assert not f.known and f.relative_sigma(0.5) == math.inf
    assert f.update(_fit(0.6, 0.05)) is Verdict.ACCEPTED
    assert (f.a, f.b) == pytest.approx((0.6, 0.05))
    assert f.relative_sigma(0.5) == pytest.approx(0.01, rel=1e-6)


def test_many_fits_average() -> None:
    rng = np.random.default_rng(0)
    f = ScaleFilter(FilterConfig(process_scale=0.0, process_shift=0.0))
    for _ in range(200):
        f.update(_fit(0.6 * math.exp(rng.normal(0, 0.03)), 0.05, sigma=0.03))
    assert f.a == pytest.approx(0.6, rel=0.01)
    assert math.sqrt(f.covariance[0, 0]) < 0.01 * 0.6


def test_one_wild_fit_is_gated_and_three_alike_replace() -> None:
    f = ScaleFilter(FilterConfig())
    for _ in range(10):
        f.update(_fit(0.6, 0.05))
    assert f.update(_fit(1.2, 0.05)) is Verdict.GATED
    assert f.update(_fit(0.6, 0.05)) is Verdict.ACCEPTED
    assert f.a == pytest.approx(0.6, rel=1e-3)
    verdicts = [f.update(_fit(1.2, 0.05)) for _ in range(3)]
    assert verdicts == [Verdict.GATED, Verdict.GATED, Verdict.REINITIALISED]
    assert f.a == pytest.approx(1.2)


def test_contradictions_that_disagree_never_replace() -> None:
    f = ScaleFilter(FilterConfig())
    for _ in range(10):
        f.update(_fit(0.6, 0.05))
    for k in range(12):
        assert f.update(_fit(1.2 if k % 2 else 2.4, 0.05)) is Verdict.GATED
    assert f.a == pytest.approx(0.6, rel=1e-3)


def test_one_depth_leaves_the_other_direction_at_its_prior() -> None:
    f = ScaleFilter(FilterConfig())
    f.update(_fit(0.6, 0.05))
    before = f.covariance
    for _ in range(50):
        f.predict(0.1)
        f.update(_level(0.6, 0.05, 0.5), since_last=0.1)
    assert f.a == pytest.approx(0.6, rel=0.01)
    assert f.relative_sigma(0.5) < 0.03
    assert f.covariance[0, 0] > before[0, 0]  # a is not seen: it only ages


def test_a_single_depth_from_nothing_is_not_a_known_scale() -> None:
    f = ScaleFilter(FilterConfig())
    f.update(_level(0.6, 0.05, 0.5))
    assert f.relative_sigma(0.5) < 0.05
    assert f.relative_sigma(1.0) > 0.2


def test_a_level_is_no_witness_of_slope() -> None:
    f = ScaleFilter(FilterConfig())
    f.update(_level(0.6, 0.05, 0.5))
    for _ in range(2):
        f.update(_fit(0.6, 0.05), witnesses=1)
        for _ in range(10):
            f.update(_level(0.6, 0.05, 0.5))
        assert not f.confirmed
    f.update(_fit(0.6, 0.05), witnesses=1)
    assert f.confirmed


def test_a_common_error_is_not_averaged_within_one_fit() -> None:
    f = ScaleFilter(FilterConfig())
    f.update(_fit(0.6, 0.05, sigma=0.001, common=0.1))
    assert f.relative_sigma(0.5) == pytest.approx(0.1, rel=0.05)


def test_fits_in_quick_succession_count_for_less() -> None:
    slow, quick = (ScaleFilter(FilterConfig()) for _ in range(2))
    for f, dt in ((slow, 10.0), (quick, 0.05)):
        for _ in range(20):
            f.update(_fit(0.6, 0.05, sigma=0.03), since_last=dt)
    assert quick.relative_sigma(0.5) > 2.0 * slow.relative_sigma(0.5)


@pytest.mark.parametrize("carry", [False, True])
def test_restart(carry: bool) -> None:
    f = ScaleFilter(FilterConfig(carry_over=carry))
    f.update(_fit(0.6, 0.05))
    f.restart()
    assert f.known is carry
    f.update(_fit(0.5, 0.02))
    assert f.a == pytest.approx(0.5, rel=0.02)


def test_while_a_contradiction_is_open_either_map_is_within_a_deviation() -> None:
    f = ScaleFilter(FilterConfig())
    for _ in range(10):
        f.update(_fit(0.6, 0.05))
    sure = f.relative_sigma(0.5)
    assert f.update(_fit(0.8, 0.05)) is Verdict.GATED
    apart = 0.2 * 0.5 / (0.6 * 0.5 + 0.05)
    assert f.relative_sigma(0.5) == pytest.approx(math.hypot(apart, sure), rel=0.05)
    assert f.relative_sigma(0.5, disputed=False) == pytest.approx(sure)
    assert f.update(_fit(0.6, 0.05)) is Verdict.ACCEPTED
    assert f.relative_sigma(0.5) <= sure
    assert f.update(_level(0.8, 0.05, 0.5)) is Verdict.GATED
    assert f.relative_sigma(0.5) == pytest.approx(math.hypot(apart, sure), rel=0.05)


def test_the_map_of_a_rough_network_wanders() -> None:
    """As far in the time that errors last as they make a frame's map differ from the mean."""
    config = FilterConfig(process_scale=0.0, process_shift=0.0, correlation=0.5)
    for roughness in (0.0, 0.1, 0.3):
        f = ScaleFilter(config)
        f.update(dataclasses.replace(_fit(0.6, 0.05), roughness=roughness))
        before = f.covariance[0, 0]
        f.predict(0.5)
        wandered = math.sqrt(f.covariance[0, 0] - before) / f.a
        assert wandered == pytest.approx(roughness / math.sqrt(PARTS), abs=1e-9)


def test_fits_refused_for_their_residual_make_the_scale_age_faster() -> None:
    told, other = (ScaleFilter(FilterConfig()) for _ in range(2))
    for f in (told, other):
        f.update(_fit(0.6, 0.05))
    assert told.update(ScaleFit(Verdict.UNRELATED, roughness=0.8)) is Verdict.UNRELATED
    told.predict(0.5)
    other.predict(0.5)
    assert told.relative_sigma(0.5) > 2.0 * other.relative_sigma(0.5)
