# SPDX-License-Identifier: Apache-2.0
"""Plots and pictures of the report, as bytes of PNG and JPEG files."""

from __future__ import annotations

import io

import cv2
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from video_depth_ros.evaluation.runner import PIPELINE, Picture, VideoResult

_WIDTH = 300  # px of one picture
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


def strip(picture: Picture) -> bytes:
    """Image, prediction, truth and relative error side by side (JPEG).

    Prediction and truth share one colour scale of disparity; the error is white at 0 and red at
    25 % and more. Without truth only image and prediction.
    """
    height, width = picture.rgb.shape[:2]
    size = (_WIDTH, max(1, round(_WIDTH * height / width)))
    tiles = [cv2.resize(picture.rgb[..., ::-1], size, interpolation=cv2.INTER_AREA)]
    disparity = cv2.resize(picture.disparity.astype(np.float32), size)
    known = disparity[np.isfinite(disparity)]
    low, high = np.quantile(known, (0.02, 0.98)) if len(known) else (0.0, 1.0)
    if picture.truth is not None and np.isfinite(picture.truth).any():
        truth = 1.0 / _shrunk(picture.truth, size)
        low, high = np.nanquantile(truth, (0.02, 0.98))
        error = np.abs(truth / disparity - 1.0)
        tiles += [_coloured(disparity, low, high), _coloured(truth, low, high), _reddened(error)]
    else:
        tiles.append(_coloured(disparity, low, high))
    encoded, data = cv2.imencode(".jpg", cv2.hconcat(tiles), [cv2.IMWRITE_JPEG_QUALITY, 82])
    assert encoded
    return data.tobytes()


def _shrunk(truth: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The nearest true depth in every block: sparse truth must not vanish between samples."""
    width, height = size
    rows = np.arange(truth.shape[0]) * height // truth.shape[0]
    columns = np.arange(truth.shape[1]) * width // truth.shape[1]
    index = rows[:, None] * width + columns[None]
    known = np.isfinite(truth)
    small = np.full(height * width, np.inf, np.float32)
    np.minimum.at(small, index[known], truth[known].astype(np.float32))
    small[np.isinf(small)] = np.nan
    return small.reshape(height, width)


def _coloured(disparity: np.ndarray, low: float, high: float) -> np.ndarray:
    level = (disparity - low) / max(float(high - low), 1e-9)
    bytes_ = (np.clip(np.nan_to_num(level), 0.0, 1.0) * 255).astype(np.uint8)
    image = cv2.applyColorMap(bytes_, cv2.COLORMAP_TURBO)
    image[~np.isfinite(disparity)] = 0
    return image


def _reddened(error: np.ndarray) -> np.ndarray:
    level = 255.0 * (1.0 - np.clip(np.nan_to_num(error) / 0.25, 0.0, 1.0))
    image = np.stack([level, level, np.full_like(level, 255.0)], axis=-1).astype(np.uint8)
    image[~np.isfinite(error)] = 0
    return image


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
