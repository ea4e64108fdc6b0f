# SPDX-License-Identifier: Apache-2.0
"""ROS recordings (bags): images with the recorded true depth of the same stamp, if any."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from video_depth_ros.bags import messages as m
from video_depth_ros.bags.contents import depth_of, rgb_of
from video_depth_ros.bags.formats.base import SequenceFrame, SourceOptions
from video_depth_ros.bags.formats.files import camera_from_options
from video_depth_ros.bags.reader import Recording
from video_depth_ros.bags.topics import NONE, find_parts, is_rectified
from video_depth_ros.camera import Camera

_BAG_SUFFIXES = (".bag", ".mcap", ".db3")
_WAIT = 8  # images that may be ahead of their depth


class RosRecording:
    """A bag read like any other sequence; poses are not read."""

    format = "bag"

    def __init__(self, path: Path, options: SourceOptions | None = None) -> None:
        self.path = path
        with Recording(path) as recording:
            parts = find_parts(recording, points=NONE, imu=NONE, odometry=NONE)
            self._image, self._depth = parts.image, parts.ground_truth_depth
            self.frame_count = recording.topics[parts.image].count
            self.camera = self._camera(recording, parts.camera_info, options or SourceOptions())

    @staticmethod
    def matches(path: Path) -> bool:
        """Whether a path looks like a bag."""
        return path.suffix in _BAG_SUFFIXES or (path / "metadata.yaml").is_file()

    def frames(self) -> Iterator[SequenceFrame]:
        """Images in the order of the recording.

        Raises:
            RecordingError: the bag is damaged.
        """
        images: dict[int, np.ndarray] = {}
        depths: dict[int, np.ndarray] = {}
        topics = [self._image, *([self._depth] if self._depth else [])]
        with Recording(self.path) as recording:
            for received in recording.messages(topics):
                message = recording.decode(received)
                stamp_ns = m.stamp_of(message)
                if received.topic == self._image:
                    images[stamp_ns] = rgb_of(message)
                else:
                    depths[stamp_ns] = depth_of(message)
                # in order: the oldest image goes out with its depth, or when waiting is over
                while images:
                    oldest = next(iter(images))
                    if self._depth and oldest not in depths and len(images) <= _WAIT:
                        break
                    yield SequenceFrame(oldest, images.pop(oldest), depths.pop(oldest, None))
                    for stale in [s for s in depths if s < oldest]:
                        del depths[stale]
        for stamp_ns, rgb in images.items():
            yield SequenceFrame(stamp_ns, rgb, depths.pop(stamp_ns, None))

    def _camera(
        self, recording: Recording, info_topic: str | None, options: SourceOptions
    ) -> Camera | None:
        if options != SourceOptions():
            rgb = rgb_of(recording.first(self._image))
            own = camera_from_options(options, rgb.shape[1], rgb.shape[0])
            if own is not None:
                return own
        if info_topic is None or not recording.topics[info_topic].count:
            return None
        return m.camera_of(recording.first(info_topic), is_rectified(self._image))
