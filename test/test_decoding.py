# SPDX-License-Identifier: Apache-2.0
"""Image decoding: every encoding, padding, byte order, and each named refusal."""

from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from video_depth_ros.decoding import (
    SUPPORTED_ENCODINGS,
    decode_compressed,
    decode_compressed_depth,
    decode_depth,
    decode_image,
)
from video_depth_ros.errors import InputError


def scene(height: int = 24, width: int = 32) -> np.ndarray:
    """A smooth colourful uint8 RGB image: demosaicing and chroma subsampling hardly change it."""
    v, u = np.mgrid[0:height, 0:width]
    rgb = np.stack([40 + 4 * u, 200 - 5 * v, 60 + 2 * u + 3 * v], axis=2)
    return rgb.clip(0, 255).astype(np.uint8)


def padded(image: np.ndarray, padding: int) -> tuple[bytes, int]:
    """Rows of the image with junk behind each, and the step."""
    rows = np.ascontiguousarray(image).view(np.uint8).reshape(image.shape[0], -1)
    junk = np.full((rows.shape[0], padding), 0xA5, np.uint8)
    return np.hstack([rows, junk]).tobytes(), rows.shape[1] + padding


def test_rgb8_is_a_view_of_the_message() -> None:
    image = scene()
    data = bytearray(image.tobytes())
    decoded = decode_image(data, "rgb8", 24, 32, 96, 0)
    np.testing.assert_array_equal(decoded, image)
    data[0] = 255 - data[0]
    assert decoded[0, 0, 0] == data[0]
    assert not decoded.flags.writeable


PERMUTATIONS = {
    "rgb8": [0, 1, 2],
    "bgr8": [2, 1, 0],
    "rgba8": [0, 1, 2, 0],
    "bgra8": [2, 1, 0, 0],
    "8UC3": [2, 1, 0],
    "8UC4": [2, 1, 0, 0],
}


