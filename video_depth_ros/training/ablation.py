# SPDX-License-Identifier: Apache-2.0
"""``python -m video_depth_ros.training.ablation``: what each part of DVD's recipe is worth here.

One small VAE is trained and makes the latents of one set of images and clips. From there the
latent stage runs once per variant and seed, on the same latents for the same number of steps, and
every variant is measured on the same held-out clips. The variants of a seed start from the same
random transformer, also the one without a timestep, whose constants are folded into the weights
before the first step.

A study that was stopped goes on where it was; a finished variant is not run again.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from video_depth_ros.errors import ConfigError, VideoDepthError
from video_depth_ros.files import write_text
from video_depth_ros.settings import replace_flat
from video_depth_ros.training import checkpoint
from video_depth_ros.training.ablation_measures import (
    Figures,
    Predict,
    decoded_truth,
    measure,
    predicted,
    ramp,
)
from video_depth_ros.training.batches import BatchSource
from video_depth_ros.training.clips import ClipSource
from video_depth_ros.training.config import TrainConfig
from video_depth_ros.training.export import folded_model
from video_depth_ros.training.initial import initial_model, trained_model
from video_depth_ros.training.latents import Latents, make_latents, train_on_latents
from video_depth_ros.training.loop import Trainer
from video_depth_ros.training.model import DepthModel
from video_depth_ros.training.sources import Sources, heldout, parse, saved
from video_depth_ros.training.stages import measure_latents

RESULTS = "ablation.json"
TABLE = "ablation.md"
STATISTICS = 16  # batches from which the latents' mean and deviation are measured
Say = Callable[[str], None]


@dataclass(frozen=True)
class Variant:
    """One row of the table and what it changes in the recipe."""

    name: str
    title: str
    changes: Mapping[str, Any] = field(default_factory=dict)


VARIANTS = (
    Variant("full", "tau 0.5, LMR 0.5, images and videos (DVD's recipe)"),
    Variant("no_lmr", "without LMR", {"loss.lmr": 0.0}),
    Variant("images", "images only", {"batch.image_share": 1.0}),
    Variant("tau_none", "tau none (no timestep)", {"tau": 0.0}),
    Variant("tau_0.3", "tau 0.3", {"tau": 0.3}),
    Variant("tau_0.7", "tau 0.7", {"tau": 0.7}),
)

# Shared by all variants. An image step and a video step hold about as many latents.
RECIPE: dict[str, Any] = {
    "stage": "latent",
    "size": "micro",
    "workers": 0,
    "device": "cpu",
    "batch.heights": (64,),
    "batch.widths": (96,),
    "batch.images": 12,
    "batch.videos": 4,
    "batch.frames": 9,
    "batch.image_share": 0.5,
    "batch.augment.colour": 0.5,
    "batch.augment.crop": 0.75,
    "optimiser.name": "muon",
    "optimiser.rate": 3e-3,
    "optimiser.schedule": "cosine",
    "optimiser.warmup": 30,
    "optimiser.ema": 0.99,
}
VAE_CHANGES = {
    "stage": "vae",
    "batch.images": 4,
    "batch.videos": 1,
    "batch.image_share": 0.75,
}

COLUMNS = {
    "abs_rel": "AbsRel",
    "delta1": "delta1",
    "gradient": "gradient error",
    "boundary_f1": "boundary F1",
    "flicker": "flicker",
    "temporal_difference": "temporal difference",
    "latent_mse": "latent MSE",
    "latent_differences": "latent differences",
}


@dataclass(frozen=True)
class Ablation:
    """A study in a folder.

    Attributes:
        out: folder of all results; ``ablation.json`` and ``ablation.md`` grow with every run.
        base: the full recipe; its seed is that of the VAE and of the latents.
        vae_steps: steps of the VAE stage.
        counts: images and clips that the variants train on.
        data: what everything is trained on.
        held: clips that nothing is trained on.
    """

    out: Path
    base: TrainConfig
    vae_steps: int
    counts: tuple[int, int]
    data: Sources
    held: ClipSource

    def run(self, variants: Sequence[Variant], seeds: int, say: Say = print) -> str:
        """Train and measure what is missing and return the table.

        Raises:
            ConfigError: the folder holds results of other settings.
        """
        vae = self.shared_vae(say)
        references = {
            "truth through the VAE": self._measured(partial(decoded_truth, vae)),
            "best ramp (knows nothing)": self._measured(ramp),
        }
        say("references: " + json.dumps(references))
        latents = make_latents(vae, self._data(self.base), *self.counts)
        say(f"{len(latents.images.rgb)} images and {len(latents.videos.rgb)} clips encoded")
        figures: dict[str, list[Figures]] = {}
        text = ""
        for seed in range(self.base.seed, self.base.seed + seeds):
            for variant in variants:
                found = self.variant(variant, seed, vae, latents, say)
                figures.setdefault(variant.title, []).append(found)
                text = table(figures, references)
                result = {"variants": figures, "references": references}
                write_text(self.out / RESULTS, json.dumps(result, indent=1) + "\n")
                write_text(self.out / TABLE, text)
        return text

    def shared_vae(self, say: Say) -> DepthModel:
        """A model that holds the VAE of all variants, its latents brought to unit size."""
        config = replace_flat(self.base, {**VAE_CHANGES, "steps": self.vae_steps})
        folder = self.out / "vae"
        trainer = Trainer(initial_model(config), config, folder)
        data = self._data(config)
        if (folder / checkpoint.NAME).exists():
            _require(checkpoint.load(folder / checkpoint.NAME).config == asdict(config), folder)
            trainer.resume(folder / checkpoint.NAME)
        if trainer.step < config.steps:
            trainer.run(data, lambda log: _report(say, config, "vae", log["step"], log["loss"]))
        model, _, _ = trained_model(folder)
        measure_latents(model, [data[step] for step in range(STATISTICS)])
        return model.eval()

    def variant(
        self, variant: Variant, seed: int, vae: DepthModel, latents: Latents, say: Say
    ) -> Figures:
        """The figures of one variant with one seed, computed or read back."""
        config = replace_flat(self.base, {**variant.changes, "seed": seed})
        name = f"{variant.name}_{seed}"
        path = self.out / f"{name}.json"
        settings = {"vae_steps": self.vae_steps, "counts": self.counts, "held": len(self.held)}
        settings = json.loads(json.dumps({"config": asdict(config), **settings}))
        if path.exists():
            stored = json.loads(path.read_text(encoding="utf-8"))
            _require(stored["settings"] == settings, path)
            return dict(stored["figures"])
        started = time.process_time()
        model = starting_model(config, self.base, vae)
        average = train_on_latents(model, config, latents, partial(_report, say, config, name))
        with average.applied(model):
            figures = self._measured(partial(predicted, model))
        figures["cpu_seconds"] = time.process_time() - started
        write_text(path, json.dumps({"settings": settings, "figures": figures}, indent=1) + "\n")
        say(f"{name}: " + json.dumps({key: round(value, 4) for key, value in figures.items()}))
        return figures

    def _data(self, config: TrainConfig) -> BatchSource:
        return self.data.batches(config.batch, config.seed)

    def _measured(self, predict: Predict) -> Figures:
        batch = self.base.batch
        return measure(predict, self.held, batch.frames, (batch.heights[0], batch.widths[0]))


def starting_model(config: TrainConfig, base: TrainConfig, vae: DepthModel) -> DepthModel:
    """The network of a variant before its first step: a random transformer behind the shared VAE.

    The transformer depends on the seed alone. Without a timestep it is the folded form of the one
    that the full recipe starts from, the same function.
    """
    model = initial_model(replace_flat(base, {"seed": config.seed}))
    model.vae.load_state_dict(vae.vae.state_dict())
    if config.tau == 0:
        return folded_model(model)
    model.tau = config.tau
    return model


def table(figures: Mapping[str, Sequence[Figures]], references: Mapping[str, Figures]) -> str:
    """Markdown: one row per variant, mean over seeds and +- half of what they span."""
    lines = [
        "| variant | " + " | ".join(COLUMNS.values()) + " |",
        "|---" * (len(COLUMNS) + 1) + "|",
    ]
    for title, several in (*figures.items(), *((t, [f]) for t, f in references.items())):
        cells = [_cell([f[name] for f in several if name in f]) for name in COLUMNS]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(values: Sequence[float]) -> str:
    if not values:
        return "-"
    text = f"{np.mean(values):.3f}"
    return f"{text} ± {np.ptp(values) / 2:.3f}" if len(values) > 1 else text


def _report(say: Say, config: TrainConfig, name: str, step: float, loss: float) -> None:
    if int(step) % config.log_every == 0:
        say(f"{name} step {int(step)} of {config.steps}: loss {loss:.4f}")


def _require(same: bool, place: Path) -> None:
    if not same:
        raise ConfigError(f"{place} holds results of other settings; name another --out folder")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m video_depth_ros.training.ablation",
        description="Train small models with and without each part of DVD's recipe.",
    )
    add = parser.add_argument
    add("--out", type=Path, required=True, help="folder of the study")
    add("--data", nargs="+", default=["simulated"], metavar="SOURCE", help="see docs/training.md")
    add("--clips", type=int, default=4000, help="simulated single images (default 4000)")
    add("--videos", type=int, default=600, help="simulated clips of 9 frames (default 600)")
    add("--cache", type=Path, help="folder that keeps rendered clips")
    add("--heldout", type=Path, help="folder of held-out clips; else 24 are rendered")
    add("--size", default="micro", choices=("micro", "tiny", "nano"), help="default micro")
    add("--steps", type=int, default=2000, help="steps of each variant (default 2000)")
    add("--vae-steps", type=int, default=2000, help="steps of the VAE (default 2000)")
    add("--latents", type=int, nargs=2, default=(4000, 600), metavar=("IMAGES", "CLIPS"),
        help="that the variants train on (default 4000 600)")  # fmt: skip
    add("--seeds", type=int, default=2, help="runs per variant (default 2)")
    names = [variant.name for variant in VARIANTS]
    add("--variants", nargs="+", default=names, choices=names, help="default: all")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """The command; bad input is one clear line and exit status 2."""
    args = _parser().parse_args(argv)
    try:
        settings = {**RECIPE, "size": args.size, "steps": args.steps, "log_every": 50}
        base = replace_flat(TrainConfig(), settings)
        frames = base.batch.frames
        data = parse(args.data, frames, args.clips, args.videos, args.cache)
        held = saved(args.heldout) if args.heldout else heldout(24, base, args.cache).source
        ablation = Ablation(args.out, base, args.vae_steps, tuple(args.latents), data, held)
        variants = [variant for variant in VARIANTS if variant.name in args.variants]
        print(ablation.run(variants, args.seeds, partial(print, flush=True)))
    except VideoDepthError as error:
        print(f"ablation: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
