# SPDX-License-Identifier: Apache-2.0
"""The camera model against OpenCV's and against itself."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from video_depth_ros.camera import Camera
from video_depth_ros.errors import InputError

LENSES = {
    "none": (),
    "plumb_bob": (-0.28, 0.07, 2e-4, -3e-4, 0.0),
    "rational_polynomial": (0.2, -0.1, 1e-4, 2e-4, 0.01, 0.25, -0.08, 0.02),
    "equidistant": (-0.013, 0.009, -0.004, 0.0007),
}


def camera(model: str) -> Camera:
    return Camera(752, 480, 458.6, 457.3, 367.2, 248.4, model, LENSES[model])


def points_in_view(count: int = 500, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    z = rng.uniform(0.5, 30.0, count)
    return np.stack([z * rng.uniform(-0.6, 0.6, count), z * rng.uniform(-0.4, 0.4, count), z], 1)


@pytest.mark.parametrize("model", LENSES)
def test_projection_equals_opencv(model):
    ours, lens = camera(model), np.array(LENSES[model] or (0.0,) * 4)
    points = points_in_view()
    if model == "equidistant":
        theirs, _ = cv2.fisheye.projectPoints(
            points[:, None], np.zeros(3), np.zeros(3), ours.matrix, lens
        )
    else:
        theirs, _ = cv2.projectPoints(points[:, None], np.zeros(3), np.zeros(3), ours.matrix, lens)
    uv, valid = ours.project(points)
    assert valid.sum() > 300
    np.testing.assert_allclose(uv[valid], theirs[:, 0][valid], atol=1e-8)


@pytest.mark.parametrize("model", LENSES)
def test_rays_project_back_to_their_pixels(model):
    ours = camera(model)
    uv, _ = ours.project(ours.rays().reshape(-1, 3))
    v, u = np.mgrid[0 : ours.height, 0 : ours.width]
    np.testing.assert_allclose(uv, np.stack([u.ravel(), v.ravel()], 1), atol=1e-6)


@pytest.mark.parametrize("model", ["none", "plumb_bob", "equidistant"])
def test_back_projection_then_projection_is_the_identity(model):
    ours = camera(model)
    depth = np.random.default_rng(1).uniform(0.4, 60.0, (ours.height, ours.width))
    points = ours.back_project(depth)
    np.testing.assert_allclose(points[..., 2], depth)
    uv, valid = ours.project(points.reshape(-1, 3))
    assert valid.all()
    v, u = np.mgrid[0 : ours.height, 0 : ours.width]
    np.testing.assert_allclose(uv, np.stack([u.ravel(), v.ravel()], 1), atol=1e-6)


@settings(deadline=None, max_examples=40)
@given(
    width=st.integers(40, 2000),
    height=st.integers(40, 2000),
    u=st.floats(0, 1),
    v=st.floats(0, 1),
)
def test_resizing_keeps_the_ray_of_every_image_point(width, height, u, v):
    """A point at a given fraction of the image's extent [-0.5, W - 0.5] is seen along the same
    ray at any size: the half-pixel rule."""
    here = camera("plumb_bob")
    there = here.resized(width, height)
    p_here = np.array([[u * here.width - 0.5, v * here.height - 0.5]])
    p_there = np.array([[u * width - 0.5, v * height - 0.5]])
    np.testing.assert_allclose(here.normalised(p_here), there.normalised(p_there), atol=1e-9)


def test_resizing_follows_interpolation():
    """torch's bilinear resize moves an image feature where the resized model says."""
    import torch

    here = Camera(64, 48, 60.0, 60.0, 31.5, 23.5)
    ramp = torch.arange(64, dtype=torch.float64).expand(48, 64)[None, None]
    small = torch.nn.functional.interpolate(ramp, size=(24, 32), mode="bilinear")[0, 0].numpy()
    there = here.resized(32, 24)
    u_there = 10
    x_over_z = (u_there - there.cx) / there.fx
    assert small[5, u_there] == pytest.approx(x_over_z * here.fx + here.cx, abs=1e-9)


def test_cropping_moves_the_principal_point_only():
    part = camera("plumb_bob").cropped(100, 50, 320, 240)
    whole = camera("plumb_bob")
    points = points_in_view()
    uv_part, valid = part.project(points)
    uv_whole, _ = whole.project(points)
    assert valid.any()
    np.testing.assert_allclose(uv_part[valid] + (100, 50), uv_whole[valid], atol=1e-9)


def test_points_beyond_the_fold_of_the_lens_are_invalid():
    """A strong barrel polynomial turns back on itself; such points must not land in the image."""
    lens = Camera(640, 480, 300.0, 300.0, 320.0, 240.0, "plumb_bob", (-0.35, 0.0, 0.0, 0.0, 0.0))
    fold = 1.0 / np.sqrt(3 * 0.35)
    _, valid = lens.project(np.array([[fold * 0.98, 0.0, 1.0], [fold * 1.3, 0.0, 1.0]]))
    assert valid.tolist() == [True, False]


