# SPDX-License-Identifier: Apache-2.0
"""Rotation vectors against scipy's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from video_depth_ros.metric.poses import rotation, rotation_vector


@pytest.mark.parametrize("angle", [0.0, 1e-9, 4e-6, 9.9e-5, 1.1e-4, 0.3, 2.0, 3.1])
def test_rotation_vectors_of_any_length(angle: float) -> None:
    vector = angle * np.array([0.6, -0.48, 0.64])
    R = Rotation.from_rotvec(vector).as_matrix()
    np.testing.assert_allclose(rotation(vector), R, atol=1e-12)
    np.testing.assert_allclose(rotation_vector(R), vector, rtol=1e-7, atol=1e-15)
