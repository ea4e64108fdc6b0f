# SPDX-License-Identifier: Apache-2.0
"""``video_depth train``: train nano, or fine-tune DVD."""

from __future__ import annotations

import argparse
import json
import subprocess
from pathlib import Path

import yaml
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from video_depth_ros.errors import ConfigError
from video_depth_ros.settings import flatten_tree, leaves, replace_flat
from video_depth_ros.training.config import TrainConfig

NORMALISE_BATCHES = 16  # enough for the mean and deviation of every latent channel

EXAMPLES = """\
worked examples:
  the embedded model, stage by stage (each starts from the one before):
    video_depth train --stage vae    --out runs/vae    --cache clips --set steps=2000 tau=0.5
    video_depth train --stage latent --out runs/latent --cache clips \\
        --init runs/vae --set steps=4000
    video_depth train --stage pixel  --out runs/pixel  --cache clips --init runs/latent \\
        --set tau=0 steps=20000 precision=bfloat16 --export nano.safetensors

  go on after an interruption, to the same end as without it:
    video_depth train --stage pixel --out runs/pixel --cache clips --resume

  fine-tune DVD with LoRA on your own data (weights CC BY-NC 4.0):
    video_depth train --size dvd --init dvd_1.1.safetensors --out runs/dvd \\
        --data tartanair:/data/TartanAir@40 vkitti2:/data/vkitti2@10 --frames 45 \\
        --set lora_rank=512 checkpointing=true precision=bfloat16 batch.frames=45 \\
              batch.heights=[480] batch.widths=[640] --export mine.safetensors \\
        --name dvd-mine --licence CC-BY-NC-4.0 --box 480 640 --window 9

  several GPUs:
    torchrun --nproc-per-node 8 -m video_depth_ros.cli.main train ...

  every setting with its default:
    video_depth train --list
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:  # type: ignore[type-arg]
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "train",
        help="train the embedded model, or fine-tune DVD",
        description="Train by DVD's recipe on the simulation or on data sets.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--out", type=Path, help="folder of the run: checkpoint, log, loss curves")
    add("--stage", choices=("vae", "latent", "pixel"), help="short for --set stage=...")
    add("--size", choices=("nano", "dvd", "micro", "tiny"), help="short for --set size=...")
    add("--config", type=Path, help="YAML file of settings")
    add("--set", nargs="+", default=[], metavar="NAME=VALUE", help="settings, see --list")
    add("--list", action="store_true", help="print every setting and leave")
    add("--init", type=Path, help="run, folded file or DVD/Wan weights to start from")
    add("--vae", type=Path, help="VAE file where --init has a transformer alone")
    add("--resume", action="store_true", help="go on from the checkpoint in --out")
    add("--data", nargs="+", default=["simulated"], metavar="SOURCE", help="see docs/training.md")
    add("--clips", type=int, default=20000, help="simulated single images (default 20000)")
    add("--videos", type=int, default=2000, help="simulated clips (default 2000)")
    add("--frames", type=int, default=9, help="frames per clip of a source (default 9)")
    add("--cache", type=Path, help="folder that keeps rendered clips")
    add("--heldout", type=int, default=12, help="held-out clips to validate on (default 12)")
    add_export_arguments(parser)
    parser.set_defaults(run=run)


def add_export_arguments(parser: argparse.ArgumentParser, required: bool = False) -> None:
    """Where the folded file goes and what it says of itself."""
    add = parser.add_argument
    add(
        "--export",
        type=Path,
        required=required,
        help="write the averaged weights as a folded file",
    )
    add("--name", default="nano", help="name in the exported file")
    add("--licence", default="Apache-2.0", help="licence in the exported file")
    add("--window", type=int, default=5, help="latents per window in the exported file")
    add("--box", type=int, nargs=2, default=None, help="height width in the exported file")


def run(args: argparse.Namespace) -> int:
    """Train, draw the curves, export."""
    console = Console()
    if args.list:
        _list(console)
        return 0
    if args.out is None:
        raise ConfigError("train: expected --out FOLDER for the run")
    config = settings(args)

    from video_depth_ros.training import checkpoint
    from video_depth_ros.training.batches import BatchSource
    from video_depth_ros.training.initial import initial_model
    from video_depth_ros.training.loop import Ranks, Trainer
    from video_depth_ros.training.sources import heldout, parse

    ranks = Ranks.from_environment()
    sources, shares = parse(args.data, args.frames, args.clips, args.videos, args.cache)
    data = BatchSource(sources, shares, config.batch, config.seed, ranks.rank, ranks.count)
    validation = heldout(args.heldout, config, args.cache) if config.validate_every else None
    # A run that goes on is of the kind its checkpoint is of, whatever it once started from.
    start = args.out if args.resume and args.init is None else args.init
    model = initial_model(config, start, args.vae)
    trainer = Trainer(model, config, args.out, validation, ranks)
    if args.resume:
        trainer.resume(args.out / checkpoint.NAME)
        console.print(f"going on after step {trainer.step}")
    elif (args.out / checkpoint.NAME).exists():
        raise ConfigError(f"{args.out} holds a run already; add --resume or name another folder")
    _train(trainer, data, console, args.out)
    if ranks.rank == 0:
        if config.stage == "vae":
            normalise(trainer, data)
            trainer.save(args.out / checkpoint.NAME)
        finish(args, config, trainer, console)
    return 0


def settings(args: argparse.Namespace) -> TrainConfig:
    """The config from file, shorthands and ``--set``, in this order.

    Raises:
        ConfigError: unknown names, wrong types, values out of range.
    """
    values: dict[str, object] = {}
    if args.config is not None:
        if not args.config.exists():
            raise ConfigError(f"--config: expected a YAML file at {args.config}, got no file")
        values |= flatten_tree(yaml.safe_load(args.config.read_text(encoding="utf-8")) or {})
    values |= {n: v for n in ("stage", "size") if (v := getattr(args, n)) is not None}
    for word in args.set:
        name, equals, text = word.partition("=")
        if not equals:
            raise ConfigError(f"--set: expected NAME=VALUE, got {word!r}")
        value = yaml.safe_load(text)
        values[name] = _number(value)
    return replace_flat(TrainConfig(), values)


def _number(value: object) -> object:
    """YAML 1.1 reads 1e-4 as text; a number is meant."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _train(trainer, data, console: Console, out: Path) -> None:  # type: ignore[no-untyped-def]
    from video_depth_ros.training.curves import CURVE, LOG, draw_curves, write_log

    config, first = trainer.config, trainer.ranks.rank == 0
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, disable=not first) as progress:
        task = progress.add_task(config.stage, total=config.steps, completed=trainer.step, note="")

        def report(log: dict[str, float]) -> None:
            step = int(log["step"])
            progress.update(task, completed=step, note=f"loss {log['loss']:.4f}")
            held = {k: f"{v:.4f}" for k, v in log.items() if k.startswith("val_")}
            if held or step % config.log_every == 0:
                extra = " ".join(f"{k} {v}" for k, v in held.items())
                progress.console.print(f"step {step}  loss {log['loss']:.4f}  {extra}")

        try:
            trainer.run(data, report)
        finally:
            if first and trainer.history:
                write_log(out / LOG, trainer.history)
                draw_curves(out / CURVE, trainer.history, f"{config.stage} stage")


