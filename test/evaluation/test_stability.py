# SPDX-License-Identifier: Apache-2.0
"""Flicker, seams and drift of windows that are spoiled in known ways, and the command."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from video_depth_ros.alignment import AlignmentConfig
from video_depth_ros.bags.formats.base import SequenceFrame
from video_depth_ros.cli.main import main
from video_depth_ros.evaluation.laboratory import (
    LaboratoryFaults,
    LaboratoryRegressor,
    SyntheticDisparity,
    read_index,
    write_index,
)
from video_depth_ros.evaluation.profiles import draw_profiles
from video_depth_ros.evaluation.protocols import protocol_of
from video_depth_ros.evaluation.stability import StabilityResult, measure_stability
from video_depth_ros.evaluation.stability_ways import (
    CHAINING,
    KEYFRAMES,
    LOOK_AHEAD,
    OURS,
    PER_FRAME,
    UNALIGNED,
    WAYS,
    ways_to_align,
)
from video_depth_ros.evaluation.videos import Video

SIZE = (60, 80)
VIEW = SyntheticDisparity(*SIZE)
MS = 1_000_000


def still(index: int) -> Tensor:
    return 0.1 + 0.8 * VIEW(0)


def moving(index: int) -> Tensor:
    return 0.1 + 0.8 * VIEW(index)


class Numbered:
    """Images that carry their number, so that the laboratory knows the truth of each."""

    def __init__(self, count: int, truth=None, picture: Tensor | None = None) -> None:
        self.frame_count = count
        self.camera = None
        self._truth = truth
        self._picture = torch.full((3, *SIZE), 0.5) if picture is None else picture

    def frames(self) -> Iterator[SequenceFrame]:
        for index in range(self.frame_count):
            image = write_index(self._picture, index)
            rgb = (image * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
            depth = None if self._truth is None else 1.0 / self._truth(index).numpy()
            yield SequenceFrame(index * 50 * MS, np.ascontiguousarray(rgb), depth, None)


def measure(source, count: int, faults: LaboratoryFaults, truth=None) -> StabilityResult:
    regressor = LaboratoryRegressor(source, faults, index_of=read_index)
    video = Video("lab", Numbered(count, truth), protocol_of("default"))
    return measure_stability(video, regressor)


def test_still_camera_shows_what_each_way_loses():
    faults = LaboratoryFaults(scale_sigma=0.08, shift_sigma=0.03, noise=0.004, outliers=0.0)
    result = measure(still, 121, faults)
    assert result.basis == "still camera"
    assert list(result.ways) == list(WAYS)
    ways = result.ways
    # unaligned windows jump by their affine maps, aligned ones do not
    assert ways[UNALIGNED].seams > 5.0 * ways[OURS].seams
    assert ways[OURS].flicker < ways[UNALIGNED].flicker
    assert ways[LOOK_AHEAD].flicker < ways[OURS].flicker
    # every frame alone has an affine map of its own
    assert ways[PER_FRAME].flicker > 2.0 * ways[UNALIGNED].flicker
    assert np.isnan(ways[PER_FRAME].seams)
    assert ways[OURS].drift < 0.01 and ways[OURS].worst < 0.02
    assert ways[UNALIGNED].worst > ways[OURS].worst
    log = ways[OURS].log
    assert log is not None and (log.segments, log.windows, log.held) == (1, 31, 0)
    keyframes = ways[KEYFRAMES].log
    assert keyframes is not None and keyframes.looks > 0
    assert ways[PER_FRAME].log is None and ways[UNALIGNED].log is None


def test_every_way_gives_every_frame_and_profiles_are_of_the_column():
    result = measure(still, 31, LaboratoryFaults(0.0, 0.0, 0.0, 0.0))  # ends within a group
    for name, way in result.ways.items():
        assert way.profile.shape == (SIZE[0], 31), name
        expected = still(0)[:, SIZE[1] // 2].numpy()
        np.testing.assert_allclose(way.profile, np.repeat(expected[:, None], 31, 1), atol=2e-3)
        assert way.flicker < 1e-3 and way.drift < 1e-3
    assert result.image.shape == (SIZE[0], 31, 3)


def test_truth_makes_a_moving_camera_measurable():
    faults = LaboratoryFaults(scale_sigma=0.08, shift_sigma=0.01, noise=0.0, outliers=0.0)
    result = measure(moving, 81, faults, truth=moving)
    assert result.basis == "truth"
    assert result.ways[OURS].flicker < 0.3 * result.ways[UNALIGNED].flicker
    assert result.ways[OURS].drift < 0.02
    assert len(result.ways[OURS].series) == 81


def test_a_moving_camera_without_truth_is_not_measured():
    class Moving(Numbered):
        def frames(self) -> Iterator[SequenceFrame]:
            rng = np.random.default_rng(0)
            for frame in super().frames():
                frame.rgb[10:] = rng.integers(0, 255, frame.rgb[10:].shape, np.uint8)
                yield frame

    faults = LaboratoryFaults()
    regressor = LaboratoryRegressor(moving, faults, index_of=read_index)
    video = Video("moving", Moving(21), protocol_of("default"))
    result = measure_stability(video, regressor)
    assert result.basis == "none"
    assert all(np.isnan(way.flicker) for way in result.ways.values())
    assert draw_profiles(result).startswith(b"\x89PNG")


def test_ways_differ_only_in_what_they_are_named_for():
    config = AlignmentConfig(overlap=5)
    ways = ways_to_align(config)
    assert {each.overlap for each in ways.values()} == {5}
    assert [each.method for each in ways.values()] == ["dvd", "robust", "robust", "robust"]
    assert ways[KEYFRAMES].keyframes.every == 10 and ways[OURS].keyframes.every == 0
    assert ways[LOOK_AHEAD].look_ahead == 1 and ways[OURS].look_ahead == 0
    assert ways[CHAINING].keyframes.every == 0


def test_profiles_are_small_pictures():
    result = measure(still, 41, LaboratoryFaults())
    data = draw_profiles(result)
    assert len(data) < 150_000
    picture = Image.open(io.BytesIO(data))
    assert picture.width > 500 and picture.height > 500


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> str:
    """A video file of a textured wall and a floor, the camera standing still."""
    path = tmp_path_factory.mktemp("stability") / "Still Hall.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 20.0, (128, 96))
    v, u = np.mgrid[0:96, 0:128]
    grey = 120 + 50 * np.sin(0.3 * u) * np.cos(0.2 * v) + 0.5 * v
    image = np.repeat(grey[..., None], 3, 2).astype(np.uint8)
    for _ in range(21):
        writer.write(image)
    writer.release()
    return str(path)


def test_the_command_prints_draws_and_writes(clip, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "140")
    out = tmp_path / "rows.json"
    status = main(
        [
            "benchmark",
            "--stability",
            clip,
            "--device",
            "cpu",
            "--frames",
            "17",
            "--json",
            str(out),
            "--profiles",
            str(tmp_path),
            "--set",
            "alignment.still_every=0",
        ]
    )
    assert status == 0
    text = capsys.readouterr().out
    for way in WAYS:
        assert way in text
    assert "still camera" in text
    assert (tmp_path / "still_hall_profile.png").read_bytes().startswith(b"\x89PNG")
    rows = json.loads(out.read_text())["rows"]
    assert [row["way"] for row in rows] == list(WAYS)
    assert {row["frames"] for row in rows} == {17}
    assert "seams" not in rows[0] and rows[3]["segments"] == 1


@pytest.mark.parametrize(
    "arguments", [["--column", "2"], ["--videos", "0"], ["--set", "alignment.nothing=1"]]
)
def test_the_command_refuses_what_cannot_be(clip, arguments, capsys):
    assert main(["benchmark", "--stability", clip, *arguments]) == 2
    assert capsys.readouterr().err
