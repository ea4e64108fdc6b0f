# SPDX-License-Identifier: Apache-2.0
"""Recordings in the import formats as training data."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from video_depth_ros.bags.importer import import_sequence
from video_depth_ros.bags.sequences import open_sequence
from video_depth_ros.errors import ConfigError, RecordingError
from video_depth_ros.training import recordings
from video_depth_ros.training.batches import BatchConfig
from video_depth_ros.training.sources import parse


def _write(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)


def _bonn(root):
    """The cut that video depth papers evaluate on."""
    for folder, picture in (
        ("rgb_110", np.zeros((48, 64, 3), np.uint8)),
        ("depth_110", np.full((48, 64), 5000, np.uint16)),
    ):
        for k in range(2):
            _write(root / "balloon" / folder / f"100.{k}.png", picture)
    return root / "balloon"


def _seven_scenes(folder, count=5, depth=True, size=(48, 64)):
    """Grey level 10 k, depth 2 + k metres but for an unmeasured corner; frame 0 has no depth."""
    for k in range(count):
        _write(folder / f"frame-{k:06d}.color.png", np.full((*size, 3), 10 * k, np.uint8))
        if depth and k > 0:
            raw = np.full(size, 1000 * (2 + k), np.uint16)
            raw[:8, :8] = 0
            _write(folder / f"frame-{k:06d}.depth.png", raw)
    return folder


def test_a_recording_becomes_clips_with_unknown_depth_as_nan(tmp_path):
    folder, cache = _seven_scenes(tmp_path / "kitchen"), tmp_path / "cache"
    data = parse([f"seven_scenes:{folder}@2,3"], 2, 1, 1, cache)
    assert (data.shares, data.video_shares) == ([2.0], [3.0])
    (source,) = data.sources
    assert (len(source), source.frames) == (2, 2)  # the fifth frame fills no run
    clip = source.clip(0)
    assert clip.rgb[:, 20, 20, 0].tolist() == [0, 10]
    assert np.isnan(clip.depth[0]).all()  # the frame without a depth image
    assert np.isnan(clip.depth[1, :8, :8]).all()
    np.testing.assert_allclose(clip.depth[1, 8:], 3.0, rtol=1e-3)
    np.testing.assert_allclose(source.clip(1).depth[:, 20, 20], [4.0, 5.0], rtol=1e-3)
    config = BatchConfig(image_share=0.0, videos=1, frames=2, heights=(32,), widths=(48,))
    batch = data.batches(config, seed=0)[0]
    assert batch.known.any() and not batch.known.all()


def test_it_is_read_once_and_an_interrupted_reading_starts_over(tmp_path, monkeypatch):
    folder, cache = _seven_scenes(tmp_path / "kitchen"), tmp_path / "cache"
    kept = recordings.kept("recording", folder, 2, cache)  # the format is recognised
    (kept / recordings.DONE).unlink()
    (kept / "clip_000001.npz").unlink()
    assert recordings.kept("recording", folder, 2, cache) == kept
    assert len(list(kept.glob("clip_*.npz"))) == 2
    monkeypatch.setattr(recordings, "find_videos", None)  # would be called to read again
    assert recordings.kept("recording", folder, 2, cache) == kept


def test_all_recordings_below_a_folder_and_bags(tmp_path):
    root, cache = tmp_path / "set", tmp_path / "cache"
    _seven_scenes(root / "a", 2)
    _seven_scenes(root / "deeper" / "b", 5)
    assert len(parse([f"seven_scenes:{root}"], 2, 1, 1, cache).sources[0]) == 3
    bag = tmp_path / "b.mcap"
    import_sequence(open_sequence("seven_scenes", root / "deeper" / "b"), bag)
    for word in ("bag", "recording"):
        (source,) = parse([f"{word}:{bag}"], 4, 1, 1, cache).sources
        np.testing.assert_allclose(source.clip(0).depth[1:, 20, 20], [3, 4, 5], rtol=1e-3)


def test_large_images_are_reduced_with_their_depth(tmp_path):
    folder = _seven_scenes(tmp_path / "large", 2, size=(960, 1280))
    (source,) = parse([f"seven_scenes:{folder}"], 2, 1, 1, tmp_path / "cache").sources
    assert source.clip(0).rgb.shape == (2, 480, 640, 3)
    assert source.clip(0).depth.shape == (2, 480, 640)


def test_what_cannot_be_used_is_a_named_outcome_and_leaves_no_clips(tmp_path):
    cache = tmp_path / "cache"
    without, stills = _seven_scenes(tmp_path / "without", depth=False), tmp_path / "stills"
    for k in range(2):
        _write(stills / f"{k}.png", np.zeros((48, 64, 3), np.uint8))
    for word, frames, error, said in (
        (f"seven_scenes:{without}", 2, RecordingError, "true depth"),
        (f"images:{stills}", 2, RecordingError, "true depth"),
        (f"seven_scenes:{_seven_scenes(tmp_path / 'short')}", 9, RecordingError, "has 5 frames"),
        (f"tum_rgbd:{without}", 2, RecordingError, "no tum_rgbd recording"),
        (f"recording:{tmp_path / 'none'}", 2, RecordingError, "does not exist"),
        (f"recording:{_bonn(tmp_path)}", 2, RecordingError, "is of bonn, on which only"),
        (f"sintel:{without}", 2, ConfigError, "expected one of simulated, .*seven_scenes:DIR"),
    ):
        with pytest.raises(error, match=said):
            parse([word], frames, 1, 1, cache)
    assert not list(tmp_path.glob("cache/**/*.npz"))
    with pytest.raises(ConfigError, match="--cache DIR"):
        parse([f"seven_scenes:{without}"], 2, 1, 1, None)
    mixed = _seven_scenes(tmp_path / "mixed", 2)
    _write(mixed / "frame-000001.color.png", np.zeros((30, 40, 3), np.uint8))
    _write(mixed / "frame-000001.depth.png", np.full((30, 40), 999, np.uint16))
    with pytest.raises(RecordingError, match="one size"):
        parse([f"seven_scenes:{mixed}"], 2, 1, 1, cache)