@pytest.mark.parametrize("encoding", PERMUTATIONS)
@settings(max_examples=20, deadline=None)
@given(
    height=st.integers(1, 9),
    width=st.integers(2, 9),  # OpenCV before 4.5.5 refuses columns of one pixel
    padding=st.integers(0, 7),
    seed=st.integers(0, 2**31),
)
def test_channel_orders(encoding: str, height: int, width: int, padding: int, seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    data, step = padded(image[..., PERMUTATIONS[encoding]], padding)
    np.testing.assert_array_equal(decode_image(data, encoding, height, width, step, 0), image)


@pytest.mark.parametrize("order", ["rgb", "bgr", "rgba", "bgra"])
@pytest.mark.parametrize("big", [0, 1])
def test_16_bit_colour_of_either_byte_order(order: str, big: int) -> None:
    image = scene()
    wide = image[..., PERMUTATIONS[f"{order}8"]].astype(">u2" if big else "<u2") * 257
    data, step = padded(wide.astype(">u2" if big else "<u2"), 6)
    np.testing.assert_array_equal(decode_image(data, f"{order}16", 24, 32, step, big), image)


@pytest.mark.parametrize("padding", [1, 2, 3, 5])
@pytest.mark.parametrize("encoding", ["mono16", "rgb16", "bgra16", "bayer_rggb16"])
def test_16_bit_rows_of_any_padding(encoding: str, padding: int) -> None:
    """OpenCV counts the distance of rows in whole items."""
    channels = {"rgb16": (3,), "bgra16": (4,)}.get(encoding, ())
    pixels = np.random.default_rng(0).integers(0, 65536, (24, 32, *channels)).astype("<u2")
    data, step = padded(pixels, padding)
    tight = decode_image(pixels.tobytes(), encoding, 24, 32, step - padding, 0)
    np.testing.assert_array_equal(decode_image(data, encoding, 24, 32, step, 0), tight)


@pytest.mark.parametrize("encoding", ["mono16", "16UC1"])
@pytest.mark.parametrize("big", [0, 1])
def test_16_bit_grey(encoding: str, big: int) -> None:
    grey = np.arange(0, 65536, 64, dtype=np.uint16).reshape(32, 32)
    data, step = padded(grey.astype(">u2" if big else "<u2"), 2)
    decoded = decode_image(data, encoding, 32, 32, step, big)
    expected = np.rint(grey * (255 / 65535)).astype(np.uint8)
    assert np.abs(decoded.astype(int) - expected[..., None]).max() <= 1
    assert (decoded[..., 0] == decoded[..., 2]).all()


@pytest.mark.parametrize("encoding", ["mono8", "8UC1"])
def test_8_bit_grey_ignores_the_byte_order(encoding: str) -> None:
    grey = scene()[..., 0]
    data, step = padded(grey, 5)
    decoded = decode_image(data, encoding, 24, 32, step, 1)
    np.testing.assert_array_equal(decoded, np.repeat(grey[..., None], 3, axis=2))


@pytest.mark.parametrize("big", [0, 1])
def test_float_grey(big: int) -> None:
    grey = np.array([[0.0, 0.5, 1.0], [np.nan, -3.0, 7.0]])
    data, step = padded(grey.astype(">f4" if big else "<f4"), 0)
    decoded = decode_image(data, "32FC1", 2, 3, step, big)[..., 1]
    assert decoded.tolist()[0][::2] == [0, 255]
    assert decoded[0, 1] in (127, 128)
    assert decoded[1].tolist() == [0, 0, 255]


TILES = {
    "rggb": [[0, 1], [1, 2]],
    "bggr": [[2, 1], [1, 0]],
    "gbrg": [[1, 2], [0, 1]],
    "grbg": [[1, 0], [2, 1]],
}


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("bits", [8, 16])
def test_bayer_mosaics(tile: str, bits: int) -> None:
    image = scene()
    v, u = np.mgrid[0:24, 0:32]
    mosaic = image[v, u, np.array(TILES[tile])[v % 2, u % 2]]
    data, step = padded(mosaic if bits == 8 else mosaic.astype("<u2") * 257, 4)
    decoded = decode_image(data, f"bayer_{tile}{bits}", 24, 32, step, 0).astype(int)
    inner = np.s_[2:-2, 2:-2]  # the rim is extrapolated
    assert np.abs(decoded[inner] - image[inner]).max() <= 3


def bt601(image: np.ndarray) -> np.ndarray:
    """RGB to Y'CbCr of ITU-R BT.601 in video range, from the standard's own coefficients."""
    red, green, blue = np.moveaxis(image.astype(float) / 255.0, 2, 0)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    cb, cr = (blue - luma) / 1.772, (red - luma) / 1.402
    return np.stack([16 + 219 * luma, 128 + 224 * cb, 128 + 224 * cr], axis=2)


@pytest.mark.parametrize(
    ("encoding", "luma_first"),
    [("yuv422", False), ("uyvy", False), ("yuv422_yuy2", True), ("yuyv", True)],
)
def test_yuv422(encoding: str, luma_first: bool) -> None:
    image = scene()
    yuv = bt601(image)
    pairs = yuv[:, :, 1:].copy()
    pairs[:, 1::2, 0] = yuv[:, 0::2, 2]  # even pixels carry Cb, odd ones Cr
    chroma = np.where(np.arange(32)[None, :] % 2 == 0, yuv[..., 1], pairs[..., 0])
    packed = np.stack([yuv[..., 0], chroma] if luma_first else [chroma, yuv[..., 0]], axis=2)
    data, step = padded(np.rint(packed).astype(np.uint8), 8)
    decoded = decode_image(data, encoding, 24, 32, step, 0).astype(int)
    assert np.abs(decoded - image).max() <= 6


@pytest.mark.parametrize("encoding", ["nv12", "nv21", "nv24"])
@pytest.mark.parametrize("padding", [0, 16])
def test_semi_planar_yuv(encoding: str, padding: int) -> None:
    image = scene()
    yuv = np.rint(bt601(image)).astype(np.uint8)
    chroma = yuv[..., 1:] if encoding == "nv24" else yuv[::2, ::2, 1:]
    if encoding == "nv21":
        chroma = chroma[..., ::-1]
    luma_bytes, step = padded(yuv[..., 0], padding)
    chroma_padding = 2 * padding if encoding == "nv24" else padding
    data = luma_bytes + padded(chroma.reshape(chroma.shape[0], -1), chroma_padding)[0]
    decoded = decode_image(data, encoding, 24, 32, step, 0).astype(int)
    assert np.abs(decoded - image).max() <= 8


def test_nv12_of_exact_size_is_read_whatever_the_step_says() -> None:
    data = np.full(24 * 32 * 3 // 2, 128, np.uint8).tobytes()
    assert decode_image(data, "nv12", 24, 32, 64, 0).shape == (24, 32, 3)


@pytest.mark.parametrize(
    ("encoding", "height", "width", "step", "size", "reason"),
    [
        ("32SC2", 4, 4, 32, 128, "encoding"),
        ("", 4, 4, 12, 48, "encoding"),
        ("rgb8", 0, 4, 12, 48, "empty"),
        ("rgb8", 4, 0, 0, 48, "empty"),
        ("rgb8", 4, 4, 12, 0, "empty"),
        ("rgb8", 4, 4, 12, 47, "truncated"),
        ("nv12", 4, 4, 4, 23, "truncated"),
        ("rgb8", 4, 4, 11, 48, "bad_step"),
        ("mono16", 4, 4, 7, 48, "bad_step"),
        ("nv12", 3, 4, 4, 18, "size"),
        ("yuyv", 4, 3, 6, 24, "size"),
        ("bayer_rggb8", 2, 2, 2, 4, "size"),
    ],
)
def test_refusals(
    encoding: str, height: int, width: int, step: int, size: int, reason: str
) -> None:
    with pytest.raises(InputError) as error:
        decode_image(bytes(size), encoding, height, width, step, 0)
    assert error.value.reason == reason


def test_an_unsupported_encoding_is_named_with_the_supported_ones() -> None:
    with pytest.raises(InputError, match="32SC2") as error:
        decode_image(bytes(8), "32SC2", 1, 1, 8, 0)
    assert all(name in str(error.value) for name in SUPPORTED_ENCODINGS)


def test_more_data_than_needed_is_accepted() -> None:
    image = scene()
    decoded = decode_image(image.tobytes() + b"xyz", "rgb8", 24, 32, 96, 0)
    np.testing.assert_array_equal(decoded, image)


@pytest.mark.parametrize(
    "image_format", ["png", "bgr8; png compressed bgr8", "rgb8; png compressed bgr8", ""]
)
def test_compressed_png(image_format: str) -> None:
    image = scene()
    data = cv2.imencode(".png", image[..., ::-1])[1].tobytes()
    np.testing.assert_array_equal(decode_compressed(data, image_format), image)


def test_compressed_jpeg_alpha_grey_16_bit_and_bayer() -> None:
    image = scene()
    jpeg = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
    assert np.abs(decode_compressed(jpeg, "jpeg").astype(int) - image).mean() < 3
    alpha = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGRA))[1]
    np.testing.assert_array_equal(decode_compressed(alpha, "png"), image)
    grey = cv2.imencode(".png", image[..., 0].astype(np.uint16) * 257)[1]
    expected = np.repeat(image[..., :1], 3, axis=2)
    np.testing.assert_array_equal(decode_compressed(grey, "mono16; png compressed "), expected)
    swapped = cv2.imencode(".png", image)[1]
    decoded = decode_compressed(swapped, "rgb8; png compressed rgb8")
    np.testing.assert_array_equal(decoded, image)
    v, u = np.mgrid[0:24, 0:32]
    mosaic = image[v, u, np.array(TILES["grbg"])[v % 2, u % 2]]
    bayer = cv2.imencode(".png", mosaic)[1]
    decoded = decode_compressed(bayer, "bayer_grbg8; png compressed ").astype(int)
    assert np.abs(decoded[2:-2, 2:-2] - image[2:-2, 2:-2]).max() <= 3


