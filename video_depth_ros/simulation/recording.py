# SPDX-License-Identifier: Apache-2.0
"""A simulated robot's drive written as a rosbag2, in the order a recorder would receive it."""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path as FilePath

import cv2
import numpy as np

from video_depth_ros.bags import messages as m
from video_depth_ros.bags.writer import BagWriter
from video_depth_ros.camera import Camera
from video_depth_ros.errors import ConfigError

from . import imu as inertial
from . import lidar as laser
from . import odometry as wheels
from .path import STYLES, Path, make_path
from .rig import Rig
from .scene import World
from .sensor import Exposer, Sensor, image_flow
from .worlds import NAMES, make_world

START_NS = 1_700_000_000_000_000_000
STYLE_OF_WORLD = {
    "room": "handheld", "corridor": "vehicle", "street": "vehicle", "clutter": "drone",
}  # fmt: skip
# A mild barrel distortion (k1 k2 p1 p2 k3), that of a 4 mm machine-vision lens.
PLUMB_BOB = (-0.28, 0.075, 2e-4, -1e-4, 0.0)
OPTICAL, LINK, BASE, LIDAR, IMU, ODOM, WORLD = (
    "camera_optical_frame", "camera_link", "base_link", "lidar", "imu", "odom", "world",
)  # fmt: skip
_KINDS = {
    "/tf_static": m.TF_MESSAGE, "/tf": m.TF_MESSAGE, "/camera/image_raw": m.IMAGE,
    "/camera/image_raw/compressed": m.COMPRESSED_IMAGE, "/camera/camera_info": m.CAMERA_INFO,
    "/points": m.POINT_CLOUD, "/imu/data": m.IMU, "/odom": m.ODOMETRY,
    "/ground_truth/depth": m.IMAGE, "/ground_truth/pose": m.POSE_STAMPED,
}  # fmt: skip
# (received ns, topic, message); the counter keeps heapq from comparing messages.
_Item = tuple[int, int, str, object]


@dataclass(frozen=True)
class SimulationConfig:
    """What to simulate.

    Attributes:
        world: room, corridor, street or clutter.
        seed: of everything; the same configuration gives the same bag contents.
        seconds: 0.2 to 600.
        rate: images per second, 1 to 120.
        width, height: of the images, 16 to 4096.
        hfov_deg: horizontal field of view before distortion, 20 to 130 degrees.
        path: handheld, vehicle, drone or static; empty for what suits the world.
        distortion: whether the lens has plumb_bob distortion.
        clean: no noise, blur or exposure changes in the images.
        rings: of the LiDAR, 1 to 128.
        lidar, imu, odometry, truth: whether to record these.
        compressed: JPEG images instead of raw ones.
        heldout: worlds of the evaluation split.
        threads: for rendering; the result does not depend on it.
    """

    world: str = "room"
    seed: int = 0
    seconds: float = 10.0
    rate: float = 20.0
    width: int = 640
    height: int = 480
    hfov_deg: float = 75.0
    path: str = ""
    distortion: bool = False
    clean: bool = False
    rings: int = 16
    lidar: bool = True
    imu: bool = True
    odometry: bool = True
    truth: bool = True
    compressed: bool = False
    heldout: bool = False
    threads: int = 2

    def __post_init__(self) -> None:
        """Refuse values out of range.

        Raises:
            ConfigError: naming the value and its range.
        """
        _choice("world", self.world, NAMES)
        _choice("path", self.path or "static", STYLES)
        _within("seed", self.seed, 0, 2**32 - 1)
        _within("seconds", self.seconds, 0.2, 600.0)
        _within("rate", self.rate, 1.0, 120.0)
        _within("width", self.width, 16, 4096)
        _within("height", self.height, 16, 4096)
        _within("hfov", self.hfov_deg, 20.0, 130.0)
        _within("rings", self.rings, 1, 128)
        _within("threads", self.threads, 1, 256)
        if self.distortion and self.hfov_deg > 95.0:
            raise ConfigError(
                f"hfov: plumb_bob distortion bends back on itself beyond 95 degrees, got "
                f"{self.hfov_deg:g}; choose a narrower lens or no distortion"
            )

    @property
    def style(self) -> str:
        """The path's style."""
        return self.path or STYLE_OF_WORLD[self.world]

    def camera(self) -> Camera:
        """Intrinsics: square pixels, centred."""
        focal = 0.5 * self.width / math.tan(math.radians(self.hfov_deg) / 2)
        center = (0.5 * (self.width - 1), 0.5 * (self.height - 1))
        if not self.distortion:
            return Camera(self.width, self.height, focal, focal, *center)
        return Camera(self.width, self.height, focal, focal, *center, "plumb_bob", PLUMB_BOB)


