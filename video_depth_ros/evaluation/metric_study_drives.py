# SPDX-License-Identifier: Apache-2.0
"""Simulated robots for the metric study: drives through the worlds, kept on disk when asked to,
and motion from which an IMU cannot tell the scale.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import cv2
import numpy as np

from video_depth_ros.bags.formats.base import Scan
from video_depth_ros.camera import Camera
from video_depth_ros.errors import ConfigError, RecordingError
from video_depth_ros.evaluation.metric_study import Drive
from video_depth_ros.files import replacing
from video_depth_ros.poses import inverse
from video_depth_ros.simulation import imu as inertial
from video_depth_ros.simulation import lidar as laser
from video_depth_ros.simulation import odometry as wheels
from video_depth_ros.simulation.path import T_LINK_OPTICAL
from video_depth_ros.simulation.path import Path as Motion
from video_depth_ros.simulation.recording import START_NS, Simulation, SimulationConfig
from video_depth_ros.simulation.rig import Rig
from video_depth_ros.simulation.sensor import Exposer, Sensor, image_flow

_VERSION = 1  # of the cached files; a new one when drives of old ones would differ
_EDGE = 0.1  # s of path beyond the last image that the sensors see
MOTIONS = ("standstill", "constant velocity", "swing")
_WIDTH, _HEIGHT, _RATE = 160, 120, 10.0
_SWING_HZ, _SWING_PEAK = 0.5, 1.5  # control: peak acceleration [m/s^2]


def simulated_drive(config: SimulationConfig, cache: Path | None = None) -> Drive:
    """A drive with images, depth, LiDAR, IMU and odometry at their simulated noise levels.

    Args:
        config: world, seed, length, image size.
        cache: folder in which the drive is looked for, and kept once rendered.

    Raises:
        RecordingError: a cached drive is damaged, or the folder cannot be written.
    """
    if cache is None:
        return _render(config)
    split = "heldout" if config.heldout else "train"
    file = cache / (
        f"drive{_VERSION}_{config.world}_{config.seed}_{split}_{config.style}_"
        f"{config.seconds:g}s_{config.rate:g}hz_{config.width}x{config.height}_"
        f"{config.rings}.npz"
    )
    if not file.exists():
        _save(_render(config), file)
    return _load(file)


def _render(config: SimulationConfig) -> Drive:
    sim = Simulation.of(config)
    times = sim.image_times()
    poses = sim.rig.camera_poses(sim.path, times)
    later = sim.rig.camera_poses(sim.path, times + 1.0 / config.rate)
    sensor = Sensor.random(np.random.default_rng((config.seed, 11)))
    exposer = Exposer(sensor, config.height, config.width, config.seed)
    rgb = np.empty((len(times), config.height, config.width, 3), np.uint8)
    truth = np.empty(rgb.shape[:3], np.float32)
    for k, t in enumerate(times):
        linear, depth = sim.world.render_linear(sim.camera, poses[k], float(t), config.threads)
        flow = image_flow(sim.camera.fx, poses[k], later[k], depth)
        rgb[k] = exposer.expose(linear, float(t), flow)
        truth[k] = np.where(np.isfinite(depth) & (depth < 1e3), depth, np.nan)
    lidar, noise = laser.Lidar.with_rings(config.rings), np.random.default_rng((config.seed, 12))
    scans = [
        Scan(_ns(t), laser.scan(sim.world, sim.path, sim.rig, lidar, float(t), noise).points)
        for t in _times(config.seconds, lidar.rate)
    ]
    return _with_motion(config, sim.path, sim.rig, sim.camera, rgb, truth, tuple(scans))


def _with_motion(
    config: SimulationConfig,
    path: Motion,
    rig: Rig,
    camera: Camera,
    rgb: np.ndarray,
    truth: np.ndarray,
    scans: tuple[Scan, ...],
    name: str = "",
) -> Drive:
    """The drive with what IMU and odometry measured on the path."""
    imu, odometry = inertial.Imu(), wheels.Odometry()
    times = _times(config.seconds + _EDGE, imu.rate)
    rate, force = inertial.measure(path, rig, imu, times, np.random.default_rng((config.seed, 13)))
    steps = _times(config.seconds + _EDGE, odometry.rate)
    track = wheels.measure(path, rig, odometry, steps, np.random.default_rng((config.seed, 14)))
    fine = np.arange(0.0, config.seconds, 0.02)
    places = rig.camera_poses(path, fine)[:, :3, 3]
    T_camera_base = inverse(rig.T_base_camera_link @ T_LINK_OPTICAL)
    return Drive(
        name=name or f"{config.world} {config.seed}",
        camera=camera,
        stamps_ns=np.array([_ns(t) for t in _times(config.seconds, config.rate)]),
        rgb=rgb,
        truth=truth.astype(np.float16),
        scans=scans,
        imu=np.column_stack([times, rate, force]),
        odometry_ns=np.array([_ns(t) for t in steps]),
        odometry=track.poses,
        T_camera_lidar=T_camera_base @ rig.T_base_lidar,
        T_camera_imu=T_camera_base @ rig.T_base_imu,
        T_camera_base=T_camera_base,
        moved=float(np.linalg.norm(np.diff(places, axis=0), axis=1).sum()),
        excitation=float(np.sqrt(np.mean(np.sum(path.acceleration(fine) ** 2, axis=1)))),
    )


def _save(drive: Drive, file: Path) -> None:
    """Write beside and rename."""
    camera, scans = drive.camera, drive.scans
    try:
        with replacing(file) as beside, beside.open("wb") as handle:
            np.savez_compressed(
                handle,
                name=drive.name,
                camera=[camera.width, camera.height, camera.fx, camera.fy, camera.cx, camera.cy],
                stamps_ns=drive.stamps_ns, rgb=drive.rgb, truth=drive.truth,
                scan_ns=np.array([scan.stamp_ns for scan in scans], np.int64),
                scan_sizes=np.array([len(scan.points) for scan in scans]),
                points=np.concatenate([scan.points for scan in scans]),
                imu=drive.imu, odometry_ns=drive.odometry_ns, odometry=drive.odometry,
                T_camera_lidar=drive.T_camera_lidar, T_camera_imu=drive.T_camera_imu,
                T_camera_base=drive.T_camera_base,
                moved=drive.moved, excitation=drive.excitation,
            )  # fmt: skip
    except OSError as error:
        raise RecordingError(f"cannot keep the drive in {file}: {error}") from error


def _load(file: Path) -> Drive:
    try:
        with np.load(file) as data:
            table = dict(data)
        sizes = np.cumsum(table.pop("scan_sizes"))[:-1]
        scans = zip(table.pop("scan_ns"), np.split(table.pop("points"), sizes), strict=True)
        width, height, fx, fy, cx, cy = (float(x) for x in table.pop("camera"))
        return Drive(
            name=str(table.pop("name")),
            camera=Camera(int(width), int(height), fx, fy, cx, cy),
            scans=tuple(Scan(int(stamp), points) for stamp, points in scans),
            moved=float(table.pop("moved")),
            excitation=float(table.pop("excitation")),
            **table,
        )
    except (OSError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise RecordingError(
            f"{file}: not a drive of this version ({error}); delete it to have it rendered anew"
        ) from error


def motion_drive(motion: str, seed: int, seconds: float = 5.0) -> Drive:
    """A camera before a textured floor and wall, moving as named, with an IMU.

    The views are exact and cheap: every pixel's ray is cut with both planes. Images have noise of
    two grey levels.

    Args:
        motion: ``standstill``; ``constant velocity`` of 0.15 to 0.7 m/s; or ``swing``, a sine of
            1.5 m/s^2 at 0.5 Hz, the control from which the scale can be told.
        seed: of velocity, place, texture and noise.
        seconds: length.

    Raises:
        ConfigError: unknown motion.
    """
    if motion not in MOTIONS:
        raise ConfigError(f"motion: expected one of {', '.join(MOTIONS)}, got {motion!r}")
    rng = np.random.default_rng((seed, MOTIONS.index(motion), 21))
    config = SimulationConfig(
        seed=seed, seconds=seconds, rate=_RATE, width=_WIDTH, height=_HEIGHT, path="handheld"
    )
    camera, wall = config.camera(), float(rng.uniform(4.0, 8.0))
    spacing = 0.1
    t = spacing * (np.arange(int((seconds + 2 * _EDGE) / spacing) + 5) - 1)
    knots = np.tile(
        [0.0, 0.0, rng.uniform(0.8, 1.6), 0.0, rng.uniform(0.05, 0.3), 0.0], (len(t), 1)
    )
    direction = rng.normal(size=3) * (0.6, 1.0, 0.3)
    direction /= np.linalg.norm(direction)
    if motion == "constant velocity":
        knots[:, :3] += rng.uniform(0.15, 0.7) * t[:, None] * direction * (1.0, 1.0, 0.1)
    elif motion == "swing":
        omega = 2.0 * np.pi * _SWING_HZ
        knots[:, :3] += _SWING_PEAK / omega**2 * np.sin(omega * t)[:, None] * direction
    path = Motion(knots, spacing)
    rig = Rig.on(path, "handheld")
    wall += max(0.0, float(knots[-1, 0] - knots[0, 0]))  # not to run into it
    texture = _texture(rng)
    rgb, truth = [], []
    for pose in rig.camera_poses(path, _times(seconds, _RATE)):
        image, depth = _planes(camera, pose, wall, texture)
        noisy = image + 2.0 * rng.standard_normal(image.shape)
        rgb.append(np.repeat(np.clip(noisy, 0, 255).astype(np.uint8)[..., None], 3, axis=2))
        truth.append(depth)
    name = f"{motion} {seed}"
    return _with_motion(config, path, rig, camera, np.array(rgb), np.array(truth), (), name)


def _texture(rng: np.random.Generator) -> np.ndarray:
    """Grey float32 [512, 512], blobs of several sizes, 2.5 cm a pixel; wraps around."""
    image = np.zeros((512, 512), np.float32)
    for blur in (2.0, 5.0, 12.0):
        noise = rng.standard_normal(image.shape).astype(np.float32)
        noise = np.tile(noise, (2, 2))  # so that the blur wraps as well
        noise = cv2.GaussianBlur(noise, (0, 0), blur)[256:768, 256:768]
        image += noise / noise.std()
    return np.clip(128.0 + 35.0 * image, 0.0, 255.0)


def _planes(
    camera: Camera, pose: np.ndarray, wall: float, texture: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Grey image float32 and depth float32 [H, W] of the floor z = 0 and the wall x = ``wall``."""
    rays, place = camera.rays() @ pose[:3, :3].T, pose[:3, 3]
    with np.errstate(divide="ignore"):
        floor = -place[2] / rays[..., 2]
        front = (wall - place[0]) / rays[..., 0]
    floor[floor <= 0.0], front[front <= 0.0] = np.inf, np.inf
    depth = np.minimum(floor, front)
    hit = place + depth[..., None] * rays
    on_floor = floor < front
    u = np.where(on_floor, hit[..., 0], hit[..., 1] + 3.1) / 0.025
    v = np.where(on_floor, hit[..., 1], hit[..., 2] + 5.7) / 0.025
    size = texture.shape[0]
    at = (u % size).astype(np.float32), (v % size).astype(np.float32)
    image = cv2.remap(texture, *at, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    return image, depth.astype(np.float32)


def _times(seconds: float, rate: float) -> np.ndarray:
    return np.arange(int(seconds * rate + 1e-9)) / rate


def _ns(seconds: float) -> int:
    return START_NS + round(float(seconds) * 1e9)
