# SPDX-License-Identifier: Apache-2.0
"""Look-ahead: smaller seams, later, and still every frame once and in order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from video_depth_ros.alignment import AlignedFrame, AlignmentConfig, LookAhead, RunningEstimate
from video_depth_ros.config import PipelineConfig
from video_depth_ros.errors import RegressorError
from video_depth_ros.evaluation.laboratory import (
    LaboratoryFaults,
    LaboratoryRegressor,
    SyntheticDisparity,
)
from video_depth_ros.frames import DepthEstimate, DisparityGroup, Frame
from video_depth_ros.pipeline import DepthPipeline
from video_depth_ros.settings import replace_flat

SIZE = (60, 80)
MS = 1_000_000
RELIEF = SyntheticDisparity(*SIZE)(0)


def still(index: int) -> Tensor:
    """A camera that stands still: whatever changes is the windows' doing."""
    return 0.1 + 0.8 * RELIEF


def run(
    look_ahead: int,
    groups: int = 30,
    source: Callable[[int], Tensor] = still,
    config: AlignmentConfig | None = None,
    noise: float = 0.0,
    dent: float = 0.03,
) -> list[AlignedFrame]:
    """A laboratory stream through alignment and look-ahead, flushed at the end.

    ``dent``: every window has a smooth error of its own, as networks have, that no affine map
    removes. Where the next window takes over, it shows as a seam.
    """
    config = config or AlignmentConfig(look_ahead=look_ahead)
    regressor = LaboratoryRegressor(source, LaboratoryFaults(noise=noise, outliers=0.0))
    session, estimate = regressor.open(*SIZE), RunningEstimate(config)
    ahead = LookAhead.of(config, regressor.spec)
    frames = []
    generator = torch.Generator().manual_seed(0)
    for _ in range(groups):
        group = session.push(torch.zeros((session.next_group, 3, *SIZE)), config.overlap)
        field = torch.randn((1, 1, 4, 5), generator=generator)
        field = torch.nn.functional.interpolate(field, SIZE, mode="bilinear")[0]
        group = DisparityGroup(group.disparity + dent * field, group.first_index, group.new)
        frames += ahead.push(estimate.align(group))
    return frames + ahead.flush()


def seam_step(frames: list[AlignedFrame]) -> float:
    """Mean |change| of a still scene where one window ends and the next begins."""
    steps = [
        float((after.disparity - before.disparity).abs().mean())
        for before, after in pairwise(frames)
        if (after.index - 1) % 4 == 0
    ]
    return float(np.mean(steps[2:]))


def test_seams_shrink_with_every_group_of_look_ahead():
    now, one, two = (seam_step(run(groups)) for groups in (0, 1, 2))
    assert one < 0.7 * now
    assert two < one


def test_noise_of_single_windows_is_averaged():
    errors = []
    for groups in (0, 2):
        frames = torch.stack([frame.disparity for frame in run(groups, noise=0.02, dent=0.0)])
        errors.append(float((frames - frames.mean(0)).abs().mean()))
    assert errors[1] < 0.8 * errors[0]


@pytest.mark.parametrize("look_ahead", [0, 1, 2, 16])
def test_every_frame_comes_out_once_in_order_and_memory_is_bounded(look_ahead):
    config = AlignmentConfig(look_ahead=look_ahead)
    regressor = LaboratoryRegressor(still, LaboratoryFaults())
    session, estimate = regressor.open(*SIZE), RunningEstimate(config)
    ahead = LookAhead.of(config, regressor.spec)
    indices: list[int] = []
    for number in range(12):
        group = session.push(torch.zeros((session.next_group, 3, *SIZE)), config.overlap)
        ready = ahead.push(estimate.align(group))
        indices += [frame.index for frame in ready]
        # an overlap of 8 frames covers two groups of four: more is not waited for
        held = 4 * min(look_ahead, 2)
        assert len(ahead) == min(held, 1 + 4 * number)
    assert indices == list(range(1 + 4 * 11 - held))
    indices += [frame.index for frame in ahead.flush()]
    assert indices == list(range(1 + 4 * 11))
    assert ahead.flush() == []


