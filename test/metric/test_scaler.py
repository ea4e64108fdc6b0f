# SPDX-License-Identifier: Apache-2.0
"""The scaler: states over time, late scans, faults by name, depth and its deviation."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from video_depth_ros.errors import ConfigError, InputError
from video_depth_ros.frames import MetricScale, ScaleState
from video_depth_ros.metric import MetricScaler, ScaleConfig, Verdict
from video_depth_ros.metric.anchors import View
from video_depth_ros.metric.fit import ScaleFit
from video_depth_ros.metric.fusion import Fusion
from video_depth_ros.metric.misalignment import PLACES, Agreement, Mounting
from video_depth_ros.metric.parts import covered_parts, part_of
from video_depth_ros.metric.poses import rotation
from video_depth_ros.metric.publication import Publication
from video_depth_ros.metric.scale_filter import ScaleFilter
from video_depth_ros.settings import leaves, replace_flat

from .scenes import HEIGHT, WIDTH, A, B, Scene, make_scene

PERIOD = 100_000_000


def _scaler(**values: object) -> MetricScaler:
    return MetricScaler(
        replace_flat(ScaleConfig(), {k.replace("__", "."): v for k, v in values.items()})
    )


def _step(scaler: MetricScaler, scene: Scene, k: int, n: int = 3000) -> MetricScale:
    """One frame at 10 Hz with a scan of n points (none with 0)."""
    if n:
        scaler.add_points(scene.scan(n, seed=k), k * PERIOD, scene.T_camera_lidar)
    return _look(scaler, scene, k)


def _look(scaler: MetricScaler, scene: Scene, k: int, sequence: int = 0) -> MetricScale:
    return scaler.update(scene.tensor, scene.rgb, scene.camera, k * PERIOD, sequence)


def test_every_parameter_is_described() -> None:
    names = [leaf.name for leaf in leaves(ScaleConfig())]
    assert "lidar.max_time_offset" in names and len(names) == len(set(names))


@pytest.mark.parametrize(
    "bad",
    [
        {"sources": ("sonar",)},
        {"sources": ("none", "imu")},
        {"min_depth": 90.0},
        {"stale_after": 40.0},
        {"local.levels": 12},
    ],
)
def test_contradictory_configurations_are_refused(bad: dict) -> None:
    with pytest.raises(ConfigError):
        replace_flat(ScaleConfig(), bad)


def test_a_scan_gives_metric_depth(scene: Scene) -> None:
    scaler = _scaler()
    scale = _step(scaler, scene, 0)
    assert scale.state is ScaleState.METRIC
    assert (scale.a, scale.b) == pytest.approx((A, B), rel=0.02)
    depth, sigma = scaler.depth(scene.tensor, scale, None)
    error = np.abs(depth.numpy() / scene.depth - 1.0)
    assert np.nanmedian(error) < 0.01
    assert torch.isfinite(sigma).equal(torch.isfinite(depth))


def test_without_a_sensor_depth_stays_relative(scene: Scene) -> None:
    scaler = _scaler()
    scale = _step(scaler, scene, 0, n=0)
    assert scale.state is ScaleState.UNSCALED
    depth, sigma = scaler.depth(scene.tensor, scale)
    assert depth.isnan().all() and sigma.isnan().all()


def test_metric_then_stale_then_unscaled_then_metric(scene: Scene) -> None:
    scaler = _scaler(stale_after=0.5, lost_after=2.0)
    states = [_step(scaler, scene, k, n=3000 if k < 5 else 0).state for k in range(30)]
    assert states[:10] == [ScaleState.METRIC] * 10
    assert states[10:25] == [ScaleState.STALE] * 15
    assert states[25:] == [ScaleState.UNSCALED] * 5
    assert scaler.report(30 * PERIOD).age == pytest.approx(2.6)
    assert _step(scaler, scene, 30).state is ScaleState.METRIC


def test_a_scan_may_come_after_its_frame_or_before(scene: Scene) -> None:
    late = _scaler()
    _look(late, scene, 0)
    _look(late, scene, 1)
    late.add_points(scene.scan(3000), 0, scene.T_camera_lidar)
    assert _look(late, scene, 2).state is ScaleState.METRIC
    early = _scaler()
    _look(early, scene, 0)
    early.add_points(scene.scan(3000), 2 * PERIOD, scene.T_camera_lidar)
    assert _look(early, scene, 1).state is ScaleState.UNSCALED  # its own frame is still to come
    assert _look(early, scene, 2).state is ScaleState.METRIC


def test_a_new_affine_frame_starts_anew(scene: Scene) -> None:
    scaler = _scaler()
    _step(scaler, scene, 0)
    assert _look(scaler, scene, 1, sequence=1).state is ScaleState.UNSCALED


def test_a_scale_carried_over_is_a_prior_until_it_is_lost(scene: Scene) -> None:
    values = {"stale_after": 0.5, "lost_after": 2.0}
    for carry_over in (True, False):
        scaler = _scaler(filter__carry_over=carry_over, **values)
        for k in range(5):
            _step(scaler, scene, k)
        before = scaler.report(4 * PERIOD)
        states = [_look(scaler, scene, k, sequence=1).state for k in range(5, 24)]
        assert states == [ScaleState.UNSCALED] * 19  # a prior is no scale
        kept = scaler.report(23 * PERIOD)
        assert kept.a == pytest.approx(before.a if carry_over else 1.0)
        assert (kept.sigma_a > 0.2 * kept.a) is carry_over
        for k in range(24, 26):
            _look(scaler, scene, k, sequence=1)
        assert scaler.report(25 * PERIOD).a == 1.0  # 2.1 s after the last measurement


def test_a_scale_carried_over_is_bettered_by_the_next_scan(scene: Scene) -> None:
    scaler = _scaler(filter__carry_over=True)
    for k in range(3):
        _step(scaler, scene, k)
    _look(scaler, scene, 3, sequence=1)
    scaler.add_points(scene.scan(3000, seed=4), 4 * PERIOD, scene.T_camera_lidar)
    scale = _look(scaler, scene, 4, sequence=1)
    assert scale.state is ScaleState.METRIC and scale.a == pytest.approx(A, rel=0.02)
    assert scaler.report(0).reinitialised == 0
    scaler.reset()
    _look(scaler, scene, 0)
    report = scaler.report(0)
    assert (report.a, report.age) == (1.0, math.inf)


def test_reset_forgets_and_time_may_start_over(scene: Scene) -> None:
    scaler = _scaler()
    _step(scaler, scene, 50)
    scaler.reset()
    assert _look(scaler, scene, 0).state is ScaleState.UNSCALED
    assert _step(scaler, scene, 1).state is ScaleState.METRIC


def test_the_published_scale_is_slewed_and_jumps_only_on_reinitialisation(scene: Scene) -> None:
    scaler = _scaler(slew=0.01, local__enabled=False)
    for k in range(5):
        _step(scaler, scene, k)
    farther = Scene(scene.depth * 1.5, scene.disparity, scene.camera, scene.T_camera_lidar)
    scales = [_step(scaler, farther, k).a for k in range(5, 12)]
    assert scaler.report(0).reinitialised == 1
    steps = np.abs(np.diff(np.log([A, *scales])))
    assert (steps > 0.1).sum() == 1  # the re-initialisation
    assert np.sort(steps)[-2] <= 0.0011
    assert scales[-1] == pytest.approx(A / 1.5, rel=0.03)


def test_small_changes_follow_at_the_slew_rate(scene: Scene) -> None:
    # a filter so sure of itself that the slew rate allows more than its uncertainty does
    scaler = _scaler(slew=0.05, filter__process_scale=0.02, local__enabled=False)
    for k in range(5):
        start = _step(scaler, scene, k)
    nearer = Scene(scene.depth * 0.96, scene.disparity, scene.camera, scene.T_camera_lidar)
    after = [_step(scaler, nearer, k) for k in range(5, 10)]
    change = math.log(after[-1].a / start.a)
    assert 0.01 < change <= 0.0251
    # what is held back is not hidden
    assert after[-1].covariance[0, 0] > (A / 0.96 - after[-1].a) ** 2 * 0.5


def _published(
    shift: float, new: tuple[float, float], doubt: float, seconds: float
) -> MetricScale:
    """A published map a = 0.5, b = shift, then ``seconds`` later a filter that says ``new``."""
    publication = Publication(replace_flat(ScaleConfig(), {"slew": 0.05}))
    view = View(0, np.linspace(0.0, 1.0, 100, dtype=np.float32).reshape(10, 10), None)
    scales = []
    for a, b in ((0.5, shift), new):
        estimate = ScaleFilter(ScaleConfig().filter)
        level = 0.5 * a + b
        estimate.update(ScaleFit(Verdict.ACCEPTED, a, level, 0.5, doubt * level, doubt * a))
        scales.append(publication.publish(estimate, view, 0, seconds, jumped=False))
    assert scales[0].a == 0.5
    return scales[1]


def test_the_slew_limit_is_one_of_depth() -> None:
    """A shift near zero may change, however large its change is relative to itself."""
    d = np.array([0.5, 0.95])
    before = 0.5 * d + 0.001
    scale = _published(0.001, (0.48, 0.011), 0.01, 1.0)
    assert (scale.a, scale.b) == pytest.approx((0.48, 0.011))
    held = _published(0.001, (0.7, 0.001), 0.01, 1.0)
    change = np.max(np.abs((held.a * d + held.b) / before - 1.0))
    assert change == pytest.approx(0.05)
    assert held.covariance[0, 0] > (0.7 - held.a) ** 2


def test_while_unsure_the_published_scale_follows_faster() -> None:
    sure, unsure = (_published(0.001, (0.7, 0.001), doubt, 1.0) for doubt in (0.01, 0.1))
    assert sure.a == pytest.approx(0.525, rel=1e-3)
    assert 0.58 < unsure.a < 0.62  # two deviations in a second, the time between the frames


def test_what_lies_behind_infinity_within_the_map_s_deviation_is_no_contradiction() -> None:
    disparity = np.linspace(0.0, 1.0, 10_000, dtype=np.float32).reshape(100, 100)
    view = View(0, disparity, None)
    fusion = Fusion(ScaleConfig())
    fit = ScaleFit(Verdict.ACCEPTED, 1.0, 0.2, 0.6, 0.005, 0.02, n=100, residual=0.02)
    assert fusion.take("lidar", view, fit) is Verdict.NON_POSITIVE
    rough = dataclasses.replace(fit, sigma_level=0.06, sigma_slope=0.6, residual=0.3)
    assert fusion.take("lidar", view, rough) is Verdict.ACCEPTED


def test_a_scan_that_gives_no_map_still_says_how_far_off_the_scale_is(scene: Scene) -> None:
    scaler = _scaler(local__enabled=False)
    for k in range(4):
        _step(scaler, scene, k)
    sure = scaler.report(0).relative_sigma
    lost = Scene(scene.depth * 1.4, 1.0 - scene.disparity, scene.camera, scene.T_camera_lidar)
    scaler.add_points(lost.scan(3000), 4 * PERIOD, lost.T_camera_lidar)
    scale = _look(scaler, lost, 4)
    assert scaler.report(0).sources["lidar"].last in (Verdict.INVERTED, Verdict.UNRELATED)
    assert scale.state is ScaleState.METRIC
    fitted = scale.a * lost.disparity + scale.b
    off = float(np.median(1.0 / (fitted * lost.depth))) - 1.0
    assert scaler.report(0).relative_sigma > max(0.8 * abs(off), 5.0 * sure)
    assert _step(scaler, scene, 5).covariance[0, 0] < 0.1 * scale.covariance[0, 0]


def test_parts_of_the_view() -> None:
    v, u = np.mgrid[0:144, 0:192]
    every = np.column_stack([u.ravel(), v.ravel()])
    assert covered_parts(every, (144, 192)) == pytest.approx(12.0)
    assert covered_parts(every[v.ravel() < 48], (144, 192)) == pytest.approx(4.0)
    assert covered_parts(every[:1], (144, 192)) == 1.0
    assert covered_parts(np.array([[-0.5, 143.6], [191.6, -0.4]]), (144, 192)) == 2.0
    corners = np.array([[-3.0, -2.0], [0.0, 0.0], [199.0, 150.0], [191.0, 143.0]])
    assert part_of(corners, (144, 192)).tolist() == [0, 0, 11, 11]  # beyond the edge: the nearest


def test_the_depth_range_is_kept() -> None:
    """By what is given out, after the local correction: the network is wrong by up to a third."""
    rough = make_scene(1, error=0.12)
    wide = _scaler(min_depth=0.01, max_depth=1000.0)
    everything, _ = wide.depth(rough.tensor, _step(wide, rough, 0))
    scaler = _scaler(min_depth=3.0, max_depth=10.0)
    scale = _step(scaler, rough, 0)
    assert scaler.report(0).local
    depth, sigma = scaler.depth(rough.tensor, scale)
    inside = (everything >= 3.0) & (everything <= 10.0)
    assert 0.05 < float(inside.float().mean()) < 0.95
    assert torch.equal(depth.isnan(), ~inside) and torch.equal(sigma.isnan(), ~inside)
    torch.testing.assert_close(depth[inside], everything[inside])


def test_no_least_depth_is_allowed(scene: Scene) -> None:
    depths = []
    for least in (0.0, 1e-3):
        scaler = _scaler(min_depth=least)
        depths.append(scaler.depth(scene.tensor, _step(scaler, scene, 0))[0])
    assert depths[0].isfinite().float().mean() > 0.9
    assert torch.equal(depths[0].nan_to_num(), depths[1].nan_to_num())


def test_disagreement_of_windows_widens_sigma(scene: Scene) -> None:
    scaler = _scaler()
    scale = _step(scaler, scene, 0)
    depth, _ = scaler.depth(scene.tensor, scale)
    _, wide = scaler.depth(scene.tensor, scale, torch.full_like(scene.tensor, 0.1))
    known = ~depth.isnan()
    expected = scale.a * 0.1 * depth**2
    torch.testing.assert_close(wide[known], expected[known], rtol=0.1, atol=1e-3)


def test_what_the_residual_shows_is_not_counted_twice() -> None:
    rough, scaler = make_scene(1, error=0.12), _scaler(local__enabled=False)
    scale = _step(scaler, rough, 0)
    depth, alone = scaler.depth(rough.tensor, scale)
    _, both = scaler.depth(rough.tensor, scale, (0.04 / scale.a) / depth)  # 4 % beside some 8 %
    known = ~depth.isnan()
    wider = both[known] / alone[known] - 1.0
    assert (wider < 1e-3).float().mean() > 0.8 and wider.min() > -1e-5


def test_motion_between_scan_and_frame_is_compensated() -> None:
    """The robot drives 1 m/s; the scan is 80 ms older than the frame."""
    scene = make_scene(seed=2)
    moved = {}
    for name in ("odometry", "none"):
        scaler = _scaler(local__enabled=False, sources=("lidar",))
        if name == "odometry":
            for k in range(-10, 11):
                pose = np.eye(4)
                pose[0, 3] = 10.0 * k * 0.02
                T_camera_base = scene.T_camera_lidar.copy()
                scaler.add_odometry(pose, k * 20_000_000 + PERIOD, T_camera_base)
        points = scene.scan(4000, noise=0.0).astype(np.float64)
        points[:, 0] += 0.8  # 80 ms earlier the world lay 0.8 m farther ahead
        scaler.add_points(points, PERIOD - 80_000_000, scene.T_camera_lidar)
        _look(scaler, scene, 1)
        moved[name] = scaler.report(PERIOD).sources["lidar"].residual
    assert moved["odometry"] < 0.01 < 0.03 < moved["none"]


def test_range_and_sparse_depth(scene: Scene) -> None:
    scaler = _scaler()
    sparse = np.where(np.random.default_rng(0).random((HEIGHT, WIDTH)) < 0.02, scene.depth, np.nan)
    scaler.add_sparse_depth(sparse.astype(np.float32), 0, scene.camera)
    assert _look(scaler, scene, 0).state is ScaleState.METRIC
    ahead = np.array([[0, -1.0, 0, 0], [0, 0, -1.0, 0], [1.0, 0, 0, 0], [0, 0, 0, 1.0]])
    centre = float(scene.depth[120, 160])
    for k in range(1, 6):
        scaler.add_range(centre, 0.05, k * PERIOD, ahead)
        _look(scaler, scene, k)
    report = scaler.report(5 * PERIOD).sources["range"]
    assert report.last is Verdict.LEVEL_ONLY and report.residual < 0.05


def test_a_range_alone_is_never_metric(scene: Scene) -> None:
    scaler = _scaler()
    ahead = np.array([[0, -1.0, 0, 0], [0, 0, -1.0, 0], [1.0, 0, 0, 0], [0, 0, 0, 1.0]])
    for k in range(30):
        scaler.add_range(float(scene.depth[120, 160]), 0.02, k * PERIOD, ahead)
        assert _look(scaler, scene, k).state is ScaleState.UNSCALED


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("clock", Verdict.TIME_OFFSET),
        ("empty", Verdict.NO_POINTS),
        ("nan", Verdict.NO_POINTS),
        ("behind", Verdict.OUT_OF_VIEW),
        ("turned", Verdict.MISALIGNED),
        ("wall", Verdict.LEVEL_ONLY),
        ("switched_off", Verdict.DISABLED),
    ],
)
def test_faults_have_names_and_never_give_a_metric_depth(name: str, reason: Verdict) -> None:
    scene = make_scene(seed=4, error=0.05)
    scaler = _scaler(**({"sources": ("odometry",)} if name == "switched_off" else {}))
    for k in range(12):
        points, stamp, T = scene.scan(3000, seed=k), k * PERIOD, scene.T_camera_lidar
        if name == "clock":
            stamp -= 3_000_000_000
        elif name == "empty":
            points = points[:0]
        elif name == "nan":
            points = np.full_like(points, np.nan)
        elif name == "behind":
            T = T @ np.diag([-1.0, -1.0, 1.0, 1.0])
        elif name == "turned":
            turn = np.eye(4)
            turn[:3, :3] = rotation(np.array([0.0, np.deg2rad(20.0), 0.0]))
            T = turn @ T
        elif name == "wall":  # the sensor reads one distance over a scene with relief
            seen = points @ T[:3, :3].T + T[:3, 3]
            near = np.abs(seen[:, 2] - np.median(seen[:, 2])) < 0.03 * np.median(seen[:, 2])
            points = points[near]
        scaler.add_points(points, stamp, T)
        assert _look(scaler, scene, k).state is ScaleState.UNSCALED
    report = scaler.report(12 * PERIOD)
    assert report.sources["lidar"].verdicts[reason] >= 10
    assert reason is Verdict.LEVEL_ONLY or reason.value in report.last_reject


def test_a_fast_source_does_not_push_a_slow_one_out(scene: Scene) -> None:
    """Frames 1.2 s late, as of a slow network, among ranges at 100 Hz."""
    scaler, late = _scaler(), 12
    forward = np.array([[0, -1.0, 0, 0], [0, 0, -1.0, 0], [1.0, 0, 0, 0], [0, 0, 0, 1.0]])
    for k in range(40):
        for part in range(10):
            stamp_ns = k * PERIOD + part * PERIOD // 10
            scaler.add_range(float(scene.depth[120, 160]), 0.02, stamp_ns, forward)
        scaler.add_points(scene.scan(3000, seed=k), k * PERIOD, scene.T_camera_lidar)
        if k >= late:
            _look(scaler, scene, k - late)
    lidar = scaler.report(40 * PERIOD).sources["lidar"]
    assert lidar.received == 40
    assert lidar.used >= 40 - late - 4  # three first scans for a start
    assert Verdict.TIME_OFFSET not in lidar.verdicts


@pytest.mark.parametrize("ahead", [37.0, 18.0, 10.0])
def test_a_clock_that_is_ahead_is_named(scene: Scene, ahead: float) -> None:
    """PTP's TAI, GPS time, and what only fills the waiting room."""
    scaler = _scaler()
    for k in range(150):
        stamp_ns = k * PERIOD + int(ahead * 1e9)
        scaler.add_points(scene.scan(10, seed=k), stamp_ns, scene.T_camera_lidar)
        scaler.update(scene.tensor[:16, :16], scene.rgb[:16, :16], None, k * PERIOD, 0)
    report = scaler.report(150 * PERIOD)
    lidar = report.sources["lidar"]
    assert lidar.verdicts[Verdict.TIME_OFFSET] >= (150 if ahead > 15.0 else 20)
    assert lidar.verdicts.total() == lidar.verdicts[Verdict.TIME_OFFSET]
    assert lidar.ahead == pytest.approx(ahead, abs=0.15)
    assert report.last_reject == "lidar: time_offset"


