# SPDX-License-Identifier: Apache-2.0
"""Augmentation of clips: geometry that keeps disparity affine-invariant, and colour.

A crop, a zoom, a mirror image and a turn about the optical axis leave the depth along that axis as
it is, so they are free views from other cameras. Colour changes are drawn once per clip (with a
small flicker of the exposure), because a camera does not change between frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from video_depth_ros.settings import parameter
from video_depth_ros.training.clips import Clip


@dataclass(frozen=True)
class AugmentConfig:
    """Strength of the augmentation; all off gives a centre crop and a resize.

    ``reverse`` is for whoever takes the frames of a clip (``batches``), not for :func:`augment`.
    """

    flip: bool = parameter(True, "Mirror half of the clips.")
    crop: float = parameter(
        0.6, "Smallest share of the image's sides that a crop keeps; 1 = none.", low=0.1, high=1.0
    )
    aspect: float = parameter(
        1.25, "Largest factor by which a crop is stretched in one direction.", low=1.0, high=2.0
    )
    roll: float = parameter(
        8.0, "Largest turn about the optical axis.", unit="deg", low=0, high=45
    )
    reverse: bool = parameter(True, "Play half of the clips backwards.")
    colour: float = parameter(1.0, "Strength of the colour changes; 0 = none.", low=0.0, high=2.0)


def augment(
    clip: Clip, size: tuple[int, int], config: AugmentConfig, rng: np.random.Generator
) -> Clip:
    """A random view of the clip at ``size`` = (height, width), the same for all its frames."""
    matrix = _view(clip.rgb.shape[1:3], size, config, rng)
    rgb = np.stack([_warp_rgb(frame, matrix, size) for frame in clip.rgb])
    depth = np.stack([_warp_depth(frame, matrix, size) for frame in clip.depth])
    if config.colour > 0:
        rgb = _colour(rgb, config.colour, rng)
    return Clip(rgb, depth)


def _view(
    have: tuple[int, ...], want: tuple[int, int], config: AugmentConfig, rng: np.random.Generator
) -> np.ndarray:
    """Affine map [2, 3] from output pixels to input pixels."""
    height, width = have[:2]
    # the largest window of the wanted aspect inside the image, then a part of it
    stretch = float(np.exp(rng.uniform(-1, 1) * np.log(config.aspect)))
    aspect = want[1] / want[0] * stretch
    fit_w = min(width, height * aspect)
    keep = rng.uniform(config.crop, 1.0)
    w, h = fit_w * keep, fit_w / aspect * keep
    cx = rng.uniform(w / 2, width - w / 2) if config.crop < 1 else width / 2
    cy = rng.uniform(h / 2, height - h / 2) if config.crop < 1 else height / 2
    angle = np.deg2rad(config.roll) * rng.normal() / 2
    angle = float(np.clip(angle, -np.deg2rad(config.roll), np.deg2rad(config.roll)))
    mirror = -1.0 if config.flip and rng.random() < 0.5 else 1.0
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = turn @ np.diag([mirror * w / want[1], h / want[0]])
    middle = np.array([want[1] / 2 - 0.5, want[0] / 2 - 0.5])
    offset = np.array([cx - 0.5, cy - 0.5]) - linear @ middle
    return np.column_stack([linear, offset])


def _warp_rgb(frame: np.ndarray, matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(
        frame, matrix, size[::-1], flags=flags, borderMode=cv2.BORDER_REFLECT_101
    )


def _warp_depth(frame: np.ndarray, matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(
        frame, matrix, size[::-1], flags=flags, borderMode=cv2.BORDER_CONSTANT, borderValue=np.nan
    )


def _colour(rgb: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Tone, hue, shading, blur and noise; uint8 [T, H, W, 3] in and out."""
    tables = _tone_curves(strength, rng)
    if rng.random() < 0.3 * strength:
        tables = tables[:, rng.permutation(3)]
        rgb = rgb[..., rng.permutation(3)]
    x = np.stack([tables[rgb[..., c], c] for c in range(3)], axis=-1)
    grey = x.mean(axis=-1, keepdims=True)
    saturation = 0.0 if rng.random() < 0.15 * strength else rng.uniform(0.3, 1.4)
    x = grey + (x - grey) * (1.0 + strength * (saturation - 1.0))
    x *= _shading(x.shape[1:3], strength, rng)[None, :, :, None]
    x *= np.exp(rng.normal(0, 0.03 * strength, (len(x), 1, 1, 1))).astype(np.float32)
    x = _defocus(x, strength, rng)
    noise = rng.uniform(0, 0.04) * strength
    x += noise * rng.standard_normal(x.shape, np.float32)
    return np.clip(x * 255.0 + 0.5, 0, 255).astype(np.uint8)


def _tone_curves(strength: float, rng: np.random.Generator) -> np.ndarray:
    """One monotone curve per channel as a table [256, 3] of values in [0, 1]."""
    x = np.linspace(0, 1, 256)[:, None]
    gamma = np.exp(strength * (rng.normal(0, 0.35) + rng.normal(0, 0.12, 3)))
    gain = np.exp(strength * (rng.normal(0, 0.25) + rng.normal(0, 0.12, 3)))
    contrast = np.exp(strength * rng.normal(0, 0.25))
    y = gain * x**gamma
    y = 0.5 + (y - 0.5) * contrast + strength * rng.normal(0, 0.06)
    return np.clip(y, 0, 1.1).astype(np.float32)


def _shading(size: tuple[int, ...], strength: float, rng: np.random.Generator) -> np.ndarray:
    """A smooth field of light over the image, [H, W]: vignetting, lamps, shadows."""
    coarse = rng.normal(0, 0.2 * strength * rng.random(), (3, 4)).astype(np.float32)
    field = cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)
    return np.exp(field)


def _defocus(x: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    if rng.random() > 0.3 * strength:
        return x
    sigma = rng.uniform(0.3, 1.2)
    return np.stack([cv2.GaussianBlur(frame, (0, 0), sigma) for frame in x])
