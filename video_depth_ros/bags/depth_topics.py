# SPDX-License-Identifier: Apache-2.0
"""Which image topics of a recording hold depth, and whose pixels those of a depth image are."""

from __future__ import annotations

from typing import Any

from video_depth_ros.bags import messages as m
from video_depth_ros.bags.reader import Recording
from video_depth_ros.camera import Camera
from video_depth_ros.errors import InputError, RecordingError

COMPRESSED_DEPTH = "compressedDepth"  # the transport, in a topic's name and in a message's format
_ENCODINGS = ("16UC1", "32FC1")
_INFRARED_OR_DEPTH = "mono16"  # librealsense records both so
_DIFFERENCE = 0.01  # of focal lengths and principal points over the image's size


def holds_depth(recording: Recording, name: str) -> bool:
    """Whether an Image or CompressedImage topic holds depth instead of pictures; one without any
    message does not.

    Raises:
        RecordingError: its first message is damaged.
    """
    if name.endswith(f"/{COMPRESSED_DEPTH}"):
        return True
    message = recording.first(name)
    if message is None:
        return False
    encoding = getattr(message, "encoding", "")
    if recording.topics[name].kind == m.COMPRESSED_IMAGE:
        encoding = message.format.partition(";")[0].strip()
        if COMPRESSED_DEPTH in message.format:
            return True
    if encoding == _INFRARED_OR_DEPTH:
        # by the stream's own name: /depth_camera/ir/image_raw is infrared
        stream = name.removesuffix("/compressed").removesuffix("/image/data")
        return any("depth" in part.lower() for part in stream.split("/")[-2:])
    return encoding in _ENCODINGS


def another_camera(recording: Recording, image_info: str | None, depth_info: str | None) -> str:
    """Why the pixels of depth images cannot be those of the images: what two camera_info topics
    say, where they tell of two cameras. Empty where they tell of one, or nothing.

    Which of its two matrices holds depends on whether an image is rectified: two cameras are those
    of which no matrix of one is like one of the other.
    """
    if image_info is None or depth_info is None or image_info == depth_info:
        return ""
    first, second = (_models(recording.first(name)) for name in (image_info, depth_info))
    if not first or not second or any(_alike(a, b) for a in first for b in second):
        return ""
    return f"{depth_info} says {_told(second[0])}, {image_info} {_told(first[0])}"


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


def _models(info: Any) -> list[Camera]:
    """The models by K and by P of a camera_info; none where they cannot be used."""
    try:
        models = [m.camera_of(info, rectified) for rectified in (False, True)]
    except InputError:
        return []
    return [camera for camera in models if camera is not None]


def _alike(a: Camera, b: Camera) -> bool:
    """Whether two models see the same directions in their images, whatever the sizes."""
    return all(
        abs(one - other) <= _DIFFERENCE for one, other in zip(_shape(a), _shape(b), strict=True)
    )


def _shape(camera: Camera) -> tuple[float, ...]:
    w, h = camera.width, camera.height
    return (camera.fx / w, camera.fy / h, (camera.cx + 0.5) / w, (camera.cy + 0.5) / h)


def _told(camera: Camera) -> str:
    numbers = ", ".join(f"{x:.1f}" for x in (camera.fx, camera.fy, camera.cx, camera.cy))
    return f"fx, fy, cx, cy of {numbers} at {camera.width}x{camera.height} px"
