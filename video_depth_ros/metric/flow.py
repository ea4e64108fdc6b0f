# SPDX-License-Identifier: Apache-2.0
"""Features measured again in an image that was warped as the disparity predicts.

Lucas and Kanade's tracker moves a whole window by one step. Where the flow varies within it, with
depth, roll or approach, it finds the flow of the window's strongest texture, not of its middle:
tenths of a pixel, of the same sign from frame to frame, which look like another speed. With the
predicted flow taken out, what is left to find is small and even.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from video_depth_ros.camera import Camera
from video_depth_ros.metric.poses import rotation
from video_depth_ros.metric.tracks import evened

_WINDOW = (11, 11)
_LEVELS = 1
_FORWARD_BACKWARD = 0.5  # px
_MAX_STEP = 3.0  # px that a position may be moved; beyond, the prediction was wrong
_NEAREST = 0.1  # least ratio of the depths now and in the keyframe


def predicted(
    camera: Camera,
    disparity: np.ndarray,
    R: np.ndarray,
    motion: np.ndarray,
    key_camera: Camera | None = None,
) -> Any:
    """Where every pixel of the keyframe is seen now, float32 [h, w, 2] (u, v); (-1, -1) for a
    pixel without a viewing ray.

    x2 ~ R exp(w) x1 + d tau + tau': affine disparity needs no offset when tau' is free.

    Args:
        camera: model of the image now.
        disparity: float [h, w] in the keyframe, NaN unknown.
        R: rotation key -> now.
        motion: float64 [9], (tau, tau', w) as a PairSystem has them.
        key_camera: model of the keyframe, where a lens has zoomed since; None is ``camera``.
    """
    middle = float(np.nanmedian(disparity))
    d = np.where(np.isfinite(disparity), disparity, middle)[..., None]
    seen = (
        (key_camera or camera).rays() @ (R @ rotation(motion[6:])).T + d * motion[:3] + motion[3:6]
    )
    seen[..., 2] = np.maximum(seen[..., 2], _NEAREST)
    uv, _ = camera.project(seen)
    uv[~np.isfinite(uv).all(axis=1)] = -1.0  # remap does not define what it does with NaN
    return uv.reshape(*disparity.shape, 2).astype(np.float32)


def refine(
    first: np.ndarray, second: np.ndarray, flow: Any, key: np.ndarray, now: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Positions in the second image of features of the first.

    Args:
        first, second: uint8 [h, w].
        flow: float32 [h, w, 2], of :func:`predicted`.
        key: float64 [N, 2], features in the first image.
        now: float64 [N, 2], where they were found in the second without the prediction.

    Returns:
        Positions in the second image, float64 [N, 2], and whether they can be believed, bool [N].
    """
    if not len(key):
        return now, np.zeros(0, dtype=bool)
    warped = cv2.remap(second, flow, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    first, warped = evened(first), evened(warped)
    start = key.astype(np.float32)[:, None]
    there, found = _track(first, warped, start)
    back, returned = _track(warped, first, there)
    good = (found[:, 0] > 0) & (returned[:, 0] > 0)
    good &= np.abs(back - start).max(axis=(1, 2)) < _FORWARD_BACKWARD
    refined = cv2.remap(flow, there, None, cv2.INTER_LINEAR)[:, 0].astype(np.float64)
    good &= np.abs(refined - now).max(axis=1) < _MAX_STEP
    return refined, good


def _track(first: Any, second: Any, start: Any) -> tuple[Any, Any]:
    there, found, _ = cv2.calcOpticalFlowPyrLK(
        first, second, start, start.copy(), winSize=_WINDOW, maxLevel=_LEVELS,
        flags=cv2.OPTFLOW_USE_INITIAL_FLOW,
    )  # fmt: skip
    return there, found
