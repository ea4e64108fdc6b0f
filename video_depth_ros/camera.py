# SPDX-License-Identifier: Apache-2.0
"""Pinhole camera with lens distortion: projection, rays, back-projection, resizing.

Pixel centres lie at integer coordinates: the image spans [-0.5, width - 0.5]. The optical frame
is REP-103's: x right, y down, z forward. Distortion models are those of
``sensor_msgs/CameraInfo``: plumb_bob (k1 k2 p1 p2 k3), rational_polynomial (k1 k2 p1 p2 k3 k4 k5
k6) and equidistant (k1 k2 k3 k4, Kannala and Brandt 2006).
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from video_depth_ros.errors import InputError

_COEFFICIENTS = {
    "none": (0,),
    "plumb_bob": (4, 5),
    "rational_polynomial": (8,),
    "equidistant": (4,),
}
_ITERATIONS = 20  # of Newton's method
_HALVINGS = 52  # of 90 degrees, down to the last bit of a float64
_WIDEST = math.pi / 2 - 1e-6  # angle of a ray that still points forward
_FARTHEST = 10.0  # radius up to which a polynomial lens is looked at
_SOLVED = 1e-6  # largest error of a ray that counts, in normalised coordinates: 0.001 px


@dataclass(frozen=True)
class Camera:
    """Camera model of one image size.

    Attributes:
        width, height: image size [px].
        fx, fy, cx, cy: focal lengths and principal point [px].
        distortion_model: none, plumb_bob, rational_polynomial or equidistant.
        distortion: its coefficients in CameraInfo order; empty for none.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    distortion_model: str = "none"
    distortion: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a model that cannot be used.

        Raises:
            InputError: ``camera_info`` with the offending numbers.
        """
        numbers = (self.fx, self.fy, self.cx, self.cy, *self.distortion)
        if self.width <= 0 or self.height <= 0:
            self._refuse(f"a positive image size, got {self.width}x{self.height}")
        if not all(math.isfinite(x) for x in numbers):
            self._refuse(f"finite intrinsics, got {numbers}")
        if self.fx <= 0 or self.fy <= 0:
            self._refuse(f"positive focal lengths, got fx={self.fx}, fy={self.fy}")
        if self.distortion_model not in _COEFFICIENTS:
            known = ", ".join(_COEFFICIENTS)
            self._refuse(f"a distortion model out of {known}, got {self.distortion_model!r}")
        if len(self.distortion) not in _COEFFICIENTS[self.distortion_model]:
            self._refuse(
                f"{_COEFFICIENTS[self.distortion_model]} coefficients for "
                f"{self.distortion_model}, got {len(self.distortion)}"
            )

    @staticmethod
    def _refuse(what: str) -> None:
        raise InputError("camera_info", f"camera model: expected {what}; recalibrate the camera")

    @property
    def matrix(self) -> np.ndarray:
        """K, float64 [3, 3]."""
        return np.array([[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]])

    @property
    def distorted(self) -> bool:
        """Whether any distortion coefficient differs from zero."""
        return any(self.distortion)

    def resized(self, width: int, height: int) -> Camera:
        """The model of the same view resampled to another size.

        With pixel centres at integers, f' = s f and c' = s (c + 0.5) - 0.5 (the exact rule;
        image_proc leaves the half pixel out). Distortion acts on normalised coordinates and stays.
        """
        sx, sy = width / self.width, height / self.height
        return dataclasses.replace(
            self,
            width=width,
            height=height,
            fx=self.fx * sx,
            fy=self.fy * sy,
            cx=(self.cx + 0.5) * sx - 0.5,
            cy=(self.cy + 0.5) * sy - 0.5,
        )

    def cropped(self, x: int, y: int, width: int, height: int) -> Camera:
        """The model of the sub-image whose top left pixel is (x, y)."""
        return dataclasses.replace(
            self, width=width, height=height, cx=self.cx - x, cy=self.cy - y
        )

    def undistorted(self) -> Camera:
        """The ideal pinhole camera with the same matrix."""
        return dataclasses.replace(self, distortion_model="none", distortion=())

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Points in the optical frame to pixels.

        Args:
            points: float [N, 3], metres.

        Returns:
            uv float64 [N, 2], and valid bool [N]: in front of the camera, within the range where
            the distortion model is one-to-one, and inside the image.
        """
        points = np.asarray(points, dtype=np.float64).reshape(-1, 3)
        with np.errstate(all="ignore"):
            x, y = points[:, 0] / points[:, 2], points[:, 1] / points[:, 2]
            valid = points[:, 2] > 1e-6
            if self.distorted:
                radius2 = x * x + y * y
                valid &= radius2 < self._max_radius**2
                x, y = self._distort(x, y, radius2)
            uv = np.stack([self.fx * x + self.cx, self.fy * y + self.cy], axis=1)
            valid &= (uv[:, 0] >= -0.5) & (uv[:, 0] < self.width - 0.5)
            valid &= (uv[:, 1] >= -0.5) & (uv[:, 1] < self.height - 0.5)
        return uv, valid

    def normalised(self, uv: np.ndarray) -> np.ndarray:
        """Pixels [N, 2] to undistorted normalised coordinates (x/z, y/z), float64 [N, 2].

        NaN where no point in front of the camera is seen at the pixel: beyond the radius where
        the lens polynomial folds back, or beyond 90 degrees of a fisheye.
        """
        uv = np.asarray(uv, dtype=np.float64).reshape(-1, 2)
        ideal = (uv - (self.cx, self.cy)) / (self.fx, self.fy)
        if not self.distorted or not len(uv):
            return ideal
        with np.errstate(all="ignore"):
            if self.distortion_model == "equidistant":
                xy = self._undistort_radially(ideal)
            else:
                xy = self._undistort_newton(ideal, ideal)
                lost = ~self._solved(xy, ideal)
                if lost.any():  # the steps were too long, or there is no inverse
                    near = self._undistort_radially(ideal[lost])
                    xy[lost] = self._undistort_newton(ideal[lost], near)
            xy[~self._solved(xy, ideal)] = np.nan
        return xy

    def _solved(self, xy: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Whether points are seen at their targets, bool [N]: a lens beyond its fold has no
        inverse, and the search for one ends somewhere."""
        radius2 = (xy * xy).sum(axis=1)
        seen = np.stack(self._distort(xy[:, 0], xy[:, 1], radius2), axis=1)
        near = np.abs(seen - target).max(axis=1) < _SOLVED
        return np.asarray(near & (radius2 < self._max_radius**2))

    def _undistort_newton(self, target: np.ndarray, start: np.ndarray) -> np.ndarray:
        """Newton's method on the distortion itself: OpenCV's fixed-point iteration diverges for
        strong lenses, and its iteration limit is set differently in versions 4 and 5."""
        xy, step = start.copy(), 1e-6
        going = np.ones(len(xy), dtype=bool)  # where it went astray it is left as it is
        for _ in range(_ITERATIONS):
            x, y = xy[:, 0], xy[:, 1]
            here = np.stack(self._distort(x, y, x * x + y * y), axis=1)
            error = target - here
            if not (np.abs(error[going]) > 1e-12).any():
                break
            dx = np.stack(self._distort(x + step, y, (x + step) ** 2 + y * y), axis=1) - here
            dy = np.stack(self._distort(x, y + step, x * x + (y + step) ** 2), axis=1) - here
            jacobian = np.stack([dx, dy], axis=2) / step
            # a singular one, at the fold, has no inverse
            area = np.abs(dx[:, 0] * dy[:, 1] - dy[:, 0] * dx[:, 1])
            going = np.isfinite(area) & (area > 1e-9 * step**2)
            xy[going] += np.linalg.solve(jacobian[going], error[going, :, None])[:, :, 0]
        return xy

    def _undistort_radially(self, target: np.ndarray) -> np.ndarray:
        """The angle from the axis by halving, on the side of the fold where the distorted radius
        grows with it; for plumb_bob and rational_polynomial without their tangential part."""
        wanted = np.hypot(target[:, 0], target[:, 1])
        fisheye = self.distortion_model == "equidistant"
        widest = _WIDEST if fisheye else math.atan(_FARTHEST)
        low = np.zeros(len(wanted))
        high = np.full(len(wanted), min(math.atan(self._max_radius), widest))
        for _ in range(_HALVINGS):
            angle = 0.5 * (low + high)
            radius = np.tan(angle)
            seen = self._theta_d(angle) if fisheye else radius * self._radial(radius**2)
            beyond = seen > wanted
            low, high = np.where(beyond, low, angle), np.where(beyond, angle, high)
        ratio = np.tan(0.5 * (low + high)) / np.maximum(wanted, 1e-12)
        return target * np.where(wanted > 1e-12, ratio, 1.0)[:, None]

    @cached_property
    def _rays(self) -> np.ndarray:
        v, u = np.mgrid[0 : self.height, 0 : self.width]
        xy = self.normalised(np.stack([u.ravel(), v.ravel()], axis=1))
        rays = np.ones((self.height, self.width, 3))
        rays[..., :2] = xy.reshape(self.height, self.width, 2)
        rays[np.isnan(rays[..., 0])] = np.nan  # z as well: such a pixel has no point at all
        rays.setflags(write=False)
        return rays

    def rays(self) -> np.ndarray:
        """Viewing rays with z = 1, undistorted, float64 [H, W, 3], read-only.

        NaN in all three where the lens has no inverse, see :meth:`normalised`.
        """
        return self._rays

    def back_project(self, depth: np.ndarray) -> np.ndarray:
        """Depth [H, W] in metres along z to points [H, W, 3] in the optical frame; NaN where the
        lens has no inverse.

        Raises:
            InputError: ``size`` when the depth image is not of this camera's size.
        """
        if depth.shape != (self.height, self.width):
            raise InputError(
                "size",
                f"expected depth of {self.width}x{self.height} px, got "
                f"{depth.shape[1]}x{depth.shape[0]}; resize the camera model along with it",
            )
        return self._rays * np.asarray(depth, dtype=np.float64)[..., None]

    def _distort(
        self, x: np.ndarray, y: np.ndarray, radius2: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Distorted normalised coordinates."""
        if self.distortion_model == "equidistant":
            radius = np.sqrt(radius2)
            theta = np.arctan(radius)
            ratio = np.where(radius > 1e-12, self._theta_d(theta) / np.maximum(radius, 1e-12), 1.0)
            return x * ratio, y * ratio
        _, _, p1, p2 = self.distortion[:4]
        radial = self._radial(radius2)
        xd = x * radial + 2.0 * p1 * x * y + p2 * (radius2 + 2.0 * x * x)
        yd = y * radial + p1 * (radius2 + 2.0 * y * y) + 2.0 * p2 * x * y
        return xd, yd

    def _radial(self, r2: np.ndarray) -> np.ndarray:
        k1, k2, _, _, k3, k4, k5, k6 = (*self.distortion, *[0.0] * (8 - len(self.distortion)))
        above = 1.0 + r2 * (k1 + r2 * (k2 + r2 * k3))
        return above / (1.0 + r2 * (k4 + r2 * (k5 + r2 * k6)))

    def _theta_d(self, theta: np.ndarray) -> np.ndarray:
        k1, k2, k3, k4 = self.distortion
        t2 = theta * theta
        return theta * (1.0 + t2 * (k1 + t2 * (k2 + t2 * (k3 + t2 * k4))))

    @cached_property
    def _max_radius(self) -> float:
        """Largest undistorted radius up to which the distorted radius still grows.

        Beyond it the polynomial folds back and far-away points would land inside the image.
        """
        if self.distortion_model == "equidistant":
            theta = np.linspace(0.0, math.pi / 2 - 1e-3, 2000)
            radius, distorted = np.tan(theta), self._theta_d(theta)
        else:
            radius = np.linspace(0.0, _FARTHEST, 5000)
            distorted = radius * self._radial(radius**2)
        falling = np.flatnonzero(np.diff(distorted) <= 0)
        # the peak lies on either side of the first sample after which it falls
        return float(radius[max(falling[0] - 1, 0)]) if len(falling) else math.inf
