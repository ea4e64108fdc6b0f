# SPDX-License-Identifier: Apache-2.0
"""Plots of the report, as bytes of PNG files."""

from __future__ import annotations

import io

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from video_depth_ros.evaluation.runner import PIPELINE, VideoResult

_COLOURS = {"pipeline": "#1f5fa8", "per_frame": "#d9822b", "plain_chaining": "#5a9a4a"}


def over_time(result: VideoResult) -> bytes | None:
    """AbsRel and scale of one video frame by frame; None without truth."""
    series = {name: values for name, values in result.series.items() if name in _COLOURS}
    if not series:
        return None
    figure = Figure(figsize=(9.0, 2.6), layout="constrained")
    FigureCanvasAgg(figure)
    error, scale = figure.subplots(1, 2)
    for name, values in series.items():
        style = {"color": _COLOURS[name], "lw": 1.4 if name == PIPELINE else 0.9}
        error.plot(values["abs_rel"], label=name, **style)
        scale.plot(np.exp(values["log_scale"]), label=name, **style)
    error.set(xlabel="frame", ylabel="AbsRel", ylim=(0, 1.05 * error.get_ylim()[1]))
    scale.set(xlabel="frame", ylabel="median truth / prediction")
    scale.axhline(1.0, color="#999999", lw=0.6)
    error.legend(fontsize=7)
    for axis in (error, scale):
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    return _png(figure)


def bars(mean: dict[str, float], baselines: dict[str, dict[str, float]]) -> bytes | None:
    """AbsRel and delta1 of the pipeline and every baseline; None without truth."""
    rows = {PIPELINE: mean, **baselines}
    rows = {name: row for name, row in rows.items() if "abs_rel" in row}
    if not rows:
        return None
    figure = Figure(figsize=(9.0, 2.2), layout="constrained")
    FigureCanvasAgg(figure)
    for axis, metric in zip(figure.subplots(1, 2), ("abs_rel", "delta1"), strict=True):
        names = list(rows)[::-1]
        colours = [_COLOURS.get(name, "#999999") for name in names]
        axis.barh(names, [rows[name].get(metric, 0.0) for name in names], color=colours)
        axis.set_xlabel(metric)
        axis.tick_params(labelsize=8)
    return _png(figure)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