@dataclass(frozen=True)
class Simulation:
    """A world with a robot moving through it."""

    config: SimulationConfig
    world: World
    path: Path
    rig: Rig
    camera: Camera

    @staticmethod
    def of(config: SimulationConfig) -> Simulation:
        """Build everything that the configuration determines."""
        length = min(15.0 * config.seconds, 900.0) + 40.0 if config.world == "street" else None
        if config.world == "corridor":
            length = min(1.6 * config.seconds, 120.0) + 15.0
        world = make_world(config.world, config.seed, heldout=config.heldout, length=length)
        path = make_path(world, config.seed, config.seconds + 0.2, config.style)
        return Simulation(config, world, path, Rig.on(path, config.style), config.camera())

    def image_times(self) -> np.ndarray:
        """Seconds since the start, float64 [T]."""
        return _times(self.config.seconds, self.config.rate)


@dataclass(frozen=True)
class Summary:
    """What was written.

    Attributes:
        counts: messages by topic.
        frames: images; render_s: seconds spent rendering them.
        distance_m: length of the camera's path.
    """

    counts: dict[str, int]
    frames: int
    render_s: float
    distance_m: float


def record(
    simulation: Simulation,
    path: str | FilePath,
    *,
    storage: str | None = None,
    overwrite: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Summary:
    """Simulate and write a bag.

    Args:
        simulation: what to record.
        path, storage, overwrite: as for ``BagWriter``.
        progress: called with the number of images so far.

    Raises:
        RecordingError: the bag cannot be written; nothing is left then.
    """
    counts: dict[str, int] = {}
    clock = [0.0]
    with BagWriter(path, storage, overwrite) as bag:
        for received, _, topic, message in heapq.merge(*_streams(simulation, clock)):
            if topic not in counts:
                bag.add_topic(topic, _KINDS[topic], latched=topic == "/tf_static")
                counts[topic] = 0
            bag.write(topic, received, message)
            counts[topic] += 1
            if progress is not None and topic.startswith("/camera/image_raw"):
                progress(counts[topic])
    places = simulation.path.evaluate(np.arange(0.0, simulation.config.seconds, 0.05))[:, :3]
    travelled = float(np.linalg.norm(np.diff(places, axis=0), axis=1).sum())
    frames = len(simulation.image_times())
    return Summary(counts, frames, clock[0], travelled)


def _streams(sim: Simulation, clock: list[float]) -> list[Iterator[_Item]]:
    streams = [_static(sim), _images(sim, clock)]
    if sim.config.lidar:
        streams.append(_scans(sim))
    if sim.config.imu:
        streams.append(_imu(sim))
    if sim.config.odometry:
        streams.append(_odometry(sim))
    return streams


def _static(sim: Simulation) -> Iterator[_Item]:
    optical = np.eye(4)
    optical[:3, :3] = [[0, 0, 1], [-1, 0, 0], [0, -1, 0]]
    edges = [(BASE, LINK, sim.rig.T_base_camera_link), (LINK, OPTICAL, optical)]
    if sim.config.lidar:
        edges.append((BASE, LIDAR, sim.rig.T_base_lidar))
    if sim.config.imu:
        edges.append((BASE, IMU, sim.rig.T_base_imu))
    yield START_NS, 0, "/tf_static", m.transforms(START_NS, edges)


def _images(sim: Simulation, clock: list[float]) -> Iterator[_Item]:
    config, camera = sim.config, sim.camera
    times = sim.image_times()
    poses = sim.rig.camera_poses(sim.path, times)
    later = sim.rig.camera_poses(sim.path, times + 1.0 / config.rate)
    sensor = Sensor.random(np.random.default_rng((config.seed, 11)))
    exposer = Exposer(
        Sensor() if config.clean else sensor, config.height, config.width, config.seed
    )
    for k, t in enumerate(times):
        started = time.perf_counter()
        linear, depth = sim.world.render_linear(camera, poses[k], float(t), config.threads)
        flow = image_flow(camera.fx, poses[k], later[k], depth)
        rgb = exposer.expose(linear, float(t), flow)
        clock[0] += time.perf_counter() - started
        ns = _ns(t)
        yield ns, 1, "/camera/camera_info", m.camera_info(ns, OPTICAL, camera)
        if config.compressed:
            _, code = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])
            image = m.compressed_image(ns, OPTICAL, code.tobytes(), "jpeg")
            yield ns, 2, "/camera/image_raw/compressed", image
        else:
            yield ns, 2, "/camera/image_raw", m.image(ns, OPTICAL, rgb)
        if config.truth:
            known = np.where(np.isfinite(depth), depth, np.float32(np.nan))
            yield ns, 3, "/ground_truth/depth", m.image(ns, OPTICAL, known)
            yield ns, 4, "/ground_truth/pose", m.pose(ns, WORLD, poses[k])