def test_while_no_frame_comes_nothing_is_said_of_a_clock(scene: Scene) -> None:
    scaler = _scaler()
    _look(scaler, scene, 0)
    for k in range(200):
        scaler.add_points(scene.scan(10, seed=k), k * PERIOD, scene.T_camera_lidar)
    scaler.forget_measurements()
    assert _step(scaler, scene, 200).state is ScaleState.METRIC
    assert not scaler.report(0).sources["lidar"].verdicts[Verdict.TIME_OFFSET]


def test_a_wrong_second_source_shows_in_its_residual(scene: Scene) -> None:
    scaler = _scaler(local__enabled=False)
    wrong = np.where(np.random.default_rng(0).random((HEIGHT, WIDTH)) < 0.02, 1.4 * scene.depth, 0)
    for k in range(8):
        if k >= 3:
            scaler.add_sparse_depth(wrong.astype(np.float32), k * PERIOD, scene.camera)
        scale = _step(scaler, scene, k)
    sources = scaler.report(8 * PERIOD).sources
    assert sources["lidar"].residual < 0.01
    assert sources["sparse_depth"].residual > 0.2
    assert sources["sparse_depth"].last is Verdict.GATED
    assert scale.a == pytest.approx(A, rel=0.02)


@pytest.mark.parametrize("other", ["aged", "before_restart", "recent"])
def test_a_misaligned_sensor_s_scale_is_kept_only_where_another_bears_it_out(other: str) -> None:
    scene = make_scene(seed=4, error=0.05)
    scaler = _scaler(local__enabled=False, stale_after=1.0)
    sparse = np.where(np.random.default_rng(0).random((HEIGHT, WIDTH)) < 0.02, scene.depth, np.nan)
    turn = np.eye(4)
    turn[:3, :3] = rotation(np.array([0.0, np.deg2rad(20.0), 0.0]))
    first = 12 if other == "aged" else 5
    for k in range(first + 4):
        if k == 0 or other == "recent":
            scaler.add_sparse_depth(sparse.astype(np.float32), k * PERIOD, scene.camera)
        T = scene.T_camera_lidar if k < first else turn @ scene.T_camera_lidar
        scaler.add_points(scene.scan(3000, seed=k), k * PERIOD, T)
        sequence = int(other == "before_restart" and k > 0)
        state = _look(scaler, scene, k, sequence).state
        if k == first - 1:
            assert state is ScaleState.METRIC
    assert scaler.report(0).sources["lidar"].last is Verdict.MISALIGNED
    assert state is (ScaleState.METRIC if other == "recent" else ScaleState.UNSCALED)


