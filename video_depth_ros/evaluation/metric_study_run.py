# SPDX-License-Identifier: Apache-2.0
"""The four metric studies: simulated robots, motion without scale, KITTI's halves, EuRoC's IMU."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from video_depth_ros.config import PipelineConfig
from video_depth_ros.errors import ConfigError
from video_depth_ros.evaluation import metric_study_recordings as recordings
from video_depth_ros.evaluation.metric_study import SOURCES, Drive, run_drive
from video_depth_ros.evaluation.metric_study_drives import motion_drive, simulated_drive
from video_depth_ros.evaluation.metric_study_recordings import InertialWindow
from video_depth_ros.evaluation.metric_study_regressors import (
    RememberedRegressor,
    laboratory,
    stand_in,
)
from video_depth_ros.evaluation.metric_study_results import DriveResult
from video_depth_ros.evaluation.metric_study_sigma import LEVELS, SigmaCurve, merged, normal_share
from video_depth_ros.evaluation.metric_study_tables import (
    Table,
    correction_table,
    image_table,
    motion_table,
    source_table,
    summary,
    window_table,
)
from video_depth_ros.metric.poses import rotation
from video_depth_ros.regressors import registry
from video_depth_ros.regressors.base import Regressor
from video_depth_ros.simulation.recording import SimulationConfig
from video_depth_ros.simulation.worlds import NAMES

STUDIES = ("simulated", "still", "kitti", "euroc")
LABORATORY = "laboratory"


@dataclass(frozen=True)
class Outcome:
    """What a study found.

    Attributes:
        setting: what was measured, in words.
        tables: to be printed.
        groups: results by source, motion or setting of the local correction.
        curves: sigma curves by the same names, those with depth errors only.
        windows: of EuRoC's IMU with reference poses.
    """

    setting: str
    tables: list[Table]
    groups: dict[str, list[DriveResult]]
    windows: list[InertialWindow] = field(default_factory=list)

    @property
    def curves(self) -> dict[str, SigmaCurve]:
        every = {n: merged(r.sigma for r in results) for n, results in self.groups.items()}
        return {name: curve for name, curve in every.items() if curve.count}

    def row(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "setting": self.setting,
            "summary": {name: summary(results) for name, results in self.groups.items()},
            "sigma": {
                "k": LEVELS,
                "normal law": [normal_share(level) for level in LEVELS],
                **{name: curve.shares() for name, curve in self.curves.items()},
            },
            "drives": [r.row() for results in self.groups.values() for r in results],
            "windows": [dataclasses.asdict(window) for window in self.windows],
        }


@dataclass(frozen=True)
class MetricStudy:
    """What to measure.

    Attributes:
        study: one of STUDIES.
        regressor: a registered one, or ``laboratory``: the truth, spoiled.
        weights, device: of the regressor.
        seeds, first_seed: simulated drives per world; the first also for ``still``.
        worlds, sources: to simulate; each source is measured alone.
        seconds, rate, size: of a simulated drive, its images (height, width).
        mounting_error: degrees about the camera's x, y and z by which a simulated drive's
            extrinsics are told wrong.
        cache: folder for simulated drives.
        runs: of ``still`` without acceleration; a tenth as many swing.
        data: folder of the recording.
        frames: of the recording, None for all.
        pipeline: parameters.
    """

    study: str
    regressor: str = "nano"
    weights: str = ""
    device: str = "auto"
    seeds: int = 10
    first_seed: int = 100
    worlds: tuple[str, ...] = tuple(NAMES)
    sources: tuple[str, ...] = ("lidar", "odometry", "imu")
    seconds: float = 6.0
    rate: float = 10.0
    size: tuple[int, int] = (144, 192)
    mounting_error: tuple[float, float, float] = (0.0, 0.0, 0.0)
    cache: Path | None = None
    runs: int = 100
    data: Path | None = None
    frames: int | None = None
    pipeline: PipelineConfig = field(default_factory=PipelineConfig)

    def __post_init__(self) -> None:
        """Refuse what cannot be measured.

        Raises:
            ConfigError: naming the option, what it may be and what it is.
        """
        for name, given, known in (
            ("metric", (self.study,), STUDIES),
            ("worlds", self.worlds, NAMES),
            ("source", self.sources, SOURCES),
        ):
            unknown = [word for word in given if word not in known]
            if unknown or not given:
                raise ConfigError(
                    f"--{name}: expected out of {', '.join(known)}, got {', '.join(unknown)}"
                )
        for name, number, low in (
            ("seeds", self.seeds, 1), ("runs", self.runs, 1), ("first-seed", self.first_seed, 0),
        ):  # fmt: skip
            if number < low:
                raise ConfigError(f"--{name}: expected {low} or more, got {number}")
        if not np.isfinite(self.mounting_error).all():
            raise ConfigError(
                f"--mounting-error: expected three angles in degrees, got {self.mounting_error}"
            )
        if any(self.mounting_error) and self.study != "simulated":
            raise ConfigError(
                f"--mounting-error: expected with --metric simulated, got it with {self.study}, "
                "which has no extrinsics to be told wrong; leave it out"
            )
        if not 0.5 <= self.seconds <= 600.0:
            raise ConfigError(f"--seconds: expected 0.5 to 600, got {self.seconds:g}")
        if self.study in ("kitti", "euroc") and self.data is None:
            raise ConfigError(f"--metric {self.study}: name the recording's folder by --data")

    def run(self) -> Outcome:
        """Measure.

        Raises:
            RecordingError: the recording is missing or lacks what is needed.
            CheckpointError: the regressor's weights are missing or damaged.
        """
        return {
            "simulated": self._simulated, "still": self._still,
            "kitti": self._kitti, "euroc": self._euroc,
        }[self.study]()  # fmt: skip

    def _simulated(self) -> Outcome:
        network = self._network()
        groups: dict[str, list[DriveResult]] = {source: [] for source in self.sources}
        for world in self.worlds:
            for seed in range(self.first_seed, self.first_seed + self.seeds):
                simulation = SimulationConfig(
                    world=world, seed=seed, seconds=self.seconds, rate=self.rate,
                    height=self.size[0], width=self.size[1], heldout=True, threads=1,
                )  # fmt: skip
                drive = _turned(simulated_drive(simulation, self.cache), self.mounting_error)
                for result in self._with_each_source(drive, network, seed):
                    groups[result.source].append(result)
        setting = (
            f"{len(self.worlds) * self.seeds} simulated drives ({', '.join(self.worlds)}; seeds "
            f"{self.first_seed} to {self.first_seed + self.seeds - 1}, held-out split) of "
            f"{self.seconds:g} s at {self.rate:g} Hz, {self.size[1]}x{self.size[0]}, regressor "
            f"{self.regressor}"
        )
        if any(self.mounting_error):
            wrong = ", ".join(f"{degrees:g}" for degrees in self.mounting_error)
            setting += f", extrinsics turned by {wrong} degrees about the camera's x, y, z"
        return Outcome(setting, [source_table(groups)], groups)

    def _with_each_source(
        self, drive: Drive, network: Regressor | None, seed: int
    ) -> list[DriveResult]:
        """One drive; a network runs over it once."""
        if network is None:
            drive, config, regressor = laboratory(drive, self.pipeline, seed)
            return [run_drive(drive, config, regressor, source) for source in self.sources]
        remembered = RememberedRegressor(network)
        return [run_drive(drive, self.pipeline, remembered, source) for source in self.sources]

    def _still(self) -> Outcome:
        counts = {
            "standstill": self.runs - self.runs // 2,
            "constant velocity": self.runs // 2,
            "swing": max(1, self.runs // 10),
        }
        groups: dict[str, list[DriveResult]] = {}
        for motion, count in counts.items():
            results = groups.setdefault(motion, [])
            for seed in range(self.first_seed, self.first_seed + count):
                seen = motion_drive(motion, seed, self.seconds)
                drive, config, regressor = laboratory(seen, self.pipeline, seed)
                results.append(run_drive(drive, config, regressor, "imu"))
        setting = (
            f"IMU alone before a textured floor and wall, {self.seconds:g} s at 10 Hz, 160x120, "
            f"seeds from {self.first_seed}, regressor laboratory"
        )
        return Outcome(setting, [motion_table(groups)], groups)

    def _kitti(self) -> Outcome:
        assert self.data is not None
        drive, config = recordings.kitti_drive(self.data, self.frames), self.pipeline
        network = self._network()
        regressor: Regressor
        if network is None:
            points = recordings.kitti_points(self.data, self.frames)
            drive, config, regressor = stand_in(drive, config, points)
        else:
            regressor = RememberedRegressor(network)
        groups = {
            name: [run_drive(drive, config, regressor, "lidar", local=local)]
            for name, local in (("global", False), ("global and local", True))
        }
        name = "a stand-in (the scans, spoiled)" if network is None else self.regressor
        setting = (
            f"KITTI, {len(drive.stamps_ns)} frames, a random half of each scan's points given, "
            f"the other half is the truth; regressor {name}"
        )
        return Outcome(setting, [correction_table(groups)], groups)

    def _euroc(self) -> Outcome:
        assert self.data is not None
        windows = recordings.euroc_windows(self.data, config=self.pipeline.scale.imu)
        tables, groups = [window_table(windows)], {}
        network = self._network()
        if network is not None:
            drive = recordings.euroc_drive(self.data, self.frames)
            groups[self.regressor] = [run_drive(drive, self.pipeline, network, "imu")]
            tables.append(image_table(groups))
        setting = "EuRoC, scale from the real IMU against the reference poses"
        return Outcome(setting, tables, groups, windows)

    def _network(self) -> Regressor | None:
        """The network; None for the laboratory, which is made for each drive."""
        if self.regressor == LABORATORY:
            return None
        own = dataclasses.replace(
            self.pipeline.regressor, name=self.regressor, weights=self.weights, device=self.device
        )
        return registry.load(own)


def _turned(drive: Drive, degrees: tuple[float, float, float]) -> Drive:
    """The drive with extrinsics turned about the camera's axes."""
    T = np.eye(4)
    T[:3, :3] = rotation(np.radians(np.asarray(degrees, dtype=np.float64)))
    return dataclasses.replace(
        drive,
        T_camera_lidar=T @ drive.T_camera_lidar,
        T_camera_imu=T @ drive.T_camera_imu,
        T_camera_base=T @ drive.T_camera_base,
    )
