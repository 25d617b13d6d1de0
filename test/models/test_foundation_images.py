"""Keyframes on the network's canvas and back: every pixel is kept and intrinsics follow it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spatial_fm_ros.core.errors import ModelError
from spatial_fm_ros.core.geometry.cameras import project
from spatial_fm_ros.core.models.foundation.images import draw, grid_size, place, to_grid
from spatial_fm_ros.core.types import Camera

CPU = torch.device("cpu")
SIZES = st.tuples(st.integers(1, 3000), st.integers(1, 3000))


@given(SIZES, st.sampled_from([28, 252, 504, 518, 1036]))
def test_every_size_becomes_multiples_of_the_patch_with_little_stretch(size, long_side) -> None:
    width, height = grid_size(*size, long_side)
    assert width % 14 == 0 and height % 14 == 0 and max(width, height) == long_side and min(width, height) >= 14
    exact = np.array(size) * long_side / max(size)
    assert np.all((np.abs(np.array([width, height]) - exact) <= 7.0 + 1e-6) | (exact < 14))


@given(st.lists(SIZES, min_size=1, max_size=5))
def test_a_canvas_holds_every_image_whole_and_centred(sizes) -> None:
    (width, height), places = place(sizes, 252)
    for at, size in zip(places, sizes):
        assert (at.source_width, at.source_height) == size and (at.width, at.height) == grid_size(*size, 252)
        assert at.left >= 0 and at.left + at.width <= width and at.top >= 0 and at.top + at.height <= height
        assert abs(width - at.width - 2 * at.left) <= 1 and abs(height - at.height - 2 * at.top) <= 1
    assert any(at.width == width for at in places) and any(at.height == height for at in places)


def test_the_usual_sizes() -> None:
    assert grid_size(640, 480, 518) == (518, 392) and grid_size(640, 480, 504) == (504, 378)
    assert grid_size(480, 640, 518) == (392, 518)
    assert grid_size(640, 5, 518) == (518, 14)  # a panorama one pixel high after resizing is one patch high
    assert grid_size(640, 360, 518) == (518, 294)


def spot(camera: Camera, point: np.ndarray) -> np.ndarray:
    """An image with one soft bright spot where the camera sees a point."""
    u, v = project(camera, point)
    x, y = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
    spread = 0.02 * max(camera.width, camera.height)
    glow = 255 * np.exp(-((x - u) ** 2 + (y - v) ** 2) / (2 * spread**2))
    return np.repeat(np.rint(glow).astype(np.uint8)[..., None], 3, axis=2)


def centroid(levels: np.ndarray) -> np.ndarray:
    v, u = np.mgrid[: levels.shape[0], : levels.shape[1]]
    return np.array([(u * levels).sum(), (v * levels).sum()]) / levels.sum()


@settings(max_examples=25, deadline=None)
@given(st.tuples(st.integers(200, 900), st.integers(200, 900)), st.sampled_from([(96, 72), (72, 96), (120, 40)]))
def test_intrinsics_follow_the_pixels_to_canvas_and_grid(size, grid) -> None:
    """A spot is found where the resized intrinsics say, to a tenth of a pixel, beside an image of another aspect."""
    focal = 0.8 * max(size)
    camera = Camera(*size, np.array([[focal, 0, 0.52 * size[0]], [0, focal, 0.47 * size[1]], [0, 0, 1]]))
    point = np.array([0.03, -0.02, 1.0])
    canvas = draw([spot(camera, point), np.zeros((64, 90, 3), np.uint8)], 252, CPU, margin=0.0)
    at = canvas.placements[0]
    levels = canvas.images[0, 0].double().numpy()
    K = at.K_on_canvas(camera)
    np.testing.assert_allclose(centroid(levels), (K @ point)[:2], atol=0.1)
    on_grid = to_grid(levels, at, grid)
    assert on_grid.shape == (grid[1], grid[0])
    # Nearest pixels: up to half a pixel of the coarser of both off.
    K_grid = at.K_on_grid(K, grid)
    np.testing.assert_allclose(K_grid, camera.resized(*grid).K, atol=1e-9)
    step = np.maximum(1.0, np.array(grid) / (at.width, at.height))
    assert np.all(np.abs(centroid(on_grid) - (K_grid @ point)[:2]) < 0.51 * step)


def test_the_same_size_is_not_touched() -> None:
    image = np.random.default_rng(0).integers(0, 256, (392, 518, 3), dtype=np.uint8)
    canvas = draw([image], 518, CPU, 1.0)
    assert torch.equal(canvas.images[0], torch.from_numpy(image).permute(2, 0, 1) / 255)
    values = np.arange(392 * 518).reshape(392, 518)
    np.testing.assert_array_equal(to_grid(values, canvas.placements[0], (518, 392)), values)


def test_memory_layout_and_number_type_do_not_matter() -> None:
    image = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    plain = draw([image], 252, CPU, 1.0).images
    wide = np.zeros((180, 240, 3), np.uint8)
    wide[::2, ::2] = image
    assert torch.equal(draw([wide[::2, ::2]], 252, CPU, 1.0).images, plain)
    mirrored = draw([image[::-1, ::-1]], 252, CPU, 1.0).images.flip(-1, -2)
    assert (mirrored - plain).abs().max() <= 1.01 / 255  # rounding of halves may go either way
    for kind in (np.float32, np.float64):
        smooth = draw([(image / 255).astype(kind)], 252, CPU, 1.0).images
        assert (smooth - plain).abs().max() <= 0.51 / 255  # uint8 images keep to whole grey levels
    broken = (image / 255).astype(np.float32)
    broken[40, 60] = np.nan
    assert draw([broken], 252, CPU, 1.0).images.isnan().any()


def test_margins_lie_around_images_of_another_aspect() -> None:
    canvas = draw([np.zeros((40, 80, 3), np.uint8), np.zeros((80, 40, 3), np.uint8)], 140, CPU, margin=0.25)
    assert canvas.size == (140, 140) and canvas.images.shape == (2, 3, 140, 140)
    for image, at in zip(canvas.images, canvas.placements):
        assert torch.all(image[:, at.rows, at.columns] == 0.0)
        assert int((image == 0.25).sum()) == 3 * (140 * 140 - at.width * at.height) > 0


@pytest.mark.parametrize(
    ("shape", "kind"), [((8, 8), "u1"), ((8, 8, 4), "u1"), ((0, 8, 3), "u1"), ((8, 8, 3), "?"), ((8, 8, 3), "i4")]
)
def test_what_is_no_rgb_image_is_a_sentence(shape, kind) -> None:
    with pytest.raises(ModelError, match="needs RGB images"):
        draw([np.zeros(shape, kind)], 252, CPU, 1.0)
    with pytest.raises(ModelError, match="without keyframes"):
        draw([], 252, CPU, 1.0)
