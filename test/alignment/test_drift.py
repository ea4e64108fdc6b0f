# SPDX-License-Identifier: Apache-2.0
"""Drift control: the graph of affine frames, slow keyframes, the joint solve, the seams."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from video_depth_ros.alignment import (
    AlignmentConfig,
    JointAlignment,
    KeyframeAnchor,
    KeyframeConfig,
    RunningEstimate,
    Window,
    align_recording,
    cross_fade,
    run_windows,
)
from video_depth_ros.alignment.graph import AffineEdge, solve_affine_graph
from video_depth_ros.alignment.keyframe_graph import (
    DilatedWindow,
    Keyframe,
    compose,
    inverse,
    solve_keyframes,
)
from video_depth_ros.alignment.keyframes import DriftReport
from video_depth_ros.errors import ConfigError, InputError, RegressorError
from video_depth_ros.evaluation.laboratory import (
    LaboratoryFaults,
    LaboratoryRegressor,
    LaboratorySession,
    SyntheticDisparity,
    read_index,
    spoil,
    write_index,
)
from video_depth_ros.frames import DisparityGroup

SIZE = (60, 80)


def frames(count: int) -> Iterator[Tensor]:
    return (write_index(torch.zeros(3, *SIZE), index) for index in range(count))


def laboratory(faults: LaboratoryFaults) -> LaboratoryRegressor:
    return LaboratoryRegressor(SyntheticDisparity(*SIZE), faults, index_of=read_index)


def edge(truth: np.ndarray, i: int, j: int, centre: float = 0.3, error: float = 0.0) -> AffineEdge:
    scale = truth[i, 0] / truth[j, 0] * np.exp(error)
    shift = (truth[i, 1] - truth[j, 1]) / truth[j, 0]
    return AffineEdge(i, j, scale, centre, scale * centre + shift, 1e-3, 1e-3)


def test_affine_maps_compose_and_invert():
    outer, inner, x = (1.7, -0.3), (0.6, 0.25), 0.8
    through = outer[0] * (inner[0] * x + inner[1]) + outer[1]
    scale, shift = compose(outer, inner)
    assert scale * x + shift == pytest.approx(through)
    assert compose(inverse(outer), outer) == pytest.approx((1.0, 0.0))
    assert compose(outer, inverse(outer)) == pytest.approx((1.0, 0.0))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), n=st.sampled_from([2, 5, 12, 90]))
def test_graph_recovers_consistent_frames_exactly(seed, n):
    rng = np.random.default_rng(seed)
    truth = np.stack([np.exp(rng.normal(0.0, 0.3, n)), rng.normal(0.0, 0.2, n)], axis=1)
    truth[0] = (1.0, 0.0)
    edges = [edge(truth, i, i - 1) for i in range(1, n)]
    edges += [edge(truth, i, int(rng.integers(0, i))) for i in range(2, n)]
    start = np.tile([1.0, 0.0], (n, 1))
    solution = solve_affine_graph(start, edges, prior_weight=0.0)
    np.testing.assert_allclose(solution, truth, atol=1e-6)


def test_graph_outvotes_a_wrong_edge():
    n = 8
    truth = np.tile([1.0, 0.0], (n, 1))
    edges = [edge(truth, i, j) for i in range(n) for j in range(i)]
    edges[5] = edge(truth, edges[5].i, edges[5].j, error=0.4)
    solution = solve_affine_graph(truth, edges)
    assert np.abs(solution - truth).max() < 2e-3


def test_graph_leaves_what_nothing_reaches_where_it_was():
    truth = np.array([[1.0, 0.0], [1.3, 0.1], [1.1, 0.02]])
    solution = solve_affine_graph(truth, [edge(truth, 1, 0)])
    np.testing.assert_allclose(solution[:2], truth[:2], atol=1e-4)
    assert np.isfinite(solution).all()


def run_anchored(every: int, groups: int) -> tuple[np.ndarray, KeyframeAnchor, int]:
    """log scale of truth -> running, relative to the start, of a spoiled stream."""
    # much noise and little overlap, so that a chain drifts within a few hundred frames
    faults = LaboratoryFaults(noise=0.02, outliers=0.2, block=1)
    regressor = laboratory(faults)
    config = AlignmentConfig(overlap=4, keyframes=KeyframeConfig(every=every))
    session, estimate = regressor.open(*SIZE), RunningEstimate(config)
    anchor = KeyframeAnchor(config, regressor.spec, regressor.open(*SIZE), estimate)
    logs, reports, index = [], 0, 0
    for _ in range(groups):
        size = session.next_group
        images = torch.stack([write_index(torch.zeros(3, *SIZE), index + k) for k in range(size)])
        aligned = estimate.align(session.push(images, config.overlap))
        index += size
        reports += anchor.push(images[-1], index - 1) is not None
        logs.append(np.log(aligned.fit.scale / session.true_affine[0]))
    return np.array(logs) - logs[0], anchor, reports


def test_keyframes_hold_what_the_chain_loses():
    chained, _, none = run_anchored(every=0, groups=200)
    held, anchor, reports = run_anchored(every=5, groups=200)
    assert none == 0 and reports == 39
    assert held.std() < 0.03
    assert held.std() < 0.6 * chained.std()
    assert np.abs(np.diff(held)).max() < 0.05
    # constant memory
    assert len(anchor._keyframes) == 8
    assert len(anchor._windows) <= 8
    assert anchor._keyframes[0].number == 4  # the first is kept


def after_three_groups() -> tuple[
    LaboratorySession, RunningEstimate, KeyframeAnchor, DriftReport | None
]:
    """A keyframe in every group, and the last report."""
    regressor = laboratory(LaboratoryFaults(outliers=0.0))
    config = AlignmentConfig(keyframes=KeyframeConfig(every=1))
    session, estimate = regressor.open(*SIZE), RunningEstimate(config)
    anchor = KeyframeAnchor(config, regressor.spec, regressor.open(*SIZE), estimate)
    report = None
    for index, images in ((0, 1), (1, 4), (5, 4)):
        rgb = torch.stack([write_index(torch.zeros(3, *SIZE), index + k) for k in range(images)])
        estimate.align(session.push(rgb, 8))
        report = anchor.push(rgb[-1], index + images - 1)
    return session, estimate, anchor, report


def test_keyframes_are_forgotten_with_their_segment():
    session, estimate, anchor, report = after_three_groups()
    assert report is not None and report.keyframes == 2 and report.fitted == 2
    session.reset()
    estimate.reset()
    rgb = write_index(torch.zeros(3, *SIZE), 9)[None]
    estimate.align(session.push(rgb, 8))
    assert anchor.push(rgb[-1], 0) is None  # the first keyframe of the new segment


def test_a_correction_is_applied_in_small_steps_to_the_last_bit():
    regressor = laboratory(LaboratoryFaults(noise=0.0, outliers=0.0, saturate=False))
    config = AlignmentConfig(keyframes=KeyframeConfig(every=1000, slew=0.05))
    session, estimate = regressor.open(*SIZE), RunningEstimate(config)
    anchor = KeyframeAnchor(config, regressor.spec, regressor.open(*SIZE), estimate)
    applied: list[tuple[float, float]] = []
    index = 0
    for _ in range(60):
        size = session.next_group
        rgb = torch.stack([write_index(torch.zeros(3, *SIZE), index + k) for k in range(size)])
        estimate.align(session.push(rgb, config.overlap))
        index += size
        anchor.push(rgb[-1], index - 1)
        if len(applied) == 2:
            anchor._pending = (1.3, -0.2)
        applied.append(anchor._applied)
    assert applied[2] == (1.0, 0.0)
    assert applied[-1] == pytest.approx((1.3, -0.2), abs=1e-3)
    assert anchor._pending == pytest.approx((1.0, 0.0), abs=1e-3)
    rest = np.array([abs(scale - 1.3) + abs(shift + 0.2) for scale, shift in applied[3:]])
    assert (np.diff(rest) <= 1e-12).all()  # never past it
    assert np.abs(np.diff(np.array(applied), axis=0)).max() < 0.1


def test_keyframes_forgotten_by_hand_leave_no_correction():
    _, _, anchor, _ = after_three_groups()
    assert anchor._keyframes
    anchor.reset()
    assert not anchor._keyframes and anchor._pending == anchor._applied == (1.0, 0.0)


def test_network_that_cannot_relate_distant_frames_corrects_nothing():
    """Every frame of a dilated window in its own affine frame, as of a single-image network."""
    regressor = laboratory(LaboratoryFaults(noise=0.0, outliers=0.0, scale_sigma=0.0))

    class Incoherent(LaboratorySession):
        def push(self, rgb: Tensor, overlap: int) -> DisparityGroup:
            group = super().push(rgb, overlap)
            drawn = torch.rand(group.disparity.shape[0], 1, 1, generator=generator)
            return DisparityGroup(
                group.disparity * (0.7 + 0.3 * drawn), group.first_index, group.new
            )

    generator = torch.Generator().manual_seed(0)
    config = AlignmentConfig(keyframes=KeyframeConfig(every=2))
    session, estimate = regressor.open(*SIZE), RunningEstimate(config)
    anchor = KeyframeAnchor(config, regressor.spec, Incoherent(regressor, *SIZE), estimate)
    reports, index = [], 0
    for _ in range(16):
        size = session.next_group
        rgb = torch.stack([write_index(torch.zeros(3, *SIZE), index + k) for k in range(size)])
        aligned = estimate.align(session.push(rgb, 8))
        index += size
        report = anchor.push(rgb[-1], index - 1)
        if report is not None and report.fitted > 2:
            reports.append(report)
    assert len(reports) >= 4 and not any(report.applied for report in reports)
    assert min(report.disagreement for report in reports) > config.keyframes.max_disagreement
    assert aligned.fit.scale == pytest.approx(1.0, abs=0.05)


def test_a_black_first_frame_becomes_no_keyframe():
    """Nothing can be fitted to it, and the graph would have no number for its level."""
    regressor = laboratory(LaboratoryFaults(noise=0.005, outliers=0.0))
    config = AlignmentConfig(keyframes=KeyframeConfig(every=2, patience=100))
    session, estimate = regressor.open(*SIZE), RunningEstimate(config)
    anchor = KeyframeAnchor(config, regressor.spec, regressor.open(*SIZE), estimate)
    index, applied = 0, 0
    for number in range(14):
        size = session.next_group
        rgb = torch.stack([write_index(torch.zeros(3, *SIZE), index + k) for k in range(size)])
        group = session.push(rgb, 8)
        if number == 0:
            group.disparity.zero_()
        aligned = estimate.align(group)
        index += size
        report = anchor.push(rgb[-1], index - 1)
        applied += report is not None and report.applied
        assert np.isfinite([aligned.fit.scale, aligned.fit.shift]).all()
    assert applied >= 2
    assert [k.number for k in anchor._keyframes] == [2, 4, 6, 8, 10, 12]
    assert all(np.isfinite(k.solved).all() for k in anchor._keyframes)


def test_a_graph_without_a_finite_solution_is_refused():
    image, samples = torch.zeros(3, *SIZE), np.full((6, 8), 0.5)
    keyframes = [
        Keyframe(number, image, samples, np.ones((6, 8), bool), (1.0, 0.0), (1.0 + number, 0.2))
        for number in range(3)
    ]
    lost = AffineEdge(0, 0, 1.0, float("nan"), 0.5, 1e-3, 1e-3)
    assert not solve_keyframes(keyframes, [DilatedWindow({1: lost})], drift=0.001)
    assert [k.solved for k in keyframes] == [(1.0, 0.2), (2.0, 0.2), (3.0, 0.2)]
    assert solve_keyframes(keyframes, [], drift=0.001)
    assert keyframes[2].solved == pytest.approx((1.0, 0.2), abs=1e-4)


def test_a_dilated_window_that_comes_back_short_is_refused():
    regressor = laboratory(LaboratoryFaults(outliers=0.0))

    class Short(LaboratorySession):
        def push(self, rgb: Tensor, overlap: int) -> DisparityGroup:
            return super().push(rgb, min(overlap, 1))

    config = AlignmentConfig(keyframes=KeyframeConfig(every=1))
    session, estimate = regressor.open(*SIZE), RunningEstimate(config)
    anchor = KeyframeAnchor(config, regressor.spec, Short(regressor, *SIZE), estimate)
    index = 0
    with pytest.raises(RegressorError, match="at least 6 frames of a dilated window, got 5"):
        for _ in range(8):
            size = session.next_group
            rgb = torch.stack([write_index(torch.zeros(3, *SIZE), index + k) for k in range(size)])
            estimate.align(session.push(rgb, 8))
            index += size
            anchor.push(rgb[-1], index - 1)


def test_keyframes_fit_into_the_regressors_window():
    config = AlignmentConfig(keyframes=KeyframeConfig(every=1, count=20))
    regressor = LaboratoryRegressor(
        SyntheticDisparity(*SIZE), LaboratoryFaults(outliers=0.0), window=3, index_of=read_index
    )
    session, estimate = regressor.open(*SIZE), RunningEstimate(config)
    anchor = KeyframeAnchor(config, regressor.spec, regressor.open(*SIZE), estimate)
    for number in range(20):
        first = 0 if number == 0 else 4 * number - 3
        count = session.next_group
        rgb = torch.stack([write_index(torch.zeros(3, *SIZE), first + k) for k in range(count)])
        estimate.align(session.push(rgb, 4))
        report = anchor.push(rgb[-1], first + count - 1)
    assert report is not None
    assert report.keyframes == regressor.spec.max_overlap + regressor.spec.group - 1
    assert report.fitted == report.keyframes
    alone = dataclasses.replace(regressor.spec, max_overlap=0, group=1)
    with pytest.raises(ConfigError, match="one frame at a time"):
        KeyframeAnchor(config, alone, regressor.open(*SIZE), estimate)


class Recorder:
    """A laboratory that remembers every window's true affine map, in order of the pushes."""

    def __init__(self, regressor: LaboratoryRegressor) -> None:
        self.regressor, self.spec, self.device = regressor, regressor.spec, regressor.device
        self.truth: list[tuple[float, float]] = []

    def open(self, height: int, width: int) -> LaboratorySession:
        recorder = self

        class Session(LaboratorySession):
            def push(self, rgb: Tensor, overlap: int) -> DisparityGroup:
                group = super().push(rgb, overlap)
                recorder.truth.append(self.true_affine)
                return group

        return Session(self.regressor, height, width)


