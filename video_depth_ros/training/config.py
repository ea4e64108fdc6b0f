# SPDX-License-Identifier: Apache-2.0
"""Everything a training run can be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from video_depth_ros.settings import group, parameter
from video_depth_ros.training.batches import BatchConfig


@dataclass(frozen=True)
class OptimiserConfig:
    """Steps with gradient clipping, a learning-rate schedule and an average of the weights."""

    name: str = parameter(
        "adamw",
        "adamw (DVD), or muon: orthogonal updates of all matrices, AdamW for the rest; needs far "
        "fewer steps from random weights.",
        choices=("adamw", "muon"),
    )
    rate: float = parameter(1e-4, "Learning rate (DVD: 1e-4).", low=0.0)
    schedule: str = parameter(
        "constant",
        "constant (DVD), or cosine down to a twentieth at the last step.",
        choices=("constant", "cosine"),
    )
    warmup: int = parameter(0, "Steps over which the rate rises from 0.", unit="steps", low=0)
    weight_decay: float = parameter(0.01, "Decoupled weight decay.", low=0.0)
    clip: float = parameter(1.0, "Gradients are clipped to this norm; 0 = never.", low=0.0)
    accumulate: int = parameter(1, "Micro-batches per step.", low=1)
    ema: float = parameter(
        0.999,
        "Decay of the averaged weights, which are what is exported; 0 = none.",
        low=0,
        high=1,
    )


@dataclass(frozen=True)
class LossConfig:
    """Weights of the losses' parts."""

    lmr: float = parameter(
        0.5, "latent stage: weight of latent manifold rectification; 0 = plain MSE.", low=0.0
    )
    absolute: float = parameter(2.0, "pixel stage: squared error without alignment.", low=0.0)
    gradient: float = parameter(0.5, "pixel stage: multi-scale spatial gradients.", low=0.0)
    temporal: float = parameter(0.5, "pixel stage: differences between frames.", low=0.0)
    depth: float = parameter(
        0.0,
        "pixel stage: relative error of aligned depth, for the last part of a training.",
        low=0.0,
    )
    consistency: float = parameter(
        1.0, "pixel stage: agreement of two windows where they overlap.", low=0.0
    )


@dataclass(frozen=True)
class TrainConfig:
    """One stage of training."""

    LISTED: ClassVar[str] = "video_depth train --list"

    stage: str = parameter(
        "latent",
        "vae: reconstruction; latent: DVD's stage; pixel: end to end on disparity.",
        choices=("vae", "latent", "pixel"),
    )
    size: str = parameter(
        "nano",
        "Sizes of the networks: nano, dvd (1.3 B), micro (for studies), or tiny (for tests).",
        choices=("nano", "dvd", "micro", "tiny"),
    )
    tau: float = parameter(
        0.5,
        "Timestep of the structural anchor (DVD: 0.5); 0 trains the folded network, without one.",
        low=0.0,
        high=1.0,
    )
    text_dim: int = parameter(16, "Width of the zero context; 4096 in the public weights.", low=1)
    steps: int = parameter(1000, "Optimiser steps of this stage.", unit="steps", low=1)
    seed: int = parameter(0, "Seed of weights, data and noise.", low=0)
    precision: str = parameter(
        "float32",
        "Arithmetic of the forward pass; weights and optimiser stay float32.",
        choices=("float32", "bfloat16"),
    )
    device: str = parameter("auto", "torch device; auto takes CUDA where there is one.")
    checkpointing: bool = parameter(
        False, "Recompute the transformer's blocks in the backward pass to save memory."
    )
    lora_rank: int = parameter(
        0, "Rank of LoRA on the transformer (DVD: 512); 0 trains all weights.", low=0
    )
    lora_alpha: float = parameter(0.0, "LoRA's alpha; 0 takes the rank (scaling 1, DVD).", low=0.0)
    window: int = parameter(
        5,
        "pixel stage: latents of a window; longer clips are seen through the first and the last.",
        low=2,
    )
    streaming_share: float = parameter(
        0.3,
        "Share of the video steps whose window starts inside the clip, by an image latent.",
        low=0.0,
        high=1.0,
    )
    history: int = parameter(
        0,
        "Most latents that the encoder has seen before a clip: its own frames, mirrored in time. "
        "Each video step draws 0 to this many; a running encoder is then at home in long streams.",
        unit="latents",
        low=0,
    )
    encoder: str = parameter(
        "video",
        "video: a latent sees all frames of its group and those before; image: only its group's "
        "newest frame, and the encoder's memory is switched off for good. What moves is then the "
        "work of the transformer and the decoder.",
        choices=("video", "image"),
    )
    workers: int = parameter(1, "Processes that make batches; 0 = none.", low=0, high=64)
    log_every: int = parameter(20, "Steps between two log lines.", unit="steps", low=1)
    save_every: int = parameter(200, "Steps between two checkpoints.", unit="steps", low=1)
    validate_every: int = parameter(
        0, "Steps between two validations; 0 = never.", unit="steps", low=0
    )
    optimiser: OptimiserConfig = group(OptimiserConfig)
    loss: LossConfig = group(LossConfig)
    batch: BatchConfig = group(BatchConfig)


@dataclass(frozen=True)
class DataConfig:
    """What a run is trained on, as the command line says it."""

    data: tuple[str, ...] = parameter(
        ("simulated",), "Data sources, each with its share (docs/training.md)."
    )
    frames: int = parameter(9, "Frames per clip of a source.", unit="frames", low=1)
    clips: int = parameter(20000, "Simulated single images.", low=1)
    videos: int = parameter(2000, "Simulated clips.", low=0)
    cache: str = parameter("", "Folder that keeps clips; empty = none.")
    heldout: int = parameter(12, "Held-out clips to validate on.", low=1)
