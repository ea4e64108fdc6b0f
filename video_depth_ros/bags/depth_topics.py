# SPDX-License-Identifier: Apache-2.0
"""Which image topics of a recording hold depth, and whose pixels those of a depth image are."""

from __future__ import annotations

from typing import Any

from video_depth_ros.bags import messages as m
from video_depth_ros.bags.reader import Recording
from video_depth_ros.errors import InputError, RecordingError

COMPRESSED_DEPTH = "compressedDepth"  # the transport, in a topic's name and in a message's format
_ENCODINGS = ("16UC1", "32FC1")
_INFRARED_OR_DEPTH = "mono16"  # librealsense records both so
_DIFFERENCE = 0.01  # of focal lengths and principal points over the image's size


def holds_depth(recording: Recording, name: str) -> bool:
    """Whether an Image or CompressedImage topic holds depth instead of pictures; one without any
    message does not."""
    if name.endswith(f"/{COMPRESSED_DEPTH}"):
        return True
    message = recording.first(name)
    if message is None:
        return False
    if recording.topics[name].kind == m.COMPRESSED_IMAGE:
        encoding = message.format.partition(";")[0].strip()
        return encoding in _ENCODINGS or COMPRESSED_DEPTH in message.format
    if message.encoding == _INFRARED_OR_DEPTH:
        return "depth" in name.lower()
    return message.encoding in _ENCODINGS


def another_camera(recording: Recording, image_info: str | None, depth_info: str | None) -> str:
    """Why the pixels of depth images cannot be those of the images: the focal lengths, where two
    camera_info topics tell of two cameras. Empty where they tell of one, or nothing."""
    if image_info is None or depth_info is None or image_info == depth_info:
        return ""
    infos = [recording.first(name) for name in (image_info, depth_info)]
    first, second = (_shape(info) for info in infos)
    if first is None or second is None:
        return ""
    if all(abs(a - b) <= _DIFFERENCE for a, b in zip(first, second, strict=True)):
        return ""
    focal = [f"{info.k[0]:.1f} px at {info.width}x{info.height}" for info in infos]
    return f"{depth_info} says a focal length of {focal[1]}, {image_info} {focal[0]}"


def check_registered(
    recording: Recording, image_info: str | None, depth: str, depth_info: str | None
) -> None:
    """Refuse a depth topic whose camera is another than the images'.

    Raises:
        RecordingError: with both cameras.
    """
    why = another_camera(recording, image_info, depth_info)
    if why:
        raise RecordingError(
            f"{recording.path}: {depth} is not registered to the images: {why}; take the "
            "registered topic, which depth cameras call aligned_depth_to_color or "
            "depth_registered"
        )


def _shape(info: Any) -> tuple[float, ...] | None:
    """fx, fy, cx, cy over width and height; None for a model that cannot be used."""
    try:
        camera = m.camera_of(info)
    except InputError:
        camera = None
    if camera is None:
        return None
    w, h = camera.width, camera.height
    return (camera.fx / w, camera.fy / h, (camera.cx + 0.5) / w, (camera.cy + 0.5) / h)
