# SPDX-License-Identifier: Apache-2.0
"""Recordings with true depth as clips to train on, in the formats that the import knows.

Readers give frames one after another, and training asks for any clip at any time; a recording is
therefore read once and kept as clip files. The data sets that only the evaluation reads (ScanNet,
Bonn, Sintel, NYUv2) are left out on purpose: what was trained on them cannot be compared on them.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from video_depth_ros.bags.formats.base import SequenceFrame
from video_depth_ros.bags.sequences import FORMATS as IMPORT_FORMATS
from video_depth_ros.errors import RecordingError
from video_depth_ros.evaluation.videos import Video, find_videos, layout_of
from video_depth_ros.files import write_text
from video_depth_ros.training.clips import Clip, save_clip, stacked
from video_depth_ros.training.datasets import reduced
from video_depth_ros.training.targets import MIN_VALID

_LOG = logging.getLogger(__name__)
LOOK = "recording"  # the format is recognised by looking at the path
FORMATS = (LOOK, *IMPORT_FORMATS, "bag")
MAX_HEIGHT = 480  # as of the data sets: larger images are reduced to it
DONE = "complete.txt"  # written last; without it the clips are made again


def kept(name: str, path: Path, frames: int, cache: Path) -> Path:
    """The folder with the clips of a recording, or of all recordings below a folder.

    Made when it is first asked for; an interrupted making starts over.

    Args:
        name: one of :data:`FORMATS`.
        path: a recording, or a folder that holds recordings of this format.
        frames: frames per clip; a clip is a run of consecutive frames of one recording.
        cache: the folder to keep clips in.

    Raises:
        RecordingError: missing, damaged, of another format or one that only the evaluation reads,
            too short, or without depth.
    """
    mark = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]
    folder = cache / f"{name}_{path.resolve().name}_{frames}_{mark}"
    if (folder / DONE).is_file():
        return folder
    layout = layout_of(path) if name == LOOK and path.exists() else name
    if layout not in FORMATS:
        raise RecordingError(
            f"{path} is of {layout}, on which only the evaluation is done: what was trained on it "
            "could not be compared on it"
        )
    count = longest = 0
    for video in find_videos(path, layout, protocol="default"):
        longest = max(longest, video.frame_count)
        if assumed := getattr(video.sequence, "assumed", ""):
            _LOG.warning("%s: %s", video.name, assumed)
        for clip in _runs(video, frames):
            save_clip(folder / f"clip_{count:06d}.npz", clip)
            count += 1
    if count == 0:
        raise RecordingError(
            f"{name}: expected runs of {frames} frames with true depth in {path}, got none (the "
            f"longest recording has {longest} frames); take a recording with depth images or "
            "LiDAR scans, or a smaller --frames"
        )
    write_text(folder / DONE, f"{count} clips of {frames} frames from {path.resolve()}\n")
    return folder


def _runs(video: Video, frames: int) -> Iterator[Clip]:
    """Runs one after another; those that hardly know any depth are left out."""
    run: list[tuple[np.ndarray, np.ndarray]] = []
    for frame in video.frames():
        run.append(_usable(video, frame))
        if len(run) == frames:
            clip = stacked(video.name, run)
            if int((clip.depth > 0).sum()) >= MIN_VALID:
                yield clip
            run = []


def _usable(video: Video, frame: SequenceFrame) -> tuple[np.ndarray, np.ndarray]:
    """Image and depth of one size, no higher than trained on; depth is NaN where unknown."""
    depth = frame.depth
    if depth is None:
        depth = np.full(frame.rgb.shape[:2], np.nan, np.float32)
    known = np.where(depth > 0, depth, np.nan).astype(np.float32)
    return reduced(frame.rgb, known, MAX_HEIGHT, frame.file or Path(video.name))
