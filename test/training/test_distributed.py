# SPDX-License-Identifier: Apache-2.0
"""Two processes train as one: same weights on both, gradients averaged over both's clips."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from video_depth_ros.training import checkpoint
from video_depth_ros.training.batches import Batch
from video_depth_ros.training.initial import initial_model
from video_depth_ros.training.loop import Trainer

REPOSITORY = str(Path(__file__).parents[2])

RUN = f"""
import sys; sys.path[:0] = [{REPOSITORY!r}, {REPOSITORY!r} + "/test/training"]
from pathlib import Path
import torch
torch.set_num_threads(1)
from conftest import SMALL, Planes
from video_depth_ros.settings import replace_flat
from video_depth_ros.training.batches import BatchSource
from video_depth_ros.training.config import TrainConfig
from video_depth_ros.training.initial import initial_model
from video_depth_ros.training.loop import Ranks, Trainer
ranks = Ranks.from_environment()
config = replace_flat(TrainConfig(), {{**SMALL, "stage": "pixel", "steps": 4, "save_every": 1}})
trainer = Trainer(initial_model(config), config, Path(sys.argv[1]), ranks=ranks)
data = BatchSource((Planes(),), (1.0,), config.batch, config.seed, ranks.rank, ranks.count)
trainer.run(data)
trainer.save(Path(sys.argv[1]) / f"rank{{ranks.rank}}.pt")
torch.distributed.destroy_process_group()
"""


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without distributed")
def test_two_processes_give_the_mean_gradient(small, planes, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", RUN, str(tmp_path)],
            env={**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=180)
        assert process.returncode == 0, errors
    a, b = (checkpoint.load(tmp_path / f"rank{r}.pt") for r in range(2))
    for name, tensor in a.model.items():
        assert torch.equal(tensor, b.model[name]), name
    assert a.history[0]["loss"] != b.history[0]["loss"]  # each saw clips of its own

    # One process whose losses are the mean over both ranks' batches takes the same steps.
    config = small(stage="pixel", steps=4)
    trainer = Trainer(initial_model(config), config)
    sources = [planes(config, rank=r, ranks=2) for r in range(2)]
    original = trainer.stage

    class Both(torch.nn.Module):
        def forward(self, step: Batch, first: int, history: int):
            results = [original(source[trainer.step], first, history) for source in sources]
            return sum(loss for loss, _ in results) / 2, results[0][1]

    trainer.stage = Both()
    trainer.run(planes(config))
    # AdamW's steps are of one size however small a gradient is, so rounding turns a few of them;
    # over all parameters the two trainings must have moved to the same place
    start = initial_model(config).state_dict()
    apart = moved = 0.0
    for name, tensor in trainer.model.state_dict().items():
        apart += float((tensor - a.model[name]).square().sum())
        moved += float((start[name] - a.model[name]).square().sum())
    assert moved > 0.0
    assert (apart / moved) ** 0.5 < 0.01
