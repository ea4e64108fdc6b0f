# SPDX-License-Identifier: Apache-2.0
"""Tiny recordings in every layout that can be imported, with known contents."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from .samples import picture, wall_scan

DEPTH_M = 2.5


def write_picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), picture(seed)[..., ::-1])


def write_depth(path: Path, per_metre: float) -> None:
    """2.5 m everywhere but an unmeasured corner pixel (0) and, top right, 65535."""
    raw = np.full((48, 64), round(DEPTH_M * per_metre), np.uint16)
    raw[0, 0], raw[0, -1] = 0, 65535
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), raw)


def make_images(root: Path) -> Path:
    for i in (1, 2, 10):
        write_picture(root / f"shot{i}.png", i)
    (root / "notes.txt").write_text("not an image")
    return root


def make_video(root: Path) -> Path:
    path = root / "walk.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 20.0, (64, 48))
    assert writer.isOpened()
    for i in range(5):
        writer.write(picture(i)[..., ::-1])
    writer.release()
    return path


def make_seven_scenes(root: Path) -> Path:
    for i in range(3):
        stem = f"frame-{i + 7:06d}"
        write_picture(root / f"{stem}.color.png", i)
        write_depth(root / f"{stem}.depth.png", 1000.0)
        pose = np.eye(4)
        pose[0, 3] = 0.1 * i
        np.savetxt(root / f"{stem}.pose.txt", pose)
    np.savetxt(root / "frame-000008.pose.txt", np.full((4, 4), np.nan))  # tracking lost
    np.savetxt(root / "camera-intrinsics.txt", np.array([[60, 0, 31.5], [0, 61, 23.5], [0, 0, 1]]))
    return root


def make_tum(root: Path) -> Path:
    rgb, depth, truth = ["# colour"], ["# depth"], ["# ground truth"]
    for i in range(4):
        t = 1305031102.175304 + i / 30
        write_picture(root / "rgb" / f"{i}.png", i)
        rgb.append(f"{t:.6f} rgb/{i}.png")
        if i != 2:  # one depth image fell out
            write_depth(root / "depth" / f"{i}.png", 5000.0)
            depth.append(f"{t + 0.005:.6f} depth/{i}.png")
    for i in range(-1, 20):
        t = 1305031102.175304 + i / 100
        truth.append(f"{t:.4f} {i / 100:.4f} 0 0 0 0 0 1")
    for name, lines in (("rgb", rgb), ("depth", depth), ("groundtruth", truth)):
        (root / f"{name}.txt").write_text("\n".join(lines) + "\n")
    return root


def make_euroc(root: Path) -> Path:
    cam, imu = root / "mav0" / "cam0", root / "mav0" / "imu0"
    truth = root / "mav0" / "state_groundtruth_estimate0"
    for folder in (cam / "data", imu, truth):
        folder.mkdir(parents=True)
    (cam / "sensor.yaml").write_text(
        "%YAML:1.0\nsensor_type: camera\nT_BS:\n  cols: 4\n  rows: 4\n"
        "  data: [0, 0, 1, 0.1,  -1, 0, 0, 0,  0, -1, 0, 0,  0, 0, 0, 1]\n"
        "resolution: [64, 48]\nintrinsics: [60, 61, 31.5, 23.5]\n"
        "distortion_model: radial-tangential\n"
        "distortion_coefficients: [-0.2, 0.05, 0.0001, 0.0002]\n"
    )
    start, lines = 1403636579763555584, ["#timestamp [ns],filename"]
    for i in range(3):
        t = start + i * 50_000_000
        grey = cv2.cvtColor(picture(i), cv2.COLOR_RGB2GRAY)
        assert cv2.imwrite(str(cam / "data" / f"{t}.png"), grey)
        lines.append(f"{t},{t}.png")
    (cam / "data.csv").write_text("\n".join(lines) + "\n")
    samples = [f"{start + i * 5_000_000},0.1,0.2,0.3,9.8,0.0,-0.5" for i in range(20)]
    (imu / "data.csv").write_text("#t,w,w,w,a,a,a\n" + "\n".join(samples) + "\n")
    poses = [f"{start + 1 + i * 30_000_000},{i},0,0,1,0,0,0" for i in range(3)]
    (truth / "data.csv").write_text("#t,p,p,p,qw,qx,qy,qz\n" + "\n".join(poses) + "\n")
    return root


# Velodyne forward left up -> camera right down forward, 5 cm apart; identity rectification; the
# left colour camera 6 cm right of the reference one.
KITTI_CAMERAS = """\
calib_time: 09-Jan-2012 13:57:47
R_rect_00: 1 0 0 0 1 0 0 0 1
P_rect_02: 60 0 31.5 3.6 0 60 23.5 0 0 0 1 0
"""
KITTI_VELO = "R: 0 -1 0 0 0 -1 1 0 0\nT: 0 0 -0.05\ndelta_f: 0 0\n"
KITTI_OXTS_CALIBRATION = "R: 1 0 0 0 1 0 0 0 1\nT: -0.8 0.3 -0.8\n"


def make_kitti(day: Path, stamps: bool = True, oxts: bool = True) -> Path:
    drive = day / "2011_09_26_drive_0001_sync"
    scans = drive / "velodyne_points" / "data"
    scans.mkdir(parents=True)
    (day / "calib_cam_to_cam.txt").write_text(KITTI_CAMERAS)
    (day / "calib_velo_to_cam.txt").write_text(KITTI_VELO)
    for i in range(3):
        write_picture(drive / "image_02" / "data" / f"{i:010d}.png", i)
        if i != 1:  # KITTI itself has drives that lack scans
            points = np.hstack([wall_scan(), np.full((640, 1), 0.5)]).astype("<f4")
            points.tofile(scans / f"{i:010d}.bin")
    times = [f"2011-09-26 13:02:{25 + 0.1 * i:06.3f}000001" for i in range(3)]
    if oxts:
        (day / "calib_imu_to_velo.txt").write_text(KITTI_OXTS_CALIBRATION)
        data = drive / "oxts" / "data"
        data.mkdir(parents=True)
        for i in range(3):
            values = np.zeros(30)
            values[:6] = 49.0, 8.4 + 1e-5 * i, 110.0, 0.0, 0.0, 0.0
            values[11:14], values[17:20] = (0.1, 0.2, 9.8), (0.01, 0.02, 0.03)
            (data / f"{i:010d}.txt").write_text(" ".join(f"{v:.10f}" for v in values))
    if stamps:
        for folder in ("image_02", "velodyne_points", "oxts"):
            if (drive / folder).exists():
                (drive / folder / "timestamps.txt").write_text("\n".join(times) + "\n")
    return drive


MAKERS: dict[str, Callable[[Path], Path]] = {
    "kitti_raw": make_kitti,
    "tum_rgbd": make_tum,
    "seven_scenes": make_seven_scenes,
    "euroc": make_euroc,
    "video": make_video,
    "images": make_images,
}
