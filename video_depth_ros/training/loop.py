# SPDX-License-Identifier: Apache-2.0
"""The training loop: seeded, resumable, single or distributed.

A step's data depends on (seed, step) alone and its noise on the generator state that the
checkpoint keeps, so a run that was killed and goes on ends in the same state, bit for bit on the
CPU, as one that was not. Started by ``torchrun`` (or accelerate's launcher), every process trains
on clips of its own and gradients are averaged by DistributedDataParallel.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from video_depth_ros.errors import RegressorError
from video_depth_ros.training import checkpoint
from video_depth_ros.training.batches import Batch, BatchSource, open_batches
from video_depth_ros.training.config import DataConfig, TrainConfig
from video_depth_ros.training.ema import Ema
from video_depth_ros.training.image_encoder import freeze_steps_in_time
from video_depth_ros.training.lora import trainable
from video_depth_ros.training.losses import Parts, fold_parts
from video_depth_ros.training.model import DepthModel
from video_depth_ros.training.optimisers import Optimiser
from video_depth_ros.training.resumption import (
    refuse_changes,
    refuse_other_data,
    refuse_other_ranks,
)
from video_depth_ros.training.stages import LatentStage, PixelStage, VaeStage, check_clips

REMEDY = (
    "the step was not taken: go on from the last checkpoint with a lower optimiser.rate or "
    "precision=float32 (--resume --force --set ...)"
)
Log = dict[str, float]  # one step: step, loss, rate, norm, the loss's parts, validation figures
Report = Callable[[Log], None]
Validate = Callable[[DepthModel], dict[str, float]]


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together."""

    rank: int = 0
    count: int = 1

    @staticmethod
    def from_environment(device: str = "auto") -> Ranks:
        """As torchrun and accelerate's launcher set it; joins the process group, if any. Its own
        CUDA device, if any, becomes the one that ``device`` = ``cuda`` means."""
        count = int(os.environ.get("WORLD_SIZE", "1"))
        if count > 1 and not torch.distributed.is_initialized():
            cuda = torch.cuda.is_available() and device != "cpu"
            if cuda:
                torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
            torch.distributed.init_process_group("nccl" if cuda else "gloo")
        return Ranks(int(os.environ.get("RANK", "0")), count)


def pick_device(name: str) -> torch.device:
    """``auto`` is this process's CUDA device, or the CPU."""
    if name != "auto":
        return torch.device(name)
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


def rate_at(config: TrainConfig, step: int) -> float:
    """Learning rate of a step."""
    o = config.optimiser
    rate = o.rate
    if o.schedule == "cosine":
        done = step / max(1, config.steps)
        rate *= 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    if step < o.warmup:
        rate *= (step + 1) / o.warmup
    return rate