FOLDED = {  # what the pixels of one image do not all have a ray for
    "fold": Camera(640, 480, 290, 290, 319.5, 239.5, "plumb_bob", (-0.30, 0.085, 0, 0, -0.01)),
    "one coefficient": Camera(640, 480, 500, 500, 319.5, 239.5, "plumb_bob", (-0.4, 0, 0, 0)),
    "past 90 degrees": Camera(1280, 96, 230, 230, 639.5, 47.5, "equidistant", (0.01, 0, 0, 0)),
}


@pytest.mark.parametrize("name", FOLDED)
def test_pixels_that_no_point_can_reach_have_no_ray(name):
    lens = FOLDED[name]
    rays = lens.rays()
    known = np.isfinite(rays).all(axis=2)
    assert known[lens.height // 2, lens.width // 2] and not known[0, 0]
    assert not np.isfinite(rays[~known]).any()  # nothing of it: z is NaN as well
    assert 0.2 < known.mean() < 0.95
    row = known[lens.height // 2]
    assert (np.diff(row.astype(int)) != 0).sum() <= 2  # one interval around the middle
    points = lens.back_project(np.full(known.shape, 3.0))
    assert np.array_equal(np.isfinite(points).all(axis=2), known)


def test_a_fisheye_sees_up_to_90_degrees():
    lens = FOLDED["past 90 degrees"]
    edge = lens.cx + lens.fx * (np.pi / 2) * (1.0 + 0.01 * (np.pi / 2) ** 2)
    rays = lens.normalised(np.array([[edge - 1.0, lens.cy], [edge + 1.0, lens.cy]]))
    assert rays[0, 0] > 100.0 and np.isnan(rays[1]).all()


small = st.floats(-0.02, 0.02)
plumb_bob = st.tuples(
    st.floats(-0.5, 0.3), st.floats(-0.1, 0.2), small, small, st.floats(-0.05, 0.05)
)
equidistant = st.tuples(st.floats(-0.3, 0.1), st.floats(-0.1, 0.1), small, small)


@settings(deadline=None, max_examples=60)
@given(
    lens=st.one_of(
        st.tuples(st.just("plumb_bob"), plumb_bob), st.tuples(st.just("equidistant"), equidistant)
    ),
    focal=st.floats(20.0, 200.0),
    seed=st.integers(0, 2**31),
)
def test_a_ray_meets_its_pixel_or_there_is_none(lens, focal, seed):
    model, coefficients = lens
    if model == "plumb_bob":  # tangential distortion of the size that real lenses have
        coefficients = (*coefficients[:2], *(0.05 * c for c in coefficients[2:4]), coefficients[4])
    ours = Camera(64, 48, focal, focal, 31.5, 23.5, model, coefficients)
    rays = ours.rays().reshape(-1, 3)
    known = np.isfinite(rays).all(axis=1)
    v, u = np.mgrid[0:48, 0:64]
    pixels = np.stack([u.ravel(), v.ravel()], axis=1)
    uv, valid = ours.project(rays[known])
    np.testing.assert_allclose(uv, pixels[known], atol=1e-3)
    assert valid[(pixels[known] > 0).all(axis=1)].all()
    # and where a point in front of the camera is seen there is a ray
    rng = np.random.default_rng(seed)
    radius, angle = np.tan(rng.uniform(0.0, 1.5, 300)), rng.uniform(-np.pi, np.pi, 300)
    points = np.stack([radius * np.cos(angle), radius * np.sin(angle), np.ones(300)], axis=1)
    uv, seen = ours.project(points)
    assert np.isfinite(ours.normalised(uv[seen])).all()


def test_points_behind_and_at_the_camera_are_invalid():
    _, valid = camera("none").project(np.array([[0, 0, -1.0], [0, 0, 0.0], [0, 0, 1.0]]))
    assert valid.tolist() == [False, False, True]


@pytest.mark.parametrize(
    "change",
    [
        {"width": 0},
        {"fx": 0.0},
        {"fy": -1.0},
        {"cx": float("nan")},
        {"distortion_model": "thin_prism"},
        {"distortion_model": "plumb_bob", "distortion": (0.1,)},
        {"distortion_model": "equidistant", "distortion": (0.1, 0.1, 0.1, float("inf"))},
    ],
)
def test_unusable_models_are_refused(change):
    good = {"width": 640, "height": 480, "fx": 500.0, "fy": 500.0, "cx": 320.0, "cy": 240.0}
    with pytest.raises(InputError, match="camera model: expected") as error:
        Camera(**{**good, **change})
    assert error.value.reason == "camera_info"


def test_depth_of_another_size_is_refused():
    with pytest.raises(InputError, match="752x480"):
        camera("none").back_project(np.ones((10, 20)))
