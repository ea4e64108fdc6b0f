# SPDX-License-Identifier: Apache-2.0
"""The session against the same mathematics written out window by window."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch

from video_depth_ros.errors import ConfigError, RegressorError
from video_depth_ros.regressors.base import Regressor, RegressorSession
from video_depth_ros.regressors.wan.folded_file import FoldedInfo
from video_depth_ros.regressors.wan.regressor import WanRegressor
from video_depth_ros.regressors.wan.sizes import ModelSize
from video_depth_ros.regressors.wan.stream import StreamOptions
from video_depth_ros.regressors.wan.transformer import FoldedTransformer, TransformerConfig
from video_depth_ros.regressors.wan.vae import CausalVae, VaeConfig

from .conftest import fill

WINDOW = 4


@pytest.fixture
def make(info, vae, transformer):
    """Regressor with these stream options."""

    def build(**options) -> WanRegressor:
        return WanRegressor(info, vae, transformer, StreamOptions(**{"window": WINDOW, **options}))

    return build


def groups(video: torch.Tensor, hop: int = 1):
    yield video[:1]
    yield from video[1:].split(4 * hop)


def play(session, video, overlap, hop=1):
    return [session.push(group, overlap) for group in groups(video, hop)]


def disparity(frames: torch.Tensor) -> torch.Tensor:
    return (frames[0, 0] / 2 + 0.5).clamp(0, 1).float()


def reference_window(vae, transformer, video, newest, start="image"):
    """Disparity of all frames of the window that ends with latent ``newest``, from scratch."""
    images = (video * 2 - 1).transpose(0, 1)[None]
    z, _ = vae.encode(images[:, :, : 4 * newest + 1])
    first = max(0, newest + 1 - WINDOW)
    if start == "anew":
        z, _ = vae.encode(images[:, :, 4 * first : 4 * newest + 1])
        return disparity(vae.decode(transformer(z))[0]), 4 * first
    z = z[:, :, first:]
    if start == "image":
        z = torch.cat((vae.encode(images[:, :, 4 * first : 4 * first + 1])[0], z[:, :, 1:]), dim=2)
    return disparity(vae.decode(transformer(z))[0]), 4 * first


def test_fulfils_the_contract(make):
    regressor = make()
    assert isinstance(regressor, Regressor)
    assert isinstance(regressor.open(32, 48), RegressorSession)
    spec = regressor.spec
    assert (spec.first_group, spec.group, spec.size_multiple) == (1, 4, 16)
    assert (spec.box, spec.licence, spec.max_overlap) == ((32, 48), "Apache-2.0", 8)


@pytest.mark.parametrize("start", ["image", "stream", "anew"])
def test_exact_windows(make, vae, transformer, video, start):
    session = make(decode="window", start=start).open(32, 48)
    for newest, group in enumerate(groups(video)):
        result = session.push(group, 8)
        expected, first = reference_window(vae, transformer, video, newest, start)
        count = result.disparity.shape[0]
        assert result.new == len(group)
        assert result.overlap == min(8, 4 * newest + 1 - result.new)
        assert result.first_index == 4 * newest + 1 - count
        assert result.disparity.dtype == torch.float32
        torch.testing.assert_close(
            result.disparity, expected[result.first_index - first :], rtol=0, atol=1e-6
        )
    assert expected.std() > 0.01


@pytest.mark.parametrize("decode", ["window", "restart", "warm"])
@pytest.mark.parametrize("overlap", [0, 1, 4, 6])
@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("lead", [1, 2])
def test_every_frame_comes_once_and_overlaps_are_consecutive(
    make, video, decode, overlap, cached, lead
):
    session = make(decode=decode, cached=cached, refresh=3, lead=lead).open(32, 48)
    end = 0
    for result in play(session, video, overlap):
        assert result.first_index == end - result.overlap
        assert result.overlap <= overlap
        end += result.new
        assert result.first_index + result.disparity.shape[0] == end
        assert result.overlap == min(overlap, end - result.new)
    assert end == len(video)


@pytest.mark.parametrize("decode", ["window", "restart", "warm"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"hop": 2},
        {"hop": 3},
        {"start": "stream"},
        {"cached": True, "refresh": 1},
        {"cached": True, "refresh": 3},
        {"cached": True, "refresh": 4},
        {"cached": True, "refresh": 4, "start": "stream"},
        {"cached": True, "refresh": 2, "hop": 2, "full_refresh_every": 0},
    ],
)
def test_a_full_window_returns_as_much_overlap_as_the_spec_says(make, video, decode, options):
    regressor = make(decode=decode, **options)
    session = regressor.open(32, 48)
    for push, group in enumerate(groups(video[:25], regressor.options.hop)):
        most = regressor.spec.max_overlap
        result = session.push(group, most)
        if push * regressor.options.hop >= WINDOW:
            assert (result.overlap, result.new) == (most, len(group))


def test_windows_encoded_anew_forget_what_was_before_them(make, video):
    """And previews, snapshots and rollbacks of such a stream are as exact as of any other."""
    session = make(decode="window", start="anew").open(32, 48)
    results = play(session, video, 8)
    kept = session.snapshot()
    other = make(decode="window", start="anew").open(32, 48)
    changed = video.clone()
    changed[:4] = 1 - changed[:4]
    again = play(other, changed, 8)
    assert not torch.equal(results[0].disparity, again[0].disparity)
    torch.testing.assert_close(results[-1].disparity, again[-1].disparity, rtol=0, atol=1e-6)

    ahead = session.preview(video[:2], 4)
    assert ahead.new == 2
    whole = session.push(video[:4], 4)
    session.restore(kept)
    assert torch.equal(session.push(video[:4], 4).disparity, whole.disparity)
    assert session.state.elements() == other.state.elements()


@pytest.mark.parametrize("start", ["image", "stream", "anew"])
@pytest.mark.parametrize("hop", [1, 2])
def test_an_encoder_without_memory_makes_every_latent_of_one_image(
    vae, transformer, info, video, start, hop
):
    forgetful = CausalVae(dataclasses.replace(vae.config, image_encoder=True))
    forgetful.load_state_dict(vae.state_dict())
    options = StreamOptions(
        window=WINDOW, hop=hop, start=start, decode="window", image_latents=True
    )
    session = WanRegressor(info, forgetful.eval(), transformer, options).open(32, 48)
    images = (video * 2 - 1).transpose(0, 1)[None]
    latents = [vae.encode(images[:, :, i : i + 1])[0] for i in range(0, len(video), 4)]

    def expected(window, count):
        return disparity(vae.decode(transformer(torch.cat(window, dim=2)))[0])[-count:]

    for push, group in enumerate(groups(video, hop)):
        if push == 1:  # a partial group ends with its newest frame
            last = vae.encode(images[:, :, 2:3])[0]
            whole = expected([latents[0], last], 4)
            shown = session.preview(group[:2], 0).disparity
            torch.testing.assert_close(shown, whole[:2], rtol=0, atol=1e-6)
        result = session.push(group, 4)
        newest = push * hop
        window = latents[max(0, newest + 1 - WINDOW) : newest + 1]
        torch.testing.assert_close(
            result.disparity, expected(window, len(result.disparity)), rtol=0, atol=1e-6
        )
    assert session.state.encoder == () and not session.state.lasts


def test_longer_restart_is_nearer_to_the_whole_window(make, video):
    """The lead warms the decoder up; reaching the window's start it is the whole window."""
    whole = play(make(decode="window").open(32, 48), video, 4)
    errors = []
    for lead in (1, 2, 3):
        part = play(make(decode="restart", lead=lead).open(32, 48), video, 0)
        errors.append(
            max(
                (a.disparity[-4:] - b.disparity[-4:]).abs().max()
                for a, b in zip(whole, part, strict=True)
            )
        )
    assert errors[2] < 1e-6 <= errors[1] < errors[0] < 0.5


