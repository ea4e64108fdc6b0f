# SPDX-License-Identifier: Apache-2.0
"""Real LiDAR scans: half of each scan's points are given, the other half is the truth.

The disparity is a stand-in for a network's: the scan itself, interpolated, blurred, with smooth
errors of ten percent, a bent scale and fine texture. Wrong extrinsics are tried with the embedded
network, too.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from scipy.interpolate import LinearNDInterpolator, NearestNDInterpolator

from video_depth_ros.camera import Camera
from video_depth_ros.config import PipelineConfig
from video_depth_ros.evaluation.metric_study import Drive, DriveResult, run_drive
from video_depth_ros.evaluation.metric_study_recordings import kitti_drive
from video_depth_ros.evaluation.metric_study_regressors import RememberedRegressor
from video_depth_ros.metric import MetricScaler, ScaleConfig
from video_depth_ros.regressors import registry
from video_depth_ros.settings import replace_flat

from .test_faults import AXES, turn_about

SHARED = Path(os.environ.get("VIDEO_DEPTH_SHARED", Path(__file__).parents[2] / "../shared"))
KITTI = SHARED / "data" / "kitti_sfnd_40f"
WIDTH, HEIGHT, FRAMES = 416, 128, 3

pytestmark = pytest.mark.skipif(not KITTI.is_dir(), reason=f"no KITTI excerpt at {KITTI}")


def _numbers(name: str) -> dict[str, np.ndarray]:
    lines = (line.split(":", 1) for line in (KITTI / name).read_text().splitlines())
    values = {}
    for key, text in (line for line in lines if len(line) == 2):
        try:
            values[key] = np.array([float(word) for word in text.split()])
        except ValueError:
            continue  # dates
    return values


def _calibration() -> tuple[Camera, np.ndarray]:
    """Camera at the test's size and T_camera_lidar."""
    cameras, lidar = _numbers("calib_cam_to_cam.txt"), _numbers("calib_velo_to_cam.txt")
    P = cameras["P_rect_02"].reshape(3, 4)
    T, rectify, shift = np.eye(4), np.eye(4), np.eye(4)
    T[:3, :3], T[:3, 3] = lidar["R"].reshape(3, 3), lidar["T"]
    rectify[:3, :3] = cameras["R_rect_00"].reshape(3, 3)
    shift[:2, 3], shift[2, 3] = P[:2, 3] / (P[0, 0], P[1, 1]), P[2, 3]
    camera = Camera(1242, 375, P[0, 0], P[1, 1], P[0, 2], P[1, 2]).resized(WIDTH, HEIGHT)
    return camera, shift @ rectify @ T


def _field(rng: np.random.Generator, cell: int) -> np.ndarray:
    coarse = rng.normal(size=(HEIGHT // cell + 2, WIDTH // cell + 2)).astype(np.float32)
    return cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)


def _stand_in(uv: np.ndarray, q: np.ndarray, seed: int) -> np.ndarray:
    v, u = np.mgrid[0:HEIGHT, 0:WIDTH]
    dense = LinearNDInterpolator(uv, q)(u, v)
    dense = np.where(np.isnan(dense), NearestNDInterpolator(uv, q)(u, v), dense)
    dense = cv2.GaussianBlur(dense.astype(np.float32), (0, 0), 0.8)
    rng = np.random.default_rng(seed)
    error = 0.09 * _field(rng, 48) + 0.04 * _field(rng, 16) + 0.02 * _field(rng, 6)
    return ((dense * np.exp(error) * (dense / 0.1) ** -0.1 - 0.01) / 0.5).astype(np.float32)


def _frames() -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Scan, mask of the given half, pixels and depth of the other half, disparity."""
    camera, T = _calibration()
    for k, path in enumerate(sorted((KITTI / "velodyne_points").rglob("*.bin"))[:FRAMES]):
        points = np.fromfile(path, np.float32).reshape(-1, 4)[:, :3]
        seen = points @ T[:3, :3].T + T[:3, 3]
        uv, valid = camera.project(seen)
        given = np.random.default_rng(k).random(len(points)) < 0.5
        other = valid & ~given
        disparity = _stand_in(uv[valid], 1.0 / seen[valid, 2], k)
        yield points, given, np.rint(uv[other]).astype(int), seen[other, 2], disparity


def test_half_a_scan_predicts_the_other_half() -> None:
    camera, T = _calibration()
    frames = list(_frames())
    errors: dict[bool, list[float]] = {False: [], True: []}
    bound, calibrated = [], []
    for local in (False, True):
        scaler = MetricScaler(replace_flat(ScaleConfig(), {"local.enabled": local}))
        for k, (points, given, uv, truth, disparity) in enumerate(frames):
            scaler.add_points(points[given], k * 100_000_000, T)
            d = torch.from_numpy(disparity)
            rgb = torch.zeros((HEIGHT, WIDTH, 3), dtype=torch.uint8)
            scale = scaler.update(d, rgb, camera, k * 100_000_000, 0)
            depth, sigma = (x.numpy()[uv[:, 1], uv[:, 0]] for x in scaler.depth(d, scale))
            known = np.isfinite(depth) & (truth < 80.0)
            off = np.abs(depth - truth)[known]
            errors[local].append(float(np.mean(off / truth[known])))
            calibrated.append(np.mean(off < sigma[known]))
            if not local:
                here = disparity[uv[:, 1], uv[:, 0]][known]
                a, b = np.polyfit(here, 1.0 / truth[known], 1)
                best = 1.0 / np.clip(a * here + b, 1 / 80, None)
                bound.append(float(np.mean(np.abs(best / truth[known] - 1.0))))
    assert np.mean(errors[False]) < 1.1 * np.mean(bound)
    assert np.mean(errors[True]) < 0.7 * np.mean(errors[False])
    assert 0.58 < np.mean(calibrated) < 0.83


def test_wrong_extrinsics_are_found_before_a_frame_is_wrong_with_the_embedded_network() -> None:
    config = PipelineConfig()
    network = RememberedRegressor(registry.load(config.regressor))
    right = kitti_drive(KITTI)
    best = _play("right extrinsics", right, config, network)
    assert best.metric_frames > 0.8 * best.frames
    for axis in AXES:
        T = turn_about(axis, 20.0) @ right.T_camera_lidar
        wrong = dataclasses.replace(right, T_camera_lidar=T)
        result = _play(f"turned about {axis}", wrong, config, network)
        assert result.false_frames == 0
        # at the start a shape this rough may agree by chance; what follows ends that
        assert result.metric_frames < 0.2 * result.frames
        assert result.verdicts.get("accepted", 0) < 0.25 * sum(result.verdicts.values())


def _play(
    name: str, drive: Drive, config: PipelineConfig, network: RememberedRegressor
) -> DriveResult:
    result = run_drive(drive, config, network, "lidar", local=False)
    print(f"{name}: {result.metric_frames} of {result.frames} frames metric, {result.verdicts}")
    return result
