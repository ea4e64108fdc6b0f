# SPDX-License-Identifier: Apache-2.0
"""``video_depth benchmark --stability``: flicker, seams and drift with a network."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from video_depth_ros.cli.progress import progress_bar
from video_depth_ros.cli.tables import print_whole
from video_depth_ros.errors import ConfigError
from video_depth_ros.files import write_bytes

if TYPE_CHECKING:  # torch and what needs it come when it runs: --help shall be quick
    from video_depth_ros.evaluation.stability import StabilityResult, WayResult
    from video_depth_ros.evaluation.videos import Video
    from video_depth_ros.regressors.base import Regressor

_VIDEOS, _FRAMES = 3, 121  # of the simulation, where no recording is given
_SEED = 500  # the first of them
_BASIS = {
    "truth": "against truth, one affine fit per video; drift in log scale",
    "still camera": "still camera, no truth; in shares of the disparity's spread",
    "none": "neither truth nor a camera that stands still: nothing is measured",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this part of ``benchmark``; ``--size`` is that of simulated images."""
    group = parser.add_argument_group(
        "options of --stability",
        "instead, run a network over videos and measure flicker, seams and drift of its stream: "
        "per frame, chained plainly, aligned, with look-ahead and with keyframes. --set gives "
        "parameters, --frames the most frames of a video",
    )
    group.add_argument(
        "--stability", nargs="*", type=Path, metavar="SRC",
        help="recordings or video files, with true depth or of a camera that stands still; none: "
        f"held-out simulated videos, --frames {_FRAMES}",
    )  # fmt: skip
    group.add_argument("--videos", type=int, default=_VIDEOS, help="simulated videos")
    group.add_argument("--profiles", type=Path, metavar="DIR", help="draw temporal profiles here")
    group.add_argument(
        "--column", type=float, default=0.5, help="of the profiles: 0 left to 1 right"
    )


def run(args: argparse.Namespace, regressor: Regressor) -> list[dict[str, Any]]:
    """Measure every video, print a table each, perhaps draw; returns the rows for JSON.

    Raises:
        ConfigError: arguments that cannot be.
        RecordingError: a source that cannot be used.
    """
    if not 0.0 <= args.column <= 1.0:
        raise ConfigError(f"--column: expected 0 (left) to 1 (right), got {args.column}")
    from video_depth_ros.config import PipelineConfig, apply_overrides
    from video_depth_ros.evaluation.stability import measure_stability

    if args.videos < 1:
        raise ConfigError(f"--videos: expected 1 or more, got {args.videos}")
    config = apply_overrides(PipelineConfig(), args.assignments)
    console = Console(soft_wrap=True)
    rows: list[dict[str, Any]] = []
    for video in _videos(args, regressor):
        with progress_bar() as progress:
            task = progress.add_task(video.name, total=video.frame_count)
            result = measure_stability(
                video, regressor, config, args.column, partial(progress.advance, task)
            )
        print_whole(_table(result))
        if line := _keyframes_line(result):
            console.print(line)
        rows += [
            {"video": result.video, "frames": result.frames, "basis": result.basis, **row}
            for row in _rows(result)
        ]
        if args.profiles:
            console.print(f"profile: {_draw(result, args.profiles)}")
    return rows


def _videos(args: argparse.Namespace, regressor: Regressor) -> Iterator[Video]:
    from video_depth_ros.evaluation.videos import find_videos, simulated_videos

    if args.stability:
        for source in args.stability:
            yield from find_videos(source, None, max_frames=args.frames)
        return
    height, width = args.size[0] if args.size else regressor.spec.box
    frames = args.frames or _FRAMES
    yield from simulated_videos(_SEED, args.videos, frames, height, width, "heldout")


def _table(result: StabilityResult) -> Table:
    table = Table(
        title=f"{result.video}, {result.frames} frames: {_BASIS[result.basis]}",
        title_justify="left",
    )
    table.add_column("way")
    for name in ("flicker", "at seams", "drift", "worst drift", "segments", "held"):
        table.add_column(name, justify="right")
    for name, way in result.ways.items():
        figures = (way.flicker, way.seams, way.drift, way.worst)
        counts = ("", "") if way.log is None else (str(way.log.segments), str(way.log.held))
        table.add_row(name, *map(_percent, figures), *counts)
    return table


def _keyframes_line(result: StabilityResult) -> str:
    logs = [way.log for way in result.ways.values() if way.log is not None and way.log.looks]
    return "\n".join(
        f"keyframes: {log.believed} of {log.looks} dilated windows believed, disagreement "
        f"{_percent(log.disagreement)} (median)"
        for log in logs
    )


def _rows(result: StabilityResult) -> Iterator[dict[str, Any]]:
    for name, way in result.ways.items():
        yield {"way": name, **_figures(way)}


def _figures(way: WayResult) -> dict[str, Any]:
    """Without what is not known: JSON has no NaN."""
    figures: dict[str, Any] = {
        "flicker": way.flicker,
        "seams": way.seams,
        "drift": way.drift,
        "worst_drift": way.worst,
    }
    if way.log is not None:
        figures.update(vars(way.log))
    return {name: value for name, value in figures.items() if not math.isnan(value)}


def _draw(result: StabilityResult, folder: Path) -> Path:
    from video_depth_ros.evaluation.profiles import draw_profiles

    name = re.sub(r"[^A-Za-z0-9]+", "_", Path(result.video).stem).strip("_").lower()
    path = folder / f"{name}_profile.png"
    write_bytes(path, draw_profiles(result))
    return path


def _percent(value: float) -> str:
    return "" if math.isnan(value) else f"{100.0 * value:.2f} %"
