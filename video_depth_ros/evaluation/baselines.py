# SPDX-License-Identifier: Apache-2.0
"""What can be had without looking at the image: one map for the whole video, fitted on its truth.

The disparity is a polynomial of the pixel's place, by least squares over all valid pixels of all
frames, as the affine protocol fits its scale and shift. Being fitted on the truth they test
against, these are upper bounds of knowing nothing: a network below them has learned nothing that
carries over to the video.
"""

from __future__ import annotations

import numpy as np

from video_depth_ros.errors import InputError

SPATIAL_BASELINES = ("constant", "ramp", "quadratic")


class SpatialFit:
    """One of the baselines: constant (1), ramp (1, v) or quadratic (1, u, v, u^2, uv, v^2)."""

    def __init__(self, name: str, height: int, width: int) -> None:
        self.name = name
        v, u = np.meshgrid(
            np.linspace(-1.0, 1.0, height), np.linspace(-1.0, 1.0, width), indexing="ij"
        )
        one = np.ones_like(u)
        terms = {
            "constant": [one],
            "ramp": [one, v],
            "quadratic": [one, u, v, u * u, u * v, v * v],
        }[name]
        self._basis = np.stack(terms, axis=-1)  # [H, W, K]
        size = len(terms)
        self._normal = np.zeros((size, size))
        self._right = np.zeros(size)

    def add(self, truth: np.ndarray, valid: np.ndarray) -> None:
        """Take the valid pixels of one frame's true depth [H, W] in metres."""
        rows = self._basis[valid]
        self._normal += rows.T @ rows
        self._right += rows.T @ (1.0 / truth[valid].astype(np.float64))

    def disparity(self) -> np.ndarray:
        """The fitted map, float64 [H, W], in 1/m.

        Raises:
            InputError: ``truth`` when no valid pixel was given.
        """
        if not self._normal[0, 0]:
            raise InputError("truth", "no valid pixel to fit the baselines on")
        coefficients = np.linalg.lstsq(self._normal, self._right, rcond=None)[0]
        return np.asarray(self._basis @ coefficients)
