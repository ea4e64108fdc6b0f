# SPDX-License-Identifier: Apache-2.0
"""The log of a run as a picture and as lines of JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from video_depth_ros.files import replacing

CURVE = "loss.png"
LOG = "log.jsonl"


def write_log(path: Path, history: Sequence[dict[str, float]]) -> None:
    """One JSON object per step, written beside and renamed."""
    with replacing(path) as beside:
        beside.write_text("".join(json.dumps(entry) + "\n" for entry in history), encoding="utf-8")


def draw_curves(path: Path, history: Sequence[dict[str, float]], title: str) -> None:
    """Loss over steps (images and videos apart, smoothed) and validation figures, as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    FigureCanvasAgg(figure)
    losses, figures = figure.subplots(1, 2)
    for label, several in (("images", False), ("videos", True)):
        entries = [e for e in history if (e.get("frames", 1.0) > 1) == several]
        if entries:
            steps = np.array([e["step"] for e in entries])
            values = np.array([e["loss"] for e in entries])
            losses.plot(steps, _smooth(values), label=label)
    losses.set(xlabel="step", ylabel="loss", yscale="log", title=title)
    losses.grid(alpha=0.3)
    if losses.lines:
        losses.legend()
    names = sorted({k for e in history for k in e if k.startswith("val_")})
    for name in names:
        points = [(e["step"], e[name]) for e in history if name in e]
        figures.plot(*zip(*points, strict=True), marker="o", label=name.removeprefix("val_"))
    figures.set(xlabel="step", title="held out")
    figures.grid(alpha=0.3)
    if names:
        figures.legend()
    with replacing(path) as beside:
        figure.savefig(beside, format="png", dpi=120)


def _smooth(values: np.ndarray, share: float = 0.02) -> np.ndarray:
    """Exponential smoothing over about a fiftieth of the curve."""
    keep = 1.0 - 1.0 / max(1.0, share * len(values))
    smoothed = np.empty_like(values)
    state = values[0]
    for i, value in enumerate(values):
        state = keep * state + (1 - keep) * value
        smoothed[i] = state
    return smoothed