def test_a_scan_of_one_part_hardly_changes_what_wide_ones_told() -> None:
    fusion = Fusion(ScaleConfig())
    right, wrong = Agreement(0.1, 1.0, _better(0.9, 0.9)), Agreement(0.3, 1.0, _better(0.9, 3.0))
    assert not any(fusion._misaligned("lidar", right, 6.0) for _ in range(5))
    assert not any(fusion._misaligned("lidar", wrong, 1.0) for _ in range(10))
    assert [fusion._misaligned("lidar", wrong, 6.0) for _ in range(2)] == [True, True]
    first = Fusion(ScaleConfig())  # with nothing else to go by it counts
    assert first._misaligned("lidar", wrong, 1.0)


def test_a_mounting_is_wrong_where_the_same_place_is_better_in_every_scan() -> None:
    here, there = Agreement(0.2, 1.0, _better(1.8, 0.4)), Agreement(0.2, 1.0, _better(0.4, 1.8))
    fusion = Fusion(ScaleConfig())
    fusion._misaligned("lidar", Agreement(0.2, 1.0, _better(1.0, 1.0)), 6.0)
    for _ in range(10):  # of a rough network's errors now one place profits, now another
        assert not fusion._misaligned("lidar", here, 6.0)
        assert not fusion._misaligned("lidar", there, 6.0)
    assert [fusion._misaligned("lidar", there, 6.0) for _ in range(2)] == [True, True]