def normalise(trainer, data) -> None:  # type: ignore[no-untyped-def]
    """Bring the latents of a VAE that was just trained to unit size for the next stage."""
    from video_depth_ros.training.stages import measure_latents

    with trainer.averaged():
        measure_latents(trainer.model, [data[step] for step in range(NORMALISE_BATCHES)])


def finish(args: argparse.Namespace, config: TrainConfig, trainer, console: Console) -> None:  # type: ignore[no-untyped-def]
    """Say where things are and export if asked to."""
    console.print(f"checkpoint, log and loss.png in {args.out}")
    if args.export is None:
        return
    from video_depth_ros.training.initial import trained_model

    model, _, steps = trained_model(args.out)
    notes = {"stage": config.stage, "steps": steps, "seed": config.seed}
    write_export(args, config, model, notes, console)


def write_export(  # type: ignore[no-untyped-def]
    args: argparse.Namespace,
    config: TrainConfig,
    model,
    notes: dict[str, object],
    console: Console,
) -> None:
    """Write the file that :func:`add_export_arguments` describes."""
    from video_depth_ros.training.export import export

    box = args.box or (config.batch.heights[0], config.batch.widths[0])
    export(
        model,
        args.export,
        name=args.name,
        licence=args.licence,
        window=args.window,
        box=(int(box[0]), int(box[1])),
        notes={"commit": commit(), **notes},
    )
    console.print(f"exported {args.export} ({args.export.stat().st_size / 1e6:.1f} MB)")


def commit() -> str:
    """The commit of the code that trains, or ``unknown`` outside a checkout."""
    try:
        found = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip()


def _list(console: Console) -> None:
    for leaf in leaves(TrainConfig()):
        value = json.dumps(leaf.value)
        console.print(f"{leaf.name} = {value}", markup=False, highlight=False)
        console.print(f"    {leaf.parameter.description}", markup=False, highlight=False)