def joint_error(dilations: tuple[int, ...], overlap: int, count: int) -> np.ndarray:
    """log scale of truth -> common frame over the windows of dilation 1."""
    recorder = Recorder(laboratory(LaboratoryFaults(noise=0.02, outliers=0.2, block=1)))
    joint = JointAlignment(AlignmentConfig())
    rows = []
    for window in run_windows(recorder, frames(count), overlap, dilations):
        if window.indices[-1] == count - 1 and len(recorder.truth) == len(joint):
            break  # the padded last group is no push
        number = joint.add(window)
        if window.dilation == 1:
            rows.append(number)
    solution = joint.solve()
    assert solution.shape == (len(joint), 2)
    log = np.log(solution[rows, 0] / np.array(recorder.truth)[rows, 0])
    return np.asarray(log - log[0])


def test_joint_solve_with_dilations_does_not_drift():
    error, chain = joint_error((1, 10, 25), 8, 301), joint_error((1,), 4, 301)
    assert abs(error[-10:].mean() - error[:10].mean()) < 0.02
    assert np.std(error) < 0.7 * np.std(chain)


def test_joint_alignment_of_a_recording_end_to_end():
    regressor = laboratory(LaboratoryFaults(noise=0.0, outliers=0.0, saturate=False))
    config = AlignmentConfig()
    result = dict(align_recording(regressor, lambda: frames(40), config, (1, 5)))
    assert sorted(result) == list(range(40))
    stacked = torch.stack([result[index] for index in range(40)])
    truth = torch.stack([regressor.disparity_source(index) for index in range(40)])
    slope, shift = np.polyfit(truth.numpy().ravel(), stacked.numpy().ravel(), 1)
    torch.testing.assert_close(stacked, (slope * truth + shift).float(), atol=2e-4, rtol=0.0)
    with pytest.raises(InputError, match="begin with 1"):
        next(align_recording(regressor, lambda: frames(4), config, (10,)))


