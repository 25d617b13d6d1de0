"""VGGT's loaders against the published ones, and where their pixels lie."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import PIL
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.models.vggt import preprocess
from spatial_fm_ros.core.types import Camera

COPIES = Path(__file__).parent / "data" / "vggt"
ORIGINALS = os.environ.get("SPATIAL_FM_FIXTURES", "")


def cases(folder: Path) -> tuple[dict[str, np.ndarray], dict]:
    fixture = dict(np.load(folder / "vggt_preprocess.npz"))
    return fixture, json.loads(str(fixture["meta"]))


def compare(levels: np.ndarray, name: str, fixture: dict[str, np.ndarray], entry: dict) -> None:
    assert list(levels.shape) == entry["shape"]
    thinned = 6 if "::6" in entry["stored"] else 3
    error = np.abs(levels[..., ::thinned, ::thinned].astype(int) - fixture[f"out_{name}"])
    if str(fixture["pillow"]) == PIL.__version__:
        assert not error.any()
        assert levels.sum((2, 3), dtype=np.int64).tolist() == entry["sum_per_image_channel"]
    assert error.max() <= 1


@pytest.mark.parametrize(
    "folder",
    [
        pytest.param(COPIES, id="copies"),
        pytest.param(
            Path(ORIGINALS),
            id="originals",
            marks=pytest.mark.skipif(not ORIGINALS, reason="SPATIAL_FM_FIXTURES does not name the folder of fixtures"),
        ),
    ],
)
def test_equal_to_the_published_loaders(folder: Path) -> None:
    fixture, meta = cases(folder)
    assert len(meta) >= 10
    for name, entry in meta.items():
        images = [fixture[f"in_{image}"] for image in entry["inputs"]]
        if name.startswith("square"):
            loaded, boxes = preprocess.load_square(images, target=140)
            np.testing.assert_array_equal(boxes, fixture["square140_coords"])
        else:
            loaded = preprocess.load(images, mode=name.split("_")[0]).images
        levels = (loaded * 255).round().to(torch.uint8)
        assert torch.equal(levels.float() / 255, loaded)
        compare(levels.numpy(), name, fixture, entry)


def test_tensors_come_close_to_arrays() -> None:
    """Smooth images agree to a level; they stay on their device, in any layout."""
    v, u = np.mgrid[:90, :160]
    smooth = np.stack([128 + 100 * np.sin(u / 9), 128 + 100 * np.cos(v / 7), u + v / 2], axis=-1).astype(np.uint8)
    array = preprocess.load([smooth]).images
    tensor = torch.from_numpy(smooth).permute(2, 0, 1)
    assert not tensor.is_contiguous()
    for given_tensor in (tensor, tensor.float() / 255, tensor.double() / 255):
        canvas = preprocess.load([given_tensor])
        assert canvas.images.dtype == torch.float32
        assert (canvas.images - array).abs().max() <= 1.01 / 255


@pytest.mark.parametrize("mode", ["crop", "pad"])
@pytest.mark.parametrize("size", [(160, 120), (120, 200), (300, 60), (518, 518)])
def test_intrinsics_follow_the_pixels(mode: str, size: tuple[int, int]) -> None:
    """A blob lies where the camera on the canvas sees the point that it shows; pixel centres are at integers."""
    width, height = size
    u, v = 0.4 * width, 0.55 * height
    rows, columns = np.mgrid[:height, :width]
    blob = 255 * np.exp(-((columns - u) ** 2 + (rows - v) ** 2) / (2 * 6.0**2))
    canvas = preprocess.load([np.repeat(blob[..., None], 3, axis=2).astype(np.uint8)], mode)
    seen = canvas.images[0, 0].numpy().astype(np.float64)
    seen[seen > 0.999999] = 0  # the white margin; the blob's top reaches 254 levels at most between pixels
    at_v, at_u = np.mgrid[: seen.shape[0], : seen.shape[1]]
    weight = np.where(seen > 0.2, seen, 0)
    centroid = np.array([(at_u * weight).sum(), (at_v * weight).sum()]) / weight.sum()

    camera = Camera(width, height, np.array([[150.0, 0, width / 2], [0, 160, height / 2], [0, 0, 1]]))
    ray = np.linalg.solve(camera.K, [u, v, 1.0])
    K = canvas.placements[0].K_on_canvas(camera)
    np.testing.assert_allclose((K @ ray)[:2], centroid, atol=0.25)
    np.testing.assert_allclose(canvas.placements[0].K_on_grid(K, size), camera.K, atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 4000), st.integers(1, 4000))
def test_sizes_of_any_aspect(width: int, height: int) -> None:
    for size in (preprocess.crop_size, preprocess.pad_size):
        try:
            w, h = size(width, height)
        except InputError as error:
            assert str(error).startswith(f"An image of {width}x{height} would be less than half a patch")
            assert min(width, height) / max(width, height) * 518 <= 7.0
            continue
        assert w % 14 == h % 14 == 0 and w > 0 and h > 0
        if size is preprocess.pad_size:
            assert max(w, h) == 518
        assert abs(h - height * w / width) <= 7 * max(1.0, w / 518) or abs(w - width * h / height) <= 7


def test_a_panorama_one_pixel_high_is_refused() -> None:
    with pytest.raises(InputError, match="600x1 would be less than half a patch of 14 pixels"):
        preprocess.load([np.zeros((1, 600, 3), dtype=np.uint8)])
    with pytest.raises(InputError, match="1x600"):
        preprocess.load([np.zeros((600, 1, 3), dtype=np.uint8)], mode="pad")


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([], "at least one image"),
        ([np.zeros((4, 4, 2), dtype=np.uint8)], "uint8 arrays"),
        ([np.zeros((4, 4, 3), dtype=np.float32)], "uint8 arrays .* got float32"),
        ([np.zeros((0, 4, 3), dtype=np.uint8)], "uint8 arrays"),
        ([torch.zeros(4, 4, 3)], r"tensors \[3, h, w\]"),
        ([torch.zeros(3, 4, 4, dtype=torch.int64)], "floats in"),
    ],
)
def test_what_is_no_image_is_refused(images, message) -> None:
    with pytest.raises(InputError, match=message):
        preprocess.load(images)


def test_modes_and_squares_are_refused_with_a_sentence() -> None:
    image = np.zeros((20, 20, 3), dtype=np.uint8)
    with pytest.raises(InputError, match="crop and pad, got 'stretch'"):
        preprocess.load([image], mode="stretch")
    with pytest.raises(InputError, match="at least one image"):
        preprocess.load_square([])
    with pytest.raises(InputError, match="takes arrays"):
        preprocess.load_square([torch.zeros(3, 20, 20)])
