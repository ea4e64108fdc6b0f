# SPDX-License-Identifier: Apache-2.0
"""Inputs and outputs of a run put side by side, frame by frame, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from video_depth_ros.bags import messages as m
from video_depth_ros.bags.contents import depth_of, rgb_of
from video_depth_ros.bags.reader import Received, Recording
from video_depth_ros.bags.topics import Parts
from video_depth_ros.evaluation.metrics import resize_to

DISPARITY, DEPTH = "/depth/disparity", "/depth/image"
_KEPT = 256  # inputs waiting for an output; older ones had none


@dataclass(frozen=True)
class MatchedFrame:
    """One output frame with what it was made from.

    Attributes:
        stamp_ns: the image's stamp.
        rgb: uint8 [H, W, 3], the input image.
        truth: float32 [H, W] in metres, NaN unknown, or None.
        disparity: float32 [h, w], running disparity.
        depth: float32 [h, w] in metres, NaN unknown, or None while unscaled.
    """

    stamp_ns: int
    rgb: np.ndarray
    truth: np.ndarray | None
    disparity: np.ndarray
    depth: np.ndarray | None


@dataclass
class _Waiting:
    rgb: np.ndarray | None = None
    truth: np.ndarray | None = None


@dataclass
class _Output:
    stamp_ns: int
    maps: dict[str, np.ndarray] = field(default_factory=dict)


def matched_frames(recording: Recording, parts: Parts, output: Path) -> Iterator[MatchedFrame]:
    """Every recorded output frame, in the order of the stamps.

    Raises:
        RecordingError: either bag is damaged.
    """
    topics = [parts.image, *([parts.ground_truth_depth] if parts.ground_truth_depth else [])]
    inputs = recording.messages(topics)
    waiting: dict[int, _Waiting] = {}
    newest = -1
    with Recording(output) as outputs:
        for result in _by_stamp(outputs):
            # truth may lie a little after its image; read on until the next image has come
            while newest <= result.stamp_ns:
                received = next(inputs, None)
                if received is None:
                    break
                newest = max(newest, _take(recording, received, parts, waiting))
            taken = waiting.get(result.stamp_ns)
            for stamp_ns in [s for s in waiting if s <= result.stamp_ns]:
                del waiting[stamp_ns]
            if taken is not None and taken.rgb is not None and DISPARITY in result.maps:
                yield MatchedFrame(
                    result.stamp_ns,
                    taken.rgb,
                    taken.truth,
                    result.maps[DISPARITY],
                    result.maps.get(DEPTH),
                )


def depth_at(depth: np.ndarray, height: int, width: int) -> np.ndarray:
    """A depth image at another size: inverse depth is interpolated, as the network predicts it."""
    with np.errstate(divide="ignore"):
        return 1.0 / resize_to(1.0 / depth, (height, width))


def _take(
    recording: Recording, received: Received, parts: Parts, waiting: dict[int, _Waiting]
) -> int:
    message = recording.decode(received)
    stamp_ns = m.stamp_of(message)
    entry = waiting.setdefault(stamp_ns, _Waiting())
    if received.topic == parts.image:
        entry.rgb = rgb_of(message)
    else:
        entry.truth = depth_of(message)
    while len(waiting) > _KEPT:
        del waiting[next(iter(waiting))]
    return stamp_ns if received.topic == parts.image else -1


def _by_stamp(outputs: Recording) -> Iterator[_Output]:
    """Disparity and depth with the same stamp together."""
    topics = [topic for topic in (DISPARITY, DEPTH) if topic in outputs.topics]
    current: _Output | None = None
    for received in outputs.messages(topics):
        message = outputs.decode(received)
        stamp_ns = m.stamp_of(message)
        if current is None or stamp_ns != current.stamp_ns:
            if current is not None:
                yield current
            current = _Output(stamp_ns)
        read = _floats if received.topic == DISPARITY else depth_of
        current.maps[received.topic] = read(message)
    if current is not None:
        yield current


def _floats(message: Any) -> np.ndarray:
    """A 32FC1 image as it is: disparity may be zero or negative, which depth may not."""
    rows = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)
    return rows[:, : 4 * message.width].copy().view("<f4").astype(np.float32)