def _scans(sim: Simulation) -> Iterator[_Item]:
    lidar = laser.Lidar.with_rings(sim.config.rings)
    rng = np.random.default_rng((sim.config.seed, 12))
    for t in _times(sim.config.seconds, lidar.rate):
        turn = laser.scan(sim.world, sim.path, sim.rig, lidar, float(t), rng)
        # A driver hands a turn over when it is complete, half a turn after its stamp.
        yield _ns(t + 0.5 / lidar.rate), 5, "/points", scan_message(_ns(t), turn)


def _imu(sim: Simulation) -> Iterator[_Item]:
    imu = inertial.Imu()
    times = _times(sim.config.seconds, imu.rate)
    rng = np.random.default_rng((sim.config.seed, 13))
    rate, force = inertial.measure(sim.path, sim.rig, imu, times, rng)
    gyro = np.eye(3).reshape(-1) * imu.gyro_noise**2 * imu.rate
    accel = np.eye(3).reshape(-1) * imu.accel_noise**2 * imu.rate
    for k, t in enumerate(times):
        message = m.imu(_ns(t), IMU, rate[k], force[k])
        message.angular_velocity_covariance[:] = gyro
        message.linear_acceleration_covariance[:] = accel
        yield _ns(t), 6, "/imu/data", message


def _odometry(sim: Simulation) -> Iterator[_Item]:
    odometry = wheels.Odometry()
    times = _times(sim.config.seconds, odometry.rate)
    rng = np.random.default_rng((sim.config.seed, 14))
    track = wheels.measure(sim.path, sim.rig, odometry, times, rng)
    for k, t in enumerate(times):
        ns = _ns(t)
        yield (
            ns,
            7,
            "/odom",
            m.odometry(
                ns,
                ODOM,
                BASE,
                track.poses[k],
                track.linear[k],
                track.angular[k],
                track.covariance[k],
            ),
        )
        yield ns, 8, "/tf", m.transforms(ns, [(ODOM, BASE, track.poses[k])])


def scan_message(stamp_ns: int, turn: laser.Scan) -> object:
    """``sensor_msgs/PointCloud2`` with x, y, z, intensity, ring and time (22-byte points).

    ``time`` is each point's offset from the header stamp in seconds, as in Velodyne's drivers.
    """
    layout = [
        ("x", "<f4", 7),
        ("y", "<f4", 7),
        ("z", "<f4", 7),
        ("intensity", "<f4", 7),
        ("ring", "<u2", 4),
        ("time", "<f4", 7),
    ]
    table = np.empty(len(turn.points), [(name, kind) for name, kind, _ in layout])
    table["x"], table["y"], table["z"] = turn.points.T
    table["intensity"], table["ring"], table["time"] = turn.intensity, turn.ring, turn.offset_s
    types = m.typestore().types
    message = m.cloud(stamp_ns, LIDAR, np.zeros((0, 3)))
    field = types["sensor_msgs/msg/PointField"]
    offsets = [table.dtype.fields[name][1] for name, _, _ in layout]  # type: ignore[index]
    return types[m.POINT_CLOUD](
        header=message.header,
        height=1,
        width=len(table),
        fields=[
            field(name=name, offset=offset, datatype=number, count=1)
            for (name, _, number), offset in zip(layout, offsets, strict=True)
        ],
        is_bigendian=False,
        point_step=table.itemsize,
        row_step=table.nbytes,
        data=np.frombuffer(table.tobytes(), np.uint8),
        is_dense=True,
    )


def _times(seconds: float, rate: float) -> np.ndarray:
    return np.arange(math.floor(seconds * rate + 1e-9) or 1) / rate


def _ns(seconds: float) -> int:
    return START_NS + round(float(seconds) * 1e9)


def _choice(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ConfigError(f"{name}: expected one of {', '.join(known)}, got {value!r}")


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ConfigError(f"{name}: expected {low:g} to {high:g}, got {value:g}")
