# SPDX-License-Identifier: Apache-2.0
"""ROS recordings (bags): images with the recorded true depth nearest in time, if any.

Colour and depth of one camera are seldom stamped alike: a depth image belongs to an image within
20 ms, as in TUM's own association.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from video_depth_ros.bags import messages as m
from video_depth_ros.bags.camera_source import CameraSource
from video_depth_ros.bags.contents import depth_of, rgb_of
from video_depth_ros.bags.formats.base import SequenceFrame, SequenceReader, SourceOptions
from video_depth_ros.bags.formats.files import camera_from_options
from video_depth_ros.bags.reader import Recording
from video_depth_ros.bags.topics import NONE, find_parts, is_rectified, true_depth_of
from video_depth_ros.camera import Camera
from video_depth_ros.errors import InputError

_LOG = logging.getLogger(__name__)
_BAG_SUFFIXES = (".bag", ".mcap", ".db3")
_WAIT = 8  # images that may be ahead of their depth
_KEPT = 32  # depth images that may be ahead of their image
_TOLERANCE_NS = 20_000_000


@dataclass(frozen=True)
class BagTopics:
    """Which topics of a bag to use; None to look for them, ``none`` for no such topic."""

    image: str | None = None
    camera_info: str | None = None
    depth: str | None = None


class RosRecording(SequenceReader):
    """A bag read like any other sequence; poses are not read.

    Attributes:
        truth: topic of the true depth, or None.
    """

    format = "bag"

    def __init__(
        self,
        path: Path,
        options: SourceOptions | None = None,
        topics: BagTopics | None = None,
    ) -> None:
        super().__init__(path, options)
        topics = topics or BagTopics()
        with Recording(path) as recording:
            parts = find_parts(recording, topics.image, topics.camera_info, NONE, NONE, NONE)
            self._image = parts.image
            self.truth = true_depth_of(recording, parts.image, parts.camera_info, topics.depth)
            self.frame_count = recording.topics[parts.image].count
            self.camera = self._camera(recording, parts.camera_info)

    @staticmethod
    def matches(path: Path) -> bool:
        """Whether a path looks like a bag."""
        return path.suffix in _BAG_SUFFIXES or (path / "metadata.yaml").is_file()

    def frames(self) -> Iterator[SequenceFrame]:
        """Images in the order of the recording.

        Raises:
            RecordingError: the bag is damaged.
        """
        images: deque[tuple[int, np.ndarray]] = deque()
        depths: deque[tuple[int, np.ndarray]] = deque(maxlen=_KEPT)
        topics = [self._image, *([self.truth] if self.truth else [])]
        with Recording(self.path) as recording:
            for received in recording.messages(topics):
                message = recording.decode(received)
                stamp_ns = m.stamp_of(message)
                if received.topic == self._image:
                    images.append((stamp_ns, rgb_of(message)))
                else:
                    depths.append((stamp_ns, depth_of(message)))
                # the oldest image goes out when a depth as late as itself is there, so that the
                # nearest one is known, or when waiting is over
                while images and (
                    self.truth is None
                    or len(images) > _WAIT
                    or any(stamp >= images[0][0] for stamp, _ in depths)
                ):
                    yield _with_nearest(*images.popleft(), depths)
        for stamp_ns, rgb in images:
            yield _with_nearest(stamp_ns, rgb, depths)

    def _camera(self, recording: Recording, info_topic: str | None) -> Camera | None:
        """The camera at the images' size, as node and reprocess find it; None where there is none
        that can be used, which the affine protocol does without."""
        height, width = rgb_of(recording.first(self._image)).shape[:2]
        own = camera_from_options(self.options, width, height)
        if own is not None or info_topic is None or not recording.topics[info_topic].count:
            return own
        source = CameraSource(is_rectified(self._image))
        try:
            source.update(recording.first(info_topic))
            return source.camera_for(height, width)
        except InputError as error:
            _LOG.warning("%s: no camera from %s: %s", self.path, info_topic, error)
            return None


def _with_nearest(
    stamp_ns: int, rgb: np.ndarray, depths: deque[tuple[int, np.ndarray]]
) -> SequenceFrame:
    """The image with the depth nearest in time; what is too old for later images is let go."""
    while depths and depths[0][0] < stamp_ns - _TOLERANCE_NS:
        depths.popleft()
    stamp, depth = min(depths, key=lambda one: abs(one[0] - stamp_ns), default=(stamp_ns, None))
    near = abs(stamp - stamp_ns) <= _TOLERANCE_NS
    return SequenceFrame(stamp_ns, rgb, depth if near else None)
