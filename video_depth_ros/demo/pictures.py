# SPDX-License-Identifier: Apache-2.0
"""Pictures of a run: coloured maps, side-by-side video, contact sheet, PLY cloud."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from video_depth_ros.errors import RecordingError
from video_depth_ros.files import write_bytes

NEAR, FAR = 2.0, 98.0  # percentiles of the colour range
_FONT = cv2.FONT_HERSHEY_SIMPLEX


@dataclass(frozen=True)
class Panel:
    """One frame as it is shown.

    Attributes:
        rgb: uint8 [h, w, 3].
        disparity: float32 [h, w], near = large, any unit common to the video, NaN unknown.
        error: float32 [h, w], |depth - truth| / truth, NaN where there is no truth; or None.
        caption: one line of text.
    """

    rgb: np.ndarray
    disparity: np.ndarray
    error: np.ndarray | None
    caption: str


def colour_range(disparities: Iterable[np.ndarray]) -> tuple[float, float]:
    """One range for a whole video, so that a flicker of the depth shows as one of the colours."""
    bounds = [np.nanpercentile(d, (NEAR, FAR)) for d in disparities if np.isfinite(d).any()]
    if not bounds:
        return 0.0, 1.0
    low, high = np.median(np.array(bounds), axis=0)
    return float(low), float(max(high, low + 1e-6))


def colour_disparity(disparity: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """Near = red, far = blue, unknown = black; uint8 RGB [h, w, 3]."""
    low, high = limits
    unit = np.clip((np.nan_to_num(disparity, nan=low) - low) / (high - low), 0.0, 1.0)
    coloured = cv2.applyColorMap((unit * 255).astype(np.uint8), cv2.COLORMAP_TURBO)
    coloured = cv2.cvtColor(coloured, cv2.COLOR_BGR2RGB)
    coloured[~np.isfinite(disparity)] = 0
    return coloured


def colour_error(error: np.ndarray, limit: float = 0.3) -> np.ndarray:
    """Relative error, black = none or unknown, white = ``limit`` or more; uint8 RGB."""
    unit = np.clip(np.nan_to_num(error) / limit, 0.0, 1.0)
    coloured = cv2.applyColorMap((unit * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
    return cv2.cvtColor(coloured, cv2.COLOR_BGR2RGB)


def side_by_side(panel: Panel, limits: tuple[float, float]) -> np.ndarray:
    """RGB, depth and error next to each other with a caption strip; uint8 RGB."""
    columns = [panel.rgb, colour_disparity(panel.disparity, limits)]
    if panel.error is not None:
        shown = panel.error
        if np.isfinite(shown).mean() < 0.2:  # sparse truth: make its points visible
            shown = cv2.dilate(np.nan_to_num(shown), np.ones((3, 3), np.uint8))
        columns.append(colour_error(shown))
    image = np.concatenate(columns, axis=1)
    strip = np.zeros((22, image.shape[1], 3), np.uint8)
    cv2.putText(strip, panel.caption, (6, 15), _FONT, 0.42, (230, 230, 230), 1, cv2.LINE_AA)
    return np.concatenate([image, strip], axis=0)


def write_video(path: Path, images: Iterable[np.ndarray], rate: float) -> None:
    """MP4 of equally sized RGB images, written beside and renamed.

    Raises:
        RecordingError: OpenCV's video writer cannot open the file.
    """
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")
    writer: cv2.VideoWriter | None = None
    try:
        for image in images:
            if writer is None:
                size = (image.shape[1], image.shape[0])
                fourcc = cv2.VideoWriter.fourcc(*"mp4v")
                writer = cv2.VideoWriter(str(partial), fourcc, max(rate, 1.0), size)
                if not writer.isOpened():
                    raise RecordingError(f"OpenCV cannot write a video to {path}")
            writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    finally:
        if writer is not None:
            writer.release()
    if writer is not None:
        partial.replace(path)


def contact_sheet(images: Sequence[np.ndarray], columns: int = 2) -> np.ndarray:
    """Images of one size in a grid, read row by row; uint8 RGB."""
    rows = []
    for start in range(0, len(images), columns):
        row = list(images[start : start + columns])
        row += [np.zeros_like(images[0])] * (columns - len(row))
        rows.append(np.concatenate(row, axis=1))
    return np.concatenate(rows, axis=0)


def write_png(path: Path, image: np.ndarray) -> None:
    """An RGB image as PNG, written beside and renamed."""
    done, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not done:
        raise RecordingError(f"OpenCV cannot encode {path}")
    write_bytes(path, data.tobytes())


def write_ply(path: Path, points: np.ndarray, rgb: np.ndarray) -> None:
    """Points [N, 3] [m] with colours uint8 [N, 3] as binary PLY; non-finite ones left out."""
    keep = np.isfinite(points).all(axis=1)
    vertex = np.dtype(
        [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("red", "u1"), ("green", "u1"), ("blue", "u1")]
    )
    table = np.empty(int(keep.sum()), vertex)
    for axis, name in enumerate("xyz"):
        table[name] = points[keep, axis]
    for channel, name in enumerate(("red", "green", "blue")):
        table[name] = rgb[keep, channel]
    header = "\n".join(
        [
            "ply",
            "format binary_little_endian 1.0",
            f"element vertex {len(table)}",
            *(f"property float {axis}" for axis in "xyz"),
            *(f"property uchar {name}" for name in ("red", "green", "blue")),
            "end_header\n",
        ]
    )
    write_bytes(path, header.encode() + table.tobytes())
