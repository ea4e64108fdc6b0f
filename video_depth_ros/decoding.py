# SPDX-License-Identifier: Apache-2.0
"""Raw and compressed image bytes to RGB images and metric depth images.

The encodings are those of ``sensor_msgs/image_encodings.hpp``. Row padding (``step``) and
``is_bigendian`` are honoured; images that already are 8-bit RGB come back as views of the given
bytes. Conventions where the encoding leaves them open: 8UC3 and 8UC4 are BGR and BGRA (OpenCV's
order, as cv_bridge takes them), 16-bit images are scaled by 255/65535, 32FC1 images span 0 to 1,
YUV is ITU-R BT.601 in video range.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from video_depth_ros.errors import InputError

Converter = Callable[[np.ndarray], np.ndarray]

# encoding -> (numpy type of one channel, channels); planar YUV formats are listed further down
_PACKED: dict[str, tuple[str, int]] = {
    "mono8": ("u1", 1),
    "8UC1": ("u1", 1),
    "mono16": ("u2", 1),
    "16UC1": ("u2", 1),
    "32FC1": ("f4", 1),
    **{f"{order}8": ("u1", len(order)) for order in ("rgb", "bgr", "rgba", "bgra")},
    **{f"{order}16": ("u2", len(order)) for order in ("rgb", "bgr", "rgba", "bgra")},
    "8UC3": ("u1", 3),
    "8UC4": ("u1", 4),
    **{f"bayer_{tile}8": ("u1", 1) for tile in ("rggb", "bggr", "gbrg", "grbg")},
    **{f"bayer_{tile}16": ("u2", 1) for tile in ("rggb", "bggr", "gbrg", "grbg")},
    **dict.fromkeys(("yuv422", "uyvy", "yuv422_yuy2", "yuyv"), ("u1", 2)),
}
_PLANAR = ("nv12", "nv21", "nv24")

# OpenCV names a Bayer tile by its second row and column, ROS by its first.
_BAYER = {
    "rggb": cv2.COLOR_BayerBG2RGB,
    "bggr": cv2.COLOR_BayerRG2RGB,
    "gbrg": cv2.COLOR_BayerGR2RGB,
    "grbg": cv2.COLOR_BayerGB2RGB,
}
_YUV422 = {
    "yuv422": cv2.COLOR_YUV2RGB_UYVY,
    "uyvy": cv2.COLOR_YUV2RGB_UYVY,
    "yuv422_yuy2": cv2.COLOR_YUV2RGB_YUY2,
    "yuyv": cv2.COLOR_YUV2RGB_YUY2,
}
_CHANNEL_ORDER = {
    "bgr": cv2.COLOR_BGR2RGB,
    "rgba": cv2.COLOR_RGBA2RGB,
    "bgra": cv2.COLOR_BGRA2RGB,
    "8UC3": cv2.COLOR_BGR2RGB,
    "8UC4": cv2.COLOR_BGRA2RGB,
}

SUPPORTED_ENCODINGS: tuple[str, ...] = (*_PACKED, *_PLANAR)


def decode_image(
    data: Any, encoding: str, height: int, width: int, step: int, is_bigendian: int | bool
) -> np.ndarray:
    """The image as uint8 RGB [H, W, 3]; a read-only view of ``data`` where it already is one.

    Args:
        data: the bytes (anything with the buffer protocol).
        encoding: one of :data:`SUPPORTED_ENCODINGS`.
        height, width: image size [px].
        step: bytes per row, padding included.
        is_bigendian: byte order of channels wider than one byte.

    Raises:
        InputError: ``encoding`` (not supported), ``empty``, ``truncated``, ``bad_step`` or
            ``size`` (odd size of a chroma-subsampled image).
    """
    if encoding in _PLANAR:
        return _decode_planar(data, encoding, height, width, step)
    if encoding not in _PACKED:
        raise InputError(
            "encoding",
            f"image encoding {encoding!r} is not supported; expected one of "
            f"{', '.join(SUPPORTED_ENCODINGS)}; set the camera driver's output format",
        )
    pixels = _packed_view(data, encoding, height, width, step, is_bigendian)
    if encoding in _YUV422:
        if width % 2:
            raise InputError("size", f"{encoding} needs an even width, got {width} px")
        return cv2.cvtColor(pixels, _YUV422[encoding])
    pixels = _to_8_bit(pixels)
    if encoding.startswith("bayer_"):
        return _demosaic(pixels, encoding)
    if pixels.ndim == 2:
        return cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB)
    order = _CHANNEL_ORDER.get(encoding, _CHANNEL_ORDER.get(encoding.rstrip("0123456789")))
    return pixels if order is None else cv2.cvtColor(pixels, order)


def decode_compressed(data: Any, image_format: str) -> np.ndarray:
    """A compressed image (JPEG, PNG or whatever OpenCV reads) as uint8 RGB [H, W, 3].

    Args:
        data: the compressed bytes.
        image_format: ``sensor_msgs/CompressedImage.format``: "jpeg", "png", or image_transport's
            "ORIGINAL; CODEC compressed PIXELS". A Bayer original stored as one channel is
            demosaiced; pixels stored as "rgb8" keep their order.

    Raises:
        InputError: ``empty`` or ``decode``.
    """
    original, _, codec = (part.strip() for part in image_format.partition(";"))
    image = _to_8_bit(_imdecode(data, f"image of format {image_format!r}"))
    if image.ndim == 2:
        if original.startswith("bayer_"):
            return _demosaic(image, original)
        return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
    if "compressed rgb" in codec:
        return np.ascontiguousarray(image[:, :, :3])
    return cv2.cvtColor(image, cv2.COLOR_BGRA2RGB if image.shape[2] == 4 else cv2.COLOR_BGR2RGB)


def decode_depth(
    data: Any, encoding: str, height: int, width: int, step: int, is_bigendian: int | bool
) -> np.ndarray:
    """A depth image (REP-118) as float32 [H, W] in metres, NaN where nothing was measured.

    16UC1 and mono16 are millimetres with 0 = invalid, 32FC1 is metres; values that are not
    finite or not positive become NaN.

    Raises:
        InputError: ``encoding``, ``empty``, ``truncated`` or ``bad_step``.
    """
    if encoding not in ("16UC1", "mono16", "32FC1"):
        raise InputError(
            "encoding",
            f"depth encoding {encoding!r} is not supported; expected 16UC1 (mm) or 32FC1 (m)",
        )
    pixels = _packed_view(data, encoding, height, width, step, is_bigendian)
    depth = pixels.astype(np.float32)
    if pixels.dtype.kind == "u":
        depth *= np.float32(1e-3)
    return _unknown_where_invalid(depth)


def decode_compressed_depth(data: Any, image_format: str) -> np.ndarray:
    """A compressed depth image as float32 metres [H, W].

    By the transport ``compressedDepth`` (compressed_depth_image_transport) a PNG of millimetres
    (16UC1) or of quantised inverse depth q with Z = A / (q - B) (32FC1); A and B stand in the
    12-byte header before it. By the plain transport ``compressed`` a PNG of millimetres alone.

    Raises:
        InputError: ``encoding`` (RVL or another codec), ``truncated`` or ``decode``.
    """
    original, _, codec = (part.strip() for part in image_format.partition(";"))
    plain = "compressedDepth" not in codec
    known = ("16UC1", "mono16") if plain else ("16UC1", "mono16", "32FC1")
    if "rvl" in codec or original not in known or (plain and "png" not in codec):
        raise InputError(
            "encoding",
            f"compressed depth of format {image_format!r} is not supported; expected "
            "'16UC1; compressedDepth png', '32FC1; compressedDepth png' or "
            "'16UC1; png compressed'",
        )
    raw = memoryview(data).cast("B")
    header = 0 if plain else 12
    if len(raw) <= header:
        raise InputError(
            "truncated", f"compressed depth: expected > {header} bytes, got {len(raw)}"
        )
    stored = _imdecode(raw[header:], f"depth image of format {image_format!r}")
    if stored.ndim != 2 or stored.dtype != np.uint16:
        raise InputError(
            "decode",
            f"compressed depth: expected one 16-bit channel, got {stored.dtype} {stored.shape}",
        )
    if original != "32FC1":
        return _unknown_where_invalid(stored.astype(np.float32) * np.float32(1e-3))
    _, quant_a, quant_b = struct.unpack("<iff", raw[:header])
    with np.errstate(divide="ignore"):
        depth = (quant_a / (stored.astype(np.float64) - quant_b)).astype(np.float32)
    depth[stored == 0] = np.nan
    return _unknown_where_invalid(depth)


def _unknown_where_invalid(depth: np.ndarray) -> np.ndarray:
    depth[~((depth > 0) & np.isfinite(depth))] = np.nan
    return depth


def _imdecode(data: Any, what: str) -> np.ndarray:
    """OpenCV's decoding, with the pixels as they are stored (no rotation by EXIF)."""
    raw = np.frombuffer(data, np.uint8)
    if not raw.size:
        raise InputError("empty", f"{what}: expected compressed bytes, got none")
    try:
        image = cv2.imdecode(raw, cv2.IMREAD_UNCHANGED)
    except cv2.error:
        image = None
    if image is None:
        raise InputError("decode", f"{what}: {raw.size} bytes cannot be decoded; damaged data")
    return image


