# SPDX-License-Identifier: Apache-2.0
"""Recordings in the layouts people have them, by the name of the format or by looking."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from video_depth_ros.bags.formats.base import SequenceReader, SourceOptions
from video_depth_ros.bags.formats.euroc import Euroc
from video_depth_ros.bags.formats.files import IMAGE_SUFFIXES
from video_depth_ros.bags.formats.images import ImageFolder
from video_depth_ros.bags.formats.kitti_raw import KittiRaw
from video_depth_ros.bags.formats.seven_scenes import SevenScenes
from video_depth_ros.bags.formats.tum_rgbd import TumRgbd
from video_depth_ros.bags.formats.video import VIDEO_SUFFIXES, Video
from video_depth_ros.errors import RecordingError

# In the order of recognition: the plain folder of images comes last, for others hold images too.
_READERS = (KittiRaw, TumRgbd, Euroc, SevenScenes, Video, ImageFolder)
FORMATS = tuple(reader.format for reader in _READERS)


def open_sequence(
    format_name: str | None, path: str | Path, options: SourceOptions | None = None
) -> SequenceReader:
    """A reader of the sequence at ``path``.

    Args:
        format_name: one of :data:`FORMATS`, or None to look at the path.
        path: the folder or file.
        options: what the source itself does not say.

    Raises:
        RecordingError: unknown format, missing path, or a path that is not of that format.
    """
    path = Path(path)
    if format_name is not None and format_name not in FORMATS:
        raise RecordingError(
            f"unknown format {format_name!r}; expected one of {', '.join(FORMATS)}"
        )
    if not path.exists():
        raise RecordingError(f"{path} does not exist")
    name = format_name or detect_format(path)
    reader = next(reader for reader in _READERS if reader.format == name)
    return reader(path, options)


def detect_format(path: Path) -> str:
    """The name of the format that a path looks like.

    Raises:
        RecordingError: none of the known ones.
    """
    for reader in _READERS:
        if reader.matches(path):
            return reader.format
    if path.suffix in (".bag", ".mcap", ".db3") or (path / "metadata.yaml").exists():
        raise RecordingError(f"{path} is a bag already; nothing to import")
    raise unrecognised(path, FORMATS)


def unrecognised(path: Path, formats: Sequence[str]) -> RecordingError:
    """What is said of a path that looks like none of these formats."""
    if path.is_file() and path.suffix.lower() in IMAGE_SUFFIXES:
        return RecordingError(
            f"cannot tell the format of {path}: it is a single image; give the folder of images"
        )
    if path.is_file():
        videos = f"a video ({' '.join(VIDEO_SUFFIXES)}; others OpenCV may open by --format video)"
        bags = " or a bag" if "bag" in formats else ""
        return RecordingError(
            f"cannot tell the format of {path}; expected of single files {videos}{bags}; of "
            "images and data sets give the folder"
        )
    return RecordingError(
        f"cannot tell the format of {path}; expected the layout of one of {', '.join(formats)} "
        "(import and evaluate take its name by --format)"
    )
