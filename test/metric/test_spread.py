# SPDX-License-Identifier: Apache-2.0
"""The residual's spread by inverse depth."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from video_depth_ros.metric.spread import ResidualSpread

NEAR, FAR = 0.8, 0.05  # 1/m


def _residuals(
    level: float, sigma: float, n: int = 4000, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return level * np.exp(rng.normal(0.0, 0.02, n)), 1.0 + sigma * rng.normal(size=n)


def _at(spread: ResidualSpread, *inverse_depths: float) -> list[float]:
    return spread.at(torch.tensor(inverse_depths, dtype=torch.float64)).tolist()


def test_before_any_anchor_a_tenth_is_assumed() -> None:
    spread = ResidualSpread()
    assert _at(spread, 1e-6, FAR, NEAR, 50.0) == pytest.approx([0.1] * 4)
    few = _residuals(NEAR, 0.02, n=7)
    spread.add(*few)
    assert _at(spread, NEAR) == pytest.approx([0.1])


def test_near_and_far_have_a_spread_of_their_own_and_between_it_is_interpolated() -> None:
    spread = ResidualSpread()
    for level, sigma in ((NEAR, 0.03), (FAR, 0.2)):
        spread.add(*_residuals(level, sigma))
    near, middle, far = _at(spread, NEAR, float(np.sqrt(NEAR * FAR)), FAR)
    assert near == pytest.approx(0.03, abs=0.01)
    assert far == pytest.approx(0.2, rel=0.1)
    assert middle == pytest.approx(0.115, abs=0.02)
    beyond = _at(spread, 1e-5, 9.0, 0.0, float("nan"))
    assert beyond[0] == beyond[2] == pytest.approx(far, rel=0.1)
    assert beyond[1] == pytest.approx(0.03, rel=0.1)
    assert np.isfinite(beyond).all()


def test_it_follows_slowly_and_is_forgotten_on_request() -> None:
    spread = ResidualSpread()
    spread.add(*_residuals(NEAR, 0.05))
    first = _at(spread, NEAR)[0]
    spread.add(*_residuals(NEAR, 0.25, seed=1))
    assert _at(spread, NEAR)[0] == pytest.approx(0.8 * first + 0.2 * 0.25, rel=0.1)
    for seed in range(2, 32):
        spread.add(*_residuals(NEAR, 0.25, seed=seed))
    assert _at(spread, NEAR)[0] == pytest.approx(0.25, rel=0.1)
    spread.reset()
    assert _at(spread, NEAR) == pytest.approx([0.1])


def test_inverse_depths_out_of_range_are_passed_over() -> None:
    spread = ResidualSpread()
    for level in (1e-4, 50.0):
        spread.add(*_residuals(level, 0.3))
    assert _at(spread, NEAR) == pytest.approx([0.1])
