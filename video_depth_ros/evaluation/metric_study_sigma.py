# SPDX-License-Identifier: Apache-2.0
"""Is the stated standard deviation of depth true? Shares of errors within k of it, and a plot."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from video_depth_ros.files import write_bytes

LEVELS = tuple(0.25 * k for k in range(1, 13))  # k of "within k sigma"
_COLOURS = ("#1f5fa8", "#d9822b", "#5a9a4a", "#8a4fa0", "#a83232", "#4a9a9a")


class SigmaCurve:
    """How many errors lie within k stated deviations, k from 0.25 to 3."""

    def __init__(self) -> None:
        self.count = 0
        self._within = np.zeros(len(LEVELS), np.int64)

    def add(self, error: np.ndarray, sigma: np.ndarray) -> None:
        """Take absolute errors float [N] with their stated deviations float [N]."""
        known = np.isfinite(error) & np.isfinite(sigma)
        ratio = np.sort(error[known] / np.maximum(sigma[known], 1e-12))
        self.count += ratio.size
        self._within += np.searchsorted(ratio, LEVELS, side="left")

    def merge(self, other: SigmaCurve) -> None:
        """Take the other's errors too."""
        self.count += other.count
        self._within += other._within

    def share(self, level: float) -> float:
        """Share of the errors below ``level`` deviations, one of LEVELS; NaN without errors."""
        within = self._within[LEVELS.index(level)]
        return float(within / self.count) if self.count else math.nan

    def shares(self) -> list[float]:
        """The share at every level."""
        return [self.share(level) for level in LEVELS]


def merged(curves: Iterable[SigmaCurve]) -> SigmaCurve:
    """All errors of all curves, each counted once."""
    total = SigmaCurve()
    for curve in curves:
        total.merge(curve)
    return total


def normal_share(level: float) -> float:
    """Share of a normal law within ``level`` standard deviations."""
    return math.erf(level / math.sqrt(2.0))


def plot(curves: dict[str, SigmaCurve], path: Path) -> None:
    """A reliability diagram as a PNG: the normal law's share against the share found.

    On the diagonal sigma is right; above it sigma is too large, below it too small.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    expected = [normal_share(level) for level in LEVELS]
    axis.plot([0, 1], [0, 1], color="#999999", lw=0.8, label="right")
    for k, (name, curve) in enumerate(curves.items()):
        colour = _COLOURS[k % len(_COLOURS)]
        axis.plot(expected, curve.shares(), "o-", ms=3, lw=1.2, color=colour, label=name)
    one = normal_share(1.0)
    axis.axvline(one, color="#cccccc", lw=0.6)
    axis.vlines(one, one - 0.1, one + 0.1, color="#666666", lw=2.5, label="aim at 1 sigma")
    axis.set(xlim=(0, 1), ylim=(0, 1))
    axis.set(xlabel="share within k sigma, normal law", ylabel="share of depth errors found")
    axis.legend(fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=90)
    write_bytes(path, buffer.getvalue())
