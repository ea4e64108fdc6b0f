# SPDX-License-Identifier: Apache-2.0
"""DVD's resizing rule, and the camera model that follows it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from video_depth_ros.errors import InputError
from video_depth_ros.regressors.preprocessing import cover_size, to_regressor

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    "height, width, expected",
    [
        (720, 1280, (480, 864)),
        (480, 640, (480, 640)),
        (1080, 1920, (480, 864)),
        (376, 1241, (480, 1600)),
        (240, 320, (480, 640)),
        (640, 480, (864, 640)),
        (352, 1216, (480, 1664)),
    ],
)
def test_public_sizes(height, width, expected):
    assert cover_size(height, width, (480, 640), 16) == expected


@settings(deadline=None, max_examples=60)
@given(
    height=st.integers(32, 2000),
    width=st.integers(32, 2000),
    box=st.tuples(st.integers(32, 600), st.integers(32, 600)),
    multiple=st.sampled_from([8, 14, 16, 32]),
)
def test_covers_the_box_with_less_than_one_multiple_to_spare(height, width, box, multiple):
    if max(height, width) > 4 * min(height, width):
        with pytest.raises(InputError) as error:
            cover_size(height, width, box, multiple)
        assert error.value.reason == "aspect"
        return
    h, w = cover_size(height, width, box, multiple)
    assert h % multiple == w % multiple == 0
    assert h >= box[0] and w >= box[1]
    ratio = max(box[0] / height, box[1] / width)
    assert h - height * ratio < multiple and w - width * ratio < multiple


def test_too_small():
    with pytest.raises(InputError, match="at least 32x32 px, got 100x31") as error:
        cover_size(31, 100, (480, 640), 16)
    assert error.value.reason == "too_small"


@pytest.mark.parametrize("as_tensor", [False, True])
def test_values_and_layout(as_tensor):
    rgb = np.zeros((32, 48, 3), np.uint8)
    rgb[..., 0], rgb[3, 5, 1] = 255, 128
    rgb.setflags(write=False)  # a view of a message
    given_image = torch.from_numpy(rgb.copy()) if as_tensor else rgb
    image = to_regressor(given_image, (32, 48), CPU)
    assert (image.shape, image.dtype) == ((3, 32, 48), torch.float32)
    assert image[0].eq(1).all() and image[2].eq(0).all()
    assert image[1, 3, 5].item() == pytest.approx(128 / 255)


def test_resampling_has_half_pixel_centres():
    """Exactly twice as large: every output pixel is 1/4, 3/4 between two input pixels."""
    ramp = np.repeat(np.arange(48, dtype=np.uint8)[None, :, None], 32, axis=0).repeat(3, axis=2)
    image = to_regressor(ramp, (64, 96), CPU) * 255
    columns = (torch.arange(96, dtype=torch.float32) + 0.5) / 2 - 0.5
    expected = columns.clamp(0, 47).expand(3, 64, 96)
    torch.testing.assert_close(image, expected, rtol=0, atol=1e-4)
