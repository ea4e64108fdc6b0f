# SPDX-License-Identifier: Apache-2.0
"""A graph of affine frames: nodes are windows, edges are fits between two of them.

Every node i has a scale and a shift that bring it into the common frame, X = s_i x_i + t_i. An
edge says x_j = a x_i + b, hence s_i = s_j a and t_i = s_j b + t_j. The residuals are taken in
log scale and at the centre of the pixels that were fitted, where the two are uncorrelated; in
log scale nothing is gained by shrinking all windows, as in a sum of squared pixel differences.

RollingDepth's co-alignment (arXiv 2411.19189) minimises pixel differences by 2000 steps of Adam;
here each pair of windows is first reduced to its robust fit, and the graph of fits is solved by
Gauss-Newton with Huber weights on a sparse system. Its regularisers are kept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from video_depth_ros.alignment.verdicts import AffineFit

_HUBER = 1.5  # whitened residual from which on an edge counts less
_ITERATIONS = 20
_DENSE = 40  # up to so many nodes a dense solver is the faster one

# Weights of RollingDepth's regularisers, 0.1 mean max(0, 1 - s)^2 + 10 mean t^2
_SHRINK_WEIGHT = 0.1
_SHIFT_WEIGHT = 10.0


@dataclass(frozen=True)
class AffineEdge:
    """x_j = scale * x_i + shift, as measured.

    Attributes:
        i, j: nodes.
        scale: measured scale.
        centre_i, centre_j: the values at which the level was compared, x_j = centre_j where
            x_i = centre_i.
        sigma_log_scale: standard deviation of log scale.
        sigma_level: standard deviation of centre_j.
    """

    i: int
    j: int
    scale: float
    centre_i: float
    centre_j: float
    sigma_log_scale: float
    sigma_level: float


def edge_from_fit(i: int, j: int, fit: AffineFit, floor: float = 5e-4) -> AffineEdge:
    """The edge of a usable fit with ``cur`` from node i and ``ref`` from node j.

    Args:
        floor: smallest believed sigma of log scale, and of the level relative to the centre's
            scale: neighbouring pixels are not independent, a fit's own covariance is too small.
    """
    cov = fit.covariance
    centre = -cov[0, 1] / cov[0, 0] if cov[0, 0] > 0.0 else 0.0
    level = max(cov[1, 1] - cov[0, 1] ** 2 / cov[0, 0], 0.0) if cov[0, 0] > 0.0 else 0.0
    return AffineEdge(
        i=i,
        j=j,
        scale=fit.scale,
        centre_i=float(centre),
        centre_j=float(fit.scale * centre + fit.shift),
        sigma_log_scale=math.hypot(math.sqrt(cov[0, 0]) / fit.scale, floor),
        sigma_level=math.hypot(math.sqrt(level), floor),
    )


def solve_affine_graph(
    initial: np.ndarray,
    edges: Sequence[AffineEdge],
    fixed: int = 0,
    prior_weight: float = 1e-6,
) -> np.ndarray:
    """(scale, shift) of all nodes.

    Args:
        initial: float [n, 2], (scale, shift) to start from.
        edges: the measurements; every node should be reached from ``fixed``.
        fixed: the node that keeps its initial value.
        prior_weight: of RollingDepth's regularisers (s >= 1, t = 0), which hold nodes that no edge
            reaches. 1 is RollingDepth's own weight; on a long chain that pulls the shift of the
            far end to zero whatever the edges say, so the default only settles what is free.

    Returns:
        float64 [n, 2].
    """
    n = len(initial)
    state = np.stack([np.log(initial[:, 0]), initial[:, 1]], axis=1).astype(np.float64)
    if n == 1 or not edges:
        return np.stack([np.exp(state[:, 0]), state[:, 1]], axis=1)
    i = np.array([e.i for e in edges])
    j = np.array([e.j for e in edges])
    log_a = np.log([e.scale for e in edges])
    c_i = np.array([e.centre_i for e in edges])
    c_j = np.array([e.centre_j for e in edges])
    sigma = np.array([[e.sigma_log_scale, e.sigma_level] for e in edges])
    for _ in range(_ITERATIONS):
        system = _linearise(state, i, j, log_a, c_i, c_j, sigma)
        rows, columns, values, residual = system
        if prior_weight > 0.0:
            rows, columns, values, residual = _with_priors(
                state, prior_weight * len(edges), rows, columns, values, residual
            )
        step = _least_squares(rows, columns, values, residual, n, fixed)
        state += step
        if float(np.abs(step).max()) < 1e-10:
            break
    return np.stack([np.exp(state[:, 0]), state[:, 1]], axis=1)


def _linearise(
    state: np.ndarray,
    i: np.ndarray,
    j: np.ndarray,
    log_a: np.ndarray,
    c_i: np.ndarray,
    c_j: np.ndarray,
    sigma: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Whitened, Huber-weighted Jacobian (as triplets) and residual of all edges."""
    m = i.size
    s_i, s_j = np.exp(state[i, 0]), np.exp(state[j, 0])
    r_scale = state[i, 0] - state[j, 0] - log_a
    # the level is compared in the units of node j, which are those of its sigma
    r_level = (s_i * c_i + state[i, 1] - s_j * c_j - state[j, 1]) / s_j
    white = np.stack([r_scale / sigma[:, 0], r_level / sigma[:, 1]])
    norm = np.sqrt((white**2).sum(axis=0))
    huber = np.sqrt(np.minimum(1.0, _HUBER / np.maximum(norm, 1e-300)))
    w_scale, w_level = huber / sigma[:, 0], huber / sigma[:, 1]
    first, second = np.arange(m), m + np.arange(m)
    rows = np.concatenate([first, first, second, second, second, second])
    columns = np.concatenate([2 * i, 2 * j, 2 * i, 2 * i + 1, 2 * j, 2 * j + 1])
    values = np.concatenate(
        [
            w_scale,
            -w_scale,
            w_level * s_i * c_i / s_j,
            w_level / s_j,
            -w_level * (c_j + r_level),
            -w_level / s_j,
        ]
    )
    return rows, columns, values, np.concatenate([w_scale * r_scale, w_level * r_level])


