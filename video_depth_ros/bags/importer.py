# SPDX-License-Identifier: Apache-2.0
"""A sequence of any format written as a rosbag2, under the topic names of the simulation."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from video_depth_ros.bags import messages as m
from video_depth_ros.bags.formats.base import SequenceFrame, SequenceReader
from video_depth_ros.bags.writer import BagWriter
from video_depth_ros.errors import RecordingError

CAMERA_FRAME, BASE_FRAME, LIDAR_FRAME, IMU_FRAME = (
    "camera_optical_frame",
    "base_link",
    "lidar",
    "imu",
)
ODOM_FRAME, WORLD_FRAME = "odom", "world"

_JPEG_QUALITY = 95
_CODECS = {".jpg": "jpeg", ".jpeg": "jpeg", ".png": "png"}


@dataclass(frozen=True)
class Item:
    """One message on its way into the bag."""

    stamp_ns: int
    topic: str
    kind: str
    message: Any


def import_sequence(
    reader: SequenceReader,
    path: str | Path,
    *,
    storage: str | None = None,
    overwrite: bool = False,
    compressed: bool = False,
    poses_as_odometry: bool = False,
    progress: Callable[[int], None] | None = None,
) -> dict[str, int]:
    """Write a sequence as a bag; all its streams merged in the order of their stamps.

    Args:
        reader: the source.
        path, storage, overwrite: as for :class:`BagWriter`.
        compressed: images as CompressedImage: JPEG and PNG files byte for byte, others as JPEG.
        poses_as_odometry: true poses also become ``/odom``, as if the robot had measured them.
        progress: called with the number of frames written so far.

    Returns:
        Messages written by topic.

    Raises:
        RecordingError: damaged source, or the bag cannot be written; nothing is left then.
    """
    counts: dict[str, int] = {}
    frames = 0
    with BagWriter(path, storage, overwrite) as bag:
        for item in _items(reader, compressed, poses_as_odometry):
            if item.topic not in counts:
                latched = item.topic == "/tf_static"
                bag.add_topic(item.topic, item.kind, latched=latched)
                counts[item.topic] = 0
            bag.write(item.topic, item.stamp_ns, item.message)
            counts[item.topic] += 1
            if item.topic.startswith("/camera/image_raw"):
                frames += 1
                if progress is not None:
                    progress(frames)
        if not frames:
            raise RecordingError(f"{reader.path} holds no image")
    return counts


def _items(reader: SequenceReader, compressed: bool, poses_as_odometry: bool) -> Iterator[Item]:
    streams = [
        _frames(reader, compressed),
        (_scan(s.stamp_ns, s.points, s.intensity) for s in reader.scans()),
        (_imu(s.stamp_ns, s.angular_velocity, s.linear_acceleration) for s in reader.imu()),
    ]
    if poses_as_odometry or not reader.odometry_is_truth:
        streams.append(_odometry(s.stamp_ns, s.T_world_base) for s in reader.odometry())
    first = True
    for item in heapq.merge(*streams, key=lambda item: item.stamp_ns):
        if first:
            yield Item(item.stamp_ns, "/tf_static", m.TF_MESSAGE, _mounting(item.stamp_ns, reader))
            first = False
        yield item


def _mounting(stamp_ns: int, reader: SequenceReader) -> Any:
    """The sensors on the robot."""
    sensors = (
        (CAMERA_FRAME, reader.T_base_camera),
        (LIDAR_FRAME, reader.T_base_lidar),
        (IMU_FRAME, reader.T_base_imu),
    )
    return m.transforms(stamp_ns, [(BASE_FRAME, name, T) for name, T in sensors if T is not None])


def _frames(reader: SequenceReader, compressed: bool) -> Iterator[Item]:
    camera = reader.camera
    for frame in reader.frames():
        t = frame.stamp_ns
        if camera is not None:
            info = m.camera_info(t, CAMERA_FRAME, camera)
            yield Item(t, "/camera/camera_info", m.CAMERA_INFO, info)
        if compressed:
            yield Item(t, "/camera/image_raw/compressed", m.COMPRESSED_IMAGE, _encoded(frame))
        else:
            pixels = frame.rgb[..., 0] if reader.grey else frame.rgb
            image = m.image(t, CAMERA_FRAME, pixels)
            yield Item(t, "/camera/image_raw", m.IMAGE, image)
        if frame.depth is not None:
            depth = m.image(t, CAMERA_FRAME, frame.depth)
            yield Item(t, "/ground_truth/depth", m.IMAGE, depth)
        if frame.T_world_camera is not None:
            pose = m.pose(t, WORLD_FRAME, frame.T_world_camera)
            yield Item(t, "/ground_truth/pose", m.POSE_STAMPED, pose)


def _encoded(frame: SequenceFrame) -> Any:
    codec = _CODECS.get(frame.file.suffix.lower()) if frame.file is not None else None
    if frame.file is not None and codec is not None:
        try:
            data = frame.file.read_bytes()
        except OSError as error:
            raise RecordingError(f"cannot read {frame.file}: {error}") from error
        return m.compressed_image(frame.stamp_ns, CAMERA_FRAME, data, codec)
    bgr = cv2.cvtColor(frame.rgb, cv2.COLOR_RGB2BGR)
    done, buffer = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    if not done:
        raise RecordingError(f"frame at {frame.stamp_ns} ns cannot be encoded as JPEG")
    return m.compressed_image(frame.stamp_ns, CAMERA_FRAME, buffer.tobytes(), "jpeg")


def _scan(stamp_ns: int, points: np.ndarray, intensity: np.ndarray | None) -> Item:
    message = m.cloud(stamp_ns, LIDAR_FRAME, points, intensity)
    return Item(stamp_ns, "/points", m.POINT_CLOUD, message)


def _imu(stamp_ns: int, rate: np.ndarray, force: np.ndarray) -> Item:
    return Item(stamp_ns, "/imu/data", m.IMU, m.imu(stamp_ns, IMU_FRAME, rate, force))


def _odometry(stamp_ns: int, T_odom_base: np.ndarray) -> Item:
    message = m.odometry(stamp_ns, ODOM_FRAME, BASE_FRAME, T_odom_base)
    return Item(stamp_ns, "/odom", m.ODOMETRY, message)
