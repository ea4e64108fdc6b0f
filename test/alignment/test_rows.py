# SPDX-License-Identifier: Apache-2.0
"""Frames within a window that differ: measured with a still picture, taken out, no drift left."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from video_depth_ros.alignment import (
    AlignmentConfig,
    FitVerdict,
    KeyframeConfig,
    RowMaps,
    RunningEstimate,
    align_recording,
)
from video_depth_ros.alignment.rows import level_rows
from video_depth_ros.config import PipelineConfig
from video_depth_ros.errors import RegressorError
from video_depth_ros.evaluation.laboratory import (
    LaboratoryFaults,
    LaboratoryRegressor,
    LaboratorySession,
    SyntheticDisparity,
    read_index,
    write_index,
)
from video_depth_ros.frames import DisparityGroup, Frame
from video_depth_ros.pipeline import DepthPipeline
from video_depth_ros.settings import replace_flat

SIZE = (60, 80)
TRUTH = SyntheticDisparity(*SIZE)
NEWEST = 1.04  # gain of a window's newest frames


def truth(index: int) -> Tensor:
    return 0.1 + 0.8 * TRUTH(index)


class Uneven(LaboratoryRegressor):
    """A laboratory whose newest frames have more contrast than the overlap, as nano's have."""

    gain = NEWEST

    def open(self, height: int, width: int) -> LaboratorySession:
        regressor = self

        class Session(LaboratorySession):
            def preview(self, rgb: Tensor, overlap: int) -> DisparityGroup:
                group = super().preview(rgb, overlap)
                disparity = group.disparity.clone()
                disparity[group.overlap :] *= regressor.gain
                return DisparityGroup(disparity, group.first_index, group.new)

        return Session(self, height, width)


def image(index: int) -> Tensor:
    return write_index(torch.zeros(3, *SIZE), index)


def run(config: AlignmentConfig, groups: int = 40, noise: float = 0.005) -> np.ndarray:
    """Log scale from truth to the published frames, by group."""
    faults = LaboratoryFaults(noise=noise, outliers=0.1, saturate=False)
    regressor = Uneven(truth, faults, index_of=read_index)
    session, estimate = regressor.open(*SIZE), RunningEstimate(config)
    maps = RowMaps(config, regressor.spec)
    logs, index = [], 0
    for number in range(groups):
        images = torch.stack([image(index + k) for k in range(session.next_group)])
        index += len(images)
        maps.observe(session, images[-1])
        group = session.push(images, config.overlap)
        row_maps = maps.of(group, number)
        aligned = estimate.align(group, row_maps=row_maps)
        leveled = 1.0 if row_maps is None else float(row_maps[-1, 0])
        logs.append(np.log(aligned.fit.scale * leveled * NEWEST / session.true_affine[0]))
        assert aligned.fit.verdict in (FitVerdict.START, FitVerdict.ACCEPTED)
    return np.array(logs)


def test_a_chain_of_uneven_windows_runs_away_and_level_ones_do_not():
    plain = run(AlignmentConfig(still_every=0))
    level = run(AlignmentConfig(still_every=100))
    assert plain[-1] - plain[1] > 0.5  # 40 links of nearly 4 %
    assert np.abs(level[1:] - level[1]).max() < 0.08


@pytest.mark.parametrize("watched", [False, True])
def test_links_that_all_pull_one_way_are_measured_early(watched):
    config = AlignmentConfig(still_every=1000)
    faults = LaboratoryFaults(scale_sigma=0.0, noise=0.002, outliers=0.0, saturate=False)
    regressor = Uneven(truth, faults, index_of=read_index)
    regressor.gain = 1.0
    session, estimate = regressor.open(*SIZE), RunningEstimate(config)
    maps, index = RowMaps(config, regressor.spec), 0
    for number in range(50):
        if number == 10:
            regressor.gain = NEWEST  # another scene
        images = torch.stack([image(index + k) for k in range(session.next_group)])
        index += len(images)
        maps.observe(session, images[-1], estimate.scale if watched else 1.0)
        group = session.push(images, config.overlap)
        estimate.align(group, row_maps=maps.of(group, number))
    if watched:
        assert 1.1 < estimate.scale < 1.8  # 6 links to notice, 6 pushes to measure
    else:
        assert estimate.scale > 2.5


def test_a_chain_that_ran_away_ends_its_segment_and_says_so():
    config = AlignmentConfig(still_every=0, max_total_scale=1.5)
    regressor = Uneven(truth, LaboratoryFaults(noise=0.002, outliers=0.0, saturate=False))
    session, estimate = regressor.open(*SIZE), RunningEstimate(config)
    verdicts, scales = [], []
    for _ in range(40):
        group = session.push(torch.zeros((session.next_group, 3, *SIZE)), config.overlap)
        aligned = estimate.align(group)
        verdicts.append(aligned.fit.verdict)
        scales.append(aligned.fit.scale)
    assert verdicts.count(FitVerdict.LOST) == estimate.sequence >= 1
    assert max(scales) < 1.5
    assert scales[verdicts.index(FitVerdict.LOST)] == 1.0


