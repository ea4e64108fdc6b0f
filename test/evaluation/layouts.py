# SPDX-License-Identifier: Apache-2.0
"""Data sets in their published layouts, as small as they come."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

TAG = np.float32(202021.25).tobytes()
POSE = np.array([[0, -1, 0, 1.0], [1, 0, 0, 2.0], [0, 0, 1, 3.0], [0, 0, 0, 1.0]])


def image(path: Path, size=(64, 48), value=0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    pixels[..., 2] = 200  # red, in OpenCV's order
    pixels[..., 1] = value
    assert cv2.imwrite(str(path), pixels)


def depth_png(path: Path, raw: int, size=(64, 48)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((size[1], size[0]), raw, np.uint16)
    pixels[0, 0] = 0
    assert cv2.imwrite(str(path), pixels)


def scannet(root: Path, name="scene0707_00") -> Path:
    scan = root / name
    for number in (0, 1, 2, 10):
        image(scan / "color" / f"{number}.png", (128, 96))
        depth_png(scan / "depth" / f"{number}.png", 2500)
        (scan / "pose").mkdir(exist_ok=True)
        pose = POSE if number != 10 else np.full((4, 4), -np.inf)
        np.savetxt(scan / "pose" / f"{number}.txt", pose)
    (scan / "intrinsic").mkdir()
    K = np.eye(4)
    K[0, 0], K[1, 1], K[0, 2], K[1, 2] = 116.0, 117.0, 64.0, 48.0
    np.savetxt(scan / "intrinsic" / "intrinsic_color.txt", K)
    return scan


def sintel(root: Path) -> Path:
    for number in (1, 2):
        name = f"frame_{number:04d}"
        image(root / "training" / "final" / "alley_1" / f"{name}.png")
        depth = root / "training" / "depth" / "alley_1" / f"{name}.dpt"
        depth.parent.mkdir(parents=True, exist_ok=True)
        values = np.arange(48 * 64, dtype="<f4") + number
        depth.write_bytes(
            np.float32(202021.25).tobytes()
            + np.array([64, 48], "<i4").tobytes()
            + values.tobytes()
        )
        cam = root / "training" / "camdata_left" / "alley_1" / f"{name}.cam"
        cam.parent.mkdir(parents=True, exist_ok=True)
        K = np.array([[70.0, 0, 31], [0, 71.0, 23], [0, 0, 1]])
        cam.write_bytes(TAG + K.tobytes() + np.linalg.inv(POSE)[:3].tobytes())
    return root / "training" / "final" / "alley_1"


def bonn(root: Path, name="rgbd_bonn_balloon") -> Path:
    folder = root / name
    lines: dict[str, list[str]] = {"rgb": [], "depth": []}
    for k in range(2):
        image(folder / "rgb" / f"{k}.png", (640, 480))
        depth_png(folder / "depth" / f"{k}.png", 10_000, (640, 480))
        for kind, listed in lines.items():
            listed.append(f"{100 + 0.033 * k:.6f} {kind}/{k}.png")
    for kind, listed in lines.items():
        (folder / f"{kind}.txt").write_text("# a comment\n" + "\n".join(listed) + "\n")
    (folder / "groundtruth.txt").write_text("100.0 0 0 0 0 0 0 1\n101.0 1 0 0 0 0 0 1\n")
    return folder


def bonn_cut(root: Path, size=(640, 480)) -> Path:
    folder = root / "rgbd_bonn_crowd2"
    for stamp in ("1548266505.00000", "1548266505.50000"):
        image(folder / "rgb_110" / f"{stamp}.png", size)
        depth_png(folder / "depth_110" / f"{stamp}.png", 5000, size)
    return folder


def nyuv2(root: Path) -> None:
    image(root / "bathroom" / "rgb_0045.png", (640, 480))
    depth_png(root / "bathroom" / "depth_0045.png", 2000, (640, 480))
    image(root / "office" / "rgb_00001.jpg", (640, 480))
    depth_png(root / "office" / "sync_depth_00001.png", 3000, (640, 480))
