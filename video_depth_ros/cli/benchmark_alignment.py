# SPDX-License-Identifier: Apache-2.0
"""``video_depth benchmark --alignment``: what the alignment alone loses and costs."""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from video_depth_ros.alignment import AlignmentConfig, RunningEstimate
from video_depth_ros.cli.tables import print_whole
from video_depth_ros.evaluation.alignment_study import AlignmentResult, AlignmentStudy
from video_depth_ros.evaluation.joint_memory import JointMemory, joint_memory
from video_depth_ros.evaluation.laboratory import LaboratoryFaults, SyntheticDisparity
from video_depth_ros.frames import DisparityGroup

# Like DVD's output, a window fills [0, 1] and little of it is cut off: infinity lies here, and the
# nearest 0.5 % of the stream at NEAREST.
INFINITY, NEAREST = 0.1, 0.85
# The stream has the size of the grid of samples, every eighth pixel of 480x640: one pixel of wrong
# values stands for a block of eight.
FAULTS = LaboratoryFaults(scale_sigma=0.08, shift_sigma=0.03, noise=0.01, outliers=0.3, block=1)

_FRAMES = 5000


def run(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Print the figures of ``args.frames`` frames of ``args.world``, and return them as rows.

    That is a world of the simulation (room, corridor, street, clutter) or ``boxes``, a cheap
    synthetic view.
    """
    frames, world = args.frames or _FRAMES, args.world
    console = Console(soft_wrap=True)
    if args.memory:
        memory = joint_memory(frames)
        console.print(_memory_line(memory))
        return [{"memory": dataclasses.asdict(memory)}]
    study = AlignmentStudy(_truth(world, frames), frames, FAULTS, infinity=INFINITY)
    results = [
        study.unaligned("windows as they come"),
        study.online("least-squares chain (DVD)", "dvd", keyframes=False),
        study.online("robust chain", "robust", keyframes=False),
        study.online("robust chain, keyframes", "robust", keyframes=True),
        study.offline("joint, dilation 1", (1,)),
        study.offline("joint, dilations 1, 10, 25", (1, 10, 25)),
    ]
    print_whole(_table(results, world, frames))
    whole, fit = group_cost()
    console.print(
        f"480x640, overlap 8: {whole:.1f} ms per group of 4 frames, of which {fit:.1f} ms are the "
        f"fit and its checks (median CPU time, {torch.get_num_threads()} threads)"
    )
    named = {"world": world, "frames": frames}
    rows = [{**named, **dataclasses.asdict(result)} for result in results]
    return [*rows, {"group_ms": whole, "fit_ms": fit}]


def group_cost(height: int = 480, width: int = 640, groups: int = 25) -> tuple[float, float]:
    """Median CPU milliseconds of aligning a group, and of the same without the full-size output.

    The second is measured on every eighth pixel of the same views: these are the samples that the
    fit uses of the full size.
    """
    costs = []
    for stride in (1, 8):
        view = SyntheticDisparity(height, width)
        estimate, spent = RunningEstimate(AlignmentConfig()), []
        noise = torch.Generator().manual_seed(0)
        for number in range(groups):
            last = 4 * number
            first = max(0, last - 11)
            rows = [view(index)[::stride, ::stride] for index in range(first, last + 1)]
            disparity = torch.stack(rows)
            disparity = disparity + 0.01 * torch.randn(disparity.shape, generator=noise)
            start = time.process_time()
            estimate.align(DisparityGroup(disparity, first, 1 if number == 0 else 4))
            spent.append(time.process_time() - start)
        costs.append(1e3 * float(np.median(spent)))
    return costs[0], costs[1]


def _truth(world: str, frames: int) -> Callable[[int], Tensor]:
    """Disparity by frame index."""
    if world == "boxes":
        boxes = SyntheticDisparity()
        return lambda index: INFINITY + (NEAREST - INFINITY) / 0.75 * boxes(index)
    from video_depth_ros.simulation.clip import random_clip

    depth = random_clip(0, frames, 60, 80, split="heldout", world=world).depth
    inverse = torch.from_numpy(1.0 / np.maximum(depth, 1e-3))  # the sky's is 0
    inverse /= torch.quantile(inverse.flatten()[:: max(1, inverse.numel() // 1_000_000)], 0.995)
    disparity = (INFINITY + (NEAREST - INFINITY) * inverse).clamp_(0.0, 0.97)
    return lambda index: disparity[index]


def _memory_line(memory: JointMemory) -> str:
    return (
        f"joint solve of {memory.frames} frames, dilations 1, 10, 25: {memory.growth:.0f} KiB "
        f"more per 1,000 frames, at most {memory.peak / 1024.0:.1f} MiB (Python and NumPy, frames "
        "of 9x12 px)"
    )


def _table(results: list[AlignmentResult], world: str, frames: int) -> Table:
    table = Table(
        title=f"alignment alone, {frames} frames of {world}: random affine map per window, noise, "
        "30 % outliers, saturation"
    )
    table.add_column("way")
    for name in ("end drift", "worst drift", "AbsRel added", "worst seam", "ms / group"):
        table.add_column(name, justify="right")
    for result in results:
        table.add_row(
            result.name,
            f"{100.0 * result.end_drift:.2f} %",
            f"{100.0 * result.worst_drift:.2f} %",
            f"{result.abs_rel:.4f}",
            f"{100.0 * result.worst_seam:.2f} %",
            f"{result.milliseconds:.1f}",
        )
    return table