def test_homing_forgets_a_small_steady_error_and_moves_no_further_than_it_says():
    faults = LaboratoryFaults(scale_sigma=0.0, shift_sigma=0.0, noise=0.002, outliers=0.0)
    regressor = Uneven(truth, faults, index_of=read_index)
    regressor.gain = 1.004
    scales = {}
    for homing in (0.0, 0.03):
        config = AlignmentConfig(homing=homing, still_every=0)
        session, estimate = regressor.open(*SIZE), RunningEstimate(config)
        index, steps = 0, []
        for _ in range(80):
            images = torch.stack([image(index + k) for k in range(session.next_group)])
            index += len(images)
            before = estimate.scale
            estimate.align(session.push(images, config.overlap))
            steps.append(abs(np.log(estimate.scale / before)))
        scales[homing] = estimate.scale
        assert max(steps) < 0.012
    assert scales[0.0] > 1.15
    assert scales[0.03] < 1.0 + 0.6 * (scales[0.0] - 1.0)


def test_a_regressor_may_ask_for_homing_and_the_configuration_overrules_it():
    spec = LaboratoryRegressor(truth, LaboratoryFaults()).spec
    assert AlignmentConfig(still_every=100).for_regressor(spec).homing == 0.0
    asking = dataclasses.replace(spec, homing=0.2)
    assert AlignmentConfig(still_every=100).for_regressor(asking).homing == 0.2
    assert AlignmentConfig(homing=0.0).for_regressor(asking).homing == 0.0


def test_keyframes_take_the_place_of_homing():
    held = AlignmentConfig(homing=0.5, keyframes=KeyframeConfig(every=10), still_every=0)
    regressor = LaboratoryRegressor(truth, LaboratoryFaults(noise=0.0, outliers=0.0))
    session, estimate = regressor.open(*SIZE), RunningEstimate(held)
    scales = []
    for _ in range(6):
        group = session.push(torch.zeros((session.next_group, 3, *SIZE)), held.overlap)
        aligned = estimate.align(group)
        scales.append(aligned.fit.scale / session.true_affine[0])
    assert scales == pytest.approx([scales[0]] * 6, rel=1e-3)


def recording_log(config: AlignmentConfig, frames: int = 81) -> np.ndarray:
    """Log scale from truth to a recording that is aligned as a whole, by frame."""
    faults = LaboratoryFaults(noise=0.002, outliers=0.0, saturate=False)
    regressor = Uneven(truth, faults, index_of=read_index)
    images = [image(index) for index in range(frames)]
    aligned = align_recording(regressor, lambda: images, config, dilations=(1,))
    return np.array([np.log(np.polyfit(truth(i).ravel(), d.ravel(), 1)[0]) for i, d in aligned])


def test_recordings_are_leveled_too():
    plain = recording_log(AlignmentConfig(still_every=0))
    level = recording_log(AlignmentConfig(still_every=100))
    assert len(level) == 81
    assert plain[-4] - plain[4] > 0.3
    assert np.abs(level[4:] - level[4]).max() < 0.06


def pipeline_log(frames: int = 61, **values) -> np.ndarray:
    """Log scale from truth to what the whole pipeline gives, by frame; 60x80 is not resized."""
    faults = LaboratoryFaults(noise=0.002, outliers=0.0, saturate=False)
    regressor = Uneven(truth, faults, index_of=read_index)
    depth = DepthPipeline(replace_flat(PipelineConfig(), values), regressor)
    logs = []
    for index in range(frames):
        rgb = (image(index) * 255.0).to(torch.uint8).permute(1, 2, 0).numpy()
        for estimate in depth.push(Frame(rgb, index * 50_000_000)):
            true = truth(estimate.index).ravel()
            logs.append(np.log(np.polyfit(true, estimate.disparity.ravel(), 1)[0]))
    return np.array(logs)


def test_the_pipeline_levels_windows_live():
    plain = pipeline_log(**{"alignment.still_every": 0})
    level = pipeline_log(**{"alignment.still_every": 100})
    assert len(level) == 61
    assert plain[-1] - plain[4] > 0.25
    assert np.abs(level[5:] - level[5]).max() < 0.06


def measured(regressor: LaboratoryRegressor, config: AlignmentConfig) -> RowMaps:
    maps = RowMaps(config, regressor.spec)
    maps.observe(regressor.open(*SIZE), image(3))
    return maps


