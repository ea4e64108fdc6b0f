# SPDX-License-Identifier: Apache-2.0
"""The pipeline with a regressor that can be checked by hand, real alignment and real scale."""

import dataclasses
import logging

import numpy as np
import pytest
import torch

from video_depth_ros.camera import Camera
from video_depth_ros.config import PipelineConfig
from video_depth_ros.errors import ConfigError, InputError, RegressorError
from video_depth_ros.frames import Frame, ScaleState
from video_depth_ros.pipeline import DepthPipeline
from video_depth_ros.settings import replace_flat

HEIGHT, WIDTH = 96, 128
MS = 1_000_000
CAMERA = Camera(WIDTH, HEIGHT, 110.0, 110.0, 63.5, 47.5)


def image(index: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """A tilted, slowly moving texture: bright = near by construction."""
    v, u = np.mgrid[0:height, 0:width]
    grey = 120 + 60 * np.sin(0.07 * (u + index)) + 40 * v / height
    return np.repeat(grey[..., None], 3, axis=2).astype(np.uint8)


def frames(count: int, start: int = 0, step_ms: int = 50, camera: Camera | None = CAMERA):
    return [
        Frame(image(i), (1000 + i * step_ms) * MS, camera) for i in range(start, start + count)
    ]


@pytest.fixture
def pipeline(luminance):
    def make(regressor=None, **values):
        config = replace_flat(PipelineConfig(), values)
        return DepthPipeline(config, regressor or luminance())

    return make


def run(depth: DepthPipeline, stream):
    return [estimate for frame in stream for estimate in depth.push(frame)]


def test_every_frame_comes_out_once_in_order_with_its_own_stamp(pipeline):
    depth = pipeline()
    stream = frames(14)
    estimates = run(depth, stream)
    assert [e.stamp_ns for e in estimates] == [f.stamp_ns for f in stream[:13]]  # 1 + 3 * 4
    estimates += depth.flush()
    assert [e.stamp_ns for e in estimates] == [f.stamp_ns for f in stream]
    assert [e.index for e in estimates] == list(range(14))
    assert depth.flush() == []


def test_after_a_restart_by_the_owner_nothing_of_before_comes(pipeline):
    depth = pipeline(**{"alignment.look_ahead": 1, "stream.max_gap": 60.0})
    before = run(depth, frames(11))
    depth.add_points(np.zeros((5, 3)), 30_000 * MS, np.eye(4))  # waits for its frame
    held = depth.restart("nobody subscribed for 40.0 s")
    assert held and held[0].stamp_ns > before[-1].stamp_ns  # given to the owner alone
    stream = frames(13, start=800)  # no gap to a pipeline that patient
    after = run(depth, stream) + depth.flush()
    assert [e.stamp_ns for e in after] == [f.stamp_ns for f in stream]
    assert {e.sequence for e in after}.isdisjoint({e.sequence for e in before})
    report = depth.report(0)
    assert (report.resets, report.last_reset) == (1, "nobody subscribed for 40.0 s")
    assert not report.scale.sources["lidar"].verdicts


def test_estimates_appear_when_their_group_is_complete(pipeline):
    depth = pipeline()
    assert [len(depth.push(f)) for f in frames(10)] == [1, 0, 0, 0, 4, 0, 0, 0, 4, 0]


@pytest.mark.parametrize(
    ("rgb", "stamp", "reason"),
    [
        (np.zeros((0, 0, 3), np.uint8), 0, "too_small"),
        (None, 0, "image"),
        ([[1, 2]], 0, "image"),
        (np.zeros((48, 64, 3), np.uint8), None, "stamp"),
        (np.zeros((48, 64, 3), np.uint8), 0.5, "stamp"),
    ],
)
def test_what_is_no_frame_is_named_from_the_first_on(pipeline, rgb, stamp, reason):
    with pytest.raises(InputError) as caught:
        pipeline().push(Frame(rgb, stamp))
    assert caught.value.reason == reason


def test_frame_latency_gives_every_frame_at_once_and_never_twice(pipeline):
    depth = pipeline(**{"stream.latency": "frame"})
    stream = frames(13)
    given = [depth.push(f) for f in stream]
    assert [[e.stamp_ns for e in group] for group in given] == [[f.stamp_ns] for f in stream]
    assert depth.flush() == []


@pytest.mark.parametrize("latency", ["group", "frame"])
def test_windows_are_brought_into_one_affine_frame(pipeline, luminance, latency):
    """The network's frame wobbles by up to 5 % from window to window, the output does not."""
    regressor = luminance(wobble=0.1)
    depth = pipeline(regressor, **{"stream.latency": latency})
    estimates = run(depth, frames(41))
    assert {e.sequence for e in estimates} == {estimates[0].sequence}
    truth = [e.rgb.float().mean(2) / 255.0 for e in estimates]
    s, t = np.polyfit(truth[0].flatten(), estimates[0].disparity.flatten(), 1)
    raw = (
        max(
            abs(float(torch.rand(2, generator=torch.Generator().manual_seed(g))[0]) - 0.5)
            for g in range(11)
        )
        * 0.1
    )
    for estimate, true in zip(estimates, truth, strict=True):
        error = (estimate.disparity - (s * true + t)).abs().max()
        assert error < 0.02, estimate.index
    assert raw > 0.03  # or the wobble would prove nothing


@pytest.mark.parametrize("homing", [0.1, 0.5])
def test_homing_goes_as_far_with_previews_as_without(pipeline, luminance, homing):
    """It is a share of the way per group, however often the group was looked at."""
    maps: dict[str, list[float]] = {}
    for latency in ("group", "frame"):
        depth = pipeline(
            luminance(wobble=0.3), **{"alignment.homing": homing, "stream.latency": latency}
        )
        maps[latency] = []
        for number, frame in enumerate(frames(41)):
            depth.push(frame)
            if number % 4 == 0:  # a whole group
                maps[latency].append(depth._estimate.scale)
    assert maps["frame"] == pytest.approx(maps["group"], rel=1e-4)
    assert np.std(np.log(maps["group"])) > 0.03  # or there would be no way to go


def test_camera_model_follows_the_resize(pipeline):
    estimate = run(pipeline(), frames(1))[0]
    height, width = estimate.disparity.shape
    assert (height, width) == (80, 96)  # 96x128 covering 64x96 at multiples of 16
    assert estimate.camera == CAMERA.resized(96, 80)
    assert estimate.rgb.shape == (80, 96, 3) and estimate.rgb.dtype == torch.uint8


def test_depth_stays_none_while_nothing_gives_the_scale(pipeline):
    for estimate in run(pipeline(), frames(9)):
        assert estimate.scale.state is ScaleState.UNSCALED
        assert estimate.depth is None and estimate.sigma is None


def lidar(estimate_rgb: torch.Tensor, camera: Camera, a: float, b: float) -> np.ndarray:
    """Points on the surface 1/Z = a * luminance + b, a spread of every seventh pixel."""
    depth = 1.0 / (a * estimate_rgb.float().mean(2).numpy() / 255.0 + b)
    return camera.back_project(depth)[::7, ::7].reshape(-1, 3)


def test_lidar_makes_the_depth_metric(pipeline, luminance):
    a, b = 0.9, -0.2
    regressor = luminance()
    scout, depth = pipeline(regressor), pipeline(regressor)
    stream = frames(41)
    seen = {e.stamp_ns: e for e in run(scout, stream)}
    estimates = []
    for frame in stream:
        if frame.stamp_ns in seen:
            resized = seen[frame.stamp_ns]
            points = lidar(resized.rgb, resized.camera, a, b)
            depth.add_points(points, frame.stamp_ns, np.eye(4))
        estimates += depth.push(frame)
    last = estimates[-1]
    assert last.scale.state is ScaleState.METRIC
    truth = 1.0 / (a * last.rgb.float().mean(2) / 255.0 + b)
    assert last.depth is not None and last.sigma is not None
    known = torch.isfinite(last.depth)
    assert known.float().mean() > 0.9
    relative = ((last.depth - truth).abs() / truth)[known]
    assert relative.mean() < 0.03
    assert (last.sigma[known] > 0).all()


def test_a_gap_starts_the_window_anew_and_is_reported(pipeline, caplog):
    depth = pipeline()
    before = run(depth, frames(5))
    with caplog.at_level(logging.WARNING):
        after = run(depth, frames(5, start=100))
    assert after[0].sequence == before[-1].sequence + 1
    assert after[0].index == 0
    report = depth.report(now_ns=0)
    assert report.resets == 1 and "gap of" in report.last_reset
    assert "gap of" in caplog.text


def test_time_moving_back_resets_everything(pipeline):
    depth = pipeline()
    run(depth, frames(5, start=50))
    after = run(depth, frames(5))
    assert [e.index for e in after] == list(range(5))
    assert "time moved back" in depth.report(0).last_reset


def test_after_a_reset_by_hand_stamps_may_start_over(pipeline):
    depth = pipeline(**{"stream.max_backward": 10.0})  # older by less is out of order
    run(depth, frames(5, start=50))
    depth.reset("asked for")
    assert [e.index for e in run(depth, frames(5, start=48))] == list(range(5))
    assert (depth.report(0).resets, depth.report(0).last_reset) == (1, "asked for")


def test_duplicate_and_late_frames_are_dropped_by_name_and_harm_nothing(pipeline):
    depth, clean = pipeline(), pipeline()
    stream = frames(9)
    expected = run(clean, stream)
    got = []
    for frame in stream:
        got += depth.push(frame)
        with pytest.raises(InputError) as duplicate:
            depth.push(frame)
        assert duplicate.value.reason == "duplicate"
        with pytest.raises(InputError) as late:
            depth.push(dataclasses.replace(frame, stamp_ns=frame.stamp_ns - 10 * MS))
        assert late.value.reason == "out_of_order"
    for a, b in zip(got, expected, strict=True):
        assert torch.equal(a.disparity, b.disparity)


def test_a_new_image_size_opens_a_new_session(pipeline, luminance):
    regressor = luminance()
    depth = pipeline(regressor)
    run(depth, frames(5))
    bigger = [Frame(image(i, 128, 128), (2000 + 50 * i) * MS, None) for i in range(5)]
    estimates = run(depth, bigger[:1])
    assert len(regressor.opened) == 2
    assert "128x96 -> 128x128" in depth.report(0).last_reset
    assert estimates[0].disparity.shape == regressor.opened[1]


@pytest.mark.parametrize(
    ("rgb", "camera", "reason"),
    [
        (np.zeros((96, 128), np.uint8), None, "image"),
        (np.zeros((96, 128, 3), np.float32), None, "image"),
        (np.zeros((16, 128, 3), np.uint8), None, "too_small"),
        (np.zeros((96, 640, 3), np.uint8), None, "aspect"),
        (np.zeros((96, 128, 3), np.uint8), CAMERA.resized(64, 48), "camera_info"),
    ],
)
def test_unusable_frames_are_refused_by_name(pipeline, rgb, camera, reason):
    depth = pipeline()
    with pytest.raises(InputError) as error:
        depth.push(Frame(rgb, 0, camera))
    assert error.value.reason == reason
    assert len(run(depth, frames(5))) == 5  # and the stream goes on


def test_non_finite_output_resets_the_stream_and_says_so(pipeline, luminance):
    regressor = luminance()
    depth = pipeline(regressor)
    run(depth, frames(5))
    regressor.poison_at = 2
    with pytest.raises(RegressorError, match="non-finite"):
        run(depth, frames(4, start=5))
    regressor.poison_at = None
    assert [e.index for e in run(depth, frames(5, start=9))] == [0, 1, 2, 3, 4]


def test_prepare_leaves_no_trace(pipeline, luminance):
    regressor = luminance()
    warm, cold = pipeline(regressor), pipeline(regressor)
    warm.prepare(HEIGHT, WIDTH)
    for a, b in zip(run(warm, frames(9)), run(cold, frames(9)), strict=True):
        assert torch.equal(a.disparity, b.disparity)
    assert warm.report(0).resets == 0


def test_what_fails_besides_the_network_starts_the_stream_anew(pipeline, monkeypatch):
    """The session has moved on by then: frames that wait would never make a group again."""
    depth = pipeline()
    run(depth, frames(5))

    def broken(*args, **kwargs):
        raise np.linalg.LinAlgError("no solution")

    with monkeypatch.context() as patch:
        patch.setattr(depth._scaler, "update", broken)
        with pytest.raises(np.linalg.LinAlgError):
            run(depth, frames(4, start=5))
    assert "LinAlgError" in depth.report(0).last_reset
    after = run(depth, frames(9, start=9))
    assert [e.stamp_ns for e in after] == [f.stamp_ns for f in frames(9, start=9)]


@pytest.mark.parametrize("end", ["gap", "size", "back"])
def test_no_accepted_frame_is_lost_where_a_stream_ends(pipeline, end):
    depth = pipeline()
    first = frames(8, start=50)
    estimates = run(depth, first)
    assert len(estimates) == 5
    if end == "gap":
        then = frames(5, start=100)
    elif end == "size":
        then = [Frame(image(i, 128, 128), (58 + i) * 50 * MS, None) for i in range(5)]
    else:
        then = frames(5)
    estimates += run(depth, then)
    expected = [f.stamp_ns for f in (*first, *then)]
    assert sorted(e.stamp_ns for e in estimates) == sorted(expected)
    assert [e.stamp_ns for e in estimates[:8]] == [f.stamp_ns for f in first]


def test_windows_that_share_no_frame_are_refused(pipeline, luminance):
    with pytest.raises(ConfigError, match="windows that share frames"):
        pipeline(luminance(max_overlap=0))