def test_what_was_given_out_is_not_touched_again():
    config = AlignmentConfig(look_ahead=1)
    regressor = LaboratoryRegressor(still, LaboratoryFaults())
    session, estimate = regressor.open(*SIZE), RunningEstimate(config)
    ahead = LookAhead.of(config, regressor.spec)
    given: list[tuple[Tensor, Tensor]] = []
    for _ in range(8):
        group = session.push(torch.zeros((session.next_group, 3, *SIZE)), config.overlap)
        given += [(f.disparity, f.disparity.clone()) for f in ahead.push(estimate.align(group))]
    assert all(torch.equal(now, then) for now, then in given)


def test_without_look_ahead_frames_are_those_of_their_own_window():
    regressor = LaboratoryRegressor(still, LaboratoryFaults())
    session, estimate = regressor.open(*SIZE), RunningEstimate(AlignmentConfig())
    ahead = LookAhead(0)
    for _ in range(4):
        group = session.push(torch.zeros((session.next_group, 3, *SIZE)), 8)
        aligned = estimate.align(group)
        for frame, expected in zip(ahead.push(aligned), aligned.disparity, strict=True):
            assert torch.equal(frame.disparity, expected)


def test_windows_cross_fade_linearly():
    """By hand: windows that are constant and (held to their own frame) one apart."""
    ahead, out = LookAhead(4), []
    estimate = RunningEstimate(AlignmentConfig())  # only for a fit that is accepted
    relief = RELIEF
    start = estimate.align(DisparityGroup(relief[None], 0, 1))
    again = estimate.align(DisparityGroup(relief.expand(5, *SIZE).contiguous(), 0, 4))
    out += ahead.push(start)
    out += ahead.push(again)
    shown = again.fit.scale * (relief + 1.0) + again.fit.shift - again.disparity[0]
    window = DisparityGroup((relief + 1.0).expand(8, *SIZE), 1, 4)
    out += ahead.push(replace(again, window=window))
    for place, frame in enumerate(out[1:5], start=1):
        moved = frame.disparity - again.disparity[0]
        torch.testing.assert_close(moved, shown * place / 5.0, atol=1e-5, rtol=1e-5)


def test_a_scene_cut_sends_the_old_segment_out_unblended():
    def cut(index: int) -> Tensor:
        return still(index) if index < 21 else still(index).flip(0)

    frames = run(2, groups=12, source=cut)
    assert [frame.index for frame in frames] == list(range(45))
    assert [frame.sequence for frame in frames] == [0] * 21 + [1] * 24
    immediate = run(0, groups=12, source=cut)
    # the last group before the cut was seen again only by a window that could not be aligned
    for held, own in zip(frames[17:21], immediate[17:21], strict=True):
        assert torch.equal(held.disparity, own.disparity)
    assert not torch.equal(frames[9].disparity, immediate[9].disparity)


def test_a_window_that_could_not_be_fitted_changes_nothing():
    config = AlignmentConfig(look_ahead=1)
    regressor = LaboratoryRegressor(still, LaboratoryFaults(noise=0.0, outliers=0.0))
    session, estimate = regressor.open(*SIZE), RunningEstimate(config)
    ahead, frames = LookAhead.of(config, regressor.spec), []
    for number in range(8):
        group = session.push(torch.zeros((session.next_group, 3, *SIZE)), config.overlap)
        if number == 5:
            group = DisparityGroup(torch.zeros_like(group.disparity), group.first_index, group.new)
        frames += ahead.push(estimate.align(group))
    frames += ahead.flush()
    assert [frame.index for frame in frames] == list(range(29))
    for frame in frames[:17]:  # what the black window saw again is as it was
        torch.testing.assert_close(frame.disparity, frames[0].disparity, atol=1e-3, rtol=0.0)


def test_negative_values_are_cut_in_dvds_procedure():
    frames = run(1, config=AlignmentConfig(look_ahead=1, method="dvd"))
    assert min(float(frame.disparity.min()) for frame in frames) >= 0.0


# The whole pipeline: the laboratory is asked for 60x80, which needs no resizing.


def pipeline(**values) -> DepthPipeline:
    config = replace_flat(PipelineConfig(), {"alignment.look_ahead": 1, **values})
    return DepthPipeline(config, LaboratoryRegressor(still, LaboratoryFaults()))


