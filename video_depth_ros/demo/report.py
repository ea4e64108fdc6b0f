# SPDX-License-Identifier: Apache-2.0
"""From a live run to ``summary.json`` and pictures."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from video_depth_ros.bags.reader import Recording
from video_depth_ros.bags.topics import Parts
from video_depth_ros.demo import pictures
from video_depth_ros.demo.matching import MatchedFrame, matched_frames
from video_depth_ros.demo.measure import Accuracy, timing
from video_depth_ros.evaluation.metrics import resize_to
from video_depth_ros.files import write_text
from video_depth_ros.point_cloud import CLOUD_POINT_STEP

if TYPE_CHECKING:
    from video_depth_ros.ros.live_run import LiveRun

SHEET = 8  # frames of the contact sheet
_SAMPLES = 40  # frames from which the colour range is taken


def make_report(
    recording: Recording,
    parts: Parts,
    run: LiveRun,
    folder: Path,
    tick: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Measure the run, write pictures and summary into ``folder``; returns the summary.

    ``tick`` is called with frames done and frames in all.
    """
    output = folder / "output.mcap"
    arrivals = run.arrivals["/depth/disparity"]
    total = 2 * len(arrivals)
    accuracy, samples = Accuracy(), []
    every = max(1, len(arrivals) // _SAMPLES)
    for index, frame in enumerate(matched_frames(recording, parts, output)):
        accuracy.fit(frame)
        if index % every == 0:
            samples.append(frame.disparity[::4, ::4])
        tick(index + 1, total)
    sheet: list[np.ndarray] = []

    def images() -> Iterator[np.ndarray]:
        limits = pictures.colour_range(samples)
        wanted = {int(i) for i in np.linspace(0, max(0, len(arrivals) - 1), SHEET)}
        for index, frame in enumerate(matched_frames(recording, parts, output)):
            image = pictures.side_by_side(_panel(frame, accuracy.measure(frame)), limits)
            if index in wanted:
                sheet.append(image)
            tick(len(arrivals) + index + 1, total)
            yield image

    times = timing(run.departures, arrivals)
    pictures.write_video(folder / "comparison.mp4", images(), times["fps"] or 10.0)
    if sheet:
        pictures.write_png(folder / "contact_sheet.png", pictures.contact_sheet(sheet))
    _write_cloud(output, folder / "cloud.ply")
    summary = {
        "frames_in": len(run.departures),
        "frames_out": len(arrivals),
        "frames_dropped": run.dropped(),
        **times,
        **accuracy.result(),
        "scale_state": run.scale_state(),
        "metric_frames_out": len(run.arrivals["/depth/image"]),
        "truth": parts.ground_truth_depth,
    }
    write_text(folder / "summary.json", json.dumps(summary, indent=2) + "\n")
    return summary


def _panel(frame: MatchedFrame, error: np.ndarray | None) -> pictures.Panel:
    height, width = frame.disparity.shape
    if error is not None:
        error = _shrunk(error, height, width)
    metric = "relative depth"
    if frame.depth is not None and np.isfinite(frame.depth).any():
        low, high = np.nanpercentile(frame.depth, (2, 98))
        metric = f"depth {low:.2f} to {high:.2f} m"
    caption = f"{frame.stamp_ns * 1e-9:.2f} s  {metric}"
    rgb = resize_to(frame.rgb, (height, width))
    return pictures.Panel(rgb, frame.disparity, error, caption)


def _shrunk(error: np.ndarray, height: int, width: int) -> np.ndarray:
    """Nearest-neighbour reduction that keeps sparse values: the largest known one of each cell."""
    rows = np.arange(error.shape[0]) * height // error.shape[0]
    columns = np.arange(error.shape[1]) * width // error.shape[1]
    small = np.full((height, width), -1.0, np.float32)
    np.maximum.at(small, (rows[:, None], columns[None, :]), np.nan_to_num(error, nan=-1.0))
    return np.where(small < 0, np.nan, small)


def _write_cloud(output: Path, path: Path) -> None:
    """The last cloud of the run as PLY; none while there was no metric scale."""
    path.unlink(missing_ok=True)
    last: Any = None
    with Recording(output) as outputs:
        for received in outputs.messages(["/depth/points"]):
            last = received
        if last is None:
            return
        message = outputs.decode(last)
    records = np.frombuffer(message.data, np.uint8).reshape(-1, CLOUD_POINT_STEP)
    points = records[:, :12].copy().view("<f4")
    pictures.write_ply(path, points, records[:, 14:11:-1])
