# SPDX-License-Identifier: Apache-2.0
"""Everything computes where the network is: the same figures on another device as on the CPU.

The device is one that only separates its tensors from the CPU's; what a GPU's kernels make of the
figures is not tested here.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from video_depth_ros.bags.formats.base import SequenceFrame
from video_depth_ros.camera import Camera
from video_depth_ros.config import PipelineConfig
from video_depth_ros.evaluation.protocols import protocol_of
from video_depth_ros.evaluation.runner import EvaluationOptions, evaluate_video
from video_depth_ros.evaluation.videos import Video
from video_depth_ros.frames import DepthEstimate, Frame, ScaleState
from video_depth_ros.pipeline import DepthPipeline
from video_depth_ros.regressors.registry import load
from video_depth_ros.settings import replace_flat
from video_depth_ros.simulation.clip import Clip, random_clip
from video_depth_ros.training.batches import BatchSource
from video_depth_ros.training.clips import Clip as TrainingClip
from video_depth_ros.training.config import TrainConfig
from video_depth_ros.training.initial import initial_model
from video_depth_ros.training.loop import Trainer

from .other_device import OtherTensor, register

START_NS = 10**9
FRAMES = 13


@pytest.fixture
def device(monkeypatch) -> str:
    """The other device's name."""
    try:
        name = register()
    except ImportError:
        pytest.skip("this PyTorch has no backends written in Python")
    # views of weights cannot be made in inference mode by a tensor that Python wraps
    monkeypatch.setattr(torch, "inference_mode", torch.no_grad)
    return name


@pytest.fixture(scope="module")
def clip() -> Clip:
    return random_clip(7, FRAMES, 96, 128)


def test_the_device_is_apart(device):
    there = torch.arange(6.0).to(device).reshape(2, 3)
    assert isinstance(there, OtherTensor) and there.device == torch.device(device)
    there[0] += 1.0
    np.testing.assert_array_equal((there.T @ there).cpu().diagonal(), [10.0, 20.0, 34.0])
    with pytest.raises(RuntimeError, match="expected all tensors on one device"):
        there + torch.ones(3)
    with pytest.raises((RuntimeError, TypeError)):
        there.numpy()


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"stream.latency": "frame", "regressor.mode": "cached", "regressor.refresh": 1},
        {"alignment.keyframes.every": 2, "alignment.look_ahead": 1},
        {"alignment.still_every": 2, "regressor.hop": 2, "regressor.window": 4},
        {"alignment.method": "dvd", "regressor.dtype": "bfloat16"},
    ],
    ids=lambda values: ",".join(values) or "default",
)
def test_the_pipeline_gives_the_same_depth(device, clip, values):
    known, found = _depth("cpu", clip, values), _depth(device, clip, values)
    assert len(known) == len(found) == FRAMES
    assert known[-1].scale.state is ScaleState.METRIC
    half = "regressor.dtype" in values
    for a, b in zip(known, found, strict=True):
        assert (a.stamp_ns, a.scale.state) == (b.stamp_ns, b.scale.state)
        assert isinstance(b.disparity, OtherTensor) and b.disparity.dtype == torch.float32
        torch.testing.assert_close(
            b.disparity.cpu(), a.disparity, rtol=0.0, atol=2e-2 if half else 1e-5
        )
        if a.depth is not None and not half:
            assert isinstance(b.depth, OtherTensor) and isinstance(b.sigma, OtherTensor)
            torch.testing.assert_close(b.depth.cpu(), a.depth, rtol=1e-3, atol=0, equal_nan=True)


def _depth(device: str, clip: Clip, values: dict[str, object]) -> list[DepthEstimate]:
    """Estimates of the clip with a LiDAR, an odometer and an IMU on the camera."""
    config = replace_flat(PipelineConfig(), {**values, "regressor.device": device})
    pipeline = DepthPipeline(config, load(config.regressor))
    pipeline.prepare(*clip.rgb.shape[1:3])
    estimates: list[DepthEstimate] = []
    for index, rgb in enumerate(clip.rgb):
        stamp_ns = START_NS + int(clip.stamps_ns[index])
        pipeline.add_odometry(clip.T_world_camera[index], stamp_ns, np.eye(4))
        for k in range(5):
            gravity = np.array([0.0, -9.81, 0.0])
            pipeline.add_imu(np.zeros(3), gravity, stamp_ns + k * 1_000_000, np.eye(4))
        points = _points(clip.camera, clip.depth[index], index)
        pipeline.add_points(points, stamp_ns, np.eye(4), np.zeros(len(points)))
        estimates += pipeline.push(Frame(rgb, stamp_ns, clip.camera))
    return estimates + pipeline.flush()