def _packed_view(
    data: Any, encoding: str, height: int, width: int, step: int, is_bigendian: int | bool
) -> np.ndarray:
    """Pixels [H, W] or [H, W, C] in native byte order; a view wherever that is possible."""
    kind, channels = _PACKED[encoding]
    item = np.dtype(kind).newbyteorder(">" if is_bigendian else "<")
    _check_layout(data, encoding, height, width, step, width * channels * item.itemsize, height)
    strides = (step, channels * item.itemsize, item.itemsize)
    pixels: np.ndarray = np.ndarray((height, width, channels), item, _bytes(data), 0, strides)
    if not item.isnative or step % item.itemsize:  # OpenCV counts the rows' distance in items
        pixels = pixels.astype(item.newbyteorder("="))
    pixels.setflags(write=False)
    return pixels[:, :, 0] if channels == 1 else pixels


def _decode_planar(data: Any, encoding: str, height: int, width: int, step: int) -> np.ndarray:
    """Semi-planar YUV: H rows of Y, then the chroma pairs.

    nv12 and nv21 have H/2 chroma rows of ``step`` bytes, nv24 has H rows of 2 ``step`` bytes.
    Drivers do not agree on what ``step`` means here; data of exactly the size without padding
    is read without padding.
    """
    if encoding != "nv24" and (width % 2 or height % 2):
        raise InputError("size", f"{encoding} needs an even size, got {width}x{height} px")
    rows = 3 * height if encoding == "nv24" else height * 3 // 2
    if len(_bytes(data)) == rows * width:
        step = width
    _check_layout(data, encoding, height, width, step, width, rows)
    raw = np.frombuffer(data, np.uint8)[: rows * step]
    if encoding != "nv24":
        yuv = np.ascontiguousarray(raw.reshape(rows, step)[:, :width])
        nv12 = encoding == "nv12"
        return cv2.cvtColor(yuv, cv2.COLOR_YUV2RGB_NV12 if nv12 else cv2.COLOR_YUV2RGB_NV21)
    luma = raw[: height * step].reshape(height, step)[:, :width]
    chroma = raw[height * step :].reshape(height, 2 * step)[:, : 2 * width]
    yuv = np.dstack([luma, chroma.reshape(height, width, 2)]).astype(np.float32)
    # ITU-R BT.601, Y in 16..235 and chroma in 16..240 about 128
    to_rgb = np.array([[1.164, 0.0, 1.596], [1.164, -0.391, -0.813], [1.164, 2.018, 0.0]])
    rgb = (yuv - np.array([16, 128, 128], np.float32)) @ to_rgb.T.astype(np.float32)
    return np.clip(np.rint(rgb), 0, 255).astype(np.uint8)


