# SPDX-License-Identifier: Apache-2.0
"""Kalman filter over x = (log a, b) of 1/Z = a d + b.

The logarithm keeps a positive. A fit measures the level a * centre + b and, when the anchors have
relief, log a; both about the anchors' centre, where they are independent. Random-walk process
noise, chi-square gate, Joseph form. Fits that contradict the filter several times in a row but
agree among themselves replace its state: the scene or the affine frame has moved. Until that is
decided either may be right, and the covariance says so.

The map that suits a frame best wanders, because a network's errors come and go. With errors of
relative deviation e, independent between n parts of the view, it is e / sqrt(n) from its mean, and
it goes that far in the time T that the errors last: a random walk of variance e^2 / (n T) per
second.
"""

from __future__ import annotations

import math

import numpy as np

from video_depth_ros.metric.config import FilterConfig
from video_depth_ros.metric.fit import ScaleFit
from video_depth_ros.metric.parts import PARTS
from video_depth_ros.metric.reasons import USABLE, Verdict

_UNKNOWN_SHIFT = 0.5  # prior sigma of b, share of the level, where only the level was seen
_FADE = 0.2  # weight of a new fit in the average roughness
_SHORTEST = 0.1  # time that errors last at least [s]
CONFIRMED = 3  # witnesses that confirm an estimate: fits in doubt count one each
_CARRIED = 0.3  # sigma of log a, and of b as share of the level, carried over a restart