def test_warm_decoding_continues_the_decoder(make, vae, transformer, video):
    """With one prediction for all latents (a causal network), warm equals the endless decode."""
    results = play(
        make(decode="warm", cached=True, refresh=1, full_refresh_every=0, window=9).open(32, 48),
        video,
        0,
    )
    latents = vae.encode((video * 2 - 1).transpose(0, 1)[None])[0]
    endless = disparity(vae.decode(transformer(latents, block_causal=True))[0])
    got = torch.cat([r.disparity for r in results])
    torch.testing.assert_close(got, endless, rtol=0, atol=1e-6)


def test_cached_with_full_refresh_is_exact(make, video):
    exact = play(make().open(32, 48), video, 4)
    cached = play(make(cached=True, refresh=WINDOW).open(32, 48), video, 4)
    always = play(make(cached=True, refresh=2, full_refresh_every=1).open(32, 48), video, 4)
    for a, b, c in zip(exact, cached, always, strict=True):
        torch.testing.assert_close(a.disparity, b.disparity, rtol=0, atol=1e-6)
        if a.first_index >= 4 * (WINDOW - 2):  # windows are whole from the first full one on
            torch.testing.assert_close(a.disparity, c.disparity, rtol=0, atol=1e-6)


def test_cached_attends_to_sink_and_newest(make, vae, transformer, video):
    """Written out: [sink, newest latents but one] kept, the newest computed."""
    session = make(cached=True, refresh=1, full_refresh_every=0, decode="window").open(32, 48)
    latents = vae.encode((video * 2 - 1).transpose(0, 1)[None])[0]
    memory: tuple = ()
    for newest, group in enumerate(groups(video[:29])):
        session.push(group, 0)
        if len(memory) > WINDOW - 1:
            memory = (memory[0], *memory[2:])
        rope = transformer.rope(len(memory) + 1, 4, 6)
        out, new = transformer.forward_cached(latents[:, :, newest : newest + 1], memory, rope)
        memory += new
        torch.testing.assert_close(session.state.depths[-1], out, rtol=0, atol=1e-6)
        assert len(session.state.memory) == min(newest + 1, WINDOW)
    no_sink = make(cached=True, refresh=1, full_refresh_every=0, sink=False).open(32, 48)
    play(no_sink, video[:29], 0)
    assert (no_sink.state.depths[-1] - out).abs().max() > 1e-6


