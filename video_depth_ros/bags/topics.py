# SPDX-License-Identifier: Apache-2.0
"""Which topic of a recording plays which part.

A part that one topic can play is given to it; where several can, the user chooses, and the error
lists them. Topics that this package wrote itself (``depth/...``) never play a part.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from video_depth_ros.bags import messages as m
from video_depth_ros.bags.contents import depth_of
from video_depth_ros.bags.depth_topics import (
    COMPRESSED_DEPTH,
    another_camera,
    check_registered,
    holds_depth,
)
from video_depth_ros.bags.reader import Recording
from video_depth_ros.errors import InputError, RecordingError

NONE = "none"  # the user's word for "use no such topic"
_LIBREALSENSE = ("/image/data", "/info/camera_info")  # of one stream, in recordings of its viewer
_IMAGES = (m.IMAGE, m.COMPRESSED_IMAGE)


@dataclass(frozen=True)
class TopicChoice:
    """Topics the user named; None takes the one that fits, ``none`` switches a part off. A depth
    image is only taken for sparse depth when it is named."""

    image: str | None = None
    camera_info: str | None = None
    points: str | None = None
    imu: str | None = None
    odometry: str | None = None
    sparse_depth: str | None = None


@dataclass(frozen=True)
class Parts:
    """Topic names; None where the recording has nothing for the part."""

    image: str
    camera_info: str | None
    points: str | None
    imu: str | None
    odometry: str | None
    ground_truth_depth: str | None
    sparse_depth: str | None = None


def parts_for(recording: Recording, choice: TopicChoice, sources: Collection[str]) -> Parts:
    """The topics to use; sources of the metric scale that are not in use need no topic.

    Args:
        recording: the bag.
        choice: what the user named.
        sources: ``scale.sources`` of the configuration.

    Raises:
        RecordingError: see :func:`find_parts`.
    """
    return find_parts(
        recording,
        choice.image,
        choice.camera_info,
        choice.points if "lidar" in sources else NONE,
        choice.imu if "imu" in sources else NONE,
        choice.odometry if "odometry" in sources else NONE,
        choice.sparse_depth if "sparse_depth" in sources else NONE,
    )


def find_parts(
    recording: Recording,
    image: str | None = None,
    camera_info: str | None = None,
    points: str | None = None,
    imu: str | None = None,
    odometry: str | None = None,
    sparse_depth: str | None = None,
) -> Parts:
    """The topics to use; names given are checked and taken, ``none`` switches a part off.

    Raises:
        RecordingError: no image topic, several candidates for a part, or a named topic that is
            missing, of the wrong type, or depth where pictures are expected; sparse depth of
            another camera than the images'.
    """
    image_topic = image_topic_of(recording, image)
    if camera_info is None:
        info: str | None = camera_info_of(recording, image_topic)
    else:
        info = _optional(recording, camera_info, "camera_info", (m.CAMERA_INFO,), [])
    clouds = [name for name in recording.of_kind(m.POINT_CLOUD) if not _ours(recording, name)]
    sparse = _optional(recording, sparse_depth, "sparse_depth", _IMAGES, [])
    if sparse is not None:
        check_registered(recording, info, sparse, camera_info_of(recording, sparse))
    return Parts(
        image=image_topic,
        camera_info=info,
        points=_optional(recording, points, "points", (m.POINT_CLOUD,), clouds),
        imu=_optional(recording, imu, "imu", (m.IMU,), recording.of_kind(m.IMU)),
        odometry=_optional(
            recording, odometry, "odometry", (m.ODOMETRY,), recording.of_kind(m.ODOMETRY)
        ),
        ground_truth_depth=ground_truth_depth_of(recording),
        sparse_depth=sparse,
    )


def image_topic_of(recording: Recording, wanted: str | None = None) -> str:
    """The colour or grey image topic.

    A compressed topic beside its raw one counts as the same camera, and the raw one is taken.

    Raises:
        RecordingError: none, or several, or a named one that holds depth in a form that would be
            taken for a picture.
    """
    if wanted is not None:
        recording.require(wanted, *_IMAGES)
        if recording.topics[wanted].kind == m.COMPRESSED_IMAGE and holds_depth(recording, wanted):
            fitting = ", ".join(_pictures(recording)) or "none"
            raise RecordingError(
                f"{recording.path}: {wanted} holds depth, not pictures; topics that fit: {fitting}"
            )
        return wanted
    candidates = _pictures(recording)
    raw = [n for n in candidates if not (_base(n) != n and _base(n) in candidates)]
    if not raw:
        held = ", ".join(f"{t.name} ({t.kind})" for t in recording.topics.values())
        unread = "".join(
            f"; {name} cannot be read: {why}" for name, why in recording.unreadable.items()
        )
        raise RecordingError(
            f"{recording.path} has no image topic (sensor_msgs/Image or CompressedImage, other "
            f"than depth); it holds {held or 'no topics'}{unread}"
        )
    return _only(recording, "image", raw)


def camera_info_of(recording: Recording, image_topic: str) -> str | None:
    """``camera_info`` beside the image topic, by name, else by the same frame_id; or None."""
    infos = recording.of_kind(m.CAMERA_INFO)
    base = _base(image_topic)
    beside = [f"{base.rpartition('/')[0]}/camera_info", f"{base}/camera_info"]
    if base.endswith(_LIBREALSENSE[0]):
        beside.append(base.removesuffix(_LIBREALSENSE[0]) + _LIBREALSENSE[1])
    for name in beside:
        if name in infos:
            return name
    frame = _frame_id(recording, image_topic)
    same = [name for name in infos if frame and _frame_id(recording, name) == frame]
    return same[0] if len(same) == 1 else None


def ground_truth_depth_of(recording: Recording) -> str | None:
    """The topic with true depth images, as the simulation and `import` write it; or None."""
    names = [name for name in _truths(recording) if "ground_truth" in name]
    return names[0] if len(names) == 1 else None


def true_depth_of(
    recording: Recording, image_topic: str, info: str | None, wanted: str | None = None
) -> str | None:
    """The topic whose depth images are the truth for an image topic; or None.

    By name as the simulation and `import` write it, else the only depth image with the image's
    own ``frame_id`` and camera: one of another is not registered to the image. An image that is
    there raw and compressed counts once.

    Args:
        recording: the bag.
        image_topic: of the images.
        info: their camera_info, or None.
        wanted: the user's choice; ``none`` for no truth.

    Raises:
        RecordingError: a named topic that is missing, of the wrong type or of another camera, or
            several candidates.
    """
    if wanted is not None:
        named = _optional(recording, wanted, "depth", _IMAGES, [])
        if named is not None:
            check_registered(recording, info, named, camera_info_of(recording, named))
        return named
    named = ground_truth_depth_of(recording)
    if named is not None:
        return named
    frame = _frame_id(recording, image_topic)
    depths = [
        name
        for name in _truths(recording)
        if _frame_id(recording, name) == frame
        and not another_camera(recording, info, camera_info_of(recording, name))
    ]
    return _only(recording, "depth", depths) if depths else None


def is_rectified(image_topic: str) -> bool:
    """Whether the name says that the image is rectified, as image_proc names its outputs."""
    return _base(image_topic).rpartition("/")[2].startswith("image_rect")


def _optional(
    recording: Recording,
    wanted: str | None,
    part: str,
    kinds: tuple[str, ...],
    candidates: list[str],
) -> str | None:
    if wanted == NONE:
        return None
    if wanted is not None:
        recording.require(wanted, *kinds)
        return wanted
    return _only(recording, part, candidates) if candidates else None


def _only(recording: Recording, part: str, candidates: list[str]) -> str:
    if len(candidates) > 1:
        raise RecordingError(
            f"{recording.path} has several {part} topics: {', '.join(candidates)}; choose one "
            f"with --{part.replace('_', '-')}-topic"
        )
    return candidates[0]


def _pictures(recording: Recording) -> list[str]:
    """Image topics that hold neither depth nor this package's own picture of depth, and whose
    first message can be read: the damage of a topic that nobody asks for is nobody's fault."""
    found = []
    for name in recording.of_kind(*_IMAGES):
        try:
            depth = holds_depth(recording, name)
        except RecordingError:
            continue
        if not depth and not _ours(recording, name):
            found.append(name)
    return found


def _truths(recording: Recording) -> list[str]:
    """Topics of depth images that can be decoded; of one image's transports the first."""
    found: list[str] = []
    for name in recording.of_kind(*_IMAGES):
        try:
            depth = not _ours(recording, name) and holds_depth(recording, name)
            if depth:
                depth_of(recording.first(name))
        except (RecordingError, InputError):
            continue
        if depth and _base(name) not in {_base(other) for other in found}:
            found.append(name)
    return found


def _ours(recording: Recording, name: str) -> bool:
    """Written by this package: it lies in a namespace that also holds our ``depth/image``."""
    folder = name.rpartition("/")[0]
    return folder.rpartition("/")[2] == "depth" and f"{folder}/disparity" in recording.topics


def _base(name: str) -> str:
    """The raw topic that image_transport derives a compressed topic from."""
    return name.removesuffix("/compressed").removesuffix(f"/{COMPRESSED_DEPTH}")


def _frame_id(recording: Recording, topic: str) -> str:
    message = recording.first(topic)
    return message.header.frame_id if message is not None else ""
