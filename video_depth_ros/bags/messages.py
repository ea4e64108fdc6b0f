# SPDX-License-Identifier: Apache-2.0
"""ROS 2 messages from numpy arrays and back, with the type definitions of ``rosbags``.

No ROS is needed. The reading functions only use attribute names, so they take rclpy's messages
as well. Stamps are integer nanoseconds; poses are T_a_b, float64 [4, 4].
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np
from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.store import Typestore

from video_depth_ros.camera import Camera
from video_depth_ros.errors import InputError
from video_depth_ros.poses import quaternion, transform

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
POINT_CLOUD = "sensor_msgs/msg/PointCloud2"
IMU = "sensor_msgs/msg/Imu"
ODOMETRY = "nav_msgs/msg/Odometry"
POSE_STAMPED = "geometry_msgs/msg/PoseStamped"
TF_MESSAGE = "tf2_msgs/msg/TFMessage"

_ENCODINGS = {
    ("uint8", 2): "mono8",
    ("uint8", 3): "rgb8",
    ("uint16", 2): "16UC1",
    ("float32", 2): "32FC1",
}
_FLOAT32 = 7  # sensor_msgs/PointField.FLOAT32
_MODELS = {"none": "plumb_bob"}  # CameraInfo says "no distortion" by plumb_bob with zeros
_MODEL_NAMES = {
    "fisheye": "equidistant",
    "radtan": "plumb_bob",
    "Brown Conrady": "plumb_bob",  # librealsense
    "": "plumb_bob",
}


@cache
def typestore() -> Typestore:
    """The definitions messages are written with; the types used here are the same in every
    distribution from Humble on."""
    return get_typestore(Stores.ROS2_JAZZY)


def serialise(message: Any, kind: str) -> bytes:
    """CDR bytes of a message of type ``kind`` (``package/msg/Name``)."""
    return bytes(typestore().serialize_cdr(message, kind))


def image(stamp_ns: int, frame_id: str, pixels: np.ndarray, encoding: str = "") -> Any:
    """``sensor_msgs/Image`` from [H, W] or [H, W, C] pixels.

    The encoding is taken from the array unless given: mono8, rgb8, 16UC1 or 32FC1.

    Raises:
        InputError: ``image`` for an array with no such encoding.
    """
    encoding = encoding or _ENCODINGS.get((pixels.dtype.name, pixels.ndim), "")
    if not encoding:
        raise InputError(
            "image", f"no image encoding for {pixels.dtype} {list(pixels.shape)}; name one"
        )
    little = np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("<"))
    return _make(
        IMAGE,
        header=_header(stamp_ns, frame_id),
        height=pixels.shape[0],
        width=pixels.shape[1],
        encoding=encoding,
        is_bigendian=0,
        step=little.strides[0],
        data=little.reshape(-1).view(np.uint8),
    )


def compressed_image(stamp_ns: int, frame_id: str, data: bytes, form: str) -> Any:
    """``sensor_msgs/CompressedImage`` from an encoded file; ``form`` is jpeg or png."""
    return _make(
        COMPRESSED_IMAGE,
        header=_header(stamp_ns, frame_id),
        format=form,
        data=np.frombuffer(data, dtype=np.uint8),
    )


def camera_info(stamp_ns: int, frame_id: str, camera: Camera) -> Any:
    """``sensor_msgs/CameraInfo`` of an unrectified monocular camera: R = I, P = [K 0]."""
    k = camera.matrix
    d = np.array(camera.distortion if camera.distortion else np.zeros(5), dtype=np.float64)
    return _make(
        CAMERA_INFO,
        header=_header(stamp_ns, frame_id),
        height=camera.height,
        width=camera.width,
        distortion_model=_MODELS.get(camera.distortion_model, camera.distortion_model),
        d=d,
        k=k.reshape(-1),
        r=np.eye(3).reshape(-1),
        p=np.hstack([k, np.zeros((3, 1))]).reshape(-1),
        binning_x=0,
        binning_y=0,
        roi=_make(
            "sensor_msgs/msg/RegionOfInterest",
            x_offset=0,
            y_offset=0,
            height=0,
            width=0,
            do_rectify=False,
        ),
    )


def cloud(
    stamp_ns: int, frame_id: str, points: np.ndarray, intensity: np.ndarray | None = None
) -> Any:
    """Unorganised ``sensor_msgs/PointCloud2``: x y z (and intensity) as float32.

    Args:
        points: float [N, 3], metres, in ``frame_id``.
        intensity: float [N], or None to leave the field out.
    """
    columns = [np.asarray(points, dtype="<f4").reshape(-1, 3)]
    names = ["x", "y", "z"]
    if intensity is not None:
        columns.append(np.asarray(intensity, dtype="<f4").reshape(-1, 1))
        names.append("intensity")
    table = np.ascontiguousarray(np.hstack(columns))
    data = table.reshape(-1).view(np.uint8)
    return _cloud(stamp_ns, frame_id, names, 1, len(table), data, bool(np.isfinite(table).all()))


def organised_cloud(stamp_ns: int, frame_id: str, data: np.ndarray) -> Any:
    """Organised ``sensor_msgs/PointCloud2`` of 16-byte points x y z rgb.

    Args:
        data: uint8 [H, W, 16] as ``point_cloud.pack_cloud`` makes it.
    """
    height, width = data.shape[:2]
    flat = np.ascontiguousarray(data).reshape(-1)
    return _cloud(stamp_ns, frame_id, ["x", "y", "z", "rgb"], height, width, flat, False)


def imu(
    stamp_ns: int,
    frame_id: str,
    angular_velocity: np.ndarray,
    linear_acceleration: np.ndarray,
    T_world_imu: np.ndarray | None = None,
) -> Any:
    """``sensor_msgs/Imu``: rad/s and specific force m/s^2 (REP-145).

    Without an orientation its covariance starts with -1, as the message's definition asks.
    """
    unknown = np.zeros(9)
    orientation = np.array([0.0, 0.0, 0.0, 1.0])
    orientation_covariance = np.zeros(9)
    if T_world_imu is None:
        orientation_covariance[0] = -1.0
    else:
        orientation = quaternion(T_world_imu)
    return _make(
        IMU,
        header=_header(stamp_ns, frame_id),
        orientation=_quaternion(orientation),
        orientation_covariance=orientation_covariance,
        angular_velocity=_vector(angular_velocity),
        angular_velocity_covariance=unknown,
        linear_acceleration=_vector(linear_acceleration),
        linear_acceleration_covariance=unknown,
    )


def odometry(
    stamp_ns: int,
    frame_id: str,
    child_frame_id: str,
    T_odom_base: np.ndarray,
    linear: np.ndarray | None = None,
    angular: np.ndarray | None = None,
    covariance: np.ndarray | None = None,
) -> Any:
    """``nav_msgs/Odometry``: pose of the child, its twist [m/s], [rad/s] in the child's frame,
    and the pose's covariance [6, 6]."""
    zero = np.zeros(3)
    twist = _make(
        "geometry_msgs/msg/Twist",
        linear=_vector(zero if linear is None else linear),
        angular=_vector(zero if angular is None else angular),
    )
    pose_covariance = np.zeros(36) if covariance is None else np.asarray(covariance, float)
    return _make(
        ODOMETRY,
        header=_header(stamp_ns, frame_id),
        child_frame_id=child_frame_id,
        pose=_make(
            "geometry_msgs/msg/PoseWithCovariance",
            pose=_pose(T_odom_base),
            covariance=pose_covariance.reshape(-1),
        ),
        twist=_make("geometry_msgs/msg/TwistWithCovariance", twist=twist, covariance=np.zeros(36)),
    )