@settings(max_examples=50, deadline=None)
@given(
    data=st.binary(min_size=0, max_size=300), head=st.sampled_from([b"", b"\xff\xd8", b"\x89PNG"])
)
def test_damaged_compressed_data_is_refused_or_decoded_but_never_crashes(
    data: bytes, head: bytes
) -> None:
    try:
        image = decode_compressed(head + data, "jpeg")
    except InputError as error:
        assert error.reason in ("decode", "empty")
    else:
        assert image.dtype == np.uint8 and image.shape[2] == 3


@pytest.mark.parametrize("big", [0, 1])
def test_depth_in_millimetres_and_metres(big: int) -> None:
    order = ">" if big else "<"
    millimetres = np.array([[0, 1500], [65535, 250]], f"{order}u2")
    data, step = padded(millimetres, 2)
    depth = decode_depth(data, "16UC1", 2, 2, step, big)
    np.testing.assert_allclose(depth, [[np.nan, 1.5], [65.535, 0.25]], rtol=1e-6)
    metres = np.array([[np.inf, 1.5], [-1.0, np.nan]], f"{order}f4")
    depth = decode_depth(metres.tobytes(), "32FC1", 2, 2, 8, big)
    np.testing.assert_array_equal(depth, [[np.nan, 1.5], [np.nan, np.nan]])
    assert depth.dtype == np.float32


