# SPDX-License-Identifier: Apache-2.0
"""Keyframes, the dilated windows that saw them, and the small graph of their affine frames."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from torch import Tensor

from video_depth_ros.alignment.graph import AffineEdge, solve_affine_graph


@dataclass
class Keyframe:
    """An old frame: its image, what was published of it, and how that relates to the truth."""

    number: int  # groups since the start of the segment
    image: Tensor  # float32 [3, h, w]
    samples: np.ndarray
    usable: np.ndarray
    correction: tuple[float, float]  # corrections applied to the running frame until then
    solved: tuple[float, float] = (1.0, 0.0)  # published -> common frame, newest answer
    failures: int = 0


@dataclass
class DilatedWindow:
    """A past dilated window: its fits to keyframes, by their number."""

    fits: dict[int, AffineEdge] = field(default_factory=dict)
    solved: tuple[float, float] = (1.0, 0.0)


def solve_keyframes(
    keyframes: list[Keyframe], windows: Iterable[DilatedWindow], drift: float
) -> bool:
    """Sets ``solved`` of all keyframes; keyframes and dilated windows are nodes, fits and the
    chain are edges.

    Args:
        keyframes: by age, oldest first; its frame is the common one. Each has usable samples.
        windows: the last dilated windows.
        drift: expected change of log scale and shift of the chain per group.

    Returns:
        Whether there is a finite solution; without one, ``solved`` stays as it was.
    """
    node = {keyframe.number: place for place, keyframe in enumerate(keyframes)}
    edges = []
    for earlier, later in pairwise(keyframes):
        # X_later = between(X_earlier), but for the drift
        between = compose(later.correction, inverse(earlier.correction))
        sigma = drift * math.sqrt(later.number - earlier.number)
        centre = float(np.median(earlier.samples[earlier.usable]))
        edges.append(
            AffineEdge(
                node[earlier.number],
                node[later.number],
                between[0],
                centre,
                between[0] * centre + between[1],
                sigma,
                sigma,
            )
        )
    initial = [keyframe.solved for keyframe in keyframes]
    for window in windows:
        known = {number: edge for number, edge in window.fits.items() if number in node}
        if not known:
            continue
        place = len(initial)
        number, first = next(iter(known.items()))
        frame = keyframes[node[number]].solved
        measured = (first.scale, first.centre_j - first.scale * first.centre_i)
        initial.append(compose(frame, measured))
        for number, edge in known.items():
            edges.append(
                AffineEdge(
                    place,
                    node[number],
                    edge.scale,
                    edge.centre_i,
                    edge.centre_j,
                    edge.sigma_log_scale,
                    edge.sigma_level,
                )
            )
    solution = solve_affine_graph(np.array(initial), edges, fixed=0)
    if not np.isfinite(solution).all():
        return False
    for keyframe, (scale, shift) in zip(keyframes, solution[: len(keyframes)], strict=True):
        keyframe.solved = (float(scale), float(shift))
    return True


def compose(outer: tuple[float, float], inner: tuple[float, float]) -> tuple[float, float]:
    """outer after inner."""
    return outer[0] * inner[0], outer[0] * inner[1] + outer[1]


def inverse(affine: tuple[float, float]) -> tuple[float, float]:
    return 1.0 / affine[0], -affine[1] / affine[0]
