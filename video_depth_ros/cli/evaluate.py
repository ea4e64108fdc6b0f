# SPDX-License-Identifier: Apache-2.0
"""``video_depth evaluate``: depth against truth on videos, with baselines beside."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from video_depth_ros.bags.formats.base import SourceOptions
from video_depth_ros.cli.progress import progress_bar
from video_depth_ros.errors import ConfigError, RecordingError, VideoDepthError
from video_depth_ros.evaluation.protocols import PROTOCOLS
from video_depth_ros.evaluation.readers.recording import BagTopics
from video_depth_ros.evaluation.videos import FORMATS, Video, find_videos, simulated_videos
from video_depth_ros.files import check_writable

if TYPE_CHECKING:
    from video_depth_ros.config import PipelineConfig
    from video_depth_ros.evaluation.report import Evaluation
    from video_depth_ros.evaluation.runner import EvaluationOptions
    from video_depth_ros.regressors.base import Regressor

_TOPICS = ("image_topic", "camera_info_topic", "depth_topic")

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
  video_depth evaluate rgbd.bag --depth-topic /camera/depth/image
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
    parser.add_argument(
        "--depth-scale", type=float, metavar="UNITS_PER_METRE",
        help="raw value of one metre in the depth PNGs of tum_rgbd (default: 5000)",
    )  # fmt: skip
    parser.add_argument("--image-topic", metavar="TOPIC", help="of a bag with several cameras")
    parser.add_argument("--camera-info-topic", metavar="TOPIC", help="of a bag; or none")
    parser.add_argument(
        "--depth-topic", metavar="TOPIC",
        help="true depth of a bag, registered to the image; or none",
    )  # fmt: skip
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
    """Evaluate, print the tables, write the files; 1 if a video or all could not be measured.

    What is finished when Ctrl-C or a fault of the program ends it is printed and written as well,
    marked as incomplete.

    Raises:
        ConfigError: arguments that do not go together.
        RecordingError: a source that cannot be used.
    """
    _check(args)
    # torch and what needs it come only now: --help shall be quick
    from video_depth_ros.evaluation.report import Evaluation
    from video_depth_ros.evaluation.runner import EvaluationOptions
    from video_depth_ros.regressors.registry import load

    config = _config(args)
    options = EvaluationOptions(
        config, args.metric, args.metric_points, pictures=3 if args.report else 0
    )
    console = Console()
    failures: dict[str, VideoDepthError] = {}
    names = _Names()

    def failed(name: str, error: VideoDepthError) -> None:
        failures[names.apart(name)] = error

    videos = itertools.islice(_videos(args, names, failed), args.videos)
    first = next(videos, None)  # a wrong path shall fail before weights are loaded
    if first is None:
        raise next(iter(failures.values()), RecordingError("no videos"))
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
    try:
        _measure(evaluation, itertools.chain([first], videos), regressor, options, failures)
    except BaseException:
        evaluation.incomplete = True
        if evaluation.results:
            _deliver(evaluation, failures, args, console)
        raise
    if not evaluation.results:
        raise next(iter(failures.values()))
    _deliver(evaluation, failures, args, console)
    return 1 if evaluation.failed or not evaluation.mean() else 0


def _measure(
    evaluation: Evaluation,
    videos: Iterable[Video],
    regressor: Regressor,
    options: EvaluationOptions,
    failures: dict[str, VideoDepthError],
) -> None:
    """Measure one video after another; each is in ``evaluation`` when it is done."""
    from video_depth_ros.evaluation.runner import evaluate_video

    with progress_bar() as progress:
        for video in videos:
            task = progress.add_task(video.name, total=2 * video.frame_count)
            advance = partial(progress.advance, task)
            try:
                evaluation.results.append(evaluate_video(video, regressor, options, advance))
            except VideoDepthError as error:  # of this video; the others go on
                failures[video.name] = error
            progress.remove_task(task)


def _deliver(
    evaluation: Evaluation,
    failures: dict[str, VideoDepthError],
    args: argparse.Namespace,
    console: Console,
) -> None:
    """Print the tables, write the files."""
    from video_depth_ros.cli.evaluate_tables import methods_table, videos_table
    from video_depth_ros.evaluation.report import INCOMPLETE

    evaluation.failed = {name: str(error) for name, error in failures.items()}
    if evaluation.mean():
        console.print(videos_table(evaluation), "", methods_table(evaluation), sep="\n")
    else:
        console.print(
            "Nothing could be measured: no true depth, and no camera that stands still. "
            "With true poses, --triangulate makes sparse truth."
        )
        if evaluation.incomplete:  # there is no table to say so
            console.print(INCOMPLETE)
    for result in evaluation.results:
        for note in result.notes:
            console.print(f"{result.name}: {note}", soft_wrap=True, markup=False)
    if args.json:
        evaluation.write_json(args.json)
        console.print(f"figures: {args.json}", soft_wrap=True)
    if args.report:
        from video_depth_ros.evaluation.html import write_report

        write_report(evaluation, args.report)
        console.print(f"report: {args.report}", soft_wrap=True)
    for name, reason in evaluation.failed.items():
        console.print(f"not measured: {name}: {reason}", soft_wrap=True, markup=False)


def _check(args: argparse.Namespace) -> None:
    if bool(args.sources) == bool(args.dataset):
        raise ConfigError("give either recordings or --dataset simulated")
    of_recordings = ("format", "protocol", "intrinsics", "hfov", "rate", "depth_scale", *_TOPICS)
    given = [name for name in of_recordings if getattr(args, name) is not None]
    if args.triangulate:
        given.append("triangulate")
    if args.dataset and given:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise ConfigError(f"{names}: for recordings; the simulation knows its own truth")
    for name in ("videos", "frames", "metric_points"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise ConfigError(f"--{name.replace('_', '-')}: expected 1 or more, got {value}")
    if args.rate is not None and not args.rate > 0.0:
        raise ConfigError(f"--rate: expected more than 0 frames per second, got {args.rate}")
    if args.seed < 0:
        raise ConfigError(f"--seed: expected 0 or more, got {args.seed}")
    check_writable(args.json, args.report, inputs=[*args.sources, args.config, args.weights])


def _config(args: argparse.Namespace) -> PipelineConfig:
    from video_depth_ros.config import PipelineConfig, apply_overrides, load_yaml
    from video_depth_ros.node_config import DepthNodeConfig
    from video_depth_ros.settings import leaves

    config = PipelineConfig()
    if args.config:
        # the node's own file will do: what only the node knows is passed over
        names = [leaf.name for leaf in leaves(DepthNodeConfig())]
        config = load_yaml(config, args.config, others=names)
    named = {
        "regressor.name": args.regressor,
        "regressor.weights": args.weights,
        "regressor.device": args.device,
    }
    given = [f"{name}={value}" for name, value in named.items() if value is not None]
    return apply_overrides(config, [*given, *args.set])


def _videos(
    args: argparse.Namespace, names: _Names, failed: Callable[[str, VideoDepthError], None]
) -> Iterator[Video]:
    for video in _found(args, failed):
        yield replace(video, name=names.apart(video.name))


def _found(
    args: argparse.Namespace, failed: Callable[[str, VideoDepthError], None]
) -> Iterator[Video]:
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
        depth_scale=args.depth_scale,
    )
    named = [getattr(args, name) for name in _TOPICS]
    topics = BagTopics(*named) if any(named) else None
    for source in args.sources:
        try:
            for video in find_videos(
                source, args.format, args.protocol, options, args.frames, topics, failed
            ):
                yield _triangulated(video) if args.triangulate else video
        except VideoDepthError as error:  # of this source; the others go on
            failed(str(source), error)


class _Names:
    """Names given out; two folders of one name are two rows, measured or not."""

    def __init__(self) -> None:
        self._given: set[str] = set()

    def apart(self, name: str) -> str:
        """The name, numbered where it was given before."""
        numbered = (f"{name} ({count})" for count in itertools.count(2))
        own = next(n for n in itertools.chain([name], numbered) if n not in self._given)
        self._given.add(own)
        return own


def _triangulated(video: Video) -> Video:
    from video_depth_ros.evaluation.triangulation import Triangulated

    return replace(video, sequence=Triangulated(video.sequence, video.max_frames))
