# SPDX-License-Identifier: Apache-2.0
"""What metric scale is worth: drives with truth through the real pipeline, one source at a time.

The scale is judged against the best affine map that the truth allows. In every metric frame
``1/Z = a* d + b*`` is fitted to the frame's truth, least sum of ``|log((a* d + b*) Z)|``, which
leaves a median error of zero; the scale error is the median over the view of published depth over
best depth, minus one. What no affine map can repair, the network's own error, is thus not counted
as an error of scale; it is in AbsRel, beside which the best map's AbsRel stands.
"""

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
from video_depth_ros.evaluation.metric_study_sigma import SigmaCurve
from video_depth_ros.frames import DepthEstimate, Frame, ScaleState
from video_depth_ros.pipeline import DepthPipeline
from video_depth_ros.regressors.base import Regressor
from video_depth_ros.settings import replace_flat

SOURCES = ("lidar", "sparse_depth", "odometry", "imu")
NEAREST, FARTHEST = 0.1, 80.0  # truth that counts [m]
_PIXELS = 6000  # of a frame's truth, at most
_SCAN_DELAY_NS = 50_000_000  # a turn is complete half a period after its stamp
_SPARSE, _SPARSE_SIGMA, _SPARSE_RANGE = 300, 0.03, 20.0  # points [1], noise [m], reach [m]
_FALSE, _SIGMAS = 0.1, 3.0  # a METRIC scale is false when it is off by more than both allow


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


@dataclass
class DriveResult:
    """What one source made of one drive; lists have one entry per METRIC frame.

    Attributes:
        drive, source, local: which run.
        frames: depth estimates, metric or not.
        seconds: from the first image to the first METRIC one, NaN if there was none.
        errors: signed scale error.
        stated: stated relative standard deviation of the scale, at the view's median disparity.
        abs_rel, delta1: of published depth where it is known.
        bound: AbsRel of the best affine map at the same pixels.
        coverage: share of the truth that has depth.
        sigma: how often depth errors stay within their stated deviations.
        verdicts: the source's measurements by outcome.
    """

    drive: str
    source: str
    local: bool
    moved: float = math.nan
    excitation: float = math.nan
    frames: int = 0
    seconds: float = math.nan
    errors: list[float] = field(default_factory=list)
    stated: list[float] = field(default_factory=list)
    abs_rel: list[float] = field(default_factory=list)
    delta1: list[float] = field(default_factory=list)
    bound: list[float] = field(default_factory=list)
    coverage: list[float] = field(default_factory=list)
    sigma: SigmaCurve = field(default_factory=SigmaCurve)
    verdicts: dict[str, int] = field(default_factory=dict)

    @property
    def metric(self) -> bool:
        """Whether depth became metric at all."""
        return bool(self.errors)

    @property
    def error(self) -> float:
        """Median size of the scale error, NaN where never metric."""
        return float(np.median(np.abs(self.errors))) if self.errors else math.nan

    @property
    def false_frames(self) -> int:
        """METRIC frames whose scale is off by over 10 % and over three stated deviations."""
        pairs = zip(self.errors, self.stated, strict=True)
        return sum(abs(error) > max(_FALSE, _SIGMAS * stated) for error, stated in pairs)

    def row(self) -> dict[str, Any]:
        """Plain numbers for JSON."""
        return {
            "drive": self.drive,
            "source": self.source,
            "local": self.local,
            "moved": self.moved,
            "excitation": self.excitation,
            "frames": self.frames,
            "metric_frames": len(self.errors),
            "seconds_to_metric": self.seconds,
            "scale_error": self.error,
            "stated_sigma": _mean(self.stated, np.median),
            "false_frames": self.false_frames,
            "abs_rel": _mean(self.abs_rel),
            "delta1": _mean(self.delta1),
            "bound_abs_rel": _mean(self.bound),
            "coverage": _mean(self.coverage),
            "within_1_sigma": self.sigma.share(1.0),
            "verdicts": self.verdicts,
        }


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
    whole = _whole_groups(len(drive.stamps_ns), regressor)
    for estimate in _replay(drive, pipeline, source, whole):
        k = index[estimate.stamp_ns]
        result.frames += 1
        if estimate.scale.state is ScaleState.METRIC:
            if not result.metric:
                result.seconds = float(estimate.stamp_ns - drive.stamps_ns[0]) * 1e-9
            _judge(estimate, judged(k), result)
    record = pipeline.report(int(drive.stamps_ns[-1])).scale.sources.get(source)
    counts = record.verdicts if record is not None else Counter()
    result.verdicts = {verdict.value: count for verdict, count in counts.items()}
    return result


