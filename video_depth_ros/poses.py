# SPDX-License-Identifier: Apache-2.0
"""Rigid transforms as messages and text files spell them: translation and quaternion (x y z w).

``T_a_b`` is float64 [4, 4] and maps points in b to a.
"""

from __future__ import annotations

import math

import numpy as np

from video_depth_ros.errors import InputError


def transform(translation: np.ndarray, quaternion: np.ndarray) -> np.ndarray:
    """T float64 [4, 4] from a translation [3] and a quaternion [4] in x y z w order.

    The quaternion is normalised first: messages carry rounded ones.

    Raises:
        InputError: ``pose`` when anything is not finite or the quaternion has no length.
    """
    t = np.asarray(translation, dtype=np.float64)
    q = np.asarray(quaternion, dtype=np.float64)
    norm = float(np.linalg.norm(q))
    if not (np.isfinite(t).all() and math.isfinite(norm) and norm > 1e-6):
        raise InputError("pose", f"expected a finite pose, got t={t.tolist()} q={q.tolist()}")
    x, y, z, w = q / norm
    T = np.eye(4)
    T[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    T[:3, 3] = t
    return T


def quaternion(T: np.ndarray) -> np.ndarray:
    """Quaternion float64 [4], x y z w with w >= 0, of the rotation of T [4, 4] or R [3, 3].

    Taken from the largest of the four squared components, which is stable for every rotation
    (Shepperd 1978).
    """
    R = np.asarray(T, dtype=np.float64)[:3, :3]
    trace = float(np.trace(R))
    squares = np.array([R[0, 0], R[1, 1], R[2, 2], trace])
    largest = int(np.argmax(squares))
    q = np.empty(4)
    if largest == 3:
        q[:] = (R[2, 1] - R[1, 2], R[0, 2] - R[2, 0], R[1, 0] - R[0, 1], 1.0 + trace)
    else:
        i, j, k = largest, (largest + 1) % 3, (largest + 2) % 3
        q[i] = 1.0 + 2.0 * R[i, i] - trace
        q[j] = R[j, i] + R[i, j]
        q[k] = R[k, i] + R[i, k]
        q[3] = R[k, j] - R[j, k]
    q /= np.linalg.norm(q)
    return q if q[3] >= 0 else -q


def inverse(T: np.ndarray) -> np.ndarray:
    """T_b_a of a rigid T_a_b."""
    out = np.eye(4)
    out[:3, :3] = T[:3, :3].T
    out[:3, 3] = -T[:3, :3].T @ T[:3, 3]
    return out


# Forward, left, up (REP-103 body) to right, down, forward (optical): T_body_optical.
T_BODY_OPTICAL = np.array(
    [[0.0, 0.0, 1.0, 0.0], [-1.0, 0.0, 0.0, 0.0], [0.0, -1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
)
T_BODY_OPTICAL.setflags(write=False)
