# SPDX-License-Identifier: Apache-2.0
"""How far depth can be off: the residual spread of the anchors over the inverse depth.

The map (a, b) is known far better than the network is right. What remains is measured, not
assumed: the 68 % quantile of the anchors' residual, in bins of fitted inverse depth, averaged
over frames.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_BINS = 8
_QUANTILE = 0.6827
_MEMORY = 0.2  # weight of a new frame
_MIN_IN_BIN = 8
_UNKNOWN = 0.1  # relative spread assumed before any anchor was seen


class ResidualSpread:
    """Standard deviation of inverse depth as a function of inverse depth."""

    def __init__(self) -> None:
        self._relative: np.ndarray | None = None  # [bins], sigma_q / q
        self._edges = np.geomspace(1e-3, 10.0, 4 * _BINS + 1)

    def reset(self) -> None:
        """Forget the residuals."""
        self._relative = None

    def add(self, fitted: np.ndarray, ratio: np.ndarray) -> None:
        """Residuals of one frame's anchors.

        Args:
            fitted: float [n] > 0, inverse depth by the map [1/m].
            ratio: float [n], measured over estimated inverse depth.
        """
        if fitted.size < _MIN_IN_BIN:
            return
        error = np.abs(ratio - 1.0)
        if self._relative is None:
            self._relative = np.full(self._edges.size - 1, np.nan)
        at = np.digitize(fitted, self._edges) - 1
        for i in np.unique(at[(at >= 0) & (at < self._relative.size)]):
            inside = error[at == i]
            if inside.size < _MIN_IN_BIN:
                continue
            new = float(np.quantile(inside, _QUANTILE))
            old = self._relative[i]
            self._relative[i] = new if np.isnan(old) else old + _MEMORY * (new - old)

    def at(self, inverse_depth: Tensor) -> Tensor:
        """Relative standard deviation at every pixel, linear over log q; any float tensor."""
        centres, table = self.table()
        values = torch.as_tensor(table, dtype=inverse_depth.dtype, device=inverse_depth.device)
        step = float(centres[1] - centres[0])
        at = ((inverse_depth.log() - float(centres[0])) / step).clamp(0.0, len(table) - 1.001)
        at = torch.nan_to_num(at)
        low = at.long()
        return values[low] + (at - low) * (values[low + 1] - values[low])

    def table(self) -> tuple[np.ndarray, np.ndarray]:
        """log(q) at the bins' centres and the relative sigma there, gaps interpolated."""
        centres = 0.5 * (np.log(self._edges[1:]) + np.log(self._edges[:-1]))
        if self._relative is None or np.isnan(self._relative).all():
            return centres, np.full(centres.size, _UNKNOWN)
        known = ~np.isnan(self._relative)
        return centres, np.interp(centres, centres[known], self._relative[known])
