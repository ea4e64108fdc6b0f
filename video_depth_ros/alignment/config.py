# SPDX-License-Identifier: Apache-2.0
"""Parameters of the alignment room."""

from __future__ import annotations

from dataclasses import dataclass, replace

from video_depth_ros.errors import ConfigError
from video_depth_ros.regressors.base import RegressorSpec
from video_depth_ros.settings import group, parameter


@dataclass(frozen=True)
class KeyframeConfig:
    """How old keyframes hold the running frame against drift."""

    every: int = parameter(
        0,
        "Groups between two dilated windows over old keyframes and the newest frame, each one "
        "more run of the network; 0 switches drift control off, 10 is what it was measured with.",
        unit="groups",
        low=0,
        high=100_000,
    )
    count: int = parameter(
        8,
        "Most old keyframes in a dilated window; fewer where the regressor's window is shorter. "
        "With DVD's groups of 4, multiples of 4 waste nothing.",
        low=1,
        high=20,
    )
    history: int = parameter(
        8, "Dilated windows that the graph of affine fits remembers.", low=1, high=64
    )
    drift: float = parameter(
        0.001,
        "Expected drift of log scale, and of shift, per group; the square root of the number of "
        "groups times this is how far the chain between two keyframes is believed.",
        low=1e-6,
        high=0.1,
    )
    slew: float = parameter(
        0.003,
        "Largest relative change that a correction makes from one group to the next.",
        low=1e-6,
        high=0.1,
    )
    max_disagreement: float = parameter(
        0.05,
        "Largest standard deviation, over the keyframes, of the log scale that they give to a "
        "dilated window; above it the network cannot relate such distant frames, and nothing is "
        "corrected.",
        low=0.0,
        high=1.0,
    )
    patience: int = parameter(
        3,
        "Dilated windows in a row that an old keyframe may fail to fit before it is dropped.",
        low=1,
        high=100,
    )


@dataclass(frozen=True)
class AlignmentConfig:
    """How windows are brought into one affine frame."""

    method: str = parameter(
        "robust",
        "robust: two-point start, Tukey weights, symmetric slope, temporal prior; dvd: the "
        "closed-form least squares of the DVD reference, for parity.",
        choices=("robust", "dvd"),
    )
    overlap: int = parameter(
        8, "Earlier frames that every new window is fitted on.", unit="frames", low=1, high=64
    )
    samples: int = parameter(
        20_000, "Most pixels used by one fit, on a regular grid.", low=256, high=100_000
    )
    scale_low: float = parameter(
        0.7,
        "Smallest scale of a window relative to the window before it (method dvd: relative to "
        "the running frame); below it is clipped and the shift solved anew.",
        low=0.05,
        high=1.0,
    )
    scale_high: float = parameter(
        1.5, "Largest scale of a window, see scale_low.", low=1.0, high=20.0
    )
    saturation: float = parameter(
        0.995, "Disparity from which on a pixel only says 'nearer than': left out.", low=0.5
    )
    floor: float = parameter(
        0.005,
        "Disparity up to which a pixel only says 'farther than': left out.",
        low=0.0,
        high=0.5,
    )
    min_pixels: int = parameter(64, "Fewest usable pixels for a fit.", low=8)
    min_inliers: float = parameter(
        0.35, "Smallest share of pixels that must agree with a fit.", low=0.05, high=1.0
    )
    min_explained: float = parameter(
        0.5,
        "Smallest robust coefficient of determination (1 - residual variance / variance of the "
        "overlap); below it the windows do not show the same scene: a new segment starts.",
        low=0.0,
        high=0.99,
    )
    flat_spread: float = parameter(
        0.01,
        "Robust standard deviation of the disparity below which the view is flat: scale held, "
        "shift followed.",
        low=0.0,
        high=0.5,
    )
    max_scale_sigma: float = parameter(
        0.05, "Largest relative standard deviation of a usable scale.", low=0.001, high=1.0
    )
    process_scale: float = parameter(
        0.1, "Expected change of log scale from window to window.", low=1e-4, high=2.0
    )
    process_shift: float = parameter(
        0.1,
        "Expected change of shift from window to window.",
        unit="disparity",
        low=1e-4,
        high=2.0,
    )
    measurement_scale: float = parameter(
        0.0005,
        "Unmodelled error of a fit's log scale; against process_scale it sets the smoothing.",
        low=0.0,
        high=1.0,
    )
    measurement_shift: float = parameter(
        0.0005, "Unmodelled error of a fit's shift.", unit="disparity", low=0.0, high=1.0
    )
    cut_correlation: float = parameter(
        0.3,
        "Correlation of two consecutive frames of one window below which there is a scene cut "
        "between them.",
        low=-1.0,
        high=0.99,
    )
    cut_stayed: float = parameter(
        0.4,
        "Share of the pixels that must keep their disparity (to a quarter of the spread) for two "
        "little correlated frames still to belong to one scene.",
        low=0.0,
        high=1.0,
    )
    max_held: int = parameter(
        15,
        "Windows in a row that may be carried on without a usable fit; then a new segment starts.",
        unit="groups",
        low=1,
        high=10_000,
    )

    max_clipped: int = parameter(
        4,
        "Of the last windows, twice this number, so many may have a clipped scale; with one more "
        "a new segment starts.",
        unit="groups",
        low=1,
        high=10_000,
    )

    homing: float = parameter(
        -1.0,
        "Share of the way back to the network's own affine frame that the running frame goes with "
        "every group, where no keyframes hold it: so fast are errors of the chain forgotten. The "
        "better a network's windows agree, the less is needed. 0: the chain alone; -1: what the "
        "regressor asks for (nano 0.5, DVD 0).",
        unit="1/group",
        low=-1.0,
        high=1.0,
    )
    max_total_scale: float = parameter(
        20.0,
        "Largest factor between the running frame and the network's own, either way; beyond it "
        "the chain has lost what it began with, and a new segment starts.",
        low=1.5,
        high=1e6,
    )
    still_every: int = parameter(
        0,
        "Groups between two measurements of how the frames within a window differ in scale and "
        "shift, made by showing the network its newest image as a still video; each costs about "
        "as many more runs as a window has groups, plus four. 0: they are taken to be alike.",
        unit="groups",
        low=0,
        high=100_000,
    )
    look_ahead: int = parameter(
        0,
        "Groups of frames held back until later windows have seen them too, and blended then: "
        "seams become smaller, depth comes that many groups later; 0 publishes at once. More than "
        "the overlap covers brings nothing and is not waited for.",
        unit="groups",
        low=0,
        high=16,
    )

    keyframes: KeyframeConfig = group(KeyframeConfig)

    def for_regressor(self, spec: RegressorSpec) -> AlignmentConfig:
        """With what is left to the regressor filled in."""
        return replace(self, homing=spec.homing) if self.homing < 0.0 else self

    def __post_init__(self) -> None:
        if not self.floor < self.saturation:
            raise ConfigError(
                f"alignment: expected floor < saturation, got {self.floor} and {self.saturation}"
            )