@pytest.mark.parametrize("hop", [1, 2])
@pytest.mark.parametrize("cached", [False, True])
def test_hop_pushes_several_latents(make, vae, transformer, video, hop, cached):
    session = make(hop=hop, cached=cached, refresh=2, decode="window").open(32, 48)
    assert session.next_group == 1
    results = play(session, video, 4, hop)
    assert session.next_group == 4 * hop
    assert sum(r.new for r in results) == len(video)
    if not cached:
        expected, first = reference_window(vae, transformer, video, 8)
        torch.testing.assert_close(
            results[-1].disparity, expected[results[-1].first_index - first :], rtol=0, atol=1e-6
        )


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("decode", ["restart", "warm"])
def test_preview_pads_and_leaves_no_trace(make, video, cached, decode):
    options = {"cached": cached, "refresh": 2, "decode": decode}
    plain = play(make(**options).open(32, 48), video, 4)
    session = make(**options).open(32, 48)
    for group, expected in zip(groups(video), plain, strict=True):
        for count in range(1, len(group)):
            before = session.snapshot()
            result = session.preview(group[:count], 4)
            assert session.snapshot() is before
            assert result.new == count
            padded = torch.cat(
                (group[:count], group[count - 1 : count].expand(4 - count, -1, -1, -1))
            )
            whole = session.preview(padded, 4)
            assert torch.equal(result.disparity, whole.disparity[: result.overlap + count])
            assert result.first_index == whole.first_index
        assert torch.equal(session.preview(group, 4).disparity, expected.disparity)
        assert torch.equal(session.push(group, 4).disparity, expected.disparity)


@pytest.mark.parametrize("cached", [False, True])
def test_snapshot_and_reset(make, video, cached):
    session = make(cached=cached, refresh=2, decode="warm").open(32, 48)
    first = play(session, video[:21], 4)
    state = session.snapshot()
    expected = [session.push(g, 4).disparity for g in video[21:].split(4)]
    session.restore(state)
    for group in (1 - video[21:]).split(4):  # another future
        session.push(group, 4)
    session.restore(state)
    again = [session.push(g, 4).disparity for g in video[21:].split(4)]
    assert all(torch.equal(a, b) for a, b in zip(expected, again, strict=True))
    session.reset()
    assert session.next_group == 1
    for a, b in zip(first, play(session, video[:21], 4), strict=True):
        assert torch.equal(a.disparity, b.disparity)
    with pytest.raises(RegressorError, match="snapshot"):
        session.restore("yesterday")