class ScaleFilter:
    """Owner of (a, b) and their covariance."""

    def __init__(self, config: FilterConfig) -> None:
        self.config = config
        self._x: np.ndarray | None = None
        self._P = np.zeros((2, 2))
        self._level = 1.0  # typical inverse depth, sets the unit of b's random walk
        self._rivals: list[ScaleFit] = []
        self._sloped = False  # whether any fit saw slope and level apart
        self._roughness = 0.0  # typical relative error of the disparity
        self._rival: tuple[float, float] | None = None  # the map of what was refused last
        self._support = 0  # witnesses of slope and level so far
        self.innovation = math.nan  # normalised, of the newest measurement

    @property
    def known(self) -> bool:
        """Whether there is any estimate."""
        return self._x is not None

    @property
    def confirmed(self) -> bool:
        """Whether slope and level were seen, beyond doubt or several times alike."""
        return self._sloped and self._support >= CONFIRMED

    @property
    def a(self) -> float:
        """Scale [1/m per unit of disparity]."""
        return 1.0 if self._x is None else math.exp(self._x[0])

    @property
    def b(self) -> float:
        """Shift [1/m]."""
        return 0.0 if self._x is None else float(self._x[1])

    @property
    def covariance(self) -> np.ndarray:
        """Covariance of (a, b), float64 [2, 2]; a contradiction not yet settled is part of it."""
        if self._rival is None:
            return self._own_covariance()
        apart = np.array(self._rival) - (self.a, self.b)
        return self._own_covariance() + np.outer(apart, apart)

    def reset(self) -> None:
        """Forget everything."""
        self._x = None
        self._sloped = False
        self._support = 0
        self._undisputed()

    def restart(self) -> None:
        """The affine frame of the disparity began anew: forget, or keep as a weak prior."""
        if not self.config.carry_over:
            self.reset()
        elif self._x is not None:
            self._P = np.diag([_CARRIED**2, (_CARRIED * self._level) ** 2])
            self._support = 0
            self._undisputed()

    def predict(self, seconds: float) -> None:
        """Let the estimate age."""
        if self._x is not None and seconds > 0.0:
            lasting = max(self.config.correlation, _SHORTEST)
            rough = self._roughness**2 / (PARTS * lasting)
            scale = self.config.process_scale**2 + rough
            shift = (self.config.process_shift**2 + rough) * self._level**2
            self._P = self._P + seconds * np.diag([scale, shift])

    def dispute(self, ratio: float) -> None:
        """A measurement that gives no map says that inverse depth is off by a factor."""
        if self._x is not None:
            self._rival = ratio * self.a, ratio * self.b

    def relative_sigma(self, disparity: float, disputed: bool = True) -> float:
        """Relative standard deviation of the inverse depth at a disparity; inf when unknown.

        Args:
            disparity: where.
            disputed: whether a contradiction not yet settled counts.
        """
        if self._x is None:
            return math.inf
        phi = np.array([disparity, 1.0])
        q = self.a * disparity + self.b
        covariance = self.covariance if disputed else self._own_covariance()
        return math.sqrt(float(phi @ covariance @ phi)) / q if q > 0.0 else math.inf

    def update(
        self, fit: ScaleFit, since_last: float = math.inf, witnesses: int = CONFIRMED
    ) -> Verdict:
        """Take a fit in.

        Args:
            fit: what one source found in one frame.
            since_last: seconds since the same source's last fit.
            witnesses: for how many such a fit counts; CONFIRMED is enough by itself. A level
                alone is none.

        Returns:
            The fit's verdict, GATED or REINITIALISED.
        """
        if math.isfinite(fit.roughness):  # one that is refused for its residual tells it, too
            share = 1.0 if self._x is None else _FADE
            self._roughness += share * (fit.roughness - self._roughness)
        if fit.verdict not in USABLE:
            return fit.verdict
        if self._x is None:
            self._start(fit, witnesses)
            return fit.verdict
        nu, H, R = self._innovation(fit)
        S = H @ self._P @ H.T + R
        distance = float(nu @ np.linalg.solve(S, nu))
        self.innovation = math.sqrt(max(distance, 0.0) / nu.size)
        if distance > self.config.gate:
            return self._contradicted(fit)
        self._undisputed()
        R = R * max(1.0, self.config.correlation / max(since_last, 1e-3))
        S = H @ self._P @ H.T + R
        K = np.linalg.solve(S, H @ self._P).T
        if fit.verdict is Verdict.ACCEPTED:
            self._sloped = True
            self._support += witnesses
        left = np.eye(2) - K @ H
        self._x = self._x + K @ nu
        self._P = left @ self._P @ left.T + K @ R @ K.T
        self._level = 0.9 * self._level + 0.1 * abs(fit.level)
        return fit.verdict

    def _innovation(self, fit: ScaleFit) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Innovation, Jacobian and measurement noise of a fit at the present state."""
        a, b = self.a, self.b
        H = np.array([[a * fit.centre, 1.0], [1.0, 0.0]])
        level = fit.level - a * fit.centre - b
        if fit.verdict is Verdict.LEVEL_ONLY:
            variance = fit.sigma_level**2 + (fit.level * fit.common) ** 2
            return np.array([level]), H[:1], np.array([[variance]])
        nu = np.array([level, math.log(fit.slope / a)])
        R = np.diag([fit.sigma_level**2, (fit.sigma_slope / fit.slope) ** 2])
        shared = np.array([fit.level, 1.0]) * fit.common
        return nu, H, R + np.outer(shared, shared)

    def _start(self, fit: ScaleFit, witnesses: int) -> None:
        """First estimate. Seen at one depth only, b has a broad prior about zero."""
        self._level = abs(fit.level)
        self._undisputed()
        self._sloped = fit.verdict is Verdict.ACCEPTED
        self._support = witnesses if self._sloped else 0
        if self._sloped:
            a, b = fit.slope, fit.shift
            # from (level, log a) back to (log a, b): b = level - a * centre
            G = np.array([[0.0, 1.0], [1.0, -a * fit.centre]])
            R = np.diag([fit.sigma_level**2, (fit.sigma_slope / a) ** 2])
            shared = np.array([fit.level, 1.0]) * fit.common
            self._x = np.array([math.log(a), b])
            self._P = G @ (R + np.outer(shared, shared)) @ G.T
            return
        a = fit.level / fit.centre if fit.centre > 0.0 else fit.level
        self._x = np.array([math.log(max(a, 1e-9)), fit.level - a * fit.centre])
        self._P = np.diag([1.0, (_UNKNOWN_SHIFT * self._level) ** 2])
        self.update(fit)

    def _own_covariance(self) -> np.ndarray:
        J = np.diag([self.a, 1.0])
        return np.asarray(J @ self._P @ J)

    def _undisputed(self) -> None:
        self._rivals.clear()
        self._rival = None

    def _contradicted(self, fit: ScaleFit) -> Verdict:
        if fit.verdict is not Verdict.ACCEPTED:
            self._rival = self.a, fit.level - self.a * fit.centre
            return Verdict.GATED
        self._rival = fit.slope, fit.shift
        if self._rivals and not _agree(self._rivals[-1], fit, self.config.gate):
            self._rivals.clear()
        self._rivals.append(fit)
        if len(self._rivals) < self.config.reinitialise_after:
            return Verdict.GATED
        self._start(fit, CONFIRMED)
        return Verdict.REINITIALISED


def _agree(first: ScaleFit, second: ScaleFit, gate: float) -> bool:
    """Whether two fits see the same map: same slope, same level at the second's centre."""
    slope = math.log(second.slope / first.slope)
    level = second.level - first.level - first.slope * (second.centre - first.centre)
    variance = (first.sigma_slope / first.slope) ** 2 + (second.sigma_slope / second.slope) ** 2
    level_variance = (
        first.sigma_level**2
        + second.sigma_level**2
        + (first.sigma_slope * (second.centre - first.centre)) ** 2
    )
    return slope**2 / variance <= gate and level**2 / level_variance <= gate
