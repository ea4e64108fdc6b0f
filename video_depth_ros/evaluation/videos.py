# SPDX-License-Identifier: Apache-2.0
"""Videos to evaluate: frames with truth under a protocol, from folders, bags or simulation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Protocol as StructuralType
from typing import TypeVar

import cv2
import numpy as np

from video_depth_ros.bags.formats.base import SequenceFrame, SequenceReader, SourceOptions
from video_depth_ros.bags.sequences import FORMATS as IMPORT_FORMATS
from video_depth_ros.bags.sequences import detect_format, open_sequence, unrecognised
from video_depth_ros.camera import Camera
from video_depth_ros.errors import ConfigError, RecordingError, VideoDepthError
from video_depth_ros.evaluation.protocols import PROTOCOLS, Protocol, protocol_of
from video_depth_ros.evaluation.readers.bonn import Bonn
from video_depth_ros.evaluation.readers.nyuv2 import NyuV2
from video_depth_ros.evaluation.readers.recording import BagTopics, RosRecording
from video_depth_ros.evaluation.readers.scannet import ScanNet
from video_depth_ros.evaluation.readers.sintel import Sintel

# Layouts that only evaluation reads, in the order of recognition, and before the import formats:
# those take these folders for plainer ones.
_READERS: dict[str, type[SequenceReader]] = {
    reader.format: reader for reader in (RosRecording, ScanNet, Sintel, NyuV2, Bonn)
}
FORMATS = tuple(dict.fromkeys((*IMPORT_FORMATS, *_READERS)))
T = TypeVar("T")
_MAX_DEPTH = 5  # folders below a data-set root in which sequences are looked for
_SAME_ASPECT = 0.02  # relative; more is another part of the view, not another resolution


class Sequence(StructuralType):
    """What a reader offers; see :class:`video_depth_ros.bags.formats.base.SequenceReader`."""

    frame_count: int

    @property
    def camera(self) -> Camera | None:
        """Model of the images."""

    def frames(self) -> Iterator[SequenceFrame]:
        """The frames, from the beginning at every call."""


@dataclass(frozen=True)
class Video:
    """One video under its protocol.

    Attributes:
        name: for tables and reports.
        sequence: where frames come from.
        protocol: which pixels count.
        max_frames: frames used from the beginning; None for all.
    """

    name: str
    sequence: Sequence
    protocol: Protocol
    max_frames: int | None = None

    @property
    def frame_count(self) -> int:
        """Number of frames, as far as it is known before reading."""
        known = self.sequence.frame_count
        return min(known, self.max_frames) if self.max_frames else known

    @property
    def camera(self) -> Camera | None:
        """Model of the cropped images."""
        camera = self.sequence.camera
        if camera is None:
            return None
        top, left, height, width = self.protocol.crop_origin(camera.height, camera.width)
        return camera.cropped(left, top, width, height)

    def frames(self) -> Iterator[SequenceFrame]:
        """The frames, cropped as the protocol says."""
        for frame in islice(self.sequence.frames(), self.max_frames):
            height, width = frame.rgb.shape[:2]
            top, left, rows, columns = self.protocol.crop_origin(height, width)
            cut = (slice(top, top + rows), slice(left, left + columns))
            depth = None
            if frame.depth is not None:
                depth = np.ascontiguousarray(self._at_image_size(frame, frame.depth)[cut])
            yield replace(frame, rgb=np.ascontiguousarray(frame.rgb[cut]), depth=depth)

    def _at_image_size(self, frame: SequenceFrame, depth: np.ndarray) -> np.ndarray:
        """True depth of another resolution at the image's: the nearest value, none invented."""
        (height, width), (rows, columns) = frame.rgb.shape[:2], depth.shape
        if (rows, columns) == (height, width):
            return depth
        if abs(columns * height / (rows * width) - 1.0) > _SAME_ASPECT:
            raise RecordingError(
                f"{frame.file or self.name}: the image has {width}x{height} px, its true depth "
                f"{columns}x{rows}; expected the same view, as after registration to the image"
            )
        return cv2.resize(depth, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)