def _with_priors(
    state: np.ndarray,
    total: float,
    rows: np.ndarray,
    columns: np.ndarray,
    values: np.ndarray,
    residual: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Adds the regularisers; the data term being a sum, their means get its ``total`` weight."""
    n = len(state)
    shrink, shift = (
        math.sqrt(_SHRINK_WEIGHT * total / n),
        math.sqrt(_SHIFT_WEIGHT * total / n),
    )
    s = np.exp(state[:, 0])
    small = s < 1.0
    start = residual.size
    rows = np.concatenate([rows, start + np.arange(n), start + n + np.arange(n)])
    columns = np.concatenate([columns, 2 * np.arange(n), 2 * np.arange(n) + 1])
    values = np.concatenate([values, np.where(small, -shrink * s, 0.0), np.full(n, shift)])
    residual = np.concatenate(
        [residual, np.where(small, shrink * (1.0 - s), 0.0), shift * state[:, 1]]
    )
    return rows, columns, values, residual


def _least_squares(
    rows: np.ndarray,
    columns: np.ndarray,
    values: np.ndarray,
    residual: np.ndarray,
    n: int,
    fixed: int,
) -> np.ndarray:
    """The Gauss-Newton step [n, 2], zero for the fixed node."""
    damping = 1e-9  # holds what nothing determines
    free = np.delete(np.arange(2 * n), [2 * fixed, 2 * fixed + 1])
    step = np.zeros(2 * n)
    if n <= _DENSE:
        jacobian = np.zeros((residual.size, 2 * n))
        np.add.at(jacobian, (rows, columns), values)
        jacobian = jacobian[:, free]
        normal = jacobian.T @ jacobian + damping * np.eye(free.size)
        step[free] = np.linalg.solve(normal, -jacobian.T @ residual)
        return step.reshape(n, 2)
    from scipy import sparse
    from scipy.sparse.linalg import spsolve

    matrix = sparse.csr_matrix((values, (rows, columns)), shape=(residual.size, 2 * n))[:, free]
    normal = (matrix.T @ matrix + damping * sparse.identity(free.size)).tocsc()
    step[free] = spsolve(normal, -matrix.T @ residual)
    return step.reshape(n, 2)