@pytest.mark.parametrize("options", [{}, {"decode": "warm", "cached": True, "refresh": 2}])
def test_state_stays_constant_over_a_long_stream(options):
    """1,000 groups: the numbers held in the state do not grow once the window is full."""
    torch.set_default_dtype(torch.float32)
    least = ModelSize(
        VaeConfig(dim=2, z_dim=2, multipliers=(1, 1, 1), res_blocks=1, temporal=(True, True)),
        TransformerConfig(2, 2, dim=6, heads=1, layers=1, ffn=6),
    )
    regressor = WanRegressor(
        FoldedInfo("least", "none", least),
        fill(CausalVae(least.vae)),
        fill(FoldedTransformer(least.transformer)),
        StreamOptions(window=WINDOW, **options),
    )
    session = regressor.open(16, 16)
    block = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    session.push(block[:1], 4)
    sizes = set()
    for index in range(1000):
        result = session.push(block, 4)
        assert result.disparity.shape[0] == 4 + (4 if index else 1)
        if index > 2 * WINDOW:
            sizes.add(session.state.elements())
            assert len(session.state.window) == WINDOW
    assert len(sizes) == 1
    assert result.first_index + 8 == 4001


@pytest.mark.parametrize("frames", range(1, 10))
def test_padding_rule(make, video, frames):
    """T frames become 4n + 1 by repeating the last: 1, 5, 5, 5, 5, 9, 9, 9, 9."""
    session = make(window=9).open(32, 48)
    encoded: list[torch.Tensor] = []
    vae = session._encoder

    class Watched:
        def encode(self, images, state=None):
            encoded.append(images)
            return vae.encode(images, state)

    session._encoder = Watched()
    total = session.push(video[:1], 0).new
    rest = video[1:frames]
    while len(rest) >= 4:
        total += session.push(rest[:4], 0).new
        rest = rest[4:]
    if len(rest):
        total += session.preview(rest, 0).new
    assert total == frames
    padded = torch.cat(encoded, dim=2)
    assert padded.shape[2] == [1, 5, 5, 5, 5, 9, 9, 9, 9][frames - 1]
    last = video[frames - 1] * 2 - 1
    for index in range(frames - 1, padded.shape[2]):
        torch.testing.assert_close(padded[0, :, index], last)


def test_wrong_input_is_refused(make, video):
    session = make().open(32, 48)
    with pytest.raises(RegressorError, match="group of 1 frames, got 4"):
        session.push(video[:4], 0)
    session.push(video[:1], 0)
    with pytest.raises(RegressorError, match="group of 4 frames, got 1"):
        session.push(video[:1], 0)
    with pytest.raises(RegressorError, match="1 to 4 frames, got 5"):
        session.preview(video[:5], 0)
    with pytest.raises(RegressorError, match=r"\[3, 32, 48\], got \[3, 16, 48\]"):
        session.push(video[:4, :, :16], 0)
    before = session.snapshot()
    with pytest.raises(RegressorError, match="not finite"):
        session.push(torch.full((4, 3, 32, 48), float("nan")), 0)
    assert session.snapshot() is before


@pytest.mark.parametrize("height, width", [(33, 48), (32, 47), (16, 48), (0, 0)])
def test_sizes_that_cannot_be_opened(make, height, width):
    with pytest.raises(RegressorError, match=f"multiples of 16 px .* got {height}x{width}"):
        make().open(height, width)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"window": 2, "hop": 2}, "longer than the hop"),
        ({"window": 1}, "longer than the hop"),
        ({"cached": True, "refresh": 1, "hop": 2}, "hop <= refresh"),
        ({"cached": True, "refresh": 9}, "refresh <= window"),
        ({"start": "middle"}, "image, stream or anew"),
        ({"decode": "never"}, "window, restart or warm"),
        ({"lead": 0}, "at least 1 latent, got 0"),
    ],
)
def test_options_that_do_not_go_together(make, options, words):
    with pytest.raises(ConfigError, match=words):
        make(**options)


def test_disparity_may_be_written(make, video):
    session = make().open(32, 48)
    result = session.push(video[:1], 0)
    result.disparity.mul_(2).sub_(1)
    (result.disparity * torch.ones(1, requires_grad=True)).sum().backward()


def test_deterministic_across_sessions(make, video):
    regressor = make(cached=True, refresh=2)
    a, b = regressor.open(32, 48), regressor.open(32, 48)
    for x, y in itertools.zip_longest(play(a, video, 4), play(b, video, 4)):
        assert torch.equal(x.disparity, y.disparity)
