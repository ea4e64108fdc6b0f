# SPDX-License-Identifier: Apache-2.0
"""A camera's sensor: from radiance to an 8-bit image as a cheap real camera would give it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

_SRGB = np.clip(np.linspace(0.0, 1.0, 4096), 0, 1)
_SRGB = np.where(_SRGB <= 0.0031308, 12.92 * _SRGB, 1.055 * np.power(_SRGB, 1 / 2.4) - 0.055)
_SRGB = (_SRGB * 255.0).astype(np.float32)


@dataclass(frozen=True)
class Sensor:
    """Parameters of one camera.

    Attributes:
        target: mean of the log radiance the exposure control aims at.
        lag: how slowly exposure follows, 0 (at once) to 1 (never), per frame.
        drift, drift_hz: amplitude (in stops) and frequency of an exposure ripple.
        cast: white-balance gains, float64 [3].
        vignetting: loss of light in the corners, 0 to 1.
        shot, read: noise, standard deviation as a share of sqrt(signal) and of full scale.
        defocus: standard deviation of the blur [px].
        shutter: exposure time as a share of the frame period (motion blur).
        contrast: exponent of a tone curve round mid-grey, 1 for none.
        saturation: 1 for none.
        jpeg: quality, 0 for no compression.
        grey: whether the camera is monochrome.
    """

    target: float = 0.18
    lag: float = 0.8
    drift: float = 0.0
    drift_hz: float = 1.0
    cast: tuple[float, float, float] = (1.0, 1.0, 1.0)
    vignetting: float = 0.0
    shot: float = 0.0
    read: float = 0.0
    defocus: float = 0.0
    shutter: float = 0.0
    contrast: float = 1.0
    saturation: float = 1.0
    jpeg: int = 0
    grey: bool = False

    @staticmethod
    def random(rng: np.random.Generator) -> Sensor:
        """From a good machine-vision camera to an old phone in bad light."""
        bad = rng.random() ** 1.5
        return Sensor(
            target=math.exp(rng.uniform(math.log(0.08), math.log(0.3))),
            lag=rng.uniform(0.5, 0.97),
            drift=rng.uniform(0, 0.35) * (rng.random() < 0.4),
            drift_hz=rng.uniform(0.1, 3.0),
            cast=tuple(np.exp(rng.normal(0, 0.08, 3))),
            vignetting=rng.uniform(0, 0.5) * (rng.random() < 0.7),
            shot=0.035 * bad, read=0.015 * bad,
            defocus=rng.uniform(0, 0.8) * (rng.random() < 0.6),
            shutter=rng.uniform(0, 0.8) * (rng.random() < 0.6),
            contrast=math.exp(rng.normal(0.08, 0.18)),
            saturation=rng.uniform(0.5, 1.25),
            jpeg=int(rng.integers(35, 95)) if rng.random() < 0.5 else 0,
            grey=bool(rng.random() < 0.06),
        )  # fmt: skip


class Exposer:
    """Turns radiance into images, with the memory an exposure control has."""

    def __init__(self, sensor: Sensor, height: int, width: int, seed: int) -> None:
        self._sensor = sensor
        self._rng = np.random.default_rng((seed, 5))
        self._gain: float | None = None
        y, x = np.mgrid[0:height, 0:width].astype(np.float32)
        r2 = ((x / (width - 1) - 0.5) ** 2 + (y / (height - 1) - 0.5) ** 2) * 2.0
        self._shade = ((1.0 - sensor.vignetting * r2)[..., None]) * np.asarray(
            sensor.cast, np.float32
        )
        # Noise is drawn once and rolled at random: cheap, and still new in every frame.
        self._noise = self._rng.standard_normal((height, width, 3), dtype=np.float32)
        tone = np.linspace(0, 1, 4096) ** sensor.contrast * 0.5 ** (1 - sensor.contrast)
        self._curve = _SRGB[np.clip(tone * 4095, 0, 4095).astype(int)].astype(np.uint8)

    def expose(
        self, linear: np.ndarray, time_s: float, flow: np.ndarray | None = None
    ) -> np.ndarray:
        """One image, uint8 [H, W, 3].

        Args:
            linear: radiance float32 [H, W, 3].
            time_s: for the exposure ripple.
            flow: image motion over one frame period (u, v) [px], for motion blur.
        """
        s = self._sensor
        level = float(np.exp(np.log(linear[::4, ::4].mean(-1) + 1e-3).mean()))
        wanted = s.target / level
        self._gain = wanted if self._gain is None else self._gain**s.lag * wanted ** (1 - s.lag)
        gain = self._gain * 2.0 ** (s.drift * math.sin(2 * math.pi * s.drift_hz * time_s))
        image = np.minimum(linear, 8.0 / gain) * (self._shade * np.float32(gain))
        if flow is not None and s.shutter > 0.0:
            image = _smear(image, np.asarray(flow) * s.shutter)
        if s.defocus > 0.2:
            image = cv2.GaussianBlur(image, (0, 0), s.defocus)
        if s.saturation != 1.0 or s.grey:
            grey = image @ np.array([0.25, 0.6, 0.15], np.float32)
            image = grey[..., None] + (0.0 if s.grey else s.saturation) * (image - grey[..., None])
        image = image.astype(np.float32)
        if s.shot + s.read > 0.0:
            n = self._noise
            n = np.roll(n, tuple(self._rng.integers(0, n.shape[:2])), (0, 1))
            if s.grey:
                n = n[..., :1]
            image += n * np.sqrt(s.shot**2 * np.clip(image, 0, 1) + s.read**2)
        index = np.clip(image * 4095.0, 0, 4095).astype(np.int16)
        result = self._curve[index]
        if s.jpeg:
            _, code = cv2.imencode(".jpg", result[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, s.jpeg])
            result = cv2.cvtColor(cv2.imdecode(code, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        return np.ascontiguousarray(result)


def _smear(image: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """Blur along a straight line of ``flow`` pixels, uniform over the image."""
    length = float(np.hypot(*flow))
    if length < 1.0:
        return image
    length = min(length, 0.05 * image.shape[1])
    half = math.ceil(length / 2)
    kernel = np.zeros((2 * half + 1, 2 * half + 1), np.float32)
    for t in np.linspace(-0.5, 0.5, 8 * half + 1):
        step = t * length * flow / np.hypot(*flow)
        kernel[half + round(step[1]), half + round(step[0])] += 1
    return cv2.filter2D(image, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE)


def image_flow(
    fx: float, T_world_before: np.ndarray, T_world_after: np.ndarray, depth: np.ndarray
) -> np.ndarray:
    """Typical image motion (u, v) [px] between two camera poses: rotation plus parallax."""
    motion = np.linalg.inv(T_world_after) @ T_world_before
    seen = depth[np.isfinite(depth)]
    z = float(np.median(seen)) if seen.size else 1e6
    point = motion[:3, :3] @ np.array([0.0, 0.0, z]) + motion[:3, 3]
    return fx * point[:2] / max(point[2], 0.1)