def test_depth_of_a_colour_encoding_is_refused() -> None:
    with pytest.raises(InputError, match="rgb8") as error:
        decode_depth(bytes(48), "rgb8", 4, 4, 12, 0)
    assert error.value.reason == "encoding"


def test_compressed_depth() -> None:
    """Written as compressed_depth_image_transport writes it: header, then a 16-bit PNG."""
    depth = np.linspace(0.5, 9.5, 12, dtype=np.float32).reshape(3, 4)
    depth[1, 1] = np.nan
    z_0, z_max = 1.0, 10.0
    quant_a = z_0 * (z_0 + 1) * 1000
    quant_b = 1 - quant_a / z_max
    stored = np.where(np.isnan(depth), 0, quant_a / np.nan_to_num(depth, nan=1) + quant_b)
    header = struct.pack("<iff", 0, quant_a, quant_b)
    data = header + cv2.imencode(".png", stored.astype(np.uint16))[1].tobytes()
    decoded = decode_compressed_depth(data, "32FC1; compressedDepth png")
    np.testing.assert_allclose(decoded, depth, rtol=0.01)
    png = cv2.imencode(".png", np.array([[0, 1234]], np.uint16))[1].tobytes()
    decoded = decode_compressed_depth(header + png, "16UC1; compressedDepth png")
    np.testing.assert_allclose(decoded, [[np.nan, 1.234]], rtol=1e-6)
    decoded = decode_compressed_depth(png, "16UC1; png compressed ")  # the plain transport
    np.testing.assert_allclose(decoded, [[np.nan, 1.234]], rtol=1e-6)


@pytest.mark.parametrize(
    ("data", "image_format", "reason"),
    [
        (bytes(40), "16UC1; compressedDepth rvl", "encoding"),
        (bytes(12), "16UC1; compressedDepth png", "truncated"),
        (b"", "16UC1; png compressed", "truncated"),
        (bytes(40), "32FC1; png compressed", "encoding"),
        (bytes(40), "16UC1; jpeg compressed", "encoding"),
        (bytes(40), "16UC1; compressedDepth png", "decode"),
    ],
)
def test_compressed_depth_refusals(data: bytes, image_format: str, reason: str) -> None:
    with pytest.raises(InputError) as error:
        decode_compressed_depth(data, image_format)
    assert error.value.reason == reason