def test_joint_memory_does_not_grow():
    joint = JointAlignment(AlignmentConfig(), horizon=40)
    sizes = []
    for window in run_windows(laboratory(LaboratoryFaults()), frames(240), 8):
        joint.add(window)
        sizes.append(sum(s.values.nbytes for s in joint._recent))
    assert max(sizes[40:]) == max(sizes[20:40])
    assert joint.edges < 4 * len(joint)


def test_joint_refuses_mismatched_windows():
    joint = JointAlignment(AlignmentConfig())
    with pytest.raises(InputError, match="expected a window"):
        joint.add(Window((0, 1), torch.zeros(3, 8, 8)))
    assert joint.solve().shape == (0, 2)


def test_cross_fade_is_linear_over_the_overlap_and_holds_one_window():
    first, second = torch.zeros(5, 2, 2), torch.ones(5, 2, 2)
    out = dict(cross_fade([((0, 1, 2, 3, 4), first), ((2, 3, 4, 5, 6), second)]))
    values = [float(out[index][0, 0]) for index in range(7)]
    assert values == pytest.approx([0.0, 0.0, 0.25, 0.5, 0.75, 1.0, 1.0])


def test_laboratory_session_keeps_the_contract():
    regressor = LaboratoryRegressor(SyntheticDisparity(*SIZE), LaboratoryFaults())
    session = regressor.open(*SIZE)
    assert session.next_group == 1
    rgb = torch.zeros(4, 3, *SIZE)
    session.push(rgb[:1], 8)
    state = session.snapshot()
    preview = session.preview(rgb[:2], 8)
    assert session.snapshot() == (state[0], state[1], state[2], session.true_affine)
    assert preview.new == 2 and preview.first_index == 0
    one = session.push(rgb, 8)
    session.restore(state)
    assert torch.equal(session.push(rgb, 8).disparity, one.disparity)
    assert (one.first_index, one.overlap, one.new) == (0, 1, 4)
    for _ in range(9):
        group = session.push(rgb, 99)
    assert group.overlap == regressor.spec.max_overlap
    assert group.first_index + group.overlap == 1 + 4 * 9
    session.reset()
    assert session.next_group == 1


@pytest.mark.parametrize("index", [0, 1, 5, 4097, (1 << 24) - 1])
def test_index_mark_survives_eight_bits(index):
    image = write_index(torch.rand(3, 6, 8), index)
    assert read_index((image * 255.0).round().to(torch.uint8).float() / 255.0) == index


def test_spoiled_share_and_map_are_what_they_say():
    truth = SyntheticDisparity(60, 80)(0)[None].expand(20, 60, 80)
    faults = LaboratoryFaults(noise=0.0, outliers=0.3, block=1, saturate=False)
    disparity, (scale, shift) = spoil(truth, faults, 3)
    right = ((disparity * scale + shift - truth).abs() < 1e-5).float().mean()
    assert float(right) == pytest.approx(0.7, abs=0.01)