def best_affine(disparity: np.ndarray, inverse_depth: np.ndarray) -> tuple[float, float]:
    """(a, b) with the least sum of |log((a d + b) / q)|, by reweighted least squares.

    Args:
        disparity: float [N].
        inverse_depth: float [N] > 0, true q [1/m].

    Returns:
        a >= 0 and b, with a d + b > 0 nearly everywhere.
    """
    d, q = disparity.astype(np.float64), inverse_depth.astype(np.float64)
    a, b = 0.0, float(np.median(q))
    for _ in range(40):
        fitted = np.maximum(a * d + b, 1.0 / FARTHEST)
        residual = np.log(fitted / q)
        # linear in (a, b) about the fitted map: log changes by change / fitted
        target = fitted * (1.0 - np.clip(residual, -1.0, 1.0))
        weight = 1.0 / (fitted**2 * np.maximum(np.abs(residual), 1e-3))
        total = weight.sum()
        centre, level = (weight * d).sum() / total, (weight * target).sum() / total
        spread = (weight * (d - centre) ** 2).sum()
        slope = (weight * (d - centre) * (target - level)).sum() / max(float(spread), 1e-12)
        before, a = a, max(float(slope), 0.0)
        b = float(level - a * centre)
        if abs(a - before) <= 1e-5 * a:
            break
    return a, b


def _whole_groups(frames: int, regressor: Regressor) -> int:
    """Frames of the whole groups: a partial one would need to be padded."""
    spec = regressor.spec
    return spec.first_group + (frames - spec.first_group) // spec.group * spec.group


def _replay(
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


def _judge(estimate: DepthEstimate, truth: np.ndarray, result: DriveResult) -> None:
    """Take one METRIC frame into the account."""
    assert estimate.depth is not None and estimate.sigma is not None
    height, width = estimate.depth.shape
    rows, columns = np.nonzero((truth > NEAREST) & (truth < FARTHEST))
    step = max(1, rows.size // _PIXELS)
    rows, columns = rows[::step], columns[::step]
    z = truth[rows, columns].astype(np.float64)
    at_row = ((rows + 0.5) * height / truth.shape[0]).astype(np.intp)
    at_column = ((columns + 0.5) * width / truth.shape[1]).astype(np.intp)
    d, depth, sigma = (
        tensor.float().cpu().numpy()[at_row, at_column].astype(np.float64)
        for tensor in (estimate.disparity, estimate.depth, estimate.sigma)
    )
    seen = np.isfinite(d)
    if seen.sum() < 30:
        return
    scale = estimate.scale
    a, b = best_affine(d[seen], 1.0 / z[seen])
    ours, best = scale.a * d + scale.b, a * d + b
    both = seen & (ours > 1.0 / FARTHEST) & (best > 1.0 / FARTHEST)
    if not both.any():
        return
    result.errors.append(float(np.median(best[both] / ours[both])) - 1.0)
    middle = float(np.median(d[both]))
    C = scale.covariance
    variance = (C[0, 0] * middle + 2.0 * C[0, 1]) * middle + C[1, 1]
    result.stated.append(math.sqrt(max(float(variance), 0.0)) / abs(scale.a * middle + scale.b))
    known = np.isfinite(depth)
    result.coverage.append(float(known.mean()))
    if not known.any():
        return
    ratio = depth[known] / z[known]
    result.abs_rel.append(float(np.mean(np.abs(ratio - 1.0))))
    result.delta1.append(float(np.mean(np.maximum(ratio, 1.0 / ratio) < 1.25)))
    bounded = 1.0 / np.maximum(best[known], 1.0 / FARTHEST)
    result.bound.append(float(np.mean(np.abs(bounded / z[known] - 1.0))))
    result.sigma.add(np.abs(depth[known] - z[known]), sigma[known])


def _mean(values: list[float], function: Any = np.mean) -> float:
    return float(function(values)) if values else math.nan
