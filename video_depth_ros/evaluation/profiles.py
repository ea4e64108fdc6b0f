# SPDX-License-Identifier: Apache-2.0
"""Temporal profiles: one image column over time, one row per way; as bytes of a small PNG.

The papers' picture (Video Depth Anything, DepthCrafter): on a still background every way should
draw straight horizontal lines. Flicker shows as vertical stripes, drift as colours that change
from left to right.
"""

from __future__ import annotations

import io

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from video_depth_ros.evaluation.stability import StabilityResult
from video_depth_ros.evaluation.stability_ways import (
    CHAINING,
    KEYFRAMES,
    LOOK_AHEAD,
    OURS,
    PER_FRAME,
    UNALIGNED,
)

_COLOURS = {
    PER_FRAME: "#d9822b",
    UNALIGNED: "#aaaaaa",
    CHAINING: "#5a9a4a",
    OURS: "#1f5fa8",
    LOOK_AHEAD: "#6fb3e0",
    KEYFRAMES: "#7a3b8f",
}
_MOST = 600  # frames drawn; of more, every n-th, not averaged: that would hide flicker
_LEVELS = 192  # colours of the file
_MEANING = {
    "still camera": "background, deviation from the start / spread",
    "truth": "ln (truth / prediction), from the start",
}


def draw_profiles(result: StabilityResult) -> bytes:
    """The image's column, every way's, and their deviation over time where it was measured."""
    rows = {name: way.profile for name, way in result.ways.items()}
    curves = result.basis in _MEANING
    ratios = [1.0] * (1 + len(rows)) + [1.8] * curves
    figure = Figure(figsize=(7.4, 0.86 * sum(ratios)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(ratios), 1, gridspec_kw={"height_ratios": ratios})
    step = max(1, -(-result.frames // _MOST))
    extent = (0, result.frames, result.image.shape[0], 0)
    style = {"aspect": "auto", "interpolation": "nearest", "extent": extent}
    axes[0].imshow(result.image[:, ::step], **style)
    axes[0].set_title(f"{result.video}: one image column over time", fontsize=8, loc="left")
    for axis, (name, profile) in zip(axes[1:], rows.items(), strict=False):
        low, high = np.nanquantile(profile, (0.02, 0.98))
        axis.imshow(profile[:, ::step], cmap="turbo", vmin=low, vmax=high, **style)
        axis.set_title(name, fontsize=8, loc="left", pad=2)
    for axis in axes[: 1 + len(rows)]:
        axis.set(xticks=[], yticks=[])
    if curves:
        for name, way in result.ways.items():
            frames = np.arange(0, result.frames, step)
            wide = name in (OURS, KEYFRAMES)
            axes[-1].plot(
                frames, way.series[::step], color=_COLOURS[name], lw=1.2 if wide else 0.6,
                label=name, zorder=3 if wide else 2,
            )  # fmt: skip
        axes[-1].set_title(_MEANING[result.basis], fontsize=8, loc="left", pad=2)
        axes[-1].set_xlim(0, result.frames)
        axes[-1].axhline(0.0, color="#999999", lw=0.5)
        axes[-1].tick_params(labelsize=7)
        axes[-1].legend(fontsize=6, ncol=3, loc="best")
    axes[-1].set_xlabel("frame", fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    small = io.BytesIO()
    image = Image.open(buffer).convert("RGB").quantize(_LEVELS, dither=Image.Dither.NONE)
    image.save(small, format="png", optimize=True)
    return small.getvalue()