def find_videos(
    source: Path,
    format_name: str | None,
    protocol: str | None = None,
    options: SourceOptions | None = None,
    max_frames: int | None = None,
    topics: BagTopics | None = None,
    failed: Callable[[str, VideoDepthError], None] | None = None,
) -> Iterator[Video]:
    """The recording at ``source``, or every recording under a data-set root, opened one by one.

    Args:
        source: a folder or file.
        format_name: one of :data:`FORMATS`; None to look at the path.
        protocol: its name; None for the format's own.
        options: what the source does not say.
        max_frames: frames of each video.
        topics: which topics of a bag to use.
        failed: told of a recording that cannot be opened, by its name, and the others follow;
            None: that is the end.

    Raises:
        RecordingError: missing path or one that may not be read, unknown format, or nothing of
            that format there.
        ConfigError: unknown protocol, or topics of what is no bag.
    """
    with _access(source):
        if not source.exists():
            raise RecordingError(f"{source} does not exist")
        if source.is_dir():
            next(source.iterdir(), None)
    if format_name is not None and format_name not in FORMATS:
        raise RecordingError(
            f"unknown format {format_name!r}; expected one of {', '.join(FORMATS)}"
        )
    name = format_name or layout_of(source)
    if topics is not None and name != "bag":
        raise ConfigError(f"{source} is no bag ({name}): it has no topics to choose from")
    wanted = protocol_of(protocol or (name if name in PROTOCOLS else "default"))
    paths = recordings_under(source, name)
    if not paths:
        raise RecordingError(f"{source}: no {name} recording there or in the folders below")
    for path in paths:
        label = path.relative_to(source).as_posix() if path != source else source.resolve().name
        try:
            with _access(path):
                sequence = _open(name, path, options, topics)
        except VideoDepthError as error:
            if failed is None:
                raise
            failed(label, error)
            continue
        yield Video(label, sequence, wanted, max_frames)


def layout_of(source: Path) -> str:
    """The format of a recording, or of the recordings under a data-set root, by looking.

    Raises:
        RecordingError: none of :data:`FORMATS`, or several under one root.
    """
    name = _recognised(source)
    if name is not None:
        return name
    level = [source]
    for _ in range(_MAX_DEPTH):
        level = _children(level)
        # a folder of pictures below a root may be anything: masks, flow, thumbnails
        found = sorted({n for n in map(_recognised, level) if n is not None} - {"images"})
        if len(found) == 1:
            return found[0]
        if found:
            raise RecordingError(
                f"{source} holds recordings of several layouts ({', '.join(found)}); name one "
                "recording, or the layout (evaluate: --format)"
            )
    raise unrecognised(source, FORMATS)


def recordings_under(source: Path, format_name: str) -> list[Path]:
    """``source`` itself when it is a recording of this format, else those below, sorted.

    Of Sintel's scenes that are there as clean and final pass, the final one.
    """
    if _matches(format_name, source):
        return [source]
    found: list[Path] = []
    level = [source]
    for _ in range(_MAX_DEPTH):
        below = _children(level)
        hits = [path for path in below if _matches(format_name, path)]
        found += hits
        level = [path for path in below if path not in set(hits)]
    return sorted(_final_passes(found) if format_name == "sintel" else found)


def _final_passes(scenes: list[Path]) -> list[Path]:
    """Sintel's scenes, each once: of the two renderings the final one, which is the harder."""
    places = {scene.resolve() for scene in scenes}

    def is_wanted(scene: Path) -> bool:
        place = scene.resolve()
        return place.parent.name == "final" or (
            place.parents[1] / "final" / place.name not in places
        )

    return [scene for scene in scenes if is_wanted(scene)]


def simulated_videos(
    seed: int, videos: int, frames: int, height: int, width: int, split: str
) -> Iterator[Video]:
    """Clips of the simulation with seeds ``seed`` .. ``seed + videos - 1``."""
    from video_depth_ros.evaluation.readers.simulated import Simulated

    for number in range(seed, seed + videos):
        clip = Simulated(number, frames, height, width, split)
        yield Video(f"{split}_{number:04d}", clip, protocol_of("simulated"))


@contextmanager
def _access(path: Path) -> Iterator[None]:
    """Says of what must be read, and may not, that it is so."""
    try:
        yield
    except PermissionError as error:
        raise RecordingError(
            f"{path}: expected a recording that may be read, got {error.strerror} of "
            f"{error.filename}; look at its owner and mode (ls -ld)"
        ) from error


def _looked(look: Callable[[Path], T], path: Path, otherwise: T) -> T:
    """What a look at a path finds; where one may not look (lost+found) is no recording."""
    try:
        return look(path)
    except (PermissionError, RecordingError):
        return otherwise


def _children(folders: list[Path]) -> list[Path]:
    none: list[Path] = []
    return sorted(child for folder in folders for child in _looked(_entries, folder, none))


def _entries(path: Path) -> list[Path]:
    return list(path.iterdir()) if path.is_dir() else []


def _recognised(path: Path) -> str | None:
    """The format that one recording looks like, the more special layout first."""
    return _looked(_special_or_plain, path, None)


def _special_or_plain(path: Path) -> str | None:
    for name, reader in _READERS.items():
        if reader.recognised(path):
            return name
    return detect_format(path)


def _matches(format_name: str, path: Path) -> bool:
    if format_name in _READERS:
        return _looked(_READERS[format_name].matches, path, False)
    return _looked(detect_format, path, "") == format_name


def _open(
    format_name: str, path: Path, options: SourceOptions | None, topics: BagTopics | None
) -> Sequence:
    if format_name == "bag":
        return RosRecording(path, options, topics)
    if format_name in _READERS:
        return _READERS[format_name](path, options)
    return open_sequence(format_name, path, options)