def images(count: int, start_ms: int = 0, size: tuple[int, int] = SIZE) -> list[Frame]:
    blank = np.zeros((*size, 3), np.uint8)
    return [Frame(blank, (start_ms + 50 * number) * MS) for number in range(count)]


def push_all(depth: DepthPipeline, frames: list[Frame]) -> list[DepthEstimate]:
    return [estimate for frame in frames for estimate in depth.push(frame)]


@pytest.mark.parametrize("latency", ["group", "frame"])
def test_the_pipeline_gives_every_frame_once_one_group_later(latency):
    depth = pipeline(**{"stream.latency": latency})
    stream = images(23)
    counts = [len(depth.push(frame)) for frame in stream[:13]]
    if latency == "group":
        assert counts == [0, 0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0, 4]
    else:
        assert counts == [0] * 4 + [1] * 9
    depth = pipeline(**{"stream.latency": latency})
    estimates = push_all(depth, stream)
    assert len(estimates) == (17 if latency == "group" else 19)
    estimates += depth.flush()
    assert [e.stamp_ns for e in estimates] == [f.stamp_ns for f in stream]
    assert [e.index for e in estimates] == list(range(23))
    assert depth.flush() == []


def test_a_gap_and_time_that_moves_back_lose_nothing_that_was_computed():
    depth = pipeline()
    first, gap, back = images(9), images(9, start_ms=60_000), images(9, start_ms=1_000)
    estimates = push_all(depth, [*first, *gap, *back]) + depth.flush()
    assert [e.stamp_ns for e in estimates] == [f.stamp_ns for f in (*first, *gap, *back)]
    assert [e.sequence for e in estimates] == [0] * 9 + [1] * 9 + [2] * 9
    assert depth.report(0).estimates == 27


def test_a_reset_hands_over_what_is_held():
    depth = pipeline()
    given = push_all(depth, images(9))
    held = depth.reset("asked for")
    assert [e.index for e in given + held] == list(range(9))
    assert depth.flush() == []
    after = push_all(depth, images(9, start_ms=10_000)) + depth.flush()
    assert [e.index for e in after] == list(range(9))
    assert {e.sequence for e in after} == {1}


def test_a_failing_network_loses_only_its_own_group(monkeypatch):
    depth = pipeline()
    given = push_all(depth, images(9))
    session = depth._require_session()

    def fail(rgb: Tensor, overlap: int) -> DisparityGroup:
        raise RegressorError("no")

    with monkeypatch.context() as patch:
        patch.setattr(session, "push", fail)
        with pytest.raises(RegressorError):
            push_all(depth, images(4, start_ms=450))
    after = push_all(depth, images(5, start_ms=650)) + depth.flush()
    stamps = [e.stamp_ns // MS for e in given + after]
    assert stamps == [*range(0, 450, 50), *range(650, 900, 50)]


def test_held_frames_become_metric_with_the_scale_of_their_own_time():
    """The scale that comes with a frame's own measurement is applied when the frame leaves."""
    from video_depth_ros.camera import Camera
    from video_depth_ros.frames import ScaleState

    camera = Camera(SIZE[1], SIZE[0], 70.0, 70.0, 39.5, 29.5)
    depth = DepthPipeline(
        replace_flat(PipelineConfig(), {"alignment.look_ahead": 1}),
        LaboratoryRegressor(still, LaboratoryFaults(0.0, 0.0, 0.0, 0.0)),
    )
    truth = (1.0 / (0.5 * still(0).numpy() + 0.02)).astype(np.float32)
    estimates = []
    for frame in images(33):
        depth.add_sparse_depth(truth, frame.stamp_ns, camera)
        estimates += depth.push(Frame(frame.rgb, frame.stamp_ns, camera))
    last = estimates[-1]
    assert last.index == 28 and last.scale.state is ScaleState.METRIC
    assert last.depth is not None
    known = torch.isfinite(last.depth)
    assert known.float().mean() > 0.9
    error = (last.depth - torch.from_numpy(truth)).abs()[known] / torch.from_numpy(truth)[known]
    assert float(error.mean()) < 0.02
