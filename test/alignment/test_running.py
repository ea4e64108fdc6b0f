# SPDX-License-Identifier: Apache-2.0
"""The running estimate: one frame, causal, bounded, and it says when it cannot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from video_depth_ros.alignment import (
    AlignedGroup,
    AlignmentConfig,
    CameraMotion,
    FitVerdict,
    RunningEstimate,
)
from video_depth_ros.alignment.motion import predict_samples
from video_depth_ros.alignment.scene_cut import is_scene_cut
from video_depth_ros.camera import Camera
from video_depth_ros.errors import ConfigError, InputError
from video_depth_ros.evaluation.laboratory import (
    LaboratoryFaults,
    LaboratoryRegressor,
    SyntheticDisparity,
)
from video_depth_ros.frames import DisparityGroup
from video_depth_ros.settings import leaves, replace_flat

SIZE = (60, 80)
CLEAN = LaboratoryFaults(noise=0.0, outliers=0.0, saturate=False)


def stream(
    source: Callable[[int], Tensor],
    faults: LaboratoryFaults,
    groups: int,
    config: AlignmentConfig | None = None,
    spoil: Callable[[int, DisparityGroup], DisparityGroup] | None = None,
) -> tuple[RunningEstimate, list[AlignedGroup], list[tuple[float, float]]]:
    """Run a laboratory stream; also the map truth -> running of every group."""
    config = config or AlignmentConfig()
    session = LaboratoryRegressor(source, faults).open(*source(0).shape)
    estimate = RunningEstimate(config)
    aligned, maps = [], []
    for number in range(groups):
        rgb = torch.zeros((session.next_group, 3, *source(0).shape))
        group = session.push(rgb, config.overlap)
        if spoil:
            group = spoil(number, group)
        result = estimate.align(group)
        scale, shift = session.true_affine
        maps.append(
            (result.fit.scale / scale, result.fit.shift - result.fit.scale / scale * shift)
        )
        aligned.append(result)
    return estimate, aligned, maps


def test_clean_windows_join_exactly():
    source = SyntheticDisparity(*SIZE)
    _, aligned, maps = stream(source, CLEAN, 20)
    assert aligned[0].fit.verdict is FitVerdict.START
    assert {a.fit.verdict for a in aligned[1:]} == {FitVerdict.ACCEPTED}
    assert np.ptp(np.array(maps), axis=0) == pytest.approx([0.0, 0.0], abs=2e-5)
    # what comes out is the truth in one affine frame
    scale, shift = maps[0]
    index = 0
    for group in aligned:
        for row in group.disparity:
            torch.testing.assert_close(row, source(index) * scale + shift, atol=1e-4, rtol=0.0)
            index += 1


def test_the_filters_covariance_follows_the_scalar_recursion():
    """Windows without noise: scale and shift are two scalar Kalman filters of known noise."""
    config = AlignmentConfig(
        process_scale=0.1, process_shift=0.05, measurement_scale=0.2, measurement_shift=0.15
    )
    mild = replace(CLEAN, scale_sigma=0.02, shift_sigma=0.01)
    _, aligned, _ = stream(SyntheticDisparity(*SIZE), mild, 8, config)
    expected = np.zeros(2)
    for group in aligned[1:]:
        assert group.fit.verdict is FitVerdict.ACCEPTED
        predicted = expected + np.square([0.1, 0.05])
        expected = predicted * np.square([0.2, 0.15]) / (predicted + np.square([0.2, 0.15]))
        found = np.diag(group.fit.covariance) / [group.fit.scale**2, 1.0]
        np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_published_frames_are_never_rewritten_and_shapes_hold():
    _, aligned, _ = stream(SyntheticDisparity(*SIZE), LaboratoryFaults(), 3)
    copies = [a.disparity.clone() for a in aligned]
    assert [tuple(a.disparity.shape) for a in aligned] == [(1, *SIZE), (4, *SIZE), (4, *SIZE)]
    assert aligned[0].sigma is None
    assert aligned[1].sigma is not None and aligned[1].sigma.shape == (4, *SIZE)
    for copy, group in zip(copies, aligned, strict=True):
        assert torch.equal(copy, group.disparity)


def test_outliers_noise_and_saturation_do_not_move_it():
    _, aligned, maps = stream(SyntheticDisparity(*SIZE), LaboratoryFaults(), 60)
    log = np.log([scale for scale, _ in maps])
    assert {a.fit.verdict for a in aligned[1:]} == {FitVerdict.ACCEPTED}
    assert np.abs(np.diff(log)).max() < 0.03
    assert np.abs(log - log[0]).max() < 0.08
    plain = AlignmentConfig(method="dvd")
    _, _, chained = stream(SyntheticDisparity(*SIZE), LaboratoryFaults(), 60, plain)
    drift = np.abs(np.log([scale for scale, _ in chained]) - np.log(chained[0][0])).max()
    assert drift > 0.2


def test_memory_is_bounded_and_the_device_copy_is_small():
    estimate, _, _ = stream(SyntheticDisparity(*SIZE), LaboratoryFaults(), 30)
    kept = estimate._references
    assert len(kept) == estimate.config.overlap
    assert sum(r.samples.size for r in kept) <= estimate.config.overlap * 4800


def test_sigma_is_the_noise_of_one_window():
    faults = LaboratoryFaults(noise=0.02, outliers=0.0)
    _, aligned, _ = stream(SyntheticDisparity(*SIZE), faults, 20)
    sigma = aligned[-1].sigma
    assert sigma is not None
    assert float(sigma.median()) == pytest.approx(0.02, rel=0.25)


def test_sigma_is_large_where_windows_disagree():
    generator = torch.Generator().manual_seed(0)

    def flicker(_: int, group: DisparityGroup) -> DisparityGroup:
        disparity = group.disparity.clone()
        disparity[:, 20:40, 20:40] += 0.2 * torch.randn(1, generator=generator)
        return DisparityGroup(disparity, group.first_index, group.new)

    _, aligned, _ = stream(SyntheticDisparity(*SIZE), CLEAN, 12, spoil=flicker)
    sigma = aligned[-1].sigma
    assert sigma is not None
    assert float(sigma[0, 25:35, 25:35].mean()) > 0.05
    assert float(sigma[0, 45:55, 45:75].mean()) < 0.01


def flat_wall(index: int) -> Tensor:
    return torch.full(SIZE, 0.4)


def test_flat_wall_holds_scale_and_is_named():
    faults = LaboratoryFaults(noise=0.002, outliers=0.0, scale_sigma=0.0)
    _, aligned, maps = stream(flat_wall, faults, 12)
    assert {a.fit.verdict for a in aligned[1:]} == {FitVerdict.FLAT}
    assert {scale for scale, _ in maps} == {1.0}
    level = [float(a.disparity.mean()) for a in aligned]
    assert np.ptp(level) < 0.002  # although every window is shifted
    assert aligned[-1].sequence == 0


def test_black_frames_hold_and_a_long_darkness_starts_a_new_segment():
    config = AlignmentConfig(max_held=5)

    def darken(number: int, group: DisparityGroup) -> DisparityGroup:
        if number < 5:
            return group
        dark = torch.zeros_like(group.disparity)  # what is left: "far" everywhere, cut off
        return DisparityGroup(dark, group.first_index, group.new)

    _, aligned, _ = stream(SyntheticDisparity(*SIZE), CLEAN, 16, config, darken)
    verdicts = [a.fit.verdict for a in aligned]
    assert set(verdicts[5:10]) == {FitVerdict.TOO_FEW}
    assert verdicts[10] is FitVerdict.LOST
    assert [a.sequence for a in aligned] == [0] * 10 + [1] * 6
    held = aligned[5].fit
    assert (held.scale, held.shift) == (aligned[4].fit.scale, aligned[4].fit.shift)


def test_windows_that_are_not_affine_do_not_fade_the_depth_away():
    """A network that gives its newest frames half the contrast of the others would, window by
    window, shrink the scale to nothing; that must end in new segments, not in a flat depth."""

    def fade(_: int, group: DisparityGroup) -> DisparityGroup:
        mean = group.disparity.mean()
        faded = mean + 0.5 * (group.disparity[group.overlap :] - mean)
        disparity = torch.cat([group.disparity[: group.overlap], faded])
        return DisparityGroup(disparity, group.first_index, group.new)

    config = AlignmentConfig(max_clipped=4)
    _, aligned, _ = stream(SyntheticDisparity(*SIZE), CLEAN, 30, config, fade)
    verdicts = [a.fit.verdict for a in aligned]
    assert FitVerdict.LOST in verdicts
    spread = [float(a.disparity.std()) for a in aligned]
    assert min(spread) > 0.05 * max(spread)  # five times 0.7, of half the contrast
    assert aligned[-1].sequence >= 3


def test_only_views_with_relief_are_cut():
    rng = np.random.default_rng(0)
    one, other = rng.random((2, 40, 50))
    config = AlignmentConfig()
    assert is_scene_cut(np.stack([one, other]), 1, config)
    flat = 0.5 + 0.001 * other  # a wall: it correlates with nothing, and is no other place
    assert not is_scene_cut(np.stack([one, flat]), 1, config)
    assert not is_scene_cut(np.stack([flat, one]), 1, config)
    half = np.where(np.arange(50) < 25, one, other)  # something near enters half of the view
    assert not is_scene_cut(np.stack([one, half]), 1, config)
    assert not is_scene_cut(np.stack([one, other, other]), 2, config)  # a cut of before
    few = one.copy()
    few[2:] = np.nan
    assert not is_scene_cut(np.stack([few, other]), 1, config)


def test_samples_carried_along_a_motion_stay_within_the_view():
    """A sideways step before a wall with a post: what leaves on one side does not come back."""
    camera = Camera(80, 60, 80.0, 80.0, 39.5, 29.5)
    a, b, stride = 1.25, 0.1, 2
    inverse = np.full((30, 40), 0.25)
    inverse[:, 30:33] = 0.5
    usable = np.ones((30, 40), dtype=bool)
    usable[4, 5] = False
    for side, step in ((0.5, 5), (-0.5, -5), (0.0, 0)):  # f t / Z = 10 px, 5 samples
        T = np.eye(4)
        T[0, 3] = side
        motion = CameraMotion(camera, T, a, b)
        found, known = predict_samples((inverse - b) / a, usable, stride, motion)
        wall, expected = np.arange(40) - step, np.full(40, 0.25)
        there = (wall >= 0) & (wall < 40) & ~((wall >= 30) & (wall < 33))  # behind the post
        post = np.arange(30, 33) + 2 * step
        post = post[(post >= 0) & (post < 40)]
        there[post], expected[post] = True, 0.5
        np.testing.assert_array_equal(known[20], there)
        np.testing.assert_allclose(a * found[20][there] + b, expected[there], rtol=1e-9)
        assert known[4].sum() == there.sum() - 1
    T[0, 3] = 0.45  # 4.5 samples: those that round beyond the last column
    _, known = predict_samples((inverse - b) / a, usable, stride, CameraMotion(camera, T, a, b))
    assert not known[:, :4].any()


def test_scene_cut_starts_a_new_segment():
    room, other = SyntheticDisparity(*SIZE), SyntheticDisparity(*SIZE, seed=7)

    def source(index: int) -> Tensor:
        return room(index) if index < 19 else other(index).flip(0, 1)

    _, aligned, _ = stream(source, LaboratoryFaults(outliers=0.0), 12)
    cuts = [number for number, a in enumerate(aligned) if a.fit.verdict is FitVerdict.SCENE_CUT]
    assert cuts == [5]  # frames 17 .. 20
    assert [a.sequence for a in aligned] == [0] * 5 + [1] * 7
    # group 5 begins the new frame, and what follows joins it
    assert {a.fit.verdict for a in aligned[6:]} == {FitVerdict.ACCEPTED}


def test_object_entering_half_of_the_view_is_no_cut():
    room = SyntheticDisparity(*SIZE)

    def source(index: int) -> Tensor:
        view = room(index).clone()
        if index >= 19:
            view[:, : SIZE[1] // 2] = 0.9 - 0.002 * (index - 19)
        return view

    _, aligned, maps = stream(source, LaboratoryFaults(outliers=0.0), 14)
    assert {a.fit.verdict for a in aligned[1:]} == {FitVerdict.ACCEPTED}
    assert aligned[-1].sequence == 0
    assert np.ptp(np.log([scale for scale, _ in maps])) < 0.02


def test_exposure_jump_that_changes_only_the_affine_frame_is_no_event():
    def jump(number: int, group: DisparityGroup) -> DisparityGroup:
        if number < 5:
            return group
        return DisparityGroup(1.25 * group.disparity - 0.1, group.first_index, group.new)

    _, aligned, _ = stream(SyntheticDisparity(*SIZE), CLEAN, 10, spoil=jump)
    assert aligned[-1].sequence == 0
    step = aligned[5].disparity[0] - aligned[4].disparity[-1]
    assert float(step.abs().median()) < 0.01


def test_exposure_jump_that_breaks_the_window_starts_a_new_segment():
    generator = torch.Generator().manual_seed(1)

    def blind(number: int, group: DisparityGroup) -> DisparityGroup:
        if number != 5:
            return group
        noise = torch.rand(group.disparity[:1].shape, generator=generator)
        return DisparityGroup(noise.expand_as(group.disparity), group.first_index, group.new)

    _, aligned, _ = stream(SyntheticDisparity(*SIZE), CLEAN, 10, spoil=blind)
    assert aligned[5].fit.verdict is FitVerdict.UNRELATED
    assert aligned[5].sequence == 1


@pytest.mark.parametrize("far_side", [False, True], ids=["nearest", "farthest"])
@pytest.mark.parametrize("share", [0.2, 0.4])
def test_structured_outliers_in_one_window_are_never_wild(far_side, share):
    def lie(number: int, group: DisparityGroup) -> DisparityGroup:
        if number != 6:
            return group
        disparity = group.disparity.clone()
        limit = torch.quantile(disparity, share if far_side else 1.0 - share)
        disparity[disparity < limit if far_side else disparity > limit] = 0.5 if far_side else 0.05
        return DisparityGroup(disparity, group.first_index, group.new)

    faults = LaboratoryFaults(outliers=0.0, noise=0.005)
    _, aligned, maps = stream(SyntheticDisparity(*SIZE), faults, 12, spoil=lie)
    log = np.log([scale for scale, _ in maps])
    if aligned[6].fit.verdict is FitVerdict.ACCEPTED:
        assert abs(log[6] - log[5]) < 0.06
    else:  # held: off by what the laboratory's windows differ, and no more
        assert abs(log[6] - log[5]) < 0.35
    # the stream comes back to its frame or says that it has begun a new one
    if aligned[-1].sequence == 0:
        assert abs(log[-1] - log[5]) < 0.06


def test_previews_of_a_group_and_the_group_itself_share_the_frame():
    source = SyntheticDisparity(*SIZE)
    session = LaboratoryRegressor(source, CLEAN).open(*SIZE)
    estimate = RunningEstimate(AlignmentConfig())
    rgb = torch.zeros((4, 3, *SIZE))
    first = estimate.align(session.push(rgb[:1], 8))
    for frame in range(3):
        group = session.preview(rgb[: frame + 1], 8)
        result = estimate.align(DisparityGroup(group.disparity, group.first_index, 1))
        torch.testing.assert_close(
            result.disparity[0] - first.disparity[0],
            (source(frame + 1) - source(0)) / session_scale(first, source),
            atol=1e-4,
            rtol=0.0,
        )
    group = session.push(rgb, 8)
    last = estimate.align(DisparityGroup(group.disparity, group.first_index, 1))
    assert last.fit.verdict is FitVerdict.ACCEPTED


@pytest.mark.parametrize("fault", ["dark", "stretched"])
def test_previews_are_no_groups_to_max_held_and_max_clipped(fault):
    """Two bad groups of which every frame is looked at; lost is what has five of them."""
    source = SyntheticDisparity(*SIZE)
    faults = LaboratoryFaults(noise=0.0, outliers=0.0, scale_sigma=0.0, shift_sigma=0.0)
    session = LaboratoryRegressor(source, faults).open(*SIZE)
    config = AlignmentConfig(max_held=4, max_clipped=4, scale_low=0.99, scale_high=1.01)
    estimate = RunningEstimate(config)
    rgb = torch.zeros((4, 3, *SIZE))

    def look(frames: int) -> FitVerdict:
        whole = frames == 4
        group = (session.push if whole else session.preview)(rgb[:frames], 8)
        # contrast that goes up and down by more than a window's may
        factor = 0.0 if fault == "dark" else 1.03 if frames % 2 else 0.97
        group = DisparityGroup(factor * group.disparity, group.first_index, 1)
        return estimate.align(group, whole=whole).fit.verdict

    estimate.align(session.push(rgb[:1], 8))
    estimate.align(session.push(rgb, 8))
    verdicts = [look(frames) for _ in range(2) for frames in (1, 2, 3, 4)]
    assert set(verdicts) == {FitVerdict.TOO_FEW if fault == "dark" else FitVerdict.CLIPPED}
    assert estimate.sequence == 0


def session_scale(first: AlignedGroup, source: Callable[[int], Tensor]) -> float:
    return float(source(0).std() / first.disparity[0].std())


def test_reset_starts_a_new_sequence_and_size_changes_too():
    source = SyntheticDisparity(*SIZE)
    estimate, _, _ = stream(source, CLEAN, 3)
    estimate.reset()
    assert estimate.sequence == 1
    estimate.reset()  # nothing aligned in between
    assert estimate.sequence == 1
    estimate.align(DisparityGroup(source(0)[None], 0, 1))
    result = estimate.align(DisparityGroup(torch.rand(5, 30, 40), 0, 4))
    assert result.sequence == 2
    assert result.fit.verdict is FitVerdict.START


def test_correction_moves_what_follows_and_nothing_else():
    source = SyntheticDisparity(*SIZE)
    faults = LaboratoryFaults(scale_sigma=0.0, shift_sigma=0.0, noise=0.0, outliers=0.0)
    session = LaboratoryRegressor(source, faults).open(*SIZE)
    estimate = RunningEstimate(AlignmentConfig())
    rgb = torch.zeros((4, 3, *SIZE))
    estimate.align(session.push(rgb[:1], 8))
    before = estimate.align(session.push(rgb, 8)).disparity.clone()
    estimate.correct(1.1, 0.02)
    after = estimate.align(session.push(rgb, 8))
    torch.testing.assert_close(before[0], source(1))
    torch.testing.assert_close(after.disparity[0], 1.1 * source(5) + 0.02, atol=1e-4, rtol=0.0)


def test_known_motion_replaces_a_missing_overlap():
    """A camera that steps forward before a slanted wall; the overlap frames are lost."""
    camera = Camera(80, 60, 70.0, 70.0, 39.5, 29.5)
    normal = np.array([0.3, 0.2, 1.0])

    def view(z: float) -> Tensor:
        # plane n.X = d: 1/Z = n.ray / (d - n_z z)
        inverse = camera.rays() @ normal / (3.0 - normal[2] * z)
        return torch.from_numpy(0.8 * inverse).float()  # running frame: X = 0.8 / Z

    estimate = RunningEstimate(AlignmentConfig())
    estimate.align(DisparityGroup(view(0.0)[None], 0, 1))
    T_new_old = np.eye(4)
    T_new_old[2, 3] = -0.4
    motion = CameraMotion(camera, T_new_old, a=1.25, b=0.0)
    group = DisparityGroup((view(0.4)[None] - 0.03) / 1.2, 4, 1)
    result = estimate.align(group, motion)
    assert result.fit.verdict is FitVerdict.ACCEPTED
    assert result.fit.scale == pytest.approx(1.2, rel=0.02)
    assert result.fit.shift == pytest.approx(0.03, abs=0.01)


def test_wrong_shapes_are_refused():
    estimate = RunningEstimate(AlignmentConfig())
    with pytest.raises(InputError, match="expected a disparity"):
        estimate.align(DisparityGroup(torch.zeros(60, 80), 0, 1))
    with pytest.raises(InputError, match="at least 4 rows"):
        estimate.align(DisparityGroup(torch.zeros(1, 60, 80), 0, 4))


def test_config_is_a_tree_of_checked_parameters():
    config = AlignmentConfig()
    names = {leaf.name for leaf in leaves(config)}
    assert {"method", "overlap", "keyframes.every"} <= names
    assert replace_flat(config, {"keyframes.every": 0}).keyframes.every == 0
    with pytest.raises(ConfigError):
        replace_flat(config, {"method": "guess"})
    with pytest.raises(ConfigError, match="floor"):
        AlignmentConfig(floor=0.6, saturation=0.55)


def test_two_flat_levels_at_the_ends_with_wrong_pixels_end_in_a_verdict():
    """Hardly any noise, every right pixel near a cut-off end: what is left may all disagree."""
    rng = np.random.default_rng(29)
    height, width = 24, 32
    low, high = rng.uniform(0.006, 0.1), rng.uniform(0.6, 0.98)
    noise = rng.choice([0, 1e-5, 1e-4, 1e-3])
    truth = np.where(rng.random(height * width) < rng.uniform(0.2, 0.8), low, high)

    def window(frames: int) -> torch.Tensor:
        scale = np.exp(np.clip(rng.normal(), -2, 2) * 0.1)
        shift = rng.normal() * 0.02
        seen = []
        for _ in range(frames):
            values = (truth - shift) / scale + noise * rng.normal(size=truth.size)
            wrong = rng.random(truth.size) < 0.3
            kind = rng.integers(1, 3)
            swapped = np.where(values[wrong] > 0.5, low, high)
            values[wrong] = swapped if kind == 1 else values[wrong] + 0.1
            seen.append(np.clip(values, 0, 1).reshape(height, width))
        return torch.tensor(np.array(seen), dtype=torch.float32)

    estimate = RunningEstimate(AlignmentConfig())
    estimate.align(DisparityGroup(window(1), 0, 1))
    verdicts = []
    for group in range(8):
        first = 1 + 4 * group
        overlap = min(8, first)
        aligned = estimate.align(DisparityGroup(window(overlap + 4), first - overlap, 4))
        verdicts.append(aligned.fit.verdict)
    assert FitVerdict.OUTLIERS in verdicts
