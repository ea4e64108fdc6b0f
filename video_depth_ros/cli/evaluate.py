# SPDX-License-Identifier: Apache-2.0
"""``video_depth evaluate``: depth against truth on videos, with baselines beside."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from video_depth_ros.bags.formats.base import SourceOptions
from video_depth_ros.errors import ConfigError, RecordingError
from video_depth_ros.evaluation.protocols import PROTOCOLS
from video_depth_ros.evaluation.videos import FORMATS, Video, find_videos, simulated_videos

if TYPE_CHECKING:
    from video_depth_ros.config import PipelineConfig
    from video_depth_ros.evaluation.report import Evaluation

_COLUMNS = {
    "abs_rel": "AbsRel",
    "delta1": "delta1",
    "rmse": "RMSE",
    "flicker": "flicker",
    "static_flicker": "static fl.",
    "temporal_alignment_error": "TAE",
    "scale_drift": "drift",
    "boundary_f1": "edge F1",
    "coverage": "coverage",
}

EXAMPLES = f"""\
formats: {", ".join(FORMATS)}
protocols: {", ".join(PROTOCOLS)} (default: the format's own)

worked examples:
  video_depth evaluate --dataset simulated --split heldout --regressor nano --json out.json
  video_depth evaluate DRIVE --format kitti_raw --report report.html
  video_depth evaluate KITTI_ROOT --format kitti_raw --protocol kitti
  video_depth evaluate SCANNET/scans --format scannet --videos 10 --frames 300
  video_depth evaluate DRIVE --format kitti_raw --metric       half the LiDAR gives the scale
  video_depth evaluate V1_01_easy --format euroc --triangulate
  video_depth evaluate drive.mcap --report report.html         a bag with recorded true depth
  video_depth evaluate SEQ --set alignment.overlap=5 --set regressor.mode=cached
"""


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "evaluate",
        help="measure depth against truth, with baselines beside",
        description=(
            "Runs the pipeline over videos with true depth and measures errors, flicker, drift "
            "and boundaries. One scale and shift per video is fitted to the truth, as DVD does; "
            "with --metric nothing is fitted."
        ),
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "sources", nargs="*", type=Path, metavar="SRC", help="recordings or data-set roots"
    )
    parser.add_argument("--format", help="layout of the sources; default: look at the path")
    parser.add_argument("--protocol", help="depth range and crop; default: the format's own")
    parser.add_argument("--dataset", choices=("simulated",), help="instead of sources")
    parser.add_argument("--split", default="heldout", choices=("heldout", "train"))
    parser.add_argument(
        "--size", nargs=2, type=int, default=(192, 256), metavar=("H", "W"),
        help="of simulated images (default: 192 256)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="first simulated video (default: 0)")
    parser.add_argument("--videos", type=int, metavar="N", help="at most N videos (simulated: 20)")
    parser.add_argument(
        "--frames", type=int, metavar="N", help="at most N frames of each (simulated: 100)"
    )
    parser.add_argument("--intrinsics", nargs=4, type=float, metavar=("FX", "FY", "CX", "CY"))
    parser.add_argument("--hfov", type=float, metavar="DEG", help="horizontal field of view")
    parser.add_argument("--rate", type=float, metavar="HZ", help="where the source has no stamps")
    parser.add_argument("--regressor", help="name (default: nano)")
    parser.add_argument("--weights", help="weight file (default: the regressor's own)")
    parser.add_argument("--device", help="torch device (default: auto)")
    parser.add_argument("--config", type=Path, metavar="YAML", help="parameters of the pipeline")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="one parameter"
    )
    parser.add_argument(
        "--metric", action="store_true",
        help="metric protocol: random pixels of the truth (half of a LiDAR's) give the scale, the "
        "others are the truth; nothing is aligned",
    )  # fmt: skip
    parser.add_argument(
        "--metric-points", type=int, default=1000, metavar="N",
        help="at most N pixels given per frame (default: 1000)",
    )  # fmt: skip
    parser.add_argument(
        "--triangulate", action="store_true",
        help="make sparse truth from the true poses, for recordings without depth (euroc)",
    )  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the figures")
    parser.add_argument("--report", type=Path, metavar="OUT", help="write an HTML report")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Evaluate, print the tables, write the files.

    Raises:
        ConfigError: arguments that do not go together.
        RecordingError: a source that cannot be used.
    """
    _check(args)
    # torch and what needs it come only now: --help shall be quick
    from video_depth_ros.evaluation.report import Evaluation
    from video_depth_ros.evaluation.runner import EvaluationOptions, evaluate_video
    from video_depth_ros.regressors.registry import load

    config = _config(args)
    options = EvaluationOptions(config, args.metric, args.metric_points)
    console = Console()
    videos = itertools.islice(_named_apart(_videos(args)), args.videos)
    first = next(videos, None)  # a wrong path shall fail before weights are loaded
    if first is None:
        raise RecordingError("no videos")
    regressor = load(config.regressor)
    setting = {
        "regressor": regressor.spec.name,
        "weights_licence": regressor.spec.licence,
        "mode": config.regressor.mode,
        "dataset": f"simulated/{args.split}" if args.dataset else args.format or "by path",
        "alignment": "none (metric)" if args.metric else "one scale and shift per video",
        "truth": "triangulated from poses" if args.triangulate else "recorded",
        **({"metric_points": args.metric_points} if args.metric else {}),
    }
    evaluation = Evaluation(setting)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as progress:
        for video in itertools.chain([first], videos):
            task = progress.add_task(video.name, total=2 * video.frame_count)
            advance = partial(progress.advance, task)
            evaluation.results.append(evaluate_video(video, regressor, options, advance))
            progress.remove_task(task)
    if evaluation.mean():
        console.print(_videos_table(evaluation), "", _methods_table(evaluation), sep="\n")
    else:
        console.print(
            "Nothing could be measured: no true depth, and no camera that stands still. "
            "With true poses, --triangulate makes sparse truth."
        )
    if args.json:
        evaluation.write_json(args.json)
        console.print(f"figures: {args.json}", soft_wrap=True)
    if args.report:
        from video_depth_ros.evaluation.html import write_report

        write_report(evaluation, args.report)
        console.print(f"report: {args.report}", soft_wrap=True)
    return 0


def _check(args: argparse.Namespace) -> None:
    if bool(args.sources) == bool(args.dataset):
        raise ConfigError("give either recordings or --dataset simulated")
    for name in ("videos", "frames", "metric_points"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise ConfigError(f"--{name.replace('_', '-')}: expected 1 or more, got {value}")
    if args.seed < 0:
        raise ConfigError(f"--seed: expected 0 or more, got {args.seed}")
    for path in (args.json, args.report):
        if path is not None and path.is_dir():
            raise ConfigError(f"{path} is a folder; expected the name of a file to write")


def _config(args: argparse.Namespace) -> PipelineConfig:
    from video_depth_ros.config import PipelineConfig, apply_overrides, load_yaml

    config = load_yaml(PipelineConfig(), args.config) if args.config else PipelineConfig()
    named = {
        "regressor.name": args.regressor,
        "regressor.weights": args.weights,
        "regressor.device": args.device,
    }
    given = [f"{name}={value}" for name, value in named.items() if value is not None]
    return apply_overrides(config, [*given, *args.set])


def _videos(args: argparse.Namespace) -> Iterator[Video]:
    if args.dataset:
        height, width = args.size
        yield from simulated_videos(
            args.seed, args.videos or 20, args.frames or 100, height, width, args.split
        )
        return
    options = SourceOptions(
        intrinsics=tuple(args.intrinsics) if args.intrinsics else None,
        hfov=args.hfov,
        rate=args.rate,
    )
    for source in args.sources:
        for video in find_videos(source, args.format, args.protocol, options, args.frames):
            yield _triangulated(video) if args.triangulate else video


def _named_apart(videos: Iterator[Video]) -> Iterator[Video]:
    """Two folders of one name are two rows."""
    seen: dict[str, int] = {}
    for video in videos:
        seen[video.name] = count = seen.get(video.name, 0) + 1
        yield video if count == 1 else replace(video, name=f"{video.name} ({count})")


def _triangulated(video: Video) -> Video:
    from video_depth_ros.evaluation.triangulation import Triangulated

    return replace(video, sequence=Triangulated(video.sequence, video.max_frames))


def _videos_table(evaluation: Evaluation) -> Table:
    rows = {result.name: result.metrics for result in evaluation.results}
    table = _table("video", [*rows.values()], "per video")
    for name, row in rows.items():
        _add(table, name, row)
    table.add_section()
    _add(table, "mean", evaluation.mean())
    return table


def _methods_table(evaluation: Evaluation) -> Table:
    rows = {"pipeline": evaluation.mean(), **evaluation.baselines()}
    table = _table("method", [*rows.values()], "mean, with baselines")
    for name, row in rows.items():
        _add(table, name, row)
    return table


def _table(first: str, rows: list[dict[str, float]], title: str) -> Table:
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
        pad_edge=False,
        show_edge=False,
        padding=(0, 1, 0, 0),
        min_width=len(title),
    )
    table.add_column(first, overflow="fold")
    for name in _shown(rows):
        table.add_column(_COLUMNS[name], justify="right", no_wrap=True)
    return table


def _shown(rows: list[dict[str, float]]) -> list[str]:
    """The columns that say something, few enough for 80 characters."""
    found = [name for name in _COLUMNS if any(name in row for row in rows)]
    if all(row.get("coverage", 1.0) == 1.0 for row in rows):
        found = [name for name in found if name != "coverage"]
    if "flicker" in found:  # with truth the better measure
        found = [name for name in found if name != "static_flicker"]
    return found


def _add(table: Table, label: str, row: dict[str, float]) -> None:
    names = {text: name for name, text in _COLUMNS.items()}
    shown = [names[str(column.header)] for column in table.columns[1:]]
    table.add_row(label, *[f"{row[name]:.4f}" if name in row else "" for name in shown])