def test_maps_are_those_of_the_regressor():
    regressor = Uneven(truth, LaboratoryFaults(noise=0.0, outliers=0.0), index_of=read_index)
    maps = measured(regressor, AlignmentConfig(still_every=100))
    found = maps.of(DisparityGroup(torch.zeros(12, *SIZE), 0, 4), number=50)
    assert found is not None
    gains = np.array([1.0] * 8 + [NEWEST] * 4)
    # saturation of the laboratory's output bends the upper end a little
    assert found[:, 0] * gains == pytest.approx(np.ones(12), rel=0.01)
    # a window of one frame has nothing to differ
    assert maps.of(DisparityGroup(torch.zeros(1, *SIZE), 0, 1), number=0) is None
    # a partial group has the first rows of a whole one
    part = maps.of(DisparityGroup(torch.zeros(10, *SIZE), 0, 2), number=50)
    np.testing.assert_array_equal(part, found[:10])
    assert maps.of(DisparityGroup(torch.zeros(13, *SIZE), 0, 4), number=50) is None


def test_the_stream_does_not_notice():
    faults = LaboratoryFaults()
    config = AlignmentConfig(still_every=2)
    watched, alone = (
        LaboratoryRegressor(truth, faults, index_of=read_index).open(*SIZE) for _ in range(2)
    )
    spec = LaboratoryRegressor(truth, faults).spec
    maps, index = RowMaps(config, spec), 0
    for _ in range(12):
        images = torch.stack([image(index + k) for k in range(alone.next_group)])
        index += len(images)
        maps.observe(watched, images[-1])
        assert watched.next_group == alone.next_group
        with_maps, without = watched.push(images, 8), alone.push(images, 8)
        assert torch.equal(with_maps.disparity, without.disparity)
        assert with_maps.first_index == without.first_index


def test_mere_noise_changes_nothing():
    faults = LaboratoryFaults(noise=0.01, outliers=0.1)
    regressor = LaboratoryRegressor(truth, faults, index_of=read_index)
    found = measured(regressor, AlignmentConfig(still_every=100)).of(
        DisparityGroup(torch.zeros(12, *SIZE), 0, 4), number=50
    )
    assert found is None


class Counting:
    """A session that counts what it is asked for."""

    def __init__(self, session: LaboratorySession) -> None:
        self.session, self.pushes = session, 0

    def __getattr__(self, name: str):
        return getattr(self.session, name)

    def push(self, rgb: Tensor, overlap: int) -> DisparityGroup:
        self.pushes += 1
        return self.session.push(rgb, overlap)


def test_the_first_measurement_is_made_at_once_and_later_ones_push_by_push():
    regressor = LaboratoryRegressor(truth, LaboratoryFaults(), index_of=read_index)
    session = Counting(regressor.open(*SIZE))
    maps = RowMaps(AlignmentConfig(still_every=10), regressor.spec)
    costs = []
    for _ in range(25):
        before = session.pushes
        maps.observe(session, image(1))
        costs.append(session.pushes - before)
    window = 8 // 4 + 4
    assert costs[:12] == [window] + [0] * 10 + [1]
    assert sum(costs) == 3 * window - (window - (25 - 22))
    assert max(costs[1:]) == 1
    maps.forget()
    before = session.pushes
    maps.observe(session, image(1))
    assert session.pushes - before == window


@pytest.mark.parametrize(
    "config",
    [AlignmentConfig(still_every=0), AlignmentConfig(method="dvd")],
    ids=["off", "dvd"],
)
def test_nothing_is_run_where_nothing_is_asked_for(config):
    regressor = LaboratoryRegressor(truth, LaboratoryFaults(), index_of=read_index)
    session = Counting(regressor.open(*SIZE))
    maps = RowMaps(config, regressor.spec)
    maps.observe(session, image(1))
    assert session.pushes == 0
    assert maps.of(DisparityGroup(torch.zeros(12, *SIZE), 0, 4), 50) is None


def test_a_flat_picture_tells_nothing():
    wall = LaboratoryRegressor(lambda _: torch.full(SIZE, 0.5), LaboratoryFaults(outliers=0.0))
    maps = measured(wall, AlignmentConfig(still_every=100))
    assert maps.of(DisparityGroup(torch.zeros(12, *SIZE), 0, 4), 50) is None


def test_a_failing_network_leaves_the_stream_as_it_was():
    regressor = LaboratoryRegressor(truth, LaboratoryFaults(), index_of=read_index)
    session = regressor.open(*SIZE)
    session.push(image(0)[None], 0)
    maps = RowMaps(AlignmentConfig(still_every=100), regressor.spec)
    with pytest.raises(RegressorError):
        maps.observe(session, torch.zeros(3, 8, 8))
    assert session.next_group == 4


def test_saturated_pixels_become_one_value_that_none_exceeds():
    disparity = torch.linspace(0.0, 1.0, 50).repeat(3, 1)[:, None]
    maps = np.array([[1.1, 0.0], [1.0, 0.0], [0.9, 0.01]])
    level = level_rows(DisparityGroup(disparity, 7, 2), maps, 0.995)
    assert (level.first_index, level.new) == (7, 2)
    assert len(set(level.disparity[:, 0, -1].tolist())) == 1
    assert (level.disparity <= level.disparity[0, 0, -1]).all()
    assert (level.disparity.diff(dim=2) > 0).all()
    torch.testing.assert_close(level.disparity[2, 0, :49], 0.9 * disparity[2, 0, :49] + 0.01)