def _points(camera: Camera, depth: np.ndarray, seed: int) -> np.ndarray:
    """A twentieth of the pixels as points [N, 3] in the camera's frame."""
    chosen = np.random.default_rng(seed).random(depth.shape) < 0.05
    v, u = np.nonzero(chosen & np.isfinite(depth))
    rays = np.concatenate([camera.normalised(np.stack([u, v], 1)), np.ones((len(u), 1))], axis=1)
    return np.asarray(rays * depth[v, u, None])


class _Recorded:
    """A clip as a recording to evaluate."""

    def __init__(self, clip: Clip) -> None:
        self._clip = clip
        self.frame_count = len(clip.rgb)
        self.camera = clip.camera

    def frames(self):
        clip = self._clip
        for rgb, depth, T, stamp_ns in zip(
            clip.rgb, clip.depth, clip.T_world_camera, clip.stamps_ns, strict=True
        ):
            known = np.where(np.isfinite(depth), depth, np.float32(np.nan))
            yield SequenceFrame(START_NS + int(stamp_ns), rgb, known, T)


def test_evaluation_measures_the_same(device, clip):
    results = []
    for name in ("cpu", device):
        config = replace_flat(PipelineConfig(), {"regressor.device": name})
        video = Video("clip", _Recorded(clip), protocol_of("simulated"))
        results.append(
            evaluate_video(video, load(config.regressor), EvaluationOptions(config=config))
        )
    known, found = results
    assert found.metrics["abs_rel"] == pytest.approx(known.metrics["abs_rel"], rel=1e-3)
    for name in ("per_frame", "plain_chaining"):
        wanted = known.baselines[name]["abs_rel"]
        assert found.baselines[name]["abs_rel"] == pytest.approx(wanted, rel=1e-3)


class _Clips:
    """The clip as one of training."""

    def __init__(self, clip: Clip) -> None:
        self.frames = 7
        self._clip = TrainingClip(clip.rgb[: self.frames], clip.depth[: self.frames])

    def __len__(self) -> int:
        return 4

    def clip(self, index: int) -> TrainingClip:
        return self._clip


@pytest.mark.parametrize(
    ("stage", "optimiser"),
    [("vae", "adamw"), ("latent", "adamw"), ("pixel", "adamw"), ("pixel", "muon")],
)
def test_training_takes_the_same_steps(device, clip, tmp_path, stage, optimiser):
    values: dict[str, object] = {
        "size": "tiny",
        "stage": stage,
        "steps": 4,
        "workers": 0,
        "seed": 5,
        "batch.images": 2,
        "batch.videos": 1,
        "batch.frames": 5,
        "batch.image_share": 0.5,
        "batch.heights": (32,),
        "batch.widths": (48,),
        "optimiser.name": optimiser,
        "optimiser.ema": 0.9,
    }
    curves, trainers = [], []
    for name in ("cpu", device):
        config = replace_flat(TrainConfig(), {**values, "device": name})
        batches = BatchSource((_Clips(clip),), (1.0,), config.batch, config.seed)
        trainer = Trainer(initial_model(config), config, tmp_path / name.partition(":")[0])
        curves.append([entry["loss"] for entry in trainer.run(batches)])
        trainers.append(trainer)
    assert np.isfinite(curves[1]).all()
    if stage != "vae":  # whose noise is drawn on the device
        assert curves[1] == pytest.approx(curves[0], rel=2e-3)
    weights = next(iter(trainers[1].model.parameters()))
    assert weights.device == torch.device(device)
    again = Trainer(initial_model(trainers[1].config), trainers[1].config)
    again.resume(tmp_path / "other" / "checkpoint.pt")
    assert again.step == 4
