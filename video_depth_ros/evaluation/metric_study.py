# SPDX-License-Identifier: Apache-2.0
"""What metric scale is worth: drives through the real pipeline, one source at a time."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from video_depth_ros.bags.formats.base import Scan
from video_depth_ros.camera import Camera
from video_depth_ros.config import PipelineConfig
from video_depth_ros.errors import ConfigError
from video_depth_ros.evaluation.metric_study_results import DriveResult, judge
from video_depth_ros.frames import DepthEstimate, Frame, ScaleState
from video_depth_ros.pipeline import DepthPipeline
from video_depth_ros.regressors.base import Regressor
from video_depth_ros.settings import replace_flat

SOURCES = ("lidar", "sparse_depth", "odometry", "imu")
_SCAN_DELAY_NS = 50_000_000  # a turn is complete half a period after its stamp
_SPARSE, _SPARSE_SIGMA, _SPARSE_RANGE = 300, 0.03, 20.0  # points [1], noise [m], reach [m]


@dataclass(frozen=True)
class Drive:
    """A recorded or simulated robot with true depth, all in memory.

    Attributes:
        name: for the rows.
        camera: model of the images.
        stamps_ns: int64 [T].
        rgb: uint8 [T, H, W, 3].
        truth: float [T, h, w] in metres of any size over the same view, NaN unknown.
        scans: LiDAR turns, stamped at their middle.
        imu: float64 [M, 7]: stamp less the first image's [s], angular velocity, specific force.
        odometry_ns, odometry: int64 [K], T_odom_base float64 [K, 4, 4].
        T_camera_lidar, T_camera_imu, T_camera_base: extrinsics, identity where there is none.
        moved: length of the camera's path [m].
        excitation: root mean square of the camera's acceleration [m/s^2].
    """

    name: str
    camera: Camera
    stamps_ns: np.ndarray
    rgb: np.ndarray
    truth: np.ndarray
    scans: tuple[Scan, ...] = ()
    imu: np.ndarray = field(default_factory=lambda: np.zeros((0, 7)))
    odometry_ns: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    odometry: np.ndarray = field(default_factory=lambda: np.zeros((0, 4, 4)))
    T_camera_lidar: np.ndarray = field(default_factory=lambda: np.eye(4))
    T_camera_imu: np.ndarray = field(default_factory=lambda: np.eye(4))
    T_camera_base: np.ndarray = field(default_factory=lambda: np.eye(4))
    moved: float = math.nan
    excitation: float = math.nan


def run_drive(
    drive: Drive,
    config: PipelineConfig,
    regressor: Regressor,
    source: str,
    *,
    local: bool = True,
) -> DriveResult:
    """One drive through a new pipeline with one source of scale.

    Args:
        drive: images, measurements, truth.
        config: of the pipeline; its sources and the switch of the local correction are replaced.
        regressor: network, or what stands for one.
        source: one of SOURCES.
        local: whether depth may be corrected locally.

    Raises:
        ConfigError: unknown source.
    """
    if source not in SOURCES:
        raise ConfigError(f"source: expected one of {', '.join(SOURCES)}, got {source!r}")
    config = replace_flat(config, {"scale.sources": (source,), "scale.local.enabled": local})
    pipeline = DepthPipeline(config, regressor)
    result = DriveResult(drive.name, source, local, drive.moved, drive.excitation)
    index = {int(stamp): k for k, stamp in enumerate(drive.stamps_ns)}
    judged = _judged(drive, source)
    whole = whole_groups(len(drive.stamps_ns), regressor)
    for estimate in replay(drive, pipeline, source, whole):
        k = index[estimate.stamp_ns]
        result.frames += 1
        if estimate.scale.state is ScaleState.METRIC:
            if not result.metric:
                result.seconds = float(estimate.stamp_ns - drive.stamps_ns[0]) * 1e-9
            result.metric_frames += 1
            judge(estimate, judged(k), result)
    record = pipeline.report(int(drive.stamps_ns[-1])).scale.sources.get(source)
    counts = record.verdicts if record is not None else Counter()
    result.verdicts = {verdict.value: count for verdict, count in counts.items()}
    return result


def whole_groups(frames: int, regressor: Regressor) -> int:
    """Frames of the whole groups: a partial one would need to be padded."""
    spec = regressor.spec
    return spec.first_group + (frames - spec.first_group) // spec.group * spec.group


def replay(
    drive: Drive, pipeline: DepthPipeline, source: str, frames: int
) -> Iterator[DepthEstimate]:
    """Feed the measurements of one source and the images in the order of their arrival."""
    stamps = [int(t) for t in drive.stamps_ns[:frames]]
    events: list[tuple[int, int, int]] = [(t, 2, k) for k, t in enumerate(stamps)]
    start = stamps[0]
    if source == "lidar":
        events += [(s.stamp_ns + _SCAN_DELAY_NS, 1, k) for k, s in enumerate(drive.scans)]
    elif source == "odometry":
        events += [(int(t), 1, k) for k, t in enumerate(drive.odometry_ns)]
    elif source == "imu":
        events += [(start + round(row[0] * 1e9), 1, k) for k, row in enumerate(drive.imu)]
    for when, kind, k in sorted(events):
        if kind == 1 and source == "lidar":
            scan = drive.scans[k]
            pipeline.add_points(scan.points, scan.stamp_ns, drive.T_camera_lidar)
        elif kind == 1 and source == "odometry":
            pipeline.add_odometry(drive.odometry[k], when, drive.T_camera_base)
        elif kind == 1:
            pipeline.add_imu(drive.imu[k, 1:4], drive.imu[k, 4:], when, drive.T_camera_imu)
        else:
            if source == "sparse_depth":
                given, _ = _split(drive, k)
                camera = drive.camera.resized(given.shape[1], given.shape[0])
                pipeline.add_sparse_depth(given, when, camera)
            yield from pipeline.push(Frame(drive.rgb[k], when, drive.camera))
    yield from pipeline.flush()


def _split(drive: Drive, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Sparse depth with noise from some pixels of the truth, and the truth without them."""
    truth = np.asarray(drive.truth[k], dtype=np.float32)
    rng = np.random.default_rng((k, 15))
    known = np.flatnonzero(np.isfinite(truth) & (truth < _SPARSE_RANGE))
    chosen = rng.choice(known, min(_SPARSE, known.size // 2), replace=False)
    given, rest = np.full(truth.size, np.nan, np.float32), truth.flatten()
    given[chosen] = rest[chosen] + _SPARSE_SIGMA * rng.standard_normal(chosen.size)
    rest[chosen] = np.nan
    return given.reshape(truth.shape), rest.reshape(truth.shape)


def _judged(drive: Drive, source: str) -> Any:
    """Frame index -> the truth that judges this source."""
    if source == "sparse_depth":
        return lambda k: _split(drive, k)[1]
    return lambda k: np.asarray(drive.truth[k], dtype=np.float32)
