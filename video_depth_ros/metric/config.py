# SPDX-License-Identifier: Apache-2.0
"""Parameters of metric scale. Each group belongs to the file of the same name."""

from __future__ import annotations

from dataclasses import dataclass

from video_depth_ros.errors import ConfigError
from video_depth_ros.settings import group, parameter

NO_SOURCE = "none"  # in a list of its own
SOURCES = ("lidar", "sparse_depth", "range", "odometry", "imu")


@dataclass(frozen=True)
class LidarConfig:
    """How point clouds and sparse depth images become anchors."""

    max_time_offset: float = parameter(
        0.1, "Largest difference between the stamps of a scan and its image.", unit="s",
        low=0.0, high=5.0, live=True,
    )  # fmt: skip
    deskew: bool = parameter(
        True,
        "Move the points of a scan from their own times, where the cloud has them and odometry "
        "covers them. Switch it off when the driver has done so already.",
    )
    sigma: float = parameter(
        0.03, "Standard deviation of one measured depth.", unit="m", low=1e-4, high=5.0
    )
    min_range: float = parameter(
        0.1, "Points nearer than this are the robot itself.", unit="m", low=0.0, high=100.0
    )
    occlusion_margin: float = parameter(
        0.15,
        "A point this much farther than a point beside it, on a pixel the network sees no "
        "farther, is seen through or past an edge: left out. 0 switches the test off.",
        low=0.0,
        high=10.0,
    )
    max_misalignment: float = parameter(
        1.35,
        "How much better the anchors may agree with the disparity when moved elsewhere in the "
        "image; beyond, the extrinsics are taken to be wrong. 0 switches the test off.",
        low=0.0,
        high=100.0,
    )
    occlusion_cell: int = parameter(
        8, "Cell of the occlusion test, three cells wide.", unit="px", low=1, high=128
    )
    max_edge: float = parameter(
        0.06,
        "Points where the disparity changes by more than this share of its spread from pixel to "
        "pixel lie on an edge: left out.",
        low=1e-3,
        high=10.0,
    )
    bin_cell: int = parameter(
        32, "Cell of the thinning by image position and depth.", unit="px", low=1, high=1024
    )
    bin_points: int = parameter(16, "Points kept per cell and depth octave.", low=1, high=10_000)
    max_points: int = parameter(4000, "Points kept per scan.", low=8, high=1_000_000)


@dataclass(frozen=True)
class OdometryConfig:
    """Triangulation of features over a baseline that odometry measures."""

    features: int = parameter(300, "Features followed.", low=20, high=5000)
    min_tracks: int = parameter(30, "Fewest features for a measurement.", low=8, high=5000)
    min_baseline: float = parameter(0.05, "Smallest motion.", unit="m", low=1e-3, high=100.0)
    min_parallax: float = parameter(
        1.0, "Median parallax below which nothing is triangulated.", unit="deg",
        low=0.05, high=45.0,
    )  # fmt: skip
    max_sigma: float = parameter(
        0.04,
        "Relative standard deviation of all inverse depths together, from the motion's errors, "
        "at which the baseline is long enough.",
        low=0.005,
        high=0.5,
    )
    max_reprojection: float = parameter(
        1.5, "Largest reprojection error of a feature.", unit="px", low=0.1, high=50.0
    )
    max_age: float = parameter(5.0, "Longest time a keyframe is kept.", unit="s", low=0.1)
    max_correction: float = parameter(
        16.8,
        "Largest correction of the odometer's motion by the features, in the deviations below, "
        "squared and summed (chi-square, six degrees of freedom: exceeded in 1 % at most). "
        "Beyond, its mounting or its clock is wrong, or its frame has jumped. 0 switches the "
        "test off.",
        low=0.0,
        high=1e6,
    )
    sigma_pixel: float = parameter(
        0.4, "Standard deviation of a feature's position.", unit="px", low=0.01, high=20.0
    )
    sigma_scale: float = parameter(
        0.01, "Relative standard deviation of the odometer's distance.", low=0.0, high=1.0
    )
    sigma_position: float = parameter(
        0.003, "Standard deviation of a position difference.", unit="m", low=0.0, high=10.0
    )
    sigma_distance: float = parameter(
        0.01,
        "The same, growing with the way, added in squares.",
        unit="m/sqrt(m)",
        low=0.0,
        high=1.0,
    )
    sigma_rotation: float = parameter(
        0.005, "Standard deviation of a rotation difference.", unit="rad", low=1e-6, high=1.0
    )
    sigma_turn: float = parameter(
        0.015,
        "The same, growing with the turn, added in squares.",
        unit="rad/sqrt(rad)",
        low=0.0,
        high=1.0,
    )