def _check_layout(
    data: Any, encoding: str, height: int, width: int, step: int, row: int, rows: int
) -> None:
    size = len(_bytes(data))
    if height <= 0 or width <= 0 or size == 0:
        raise InputError("empty", f"image of {width}x{height} px with {size} bytes holds nothing")
    if step < row:
        raise InputError(
            "bad_step",
            f"{encoding} image of {width} px width: expected step >= {row} bytes, got {step}; "
            "the publisher fills its message wrongly",
        )
    if size < step * rows:
        raise InputError(
            "truncated",
            f"{encoding} image of {width}x{height} px: expected {step * rows} bytes, got {size}; "
            "data were lost or the publisher fills its message wrongly",
        )


def _bytes(data: Any) -> memoryview:
    return memoryview(data).cast("B")


def _to_8_bit(pixels: np.ndarray) -> np.ndarray:
    if pixels.dtype == np.uint8:
        return pixels
    scale = 255.0 / 65535.0 if pixels.dtype == np.uint16 else 255.0
    if pixels.dtype.kind == "f":
        pixels = np.clip(np.nan_to_num(pixels, nan=0.0), 0.0, 1.0)
    return cv2.convertScaleAbs(pixels, alpha=scale)


def _demosaic(pixels: np.ndarray, encoding: str) -> np.ndarray:
    height, width = pixels.shape
    if height < 4 or width < 4:
        raise InputError("size", f"{encoding} needs at least 4x4 px, got {width}x{height}")
    return cv2.cvtColor(pixels, _BAYER[encoding[6:10]])
