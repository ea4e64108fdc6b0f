# SPDX-License-Identifier: Apache-2.0
"""The mean over mirror images: symmetric, of two plain sessions, and one stream to its caller."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from video_depth_ros.errors import RegressorError
from video_depth_ros.regressors import registry
from video_depth_ros.regressors.base import Regressor, RegressorSession
from video_depth_ros.regressors.mirrored import MirroredRegressor, MirroredSession
from video_depth_ros.regressors.registry import RegressorConfig
from video_depth_ros.regressors.wan.folded_file import save_folded
from video_depth_ros.regressors.wan.regressor import WanRegressor
from video_depth_ros.regressors.wan.stream import StreamOptions

OVERLAP = 4


@pytest.fixture
def plain(info, vae, transformer) -> WanRegressor:
    return WanRegressor(info, vae, transformer, StreamOptions(window=4))


@pytest.fixture
def twice(plain) -> MirroredRegressor:
    return MirroredRegressor(plain)


def stream(regressor: Regressor, video: torch.Tensor) -> list[torch.Tensor]:
    """Disparity of every group, overlap included."""
    session, start, groups = regressor.open(*video.shape[-2:]), 0, []
    while start + session.next_group <= len(video):
        count = session.next_group
        groups.append(session.push(video[start : start + count], OVERLAP).disparity)
        start += count
    return groups


def test_fulfils_the_contract(twice, plain):
    assert isinstance(twice, Regressor)
    assert isinstance(twice.open(32, 48), RegressorSession)
    assert (twice.spec, twice.device) == (plain.spec, plain.device)
    with pytest.raises(RegressorError, match="multiples"):
        twice.open(33, 48)


def test_a_mirrored_scene_has_the_mirrored_disparity(twice, plain, video):
    for here, there in zip(stream(twice, video), stream(twice, video.flip(-1)), strict=True):
        torch.testing.assert_close(here, there.flip(-1), rtol=0, atol=0)
    # which a network by itself does not give
    assert not torch.allclose(stream(plain, video)[2], stream(plain, video.flip(-1))[2].flip(-1))


def test_it_is_the_mean_of_two_plain_streams(twice, plain, video):
    seen, mirrored = stream(plain, video), stream(plain, video.flip(-1))
    for index, group in enumerate(stream(twice, video)):
        expected = (seen[index] + mirrored[index].flip(-1)) / 2
        torch.testing.assert_close(group, expected, rtol=0, atol=1e-7)


def test_previews_snapshots_and_resets_are_of_both_streams(twice, video):
    session = twice.open(32, 48)
    first = session.push(video[:1], OVERLAP).disparity
    session.push(video[1:5], OVERLAP)
    before = session.snapshot()
    preview = session.preview(video[5:9], OVERLAP).disparity
    pushed = session.push(video[5:9], OVERLAP)
    assert torch.equal(preview, pushed.disparity)
    assert (pushed.new, pushed.first_index) == (4, 1)
    session.push(video[9:13], OVERLAP)
    session.restore(before)
    assert torch.equal(session.push(video[5:9], OVERLAP).disparity, preview)
    session.reset()
    assert session.next_group == 1
    assert torch.equal(session.push(video[:1], OVERLAP).disparity, first)
    with pytest.raises(RegressorError, match="snapshot"):
        session.restore("a state")


def test_when_the_second_stream_fails_the_first_has_not_moved(plain, video):
    class Failing:
        def __init__(self, inner):
            self._inner, self.broken = inner, False

        def __getattr__(self, name):
            return getattr(self._inner, name)

        def push(self, rgb, overlap):
            if self.broken:
                raise RegressorError("the network's output is not finite")
            return self._inner.push(rgb, overlap)

    second = Failing(plain.open(32, 48))
    session = MirroredSession(plain.open(32, 48), second)
    session.push(video[:1], OVERLAP)
    second.broken = True
    with pytest.raises(RegressorError, match="finite"):
        session.push(video[1:5], OVERLAP)
    second.broken = False
    again = session.push(video[1:5], OVERLAP).disparity
    assert torch.equal(again, stream(MirroredRegressor(plain), video[:5])[1])


def test_the_disparity_may_be_written(twice, video):
    twice.open(32, 48).push(video[:1], 0).disparity.zero_()


@pytest.mark.parametrize("mirror", [False, True])
def test_the_parameter_decides(mirror, tmp_path, info, vae, transformer):
    path = tmp_path / "tiny.safetensors"
    save_folded(path, info, vae, transformer)
    config = replace(RegressorConfig(device="cpu"), weights=str(path), mirror=mirror)
    assert isinstance(registry.load(config), MirroredRegressor) is mirror
