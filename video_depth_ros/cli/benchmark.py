# SPDX-License-Identifier: Apache-2.0
"""``video_depth benchmark``: what the parts of the pipeline cost on this machine."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from video_depth_ros.cli import benchmark_metric, benchmark_pipeline, benchmark_stability
from video_depth_ros.cli.tables import print_whole
from video_depth_ros.errors import ConfigError
from video_depth_ros.files import check_writable, write_text

if TYPE_CHECKING:
    from video_depth_ros.regressors.wan.regressor import WanRegressor

EXAMPLES = """\
worked examples:
  video_depth benchmark                                     the embedded model, default size
  video_depth benchmark --regressor dvd --random-weights --size 480x640 --window 9 --device cuda
  video_depth benchmark --regressor dvd --weights dvd.safetensors --mode exact cached --compile
  video_depth benchmark --regressor dvd --random-weights --device cuda --json table.json \\
      --size 240x320 320x448 480x640 --window 5 9 13 --mode exact cached
  video_depth benchmark --fidelity --window 5             what the fast modes change
  video_depth benchmark --pipeline --threads 2            frames/s with alignment, scale and LiDAR
  video_depth benchmark --alignment                       drift and seams of the alignment alone
  video_depth benchmark --stability lobby.mp4             flicker and drift of a still camera
  video_depth benchmark --metric simulated --regressor laboratory --cache drives
  video_depth benchmark --metric kitti --data DRIVE       metric depth from half of each scan

