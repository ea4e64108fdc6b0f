# SPDX-License-Identifier: Apache-2.0
"""What metric scale costs: ``python -m video_depth_ros.metric.benchmark``.

One spinning LiDAR scan of 120 000 points on a 640x480 frame, CPU, one thread; the least of many
runs, in milliseconds of the processor's time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from video_depth_ros.camera import Camera
from video_depth_ros.metric.anchors import Anchors, View
from video_depth_ros.metric.config import ScaleConfig
from video_depth_ros.metric.fit import fit_scale
from video_depth_ros.metric.lidar import points_to_anchors
from video_depth_ros.metric.local import fit_local, trust
from video_depth_ros.metric.misalignment import agreement
from video_depth_ros.metric.poses import rotation
from video_depth_ros.metric.reasons import Verdict
from video_depth_ros.metric.sweep import Sweep, sweep_of

_POINTS = 120_000
_REPEATS = 30


def scan_over_relief(camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """A full turn float32 [120000, 3], and the disparity [H, W] that it agrees with."""
    v, u = np.mgrid[0 : camera.height, 0 : camera.width]
    q = 0.06 + 0.05 * np.sin(u / 70.0) * np.cos(v / 50.0) + 0.25 * v / camera.height
    rng = np.random.default_rng(0)
    azimuth = rng.uniform(-np.pi, np.pi, _POINTS)
    elevation = rng.uniform(-0.42, 0.06, _POINTS)
    x, y = np.tan(azimuth), -np.tan(elevation) / np.cos(azimuth)
    z = np.where(np.abs(azimuth) < np.pi / 2, 10.0, -10.0)
    points = np.stack([x * z, y * z, z], axis=1)
    uv, seen = camera.project(points)
    at = np.rint(uv[seen]).astype(int)
    points[seen] *= 0.1 / q[at[:, 1], at[:, 0], None]
    return points.astype(np.float32), ((q - 0.02) / 0.4).astype(np.float32)


def main() -> None:
    """Print the cost of each stage."""
    torch.set_num_threads(1)
    config = ScaleConfig()
    camera = Camera(640, 480, 500.0, 500.0, 319.5, 239.5)
    points, disparity = scan_over_relief(camera)

    def anchors() -> tuple[View, Anchors]:
        view = View(0, disparity, camera)
        found = points_to_anchors(points, np.eye(4), view, config.lidar)
        if not isinstance(found, Anchors):
            raise SystemExit(f"no anchors: {found.value}")
        return view, found

    view, found = anchors()
    d, _ = view.sample(found.uv)
    q, sigma = found.inverse_depth, found.sigma
    fit = fit_scale(d, q, sigma, config.fit)
    fitted = fit.slope * d + fit.shift
    wavy = q * np.exp(0.1 * np.sin(found.uv[:, 0] / 60.0))
    turned = replace(found, uv=found.uv * [0.7, 1.0] + [0.3 * camera.width, 0.0])
    weight = trust(fitted, wavy, sigma)
    local = fit_local(found.uv, fitted, wavy, weight, (480, 640), config.local)
    image = torch.from_numpy(fit.slope * disparity + fit.shift).clamp_min(1e-3)
    print(f"{len(points)} points, {len(found)} anchors, {fit.verdict.value}")
    swept = np.linspace(-0.05, 0.05, len(points))

    def deskewed() -> Anchors | Verdict:
        sweep = sweep_of(swept, np.eye(4), 0, 0, _driving)
        if not isinstance(sweep, Sweep):
            raise SystemExit(f"no sweep: {sweep.value}")
        return points_to_anchors(
            points, np.eye(4), View(0, disparity, camera), config.lidar, sweep
        )

    _report("anchors of a scan", anchors)
    _report("the same, deskewed", deskewed)
    _report("agreement, in place and elsewhere", lambda: agreement(view, camera, turned))
    _report("fit", lambda: fit_scale(d, q, sigma, config.fit))
    _report(
        "local correction: fit",
        lambda: fit_local(found.uv, fitted, wavy, weight, (480, 640), config.local),
    )
    if local is not None:
        _report("local correction: apply to 640x480", lambda: local.apply(image))


def _driving(first_ns: int, second_ns: int) -> np.ndarray:
    """T_camera(second)_camera(first) at 2 m/s and 0.5 rad/s."""
    seconds = (second_ns - first_ns) * 1e-9
    T = np.eye(4)
    T[:3, :3] = rotation(np.array([0.0, -0.5 * seconds, 0.0]))
    T[2, 3] = -2.0 * seconds
    return T


def _report(name: str, call: Callable[[], object]) -> None:
    times = []
    for _ in range(_REPEATS):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    print(f"{name:38s} {1e3 * min(times):6.2f} ms")


if __name__ == "__main__":
    main()