def pose(stamp_ns: int, frame_id: str, T_frame_body: np.ndarray) -> Any:
    """``geometry_msgs/PoseStamped``."""
    return _make(POSE_STAMPED, header=_header(stamp_ns, frame_id), pose=_pose(T_frame_body))


def transforms(stamp_ns: int, edges: Iterable[tuple[str, str, np.ndarray]]) -> Any:
    """``tf2_msgs/TFMessage`` from (parent, child, T_parent_child)."""
    return _make(
        TF_MESSAGE,
        transforms=[
            _make(
                "geometry_msgs/msg/TransformStamped",
                header=_header(stamp_ns, parent),
                child_frame_id=child,
                transform=_make(
                    "geometry_msgs/msg/Transform",
                    translation=_vector(T[:3, 3]),
                    rotation=_quaternion(quaternion(T)),
                ),
            )
            for parent, child, T in edges
        ],
    )


def stamp_of(message: Any) -> int:
    """Nanoseconds of a message's header stamp."""
    stamp = message.header.stamp
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def camera_of(info: Any, rectified: bool = False) -> Camera | None:
    """The camera model of the image that a ``sensor_msgs/CameraInfo`` comes with.

    Region of interest and binning are applied: the model is of the image as it is sent.

    Args:
        info: the message.
        rectified: the image is rectified: P without distortion holds, not K and D.

    Returns:
        None when the camera is uncalibrated (K all zero).

    Raises:
        InputError: ``camera_info`` for numbers or a distortion model that cannot be used.
    """
    k = np.asarray(info.k, dtype=np.float64)
    p = np.asarray(info.p, dtype=np.float64)
    if not k.any():
        return None
    fx, fy, cx, cy = k[0], k[4], k[2], k[5]
    model, d = _distortion(str(info.distortion_model), tuple(float(x) for x in info.d))
    if rectified and p.any():
        fx, fy, cx, cy = p[0], p[5], p[2], p[6]
    if rectified:
        model, d = "none", ()
    camera = Camera(
        int(info.width), int(info.height), float(fx), float(fy), float(cx), float(cy), model, d
    )
    return _binned(_in_region(camera, info.roi), int(info.binning_x), int(info.binning_y))


