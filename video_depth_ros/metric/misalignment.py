# SPDX-License-Identifier: Apache-2.0
"""Are the anchors where the extrinsics say? Recognised without knowing the scale.

With right extrinsics, order by measured inverse depth and order by disparity agree better in place
than with the anchors moved elsewhere in the image. If they agree markedly better elsewhere, the
sensor looks in another direction than its transform says.
"""

from __future__ import annotations

import math

import numpy as np

from video_depth_ros.camera import Camera
from video_depth_ros.metric.anchors import Anchors, View

_SAMPLE = 300
_ANGLES = (6.0, 12.0, 20.0)  # degrees in which the anchors are moved
_ROLLS = (-20.0, -10.0, 10.0, 20.0)
_MIN_SHARE = 0.5  # of the anchors that must stay in view when moved
_FOUND = 0.2  # 1 - rank correlation up to which another place shows where the sensor looks
_WELL = 0.05  # 1 - rank correlation below which there is nothing to look for


def misalignment(view: View, camera: Camera, anchors: Anchors) -> float:
    """Lack of agreement in place over that at the best other place; above 1: better elsewhere.

    Args:
        view: the frame.
        camera: its model.
        anchors: anchors in it.

    Returns:
        The largest ratio of (1 - rank correlation); 0 when in place all is well.
    """
    step = max(1, len(anchors) // _SAMPLE)
    uv, q = anchors.uv[::step], anchors.inverse_depth[::step]
    here, _ = view.sample(uv)
    known = np.isfinite(here)
    uv, q, here = uv[known], q[known], here[known]
    if q.size < 30 or _disagreement(here, q) < _WELL:
        return 0.0
    worst = 0.0
    for moved in _elsewhere(uv, camera):
        inside = (moved >= 0).all(axis=1)
        inside &= (moved[:, 0] <= camera.width - 1) & (moved[:, 1] <= camera.height - 1)
        if inside.mean() < _MIN_SHARE:
            continue
        there, _ = view.sample(moved[inside])
        seen = np.isfinite(there)
        if seen.sum() < 30:
            continue
        there, target = there[seen], q[inside][seen]
        moved_disagreement = _disagreement(there, target)
        if moved_disagreement > _FOUND:
            continue  # a network that is wrong everywhere says nothing about the extrinsics
        in_place = _disagreement(here[inside][seen], target)
        worst = max(worst, in_place / max(moved_disagreement, _WELL))
    return worst


def _elsewhere(uv: np.ndarray, camera: Camera) -> list[np.ndarray]:
    """The anchors moved and turned in the image."""
    places = []
    for angle in _ANGLES:
        du = camera.fx * math.tan(math.radians(angle))
        dv = camera.fy * math.tan(math.radians(angle))
        for x in (-1, 0, 1):
            for y in (-1, 0, 1):
                if x or y:
                    places.append(uv + np.array([x * du, y * dv]))
    centre = np.array([camera.cx, camera.cy])
    for angle in _ROLLS:
        c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        places.append((uv - centre) @ np.array([[c, s], [-s, c]]) + centre)
    return places


def _disagreement(d: np.ndarray, q: np.ndarray) -> float:
    """1 - Spearman's rank correlation."""
    rank_d = np.argsort(np.argsort(d)) - 0.5 * (d.size - 1)
    rank_q = np.argsort(np.argsort(q)) - 0.5 * (q.size - 1)
    return 1.0 - float(rank_d @ rank_q) / math.sqrt(
        float(rank_d @ rank_d) * float(rank_q @ rank_q)
    )