Options that take several values are run in every combination, one row each. Speed does not depend
on the values of the weights, so --random-weights measures a model whose weights are not at hand.
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "benchmark",
        help="measure speed and memory on this machine",
        description=(
            "Time a regressor push by push on full windows: frames per second, each stage, peak "
            "memory, and the ratio to the plain procedure (encode the window anew, unfolded "
            "transformer, decode the whole window at every hop), measured in the same run."
        ),
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--regressor",
        choices=("nano", "dvd", "laboratory"),
        default="nano",
        help="laboratory, for --metric only: the truth, spoiled, in place of a network",
    )
    parser.add_argument("--weights", default="", metavar="FILE", help="weight file")
    parser.add_argument("--random-weights", action="store_true", help="weights of no meaning")
    parser.add_argument(
        "--size", nargs="+", type=_size, metavar="HxW", help="image size (default: the model's)"
    )
    parser.add_argument("--window", nargs="+", type=int, default=[0], metavar="LATENTS")
    parser.add_argument("--mode", nargs="+", choices=("exact", "cached"), default=["exact"])
    parser.add_argument(
        "--decode", nargs="+", choices=("auto", "window", "restart", "warm"), default=["auto"]
    )
    parser.add_argument("--refresh", type=int, default=3, metavar="LATENTS")
    parser.add_argument("--hop", type=int, default=1, metavar="LATENTS")
    parser.add_argument("--overlap", type=int, default=4, metavar="FRAMES")
    parser.add_argument("--tiny-vae", default="", metavar="FILE", help="taew2_1 weights")
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--dtype", choices=("auto", "float32", "bfloat16", "float16"), default="auto"
    )
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (0 = torch's choice)")
    parser.add_argument(
        "--cpu-time",
        action="store_true",
        help="count CPU time instead of waiting time: with --threads 1, for a busy machine",
    )
    parser.add_argument("--compile", action="store_true", help="torch.compile the transformer")
    parser.add_argument(
        "--fidelity",
        action="store_true",
        help="instead, compare every fast mode's disparity with the exact one's on a simulated "
        "drive (needs real weights to mean anything)",
    )
    parser.add_argument(
        "--pipeline",
        action="store_true",
        help="instead, time the whole pipeline on a simulated robot with camera and LiDAR, and "
        "the network's share; --size is the camera's, --pushes the timed groups",
    )
    parser.add_argument(
        "--alignment",
        action="store_true",
        help="instead, measure what the alignment of windows alone loses and costs, with truth in "
        "place of the network",
    )
    parser.add_argument(
        "--frames", type=int, help="--alignment: length of the stream (default: 5000)"
    )
    parser.add_argument(
        "--world",
        default="room",
        help="--pipeline, --alignment: room, corridor, street, clutter; --alignment: boxes, too",
    )
    parser.add_argument(
        "--memory",
        action="store_true",
        help="--alignment: instead, what the joint solve of a recording of --frames holds",
    )
    benchmark_metric.add_arguments(parser)
    benchmark_stability.add_arguments(parser)
    parser.add_argument("--pushes", type=int, default=10, help="timed pushes per row")
    parser.add_argument(
        "--no-reference", action="store_true", help="leave out the plain procedure"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows here, too")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure every combination, print a table, perhaps write JSON.

    Raises:
        ConfigError: arguments that cannot be.
    """
    _check(args)
    import torch

    if args.threads:
        torch.set_num_threads(args.threads)
    machine = _machine(args.device)
    if args.alignment:
        from video_depth_ros.cli import benchmark_alignment

        _write_json(args, machine, benchmark_alignment.run(args))
        return 0
    _refuse_ignored(args)
    if args.metric:
        return benchmark_metric.run(args, machine)
    if args.regressor == "laboratory":
        raise ConfigError("--regressor laboratory knows the truth only with --metric")
    if args.stability is not None:
        regressor = _load(args, args.window[0], args.mode[0], args.decode[0])
        rows = benchmark_stability.run(args, regressor)
    elif args.pipeline:
        regressor = _load(args, args.window[0], args.mode[0], args.decode[0])
        rows = benchmark_pipeline.run(args, regressor, machine)
    elif args.fidelity:
        rows = _fidelity_rows(args)
        _print_fidelity(rows, machine)
    else:
        rows = _regressor_rows(args)
        _print_table(rows, machine)
    _write_json(args, machine, rows)
    return 0


def _write_json(args: argparse.Namespace, machine: str, rows: list[dict[str, Any]]) -> None:
    if args.json:
        write_text(args.json, json.dumps({"machine": machine, "rows": rows}, indent=2) + "\n")


def _check(args: argparse.Namespace) -> None:
    """Refuse before anything is measured what could not be measured or written.

    Raises:
        ConfigError: naming the option, what was expected and what came.
    """
    for name, low in (("pushes", 1), ("threads", 0), ("frames", 1)):
        number = getattr(args, name)
        if number is not None and number < low:
            raise ConfigError(f"--{name}: expected {low} or more, got {number}")
    profile = args.profiles and args.profiles / "profile.png"
    inputs = [args.data, args.weights, *(args.stability or ())]
    check_writable(args.json, args.plot, profile, inputs=inputs)


def _refuse_ignored(args: argparse.Namespace) -> None:
    """The regressor is told by words of its own; --set must not seem to change it.

    Raises:
        ConfigError: such an assignment.
    """
    flags = ("name", "weights", "device")
    for word in args.assignments:
        room, _, rest = word.partition("=")[0].partition(".")
        if room == "regressor" and (rest in flags or not args.metric):
            raise ConfigError(
                f"--set {word}: here the regressor is told by --regressor, --weights, --device, "
                "--window, --mode and --decode; --set is for the pipeline around it"
            )


def _regressor_rows(args: argparse.Namespace) -> list[dict[str, Any]]:
    """One row per combination of size, window, mode and decode."""
    from video_depth_ros.regressors.benchmark import measure

    rows = []
    for window, mode, decode in itertools.product(args.window, args.mode, args.decode):
        regressor = _load(args, window, mode, decode)
        for height, width in args.size or [regressor.spec.box]:
            timing = measure(
                regressor,
                (height, width),
                args.overlap,
                args.pushes,
                with_reference=not args.no_reference,
                clock=time.process_time if args.cpu_time else time.perf_counter,
            )
            rows.append(
                {
                    "regressor": regressor.spec.name,
                    "size": f"{height}x{width}",
                    "window": regressor.options.window,
                    "hop": args.hop,
                    "mode": mode + (f" m={args.refresh}" if mode == "cached" else ""),
                    "decode": regressor.options.decode,
                    "dtype": str(next(regressor.transformer.parameters()).dtype)[len("torch.") :],
                    "compiled": args.compile,
                    "fps": timing.fps,
                    "ratio": timing.ratio,
                    **dataclasses.asdict(timing),
                }
            )
        del regressor
    return rows


def _load(args: argparse.Namespace, window: int, mode: str, decode: str) -> WanRegressor:
    """The regressor that the arguments name."""
    from video_depth_ros.regressors.registry import RegressorConfig
    from video_depth_ros.regressors.wan import factory, sizes

    config = RegressorConfig(
        name=args.regressor,
        weights=args.weights,
        device=args.device,
        dtype=args.dtype,
        window=window,
        mode=mode,
        refresh=args.refresh,
        hop=args.hop,
        decode=decode,
        tiny_vae=args.tiny_vae,
        compile=args.compile,
    )
    if args.random_weights:
        return factory.with_random_weights(config, sizes.SIZES[args.regressor], args.regressor)
    return factory.nano(config) if args.regressor == "nano" else factory.dvd(config)


def _fidelity_rows(args: argparse.Namespace) -> list[dict[str, Any]]:
    """One row per fast mode, for the first window and size given."""
    import torch

    from video_depth_ros.regressors.fidelity import compare
    from video_depth_ros.simulation.clip import random_clip

    regressor = _load(args, args.window[0], "exact", "window")
    height, width = args.size[0] if args.size else regressor.spec.box
    frames = 1 + regressor.spec.group * (2 * regressor.options.window + 6)
    clip = random_clip(11, frames, height, width, split="heldout", world="street")
    video = torch.from_numpy(clip.rgb).permute(0, 3, 1, 2).float() / 255
    return [dataclasses.asdict(row) for row in compare(regressor, video, args.overlap)]


def _print_fidelity(rows: list[dict[str, Any]], machine: str) -> None:
    from rich.table import Table

    table = Table(title=f"against exact windows decoded whole; {machine}")
    table.add_column("mode")
    for name in ("push ms", "median difference", "largest difference"):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(
            row["name"],
            f"{1e3 * row['push']:.1f}",
            f"{100 * row['error']:.2f} %",
            f"{100 * row['worst']:.2f} %",
        )
    print_whole(table)


def _print_table(rows: list[dict[str, Any]], machine: str) -> None:
    from rich.table import Table

    table = Table(title=machine)
    for name in ("regressor", "size", "window", "mode", "decode", "dtype"):
        table.add_column(name)
    for name in ("push ms", "encode", "transformer", "decode", "FPS", "ratio", "peak MiB"):
        table.add_column(name, justify="right")
    for row in rows:
        stages = (f"{1e3 * row['stages'][s]:.1f}" for s in ("encode", "transformer", "decode"))
        table.add_row(
            row["regressor"],
            row["size"],
            str(row["window"]),
            row["mode"],
            row["decode"],
            row["dtype"],
            f"{1e3 * row['push']:.1f}",
            *stages,
            f"{row['fps']:.1f}",
            "" if row["ratio"] is None else f"{row['ratio']:.1f}x",
            f"{row['memory'] / 2**20:.0f}",
        )
    print_whole(table)


def _machine(device: str) -> str:
    """What was measured on, in words."""
    import platform

    import torch

    cuda = torch.cuda.is_available() and device != "cpu"
    name = torch.cuda.get_device_name() if cuda else f"{platform.machine()} CPU"
    threads = "" if cuda else f", {torch.get_num_threads()} threads"
    return f"{name}{threads}, torch {torch.__version__}"


def _size(text: str) -> tuple[int, int]:
    """``HxW`` to (height, width)."""
    try:
        height, width = (int(part) for part in text.lower().split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected HEIGHTxWIDTH, got {text!r}") from None
    return height, width