def transforms_of(message: Any) -> list[tuple[str, str, np.ndarray | None]]:
    """(parent, child, T_parent_child) of every transform of a ``tf2_msgs/TFMessage``; None for
    one that is no pose (not finite, or a quaternion of zeros), which tf2 refuses as well."""
    edges: list[tuple[str, str, np.ndarray | None]] = []
    for item in message.transforms:
        t, q = item.transform.translation, item.transform.rotation
        try:
            T = transform(np.array([t.x, t.y, t.z]), np.array([q.x, q.y, q.z, q.w]))
        except InputError:
            T = None
        edges.append((item.header.frame_id.lstrip("/"), item.child_frame_id.lstrip("/"), T))
    return edges


def pose_of(message: Any) -> np.ndarray:
    """T float64 [4, 4] of a ``geometry_msgs/Pose``, or of a message that holds one.

    Raises:
        InputError: ``pose`` for a pose that is not finite.
    """
    while hasattr(message, "pose"):
        message = message.pose
    p, q = message.position, message.orientation
    return transform(np.array([p.x, p.y, p.z]), np.array([q.x, q.y, q.z, q.w]))


def vector_of(message: Any) -> np.ndarray:
    """float64 [3] of a ``geometry_msgs/Vector3``."""
    return np.array([message.x, message.y, message.z], dtype=np.float64)


def _distortion(model: str, d: tuple[float, ...]) -> tuple[str, tuple[float, ...]]:
    """Camera's names and lengths; trailing zeros that a driver adds are dropped."""
    if not any(d):
        return "none", ()
    model = _MODEL_NAMES.get(model, model)
    length = {"plumb_bob": 5, "rational_polynomial": 8, "equidistant": 4}.get(model, len(d))
    if len(d) > length and not any(d[length:]):
        d = d[:length]
    return model, d


def _in_region(camera: Camera, roi: Any) -> Camera:
    width, height = int(roi.width), int(roi.height)
    if not (width or height or roi.x_offset or roi.y_offset):
        return camera  # all zero means the full image
    x, y = int(roi.x_offset), int(roi.y_offset)
    return camera.cropped(x, y, width or camera.width - x, height or camera.height - y)


def _binned(camera: Camera, bx: int, by: int) -> Camera:
    bx, by = max(bx, 1), max(by, 1)  # 0 means 1
    if bx == by == 1:
        return camera
    width, height = camera.width // bx, camera.height // by
    return camera.cropped(0, 0, width * bx, height * by).resized(width, height)


def _make(kind: str, **fields: Any) -> Any:
    return typestore().types[kind](**fields)


def _header(stamp_ns: int, frame_id: str) -> Any:
    seconds, nanoseconds = divmod(int(stamp_ns), 1_000_000_000)
    time = _make("builtin_interfaces/msg/Time", sec=seconds, nanosec=nanoseconds)
    return _make("std_msgs/msg/Header", stamp=time, frame_id=frame_id)


def _vector(v: np.ndarray) -> Any:
    return _make("geometry_msgs/msg/Vector3", x=float(v[0]), y=float(v[1]), z=float(v[2]))


def _quaternion(q: np.ndarray) -> Any:
    x, y, z, w = (float(c) for c in q)
    return _make("geometry_msgs/msg/Quaternion", x=x, y=y, z=z, w=w)


def _pose(T: np.ndarray) -> Any:
    point = _make("geometry_msgs/msg/Point", x=float(T[0, 3]), y=float(T[1, 3]), z=float(T[2, 3]))
    return _make("geometry_msgs/msg/Pose", position=point, orientation=_quaternion(quaternion(T)))


def _cloud(
    stamp_ns: int,
    frame_id: str,
    names: list[str],
    height: int,
    width: int,
    data: np.ndarray,
    dense: bool,
) -> Any:
    fields = [
        _make("sensor_msgs/msg/PointField", name=name, offset=4 * i, datatype=_FLOAT32, count=1)
        for i, name in enumerate(names)
    ]
    return _make(
        POINT_CLOUD,
        header=_header(stamp_ns, frame_id),
        height=height,
        width=width,
        fields=fields,
        is_bigendian=False,
        point_step=4 * len(names),
        row_step=4 * len(names) * width,
        data=data,
        is_dense=dense,
    )