def test_suspicion_fades_where_later_scans_see_nothing() -> None:
    mounting, nothing = Mounting(), math.nan
    mounting.add(_better(0.5, 4.0), 0.5)
    for _ in range(10):
        mounting.add(_better(0.5, nothing), 0.5)
    assert mounting.misalignment == pytest.approx(1.0, abs=0.01)
    mounting.add(_better(0.5, 0.25), 0.5)
    assert mounting.misalignment == pytest.approx(0.5, abs=0.01)


def _better(first: float, others: float) -> np.ndarray:
    """How much better anchors agree at the first of the other places, and at the rest."""
    ratios = np.full(PLACES, others)
    ratios[0] = first
    return ratios


def test_bad_arguments_are_refused(scene: Scene) -> None:
    scaler = _scaler()
    with pytest.raises(InputError, match="points"):
        scaler.add_points(np.zeros((4, 2)), 0, np.eye(4))
    with pytest.raises(InputError, match="rotation"):
        scaler.add_points(np.zeros((4, 3)), 0, 2.0 * np.eye(4))
    with pytest.raises(InputError, match="sparse depth"):
        scaler.add_sparse_depth(np.zeros((3, 3), np.float32), 0, scene.camera)
    with pytest.raises(InputError, match="IMU"):
        scaler.add_imu(np.array([0, 0, np.nan]), np.zeros(3), 0, np.eye(4))


