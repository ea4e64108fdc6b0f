# SPDX-License-Identifier: Apache-2.0
"""The metric study at its smallest: the real pipeline on a few seconds of cheap drives."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from video_depth_ros.cli.main import main
from video_depth_ros.config import PipelineConfig
from video_depth_ros.errors import ConfigError, RecordingError, RegressorError
from video_depth_ros.evaluation.metric_study import Drive, run_drive
from video_depth_ros.evaluation.metric_study_drives import motion_drive, simulated_drive
from video_depth_ros.evaluation.metric_study_regressors import RememberedRegressor, laboratory
from video_depth_ros.evaluation.metric_study_results import DriveResult, best_affine, judge
from video_depth_ros.evaluation.metric_study_run import MetricStudy
from video_depth_ros.evaluation.metric_study_sigma import (
    LEVELS,
    SigmaCurve,
    merged,
    normal_share,
    plot,
)
from video_depth_ros.evaluation.metric_study_tables import Table, summary
from video_depth_ros.frames import DepthEstimate, DisparityGroup, MetricScale, ScaleState
from video_depth_ros.simulation.recording import SimulationConfig

SHARED = Path(os.environ.get("VIDEO_DEPTH_SHARED", Path(__file__).parents[2] / "../shared"))
KITTI = SHARED / "data" / "kitti_sfnd_40f"
EUROC = SHARED / "data" / "euroc_v1_01_easy_90f"
SMALL = SimulationConfig(
    world="room", seed=3, seconds=1.7, rate=10.0, width=96, height=72, heldout=True, threads=1
)


@pytest.fixture(scope="module")
def drive() -> Drive:
    """A room seen for 17 frames."""
    return simulated_drive(SMALL)


@given(
    a=st.floats(0.05, 3.0), b=st.floats(-0.02, 0.2), seed=st.integers(0, 1000),
    share=st.floats(0.0, 0.3),
)  # fmt: skip
@settings(deadline=None, max_examples=30)
def test_the_best_map_is_the_true_one_despite_outliers(
    a: float, b: float, seed: int, share: float
) -> None:
    rng = np.random.default_rng(seed)
    q = np.exp(rng.uniform(np.log(0.03), np.log(0.8), 800))
    d = (q - b) / a
    wrong = rng.random(800) < share
    d[wrong] += rng.uniform(0.0, 0.3, wrong.sum()) / a
    found_a, found_b = best_affine(d, q)
    error = np.abs(np.log(np.maximum(found_a * d + found_b, 1e-3) / q))[~wrong]
    assert np.median(error) < 0.02


def test_a_frame_is_false_beyond_a_tenth_and_beyond_what_is_stated() -> None:
    result = DriveResult("room 1", "lidar", False)
    result.errors += [0.05, -0.05, 0.2, 0.2, -0.2, 0.09]
    result.stated += [0.001, 0.2, 0.1, 0.05, 0.05, 0.001]
    assert result.false_frames == 2


def test_an_estimate_is_judged_by_the_best_map_of_its_own_disparity() -> None:
    rng = np.random.default_rng(2)
    truth = 1.0 / rng.uniform(0.1, 0.8, (12, 16))
    truth[0, 0], truth[0, 1] = np.nan, 200.0  # unknown, and beyond what counts
    d = (1.0 / np.nan_to_num(truth, nan=5.0) - 0.05) / 0.5
    covariance = np.array([[4e-4, -1e-4], [-1e-4, 1e-4]])
    a, b = 0.6, 0.06  # inverse depth a fifth too large
    depth = torch.from_numpy(1.0 / (a * d + b)).float()
    estimate = DepthEstimate(
        stamp_ns=0, index=0, rgb=torch.zeros(12, 16, 3, dtype=torch.uint8),
        disparity=torch.from_numpy(d).float(), depth=depth, sigma=0.1 * depth,
        scale=MetricScale(ScaleState.METRIC, a, b, covariance, 0), sequence=0, camera=None,
    )  # fmt: skip
    result = DriveResult("room 1", "lidar", False)
    judge(estimate, truth, result)
    assert result.errors == pytest.approx([1.0 / 1.2 - 1.0], rel=1e-3)
    known = np.isfinite(truth) & (truth < 100.0)
    middle = float(np.median(d[known]))
    at = np.array([middle, 1.0])
    stated = np.sqrt(at @ covariance @ at) / (a * middle + b)
    assert result.stated == pytest.approx([stated], rel=1e-3)
    assert result.abs_rel == pytest.approx([1.0 - 1.0 / 1.2], rel=1e-3)
    assert result.delta1 == [1.0] and result.coverage == [1.0]
    assert result.bound == pytest.approx([0.0], abs=1e-3)


def test_the_best_map_is_that_of_the_least_log_error() -> None:
    """Against a direct search: no map nearby has a smaller sum."""
    rng = np.random.default_rng(0)
    q = np.exp(rng.uniform(np.log(0.03), np.log(0.8), 2000))
    d = q * np.exp(0.3 * rng.normal(size=2000))
    a, b = best_affine(d, q)

    def cost(a: float, b: float) -> float:
        return float(np.abs(np.log(np.maximum(a * d + b, 1 / 80) / q)).mean())

    grid = [
        cost(a * (1 + x), b + y) for x in (-0.1, -0.03, 0, 0.03, 0.1) for y in (-0.01, 0, 0.01)
    ]
    assert cost(a, b) < min(grid) + 5e-4


def test_sigma_curve_of_a_normal_law_is_the_normal_law(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    sigma = rng.uniform(0.1, 3.0, 40_000)
    error = np.abs(sigma * rng.normal(size=40_000))
    halves = [SigmaCurve(), SigmaCurve()]
    halves[0].add(error[:10_000], sigma[:10_000])
    halves[1].add(np.append(error[10_000:], np.nan), np.append(sigma[10_000:], 1.0))
    curve = merged(halves)
    assert curve.count == 40_000
    np.testing.assert_allclose(curve.shares(), [normal_share(k) for k in LEVELS], atol=0.01)
    assert math.isnan(SigmaCurve().share(1.0))
    plot({"normal": curve}, tmp_path / "sigma.png")
    image = cv2.imread(str(tmp_path / "sigma.png"))
    assert image is not None and (tmp_path / "sigma.png").stat().st_size < 100_000


def test_lidar_and_sparse_depth_find_the_scale_of_spoiled_truth(drive: Drive) -> None:
    own, config, regressor = laboratory(drive, PipelineConfig(), seed=1)
    for source in ("lidar", "sparse_depth"):
        result = run_drive(own, config, regressor, source)
        assert result.metric and result.error < 0.05
        assert result.false_frames == 0
        assert result.frames == 17 and result.verdicts["accepted"] > 0
        row = result.row()
        assert row["abs_rel"] < 0.3 and 0.8 < row["coverage"] <= 1.0
        assert row["bound_abs_rel"] < row["abs_rel"] * 1.5
        assert 0.3 < row["within_1_sigma"] < 0.99


def test_a_false_scale_is_seen(drive: Drive) -> None:
    """A LiDAR whose metres are 30 % too long gives METRIC depth that the study calls false."""
    own, config, regressor = laboratory(drive, PipelineConfig(), seed=1)
    long = tuple(dataclasses.replace(scan, points=1.3 * scan.points) for scan in own.scans)
    result = run_drive(dataclasses.replace(own, scans=long), config, regressor, "lidar")
    assert result.metric and np.median(result.errors) == pytest.approx(0.3, abs=0.06)
    assert result.false_frames > 0.8 * len(result.errors)
    assert summary([result])["false"] == 1


def test_without_measurements_nothing_is_metric(drive: Drive) -> None:
    own, config, regressor = laboratory(drive, PipelineConfig(), seed=1)
    result = run_drive(dataclasses.replace(own, scans=()), config, regressor, "lidar")
    assert not result.metric and result.false_frames == 0 and math.isnan(result.seconds)
    assert result.frames == 17
    with pytest.raises(ConfigError, match="sonar"):
        run_drive(own, config, regressor, "sonar")


def test_a_remembered_regressor_computes_once_and_changes_nothing(drive: Drive) -> None:
    own, config, regressor = laboratory(drive, PipelineConfig(), seed=1)
    plain = run_drive(own, config, regressor, "lidar")

    class Counting:
        pushes = 0
        spec, device = regressor.spec, regressor.device

        def open(self, height: int, width: int):  # type: ignore[no-untyped-def]
            session = regressor.open(height, width)
            push = session.push

            def counted(rgb: torch.Tensor, overlap: int) -> DisparityGroup:
                Counting.pushes += 1
                return push(rgb, overlap)

            session.push = counted  # type: ignore[method-assign]
            return session

    remembered = RememberedRegressor(Counting())
    first = run_drive(own, config, remembered, "lidar")
    computed = Counting.pushes
    second = run_drive(own, config, remembered, "lidar")
    assert Counting.pushes == computed >= 5
    assert plain.errors == first.errors == second.errors
    other = dataclasses.replace(own, scans=own.scans[:1], rgb=own.rgb[::-1].copy())
    run_drive(other, config, remembered, "lidar")
    assert Counting.pushes > computed
    with pytest.raises(RegressorError, match="latency"):
        remembered.open(72, 96).preview(torch.zeros(1, 3, 72, 96), 0)


def test_a_kept_drive_is_the_rendered_one(drive: Drive, tmp_path: Path) -> None:
    for _ in range(2):  # rendered, then read
        kept = simulated_drive(SMALL, tmp_path)
        for one, two in zip(kept.scans, drive.scans, strict=True):
            assert one.stamp_ns == two.stamp_ns
            np.testing.assert_array_equal(one.points, two.points)
        for name in ("stamps_ns", "rgb", "truth", "imu", "odometry", "T_camera_imu"):
            np.testing.assert_array_equal(getattr(kept, name), getattr(drive, name))
        assert kept.camera == drive.camera and kept.name == "room 3"
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(RecordingError, match="delete it"):
        simulated_drive(SMALL, tmp_path)


def test_views_of_moving_planes_move_as_their_depth_says() -> None:
    """Pixels of one frame, carried by depth and pose into another, land on the same grey."""
    drive = motion_drive("constant velocity", 1, seconds=1.0)
    assert drive.excitation < 1e-6 and drive.moved > 0.1
    T_camera_base = drive.T_camera_base
    T = T_camera_base @ np.linalg.inv(drive.odometry[40]) @ drive.odometry[0]  # 0.8 s later
    T = T @ np.linalg.inv(T_camera_base)
    points = drive.camera.back_project(drive.truth[0].astype(float)).reshape(-1, 3)
    uv, valid = drive.camera.project(points @ T[:3, :3].T + T[:3, 3])
    column, row = np.rint(uv[valid]).astype(int).T
    then = drive.rgb[0, ..., 0].reshape(-1)[valid].astype(float)
    now = drive.rgb[8, row, column, 0].astype(float)
    assert np.median(np.abs(now - then)) < 12.0  # odometry is noisy, pixels are rounded
    assert np.corrcoef(now, then)[0, 1] > 0.8


def test_an_imu_at_rest_gives_no_scale_and_a_swing_does(tmp_path: Path) -> None:
    outcome = MetricStudy("still", runs=2, seconds=5.0).run()
    for motion in ("standstill", "constant velocity"):
        (result,) = outcome.groups[motion]
        assert not result.metric and result.verdicts["unobservable"] > 0
    (swing,) = outcome.groups["swing"]
    assert swing.metric and swing.error < 0.1
    assert "| standstill " in str(outcome.tables[0])


def test_the_command_prints_markdown_and_writes_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "benchmark", "--metric", "simulated", "--regressor", "laboratory", "--worlds", "room",
        "--seeds", "1", "--first-seed", "3", "--source", "lidar", "--seconds", "1.7",
        "--size", "72x96", "--cache", str(tmp_path), "--json", str(tmp_path / "out.json"),
        "--plot", str(tmp_path / "sigma.png"), "--set", "scale.local.cell=32",
    ]  # fmt: skip
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "1 simulated drives (room; seeds 3 to 3" in out
    assert "| lidar " in out and "| normal law " in out and "|---" in out
    table = json.loads((tmp_path / "out.json").read_text())
    assert table["drives"][0]["drive"] == "room 3"
    assert table["summary"]["lidar"]["median_error"] < 0.05
    assert len(table["sigma"]["lidar"]) == len(table["sigma"]["k"]) == 12
    assert (tmp_path / "sigma.png").stat().st_size < 100_000


def test_a_mounting_error_is_told_and_felt(tmp_path: Path) -> None:
    def study(y: float) -> DriveResult:
        outcome = MetricStudy(
            "simulated", regressor="laboratory", worlds=("room",), seeds=1, first_seed=3,
            sources=("lidar",), seconds=1.7, size=(72, 96), cache=tmp_path,
            mounting_error=(0.0, y, 0.0),
        ).run()  # fmt: skip
        assert ("turned by 0, 25, 0 degrees" in outcome.setting) == (y > 0.0)
        return outcome.groups["lidar"][0]

    right, wrong = study(0.0), study(25.0)
    assert right.metric_frames > 10 and wrong.metric_frames < right.metric_frames


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--metric", "moon"], "moon"),
        (["--metric", "simulated", "--worlds", "moon"], "moon"),
        (["--metric", "simulated", "--source", "sonar"], "sonar"),
        (["--metric", "simulated", "--seeds", "0"], "--seeds"),
        (["--metric", "still", "--seconds", "0.1"], "--seconds"),
        (["--metric", "simulated", "--mounting-error", "nan", "0", "0"], "--mounting-error"),
        (["--metric", "simulated", "--set", "scale.nothing=1"], "scale.nothing"),
        (["--metric", "simulated", "--set", "regressor.weights=x"], "--weights"),
        (["--stability", "--set", "regressor.window=5"], "--window"),
        (["--metric", "kitti"], "--data"),
        (["--metric", "kitti", "--data", "/nowhere", "--regressor", "laboratory"], "/nowhere"),
        (["--metric", "euroc", "--data", "/nowhere", "--regressor", "laboratory"], "/nowhere"),
        (["--regressor", "laboratory"], "only with --metric"),
    ],
)
def test_bad_options_are_named(
    options: list[str], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["benchmark", *options]) == 2
    assert word in capsys.readouterr().err


def test_a_table_is_markdown() -> None:
    table = Table("name", "value")
    table.add_row("a", "1.0 %")
    assert str(table) == "| name | value |\n|------|------:|\n| a    | 1.0 % |"


def test_a_result_without_metric_frames_is_written_as_such() -> None:
    row = DriveResult("room 1", "imu", True).row()
    assert row["metric_frames"] == 0 and math.isnan(row["scale_error"])
    assert summary([DriveResult("room 1", "imu", True)])["metric"] == 0


@pytest.mark.skipif(not KITTI.is_dir(), reason=f"no KITTI excerpt at {KITTI}")
def test_kitti_with_a_stand_in_reaches_the_bound() -> None:
    outcome = MetricStudy("kitti", regressor="laboratory", data=KITTI, frames=5).run()
    (plain,), (local,) = outcome.groups["global"], outcome.groups["global and local"]
    assert plain.row()["abs_rel"] < 1.1 * plain.row()["bound_abs_rel"]
    assert local.row()["abs_rel"] < 0.7 * plain.row()["abs_rel"]
    assert 0.5 < plain.sigma.share(1.0) < 0.9
    assert "| global and local " in str(outcome.tables[0])


@pytest.mark.skipif(not EUROC.is_dir(), reason=f"no EuRoC excerpt at {EUROC}")
def test_euroc_windows_are_right_or_unobservable() -> None:
    outcome = MetricStudy("euroc", regressor="laboratory", data=EUROC).run()
    assert len(outcome.windows) == 22 or len(outcome.windows) > 10
    seen = [window for window in outcome.windows if window.observable]
    assert seen and all(abs(window.error) < 0.15 for window in seen)
    assert np.median([abs(window.error) for window in seen]) < 0.1
    assert "reference poses, noise 0.5 mm" in str(outcome.tables[0])