@dataclass(frozen=True)
class InertialConfig:
    """Visual-inertial alignment: a bootstrap and a sanity check, it needs acceleration."""

    features: int = parameter(200, "Features followed.", low=20, high=5000)
    min_tracks: int = parameter(20, "Fewest features between keyframes.", low=12, high=5000)
    interval: float = parameter(0.2, "Time between keyframes.", unit="s", low=0.02, high=2.0)
    keyframes: int = parameter(30, "Most keyframes aligned together.", low=8, high=100)
    gravity: float = parameter(9.81, "Strength of gravity.", unit="m/s^2", low=1.0, high=30.0)
    max_gravity_error: float = parameter(
        0.5, "Largest error of the gravity found freely.", unit="m/s^2", low=0.01, high=10.0
    )
    max_sigma: float = parameter(
        0.1, "Largest relative standard deviation of an aligned scale.", low=0.005, high=0.5
    )
    max_ratio: float = parameter(
        1.3,
        "Largest ratio of the scales found by regressing vision on inertia and inertia on "
        "vision; noise drives them apart.",
        low=1.01,
        high=10.0,
    )
    sigma_accelerometer: float = parameter(
        0.01, "Noise density of the accelerometer.", unit="m/s^2/sqrt(Hz)", low=1e-6, high=10.0
    )
    sigma_bias: float = parameter(
        0.1, "Standard deviation of the accelerometer's bias.", unit="m/s^2", low=1e-6, high=10.0
    )
    sigma_rotation: float = parameter(
        0.01,
        "Standard deviation of a gyro rotation between keyframes, the bias not known.",
        unit="rad",
        low=1e-6,
    )
    sigma_gyroscope: float = parameter(
        3e-4,
        "Standard deviation of such a rotation once the bias is known: the gyro's noise, and "
        "jitter between the stamps of camera and IMU.",
        unit="rad",
        low=1e-6,
        high=1.0,
    )


@dataclass(frozen=True)
class FitConfig:
    """The robust fit of 1/Z = a d + b to the anchors of one frame."""

    min_points: int = parameter(30, "Fewest anchors for a fit of both a and b.", low=3)
    disparity_error: float = parameter(
        0.01, "Expected error of the disparity, share of its spread.", low=0.0, high=1.0
    )
    relative_error: float = parameter(
        0.05, "Expected relative error of the inverse depth.", low=0.0, high=1.0
    )
    min_inliers: float = parameter(
        0.5, "Smallest share of anchors that must agree.", low=0.05, high=1.0
    )
    min_spread: float = parameter(
        1.5,
        "Smallest ratio of the 95 % to the 5 % quantile of the fitted inverse depth; below it "
        "all anchors lie at one depth and only the level is used.",
        low=1.0,
        high=100.0,
    )
    max_residual: float = parameter(
        0.5,
        "Largest median relative residual of inverse depth of a usable fit.",
        low=0.01,
        high=10.0,
    )
    max_slope_sigma: float = parameter(
        0.3,
        "Largest relative standard deviation of a usable a; above it only the level is used.",
        low=0.001,
        high=1.0,
    )
    inflation: float = parameter(
        4.0,
        "Factor on the fit's covariance: neighbouring errors of a network are alike.",
        low=1.0,
        high=1e4,
    )
    floor: float = parameter(
        0.01, "Smallest relative standard deviation of a fit.", low=0.0, high=0.5
    )
    min_positive: float = parameter(
        0.95,
        "Smallest share of pixels that the fit does not put behind infinity by more than its "
        "own deviation there.",
        low=0.0,
        high=1.0,
    )


@dataclass(frozen=True)
class FilterConfig:
    """The recursive filter over (log a, b)."""

    process_scale: float = parameter(
        0.05, "Random walk of log a.", unit="1/sqrt(s)", low=0.0, high=10.0
    )
    process_shift: float = parameter(
        0.02,
        "Random walk of b, share of the median inverse depth.",
        unit="1/sqrt(s)",
        low=0.0,
        high=10.0,
    )
    correlation: float = parameter(
        0.5,
        "Errors of a network are alike for this long: fits of one source that follow each other "
        "faster count for less.",
        unit="s",
        low=0.0,
        high=60.0,
    )
    gate: float = parameter(
        9.21, "Chi-square gate on the innovation (99 % of two degrees of freedom).", low=0.1
    )
    reinitialise_after: int = parameter(
        3, "Fits in a row that contradict the filter and agree among themselves.", low=2, high=100
    )
    max_sigma: float = parameter(
        0.15,
        "Largest relative standard deviation of the scale at which depth is called metric.",
        low=0.001,
        high=1.0,
    )
    carry_over: bool = parameter(
        False, "Keep (a, b) as a weak prior when the stream's affine frame starts anew."
    )


