# SPDX-License-Identifier: Apache-2.0
"""``video_depth train``: train nano, or fine-tune DVD."""

from __future__ import annotations

import argparse
import subprocess
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from video_depth_ros.cli.progress import progress_bar
from video_depth_ros.cli.train_settings import (
    data_settings,
    print_settings,
    resumed_settings,
    settings,
)
from video_depth_ros.errors import ConfigError
from video_depth_ros.files import check_writable
from video_depth_ros.training.config import TrainConfig

_WINDOWS = (2, 21)  # latents: more than the smallest hop, at most what regressor.window takes
_SMALLEST_BOX = 32  # px
NORMALISE_BATCHES = 16  # enough for the mean and deviation of every latent channel

EXAMPLES = """\
worked examples:
  the embedded model, stage by stage (each starts from the one before):
    video_depth train --stage vae    --out runs/vae    --cache clips --set steps=2000 tau=0.5
    video_depth train --stage latent --out runs/latent --cache clips \\
        --init runs/vae --set steps=4000
    video_depth train --stage pixel  --out runs/pixel  --cache clips --init runs/latent \\
        --set tau=0 steps=20000 precision=bfloat16 --export nano.safetensors

  go on after an interruption, to the same end as without it (settings and data are the run's own):
    video_depth train --out runs/pixel --resume

  fine-tune DVD with LoRA on the data it was trained on (weights CC BY-NC 4.0); shares are of
  images and of videos:
    video_depth train --size dvd --init dvd_1.1.safetensors --out runs/dvd --frames 45 \\
        --data hypersim:/data/hypersim@9,0 vkitti2:/data/vkitti2@1,10 \\
               tartanair:/data/TartanAir@0,40 \\
        --set lora_rank=512 checkpointing=true precision=bfloat16 optimiser.accumulate=4 \\
              batch.image_share=0.1667 batch.images=8 batch.videos=1 batch.frames=45 \\
              batch.heights=[480] batch.widths=[640] --export mine.safetensors \\
        --name dvd-mine --box 480 640 --window 9

  on your own recordings with depth, kept as clips once they are read:
    video_depth train --out runs/mine --init nano.safetensors --stage pixel --cache clips \\
        --data tum_rgbd:/data/tum recording:drive.mcap@2 --set tau=0

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
    add(
        "--init",
        type=Path,
        help="run, folded file or DVD/Wan weights to start from; --resume needs none",
    )
    add("--vae", type=Path, help="VAE file where --init has a transformer alone")
    add("--resume", action="store_true", help="go on from the checkpoint in --out, as it began")
    add("--force", action="store_true", help="with --resume: with other settings or data")
    add("--data", nargs="+", metavar="SOURCE", help="see docs/training.md (default simulated)")
    add("--clips", type=int, help="simulated single images (default 20000)")
    add("--videos", type=int, help="simulated clips (default 2000)")
    add("--frames", type=int, help="frames per clip of a source (default 9)")
    add("--cache", type=Path, help="folder that keeps clips, rendered or read from recordings")
    add("--heldout", type=int, help="held-out clips to validate on (default 12)")
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
    add(
        "--name",
        help="name in the exported file (default: that of the weights it started from, else the "
        "size's)",
    )
    add(
        "--licence",
        help="licence in the exported file (default: that of the weights it started from; "
        "Apache-2.0 from random ones)",
    )
    add("--window", type=int, default=5, help="latents per window in the exported file")
    add("--box", type=int, nargs=2, default=None, help="height width in the exported file")


def check_export(args: argparse.Namespace, inputs: Sequence[Path | None]) -> None:
    """Refuse before the work what could not be exported, or not be used afterwards.

    Args:
        args: with those of :func:`add_export_arguments`.
        inputs: files that are read.

    Raises:
        ConfigError: naming the option, what was expected and what came.
    """
    check_writable(args.export, inputs=inputs)
    if not _WINDOWS[0] <= args.window <= _WINDOWS[1]:
        raise ConfigError(
            f"--window: expected {_WINDOWS[0]} to {_WINDOWS[1]} latents, got {args.window}"
        )
    if args.box is not None and min(args.box) < _SMALLEST_BOX:
        raise ConfigError(
            f"--box: expected a height and a width of {_SMALLEST_BOX} px or more, got "
            f"{args.box[0]} {args.box[1]}"
        )


def run(args: argparse.Namespace) -> int:
    """Train, draw the curves, export."""
    console = Console()
    if args.list:
        print_settings(console)
        return 0
    if args.out is None:
        raise ConfigError("train: expected --out FOLDER for the run")

    from video_depth_ros.training import checkpoint
    from video_depth_ros.training.initial import initial_model
    from video_depth_ros.training.loop import Ranks, Trainer
    from video_depth_ros.training.sources import heldout, parse

    place = args.out / checkpoint.NAME
    check_writable(place)
    check_export(args, [place, args.init, args.vae])
    if args.resume:
        config, words = resumed_settings(args, place)
    elif place.exists():
        raise ConfigError(f"{args.out} holds a run already; add --resume or name another folder")
    else:
        config, words = settings(args), data_settings(args)
    ranks = Ranks.from_environment(config.device)
    cache = Path(words.cache) if words.cache else None
    check_writable(cache and cache / "clips")
    sources = parse(words.data, words.frames, words.clips, words.videos, cache)
    data = sources.batches(config.batch, config.seed, ranks.rank, ranks.count)
    validation = heldout(words.heldout, config, cache) if config.validate_every else None
    # A run that goes on is of the kind its checkpoint is of, whatever it once started from.
    model = initial_model(config, args.out if args.resume else args.init, args.vae)
    trainer = Trainer(model, config, args.out, validation, ranks, words)
    if args.resume:
        trainer.resume(place, args.force)
        console.print(f"going on after step {trainer.step}")
    _train(trainer, data, console, args.out)
    if ranks.rank == 0:
        if config.stage == "vae":
            normalise(trainer, data)
            trainer.save(place)
        finish(args, config, trainer, console)
    return 0


def _train(trainer, data, console: Console, out: Path) -> None:  # type: ignore[no-untyped-def]
    from video_depth_ros.training.curves import CURVE, LOG, draw_curves, write_log

    def curves() -> None:
        write_log(out / LOG, trainer.history)
        draw_curves(out / CURVE, trainer.history, f"{config.stage} stage")

    config, first = trainer.config, trainer.ranks.rank == 0
    with progress_bar(console, noted=True, transient=False, hidden=not first) as progress:
        task = progress.add_task(config.stage, total=config.steps, completed=trainer.step, note="")

        def report(log: dict[str, float]) -> None:
            if not first:
                return
            step = int(log["step"])
            progress.update(task, completed=step, note=f"loss {log['loss']:.4f}")
            held = {k: f"{v:.4f}" for k, v in log.items() if k.startswith("val_")}
            if held or step % config.log_every == 0:
                extra = " ".join(f"{k} {v}" for k, v in held.items())
                progress.console.print(f"step {step}  loss {log['loss']:.4f}  {extra}")
            # beside the checkpoint, for who looks meanwhile; at the end they are drawn anyway
            if step % config.save_every == 0 and step < config.steps:
                curves()

        try:
            trainer.run(data, report)
        finally:
            if first and trainer.history:
                curves()


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
        name=args.name or model.origin.named(config.size),
        licence=args.licence or model.origin.licensed(),
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