@pytest.mark.parametrize(
    ("give", "word"),
    [
        (lambda s, scene: s.add_points([[1, 2], [3]], 0, np.eye(4)), "ragged"),
        (lambda s, scene: s.add_points(np.full((4, 3), "1"), 0, np.eye(4)), "points"),
        (lambda s, scene: s.add_points(np.ones((4, 3), object), 0, np.eye(4)), "object"),
        (lambda s, scene: s.add_points(np.ones((4, 3)), 0.5, np.eye(4)), "nanoseconds"),
        (lambda s, scene: s.add_points(np.ones((4, 3)), 0, np.eye(4), ["a"] * 4), "times"),
        (lambda s, scene: s.add_points(np.ones((4, 3)), 0, np.diag([-1, 1, 1, 1])), "rotation"),
        (
            lambda s, scene: s.add_sparse_depth(
                (1000 * scene.depth).astype(np.uint16), 0, scene.camera
            ),
            "millimetres",
        ),
        (lambda s, scene: s.add_sparse_depth(scene.depth, None, scene.camera), "nanoseconds"),
        (lambda s, scene: s.add_sparse_depth(scene.depth, 0, None), "Camera"),
        (lambda s, scene: s.add_range("2", 0.1, 0, np.eye(4)), "distance"),
        (lambda s, scene: s.add_range(2.0, 0.0, 0, np.eye(4)), "above 0"),
        (lambda s, scene: s.add_range(2.0, np.nan, 0, np.eye(4)), "above 0"),
        (lambda s, scene: s.add_imu(["a", 0, 0], np.zeros(3), 0, np.eye(4)), "IMU"),
        (lambda s, scene: s.add_odometry("base", 0, np.eye(4)), "transform"),
        (lambda s, scene: s.add_odometry(np.eye(3), 0, np.eye(4)), "4x4"),
        (lambda s, scene: s.add_imu(np.zeros(3), np.zeros(3), 0, np.eye(4)[:3]), "4x4"),
        (lambda s, scene: s.add_points(np.ones((4, 3)), 0, np.full((4, 4), np.nan)), "4x4"),
    ],
)
def test_a_measurement_of_a_wrong_kind_is_refused_where_it_comes_in(
    scene: Scene, give: Callable[[MetricScaler, Scene], None], word: str
) -> None:
    scaler = _scaler()
    with pytest.raises(InputError, match=word):
        give(scaler, scene)
    assert len(scaler._waiting) == 0


def test_lists_and_tensors_are_measurements_too(scene: Scene) -> None:
    scaler = _scaler(local__enabled=False)
    for k in range(3):
        points = scene.scan(2000, seed=k)
        given = points.tolist() if k % 2 else torch.from_numpy(points)
        scaler.add_points(given, k * PERIOD, scene.T_camera_lidar.tolist())  # type: ignore[arg-type]
        scale = _look(scaler, scene, k)
    assert scale.state is ScaleState.METRIC and scale.a == pytest.approx(A, rel=0.02)


def test_memory_is_bounded_while_no_frame_comes(scene: Scene) -> None:
    scaler = _scaler()
    for k in range(500):
        scaler.add_points(scene.scan(10), k * PERIOD, scene.T_camera_lidar)
    assert len(scaler._waiting) <= 80