@dataclass(frozen=True)
class LocalConfig:
    """The local correction of inverse depth."""

    enabled: bool = parameter(
        True,
        "Correct inverse depth locally where anchors are dense and it lowers the error left out.",
        live=True,
    )
    cell: int = parameter(16, "Finest grid cell in the image.", unit="px", low=4, high=1024)
    levels: int = parameter(
        32,
        "Finest division of the logarithm of inverse depth, a power of two.",
        low=1,
        high=64,
    )
    ridge: float = parameter(
        0.15, "Pull to no correction, in anchors per cell.", low=0.0, high=1e6
    )
    min_points: int = parameter(200, "Fewest anchors of a frame.", low=10)
    min_gain: float = parameter(
        0.1, "Smallest share by which the left-out error must fall.", low=0.0, high=1.0
    )

    def __post_init__(self) -> None:
        """Refuse grids that do not nest.

        Raises:
            ConfigError: levels is no power of two.
        """
        if self.levels & (self.levels - 1):
            raise ConfigError(f"scale.local.levels: expected a power of two, got {self.levels}")


@dataclass(frozen=True)
class ScaleConfig:
    """Metric scale from whatever sensors there are."""

    sources: tuple[str, ...] = parameter(
        SOURCES,
        f"Sources that may be used, out of {', '.join(SOURCES)}; [none] for depth without metric "
        "scale (ROS cannot pass on an empty list). range only through the Python "
        "API (DepthPipeline.add_range): node and reprocess read no sensor_msgs/Range.",
    )
    stale_after: float = parameter(
        2.0, "Without a measurement for this long the scale is stale.", unit="s", low=0.05
    )
    lost_after: float = parameter(
        30.0, "Without a measurement for this long the scale is given up.", unit="s", low=0.1
    )
    standby: float = parameter(
        20.0,
        "While a LiDAR or a depth sensor gives the scale, odometry and IMU follow no features "
        "for this long between two measurements of theirs, which check it; they take over when "
        "it falls silent. 0: they never rest.",
        unit="s",
        low=0.0,
        high=86_400.0,
        live=True,
    )
    slew: float = parameter(
        0.05,
        "Largest relative change of published depth per second, over the nearer half of the view, "
        "or what its own uncertainty allows where that is more; 0: no limit.",
        unit="1/s",
        low=0.0,
        high=100.0,
        live=True,
    )
    min_depth: float = parameter(
        0.05, "Depth below this is unknown.", unit="m", low=0.0, high=100.0, live=True
    )
    max_depth: float = parameter(
        80.0, "Depth beyond this is unknown.", unit="m", low=0.1, high=1e5, live=True
    )
    lidar: LidarConfig = group(LidarConfig)
    odometry: OdometryConfig = group(OdometryConfig)
    imu: InertialConfig = group(InertialConfig)
    fit: FitConfig = group(FitConfig)
    filter: FilterConfig = group(FilterConfig)
    local: LocalConfig = group(LocalConfig)

    @property
    def has_source(self) -> bool:
        """Whether any source may be used."""
        return any(source in SOURCES for source in self.sources)

    def __post_init__(self) -> None:
        """Refuse combinations that contradict each other.

        Raises:
            ConfigError: unknown source, none beside another, min_depth >= max_depth or
                stale_after >= lost_after.
        """
        unknown = sorted(set(self.sources) - {*SOURCES, NO_SOURCE})
        if unknown:
            raise ConfigError(
                f"scale.sources: unknown {', '.join(unknown)}; known are {', '.join(SOURCES)}, "
                f"and {NO_SOURCE} for none of them"
            )
        if NO_SOURCE in self.sources and len(self.sources) > 1:
            raise ConfigError(
                f"scale.sources: {NO_SOURCE} goes with no other, got {', '.join(self.sources)}"
            )
        if not self.min_depth < self.max_depth:
            raise ConfigError(
                f"scale: expected min_depth < max_depth, got {self.min_depth} and {self.max_depth}"
            )
        if not self.stale_after < self.lost_after:
            raise ConfigError(
                "scale: expected stale_after < lost_after, got "
                f"{self.stale_after} and {self.lost_after}"
            )