class Trainer:
    """One stage: the model, its optimiser, its average, its place in the data.

    Args:
        model: what to train, changed in place.
        config: the stage.
        folder: where ``checkpoint.pt`` and ``log.jsonl`` go; None keeps nothing.
        validate: figures to log every ``validate_every`` steps, from the averaged weights.
        ranks: this process among those that train together.
        data: what it is trained on, for the checkpoint.

    Raises:
        ConfigError: clips that the network or the stage cannot take (``stages.check_clips``).
    """

    def __init__(
        self,
        model: DepthModel,
        config: TrainConfig,
        folder: Path | None = None,
        validate: Validate | None = None,
        ranks: Ranks | None = None,
        data: DataConfig | None = None,
    ) -> None:
        check_clips(config, model.size)
        self.config = config
        self.data = data
        self.folder = folder
        self.validate = validate
        self.ranks = ranks or Ranks()
        self.device = pick_device(config.device)
        self.model = model.to(self.device)
        model.transformer.checkpointing = config.checkpointing
        if config.lora_rank == 0:
            model.requires_grad_(True)  # an earlier stage may have frozen a part
        if model.vae.config.image_encoder:
            freeze_steps_in_time(model)
        self.stage = _stage(model, config)
        self.parameters = trainable(self.stage)
        o = config.optimiser
        self.optimiser = Optimiser(self.parameters, o.name, o.rate, o.weight_decay)
        self.ema = Ema(model, o.ema) if o.ema > 0 else None
        self.step = 0
        self.history: list[Log] = []

    def run(self, data: BatchSource, report: Report | None = None, until: int = 0) -> list[Log]:
        """Train from the current step to the last one (or to ``until``) and return the log.

        Raises:
            RegressorError: the loss or its gradient is not finite; the step is not taken and the
                last checkpoint is untouched.
            VideoDepthError: data that cannot be read, whichever process met it.
        """
        config, stop = self.config, until or self.config.steps
        per_step = config.optimiser.accumulate
        model: nn.Module = self.stage
        if self.ranks.count > 1:
            model = DistributedDataParallel(self.stage, find_unused_parameters=True)
        self.stage.train()
        started = time.monotonic()
        with open_batches(data, self.step * per_step, stop * per_step, config.workers) as batches:
            while self.step < stop:
                log = self._one_step(model, batches)
                log["seconds"] = time.monotonic() - started
                if config.validate_every and self.step % config.validate_every == 0:
                    log.update(self._validation())
                self._keep(log, last=self.step == stop)
                if report is not None:
                    report(log)
        return self.history

    def _one_step(self, model: nn.Module, batches: Iterator[Batch]) -> Log:
        config = self.config
        rate = rate_at(config, self.step)
        self.optimiser.set_rate(rate)
        self.optimiser.zero_grad()
        total = 0.0
        parts: Parts = {}
        for _ in range(config.optimiser.accumulate):
            batch = next(batches)
            loss, parts = self._forward(model, batch)
            (loss / config.optimiser.accumulate).backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach()) / config.optimiser.accumulate
        if not math.isfinite(total):
            raise RegressorError(
                f"expected a finite loss, got {total} at step {self.step}; {REMEDY}"
            )
        norm = nn.utils.clip_grad_norm_(self.parameters, config.optimiser.clip or math.inf)
        # A finite loss may have a gradient that is not. It is the same on all ranks, which
        # therefore stop alike.
        if not math.isfinite(float(norm)):
            raise RegressorError(
                f"expected a finite gradient, got norm {float(norm)} at step {self.step} with the "
                f"finite loss {total:.4g}; {REMEDY}"
            )
        self.optimiser.step()
        if self.ema is not None:
            self.ema.update(self.model)
        self.step += 1
        frames = float(batch.rgb.shape[1])
        return {
            "step": float(self.step),
            "loss": total,
            "rate": rate,
            "norm": float(norm),
            "frames": frames,
            **fold_parts(parts),
        }

    def _forward(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Parts]:
        groups = (batch.rgb.shape[1] - 1) // self.model.size.vae.temporal_stride
        first = history = 0
        if self.config.stage != "vae" and groups > 0:
            rng = np.random.default_rng((self.config.seed, self.step, 1_000_003))
            if rng.random() < self.config.streaming_share and groups > 1:
                first = int(rng.integers(1, groups))
            history = int(rng.integers(self.config.history + 1))
        half = self.config.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            result: tuple[Tensor, Parts] = model(batch, first, history)
        return result

    def _validation(self) -> dict[str, float]:
        if self.validate is None or self.ranks.rank:
            return {}
        self.stage.eval()
        try:
            with self.averaged():
                return {f"val_{k}": v for k, v in self.validate(self.model).items()}
        finally:
            self.stage.train()

    def averaged(self):  # type: ignore[no-untyped-def]
        """A context in which the model holds the averaged weights."""
        if self.ema is not None:
            return self.ema.applied(self.model)
        from contextlib import nullcontext

        return nullcontext()

    def _keep(self, log: Log, last: bool) -> None:
        self.history.append(log)
        due = last or self.step % self.config.save_every == 0
        if due and self.folder is not None and self.ranks.rank == 0:
            self.save(self.folder / checkpoint.NAME)

    def save(self, path: Path) -> None:
        """Write everything needed to go on as if nothing had happened."""
        checkpoint.save(
            path,
            checkpoint.Snapshot(
                model=self.model.state_dict(),
                optimiser=self.optimiser.state_dict(),
                ema=self.ema.state() if self.ema is not None else {},
                step=self.step,
                random=checkpoint.random_state(),
                config=checkpoint.plain(self.config),
                history=self.history,
                data=None if self.data is None else checkpoint.plain(self.data),
                ranks=self.ranks.count,
                origin=self.model.origin._asdict(),
            ),
        )

    def resume(self, path: Path, force: bool = False) -> None:
        """Go on from a checkpoint of the same run.

        Args:
            path: the checkpoint.
            force: also with settings, data or a number of processes that change what a step does.

        Raises:
            CheckpointError: missing, damaged, or of another model.
            ConfigError: of a run with other settings, and not ``force``.
        """
        snapshot = checkpoint.load(path)
        if not force:
            refuse_changes(checkpoint.config_of(snapshot), self.config)
            refuse_other_ranks(snapshot.ranks, self.ranks.count)
            stored = checkpoint.data_of(snapshot)
            if stored is not None and self.data is not None:
                refuse_other_data(stored, self.data)
        checkpoint.fill(self.model, snapshot.model, path)
        self.model.origin = checkpoint.origin_of(snapshot)
        self.optimiser.load_state_dict(snapshot.optimiser)
        if self.ema is not None and snapshot.ema:
            self.ema.load(snapshot.ema)
        self.step = snapshot.step
        self.history = list(snapshot.history)
        checkpoint.set_random_state(snapshot.random)


def _stage(model: DepthModel, config: TrainConfig) -> nn.Module:
    loss = config.loss
    if config.stage == "vae":
        return VaeStage(model)
    if config.stage == "latent":
        return LatentStage(model, loss.lmr)
    return PixelStage(model, loss, config.window)
