"""Images and intrinsics of Depth Anything 3 as published, to the last grey level."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from da3_fixtures import FOLDERS, Recording

from spatial_fm_ros.core.errors import ConfigError, InputError
from spatial_fm_ros.core.models.depth_anything_3.preprocess import (
    DEVIATION,
    MEAN,
    METHODS,
    normalised,
    preprocess,
    processing,
)


def levels(images: torch.Tensor) -> np.ndarray:
    """uint8 [N, 3, H, W] of normalised images."""
    mean, deviation = (torch.tensor(values)[:, None, None] for values in (MEAN, DEVIATION))
    return ((images * deviation + mean) * 255).round().numpy().astype(np.uint8)


@pytest.mark.parametrize("folder", FOLDERS)
def test_equals_the_published_processing(folder: Path) -> None:
    """OpenCV 4 and 5 may round a cubic differently, by one level."""
    recording = Recording(folder, "preprocess")
    cases = [name for name in recording.meta if f"K_in_{name}" in recording]
    assert len(cases) >= 14
    for case in cases:
        about = recording.meta[case]
        images = [recording.arrays[f"in_{name}"] for name in about["inputs"]]
        found = preprocess(images, recording.arrays[f"K_in_{case}"], about["process_res"], about["method"])
        assert list(found.images.shape) == about["shape"], case
        recording.agrees(f"K_out_{case}", found.intrinsics, tolerance=1e-6)
        pixels = levels(found.images)
        np.testing.assert_allclose(pixels.sum((2, 3), dtype=np.int64), about["sums"], rtol=1e-3, err_msg=case)
        if f"out_{case}" in recording:
            difference = pixels[..., ::2, ::2].astype(int) - recording.arrays[f"out_{case}"]
            assert np.abs(difference).max() <= 1, case
    small = preprocess([recording.arrays["in_small"]], None, 126).images
    assert (small[..., ::3, ::3] - recording["norm_small"]).abs().max() <= 1.01 / 255 / min(DEVIATION)


def test_images_of_two_sizes_are_cut_to_the_smaller_around_the_centre() -> None:
    """The wide one alone is 504x280, the square one 504x504: both become 504x280."""
    random = np.random.default_rng(0)
    wide, square = (random.integers(0, 256, size, dtype=np.uint8) for size in ((280, 504, 3), (504, 504, 3)))
    K = np.tile(np.array([[400.0, 0, 252], [0, 400, 200], [0, 0, 1]]), (2, 1, 1))
    found = preprocess([wide, square], K)
    assert found.images.shape == (2, 3, 280, 504)
    np.testing.assert_array_equal(levels(found.images)[0], wide.transpose(2, 0, 1))
    np.testing.assert_array_equal(levels(found.images)[1], square[112:392].transpose(2, 0, 1))
    np.testing.assert_array_equal(found.intrinsics[1], [[400, 0, 252], [0, 400, 88], [0, 0, 1]])


@given(
    width=st.integers(60, 2000),
    height=st.integers(60, 2000),
    resolution=st.sampled_from([126, 504, 518]),
    method=st.sampled_from(METHODS),
)
@settings(max_examples=80, deadline=None)
def test_intrinsics_follow_the_pixels(width: int, height: int, resolution: int, method: str) -> None:
    """A ray meets the same part of the picture before and after; and back again."""
    try:
        step = processing(width, height, resolution, method)
    except InputError:
        assert max(width, height) / min(width, height) > resolution / 14 / 2
        return
    assert step.size[0] % 14 == 0 and step.size[1] % 14 == 0
    K = np.array([[0.8 * width, 0.1, 0.45 * width], [0, 0.9 * width, 0.55 * height], [0, 0, 1]])
    moved = step.intrinsics(K)
    ray = np.array([0.1, -0.2, 1.0])
    before, after = (K @ ray)[:2], (moved @ ray)[:2]
    share = (after + (step.left, step.top)) / step.fitted
    np.testing.assert_allclose(share, before / (width, height), atol=1e-9)
    np.testing.assert_allclose(step.source_intrinsics(moved), K, rtol=1e-12, atol=1e-9)


def test_sizes_of_common_cameras() -> None:
    assert processing(640, 480).size == (504, 378)
    assert processing(1280, 720).size == (504, 280)
    assert processing(480, 640).size == (378, 504)
    assert processing(504, 283).size == (504, 280)
    assert processing(504, 287).size == (504, 294)  # seven pixels over: up
    assert processing(640, 480, 504, "upper_bound_crop").size == (504, 378)
    assert processing(640, 480, 504, "lower_bound_resize").size == (672, 504)


def test_layout_of_the_pixels_does_not_matter() -> None:
    image = np.random.default_rng(1).integers(0, 256, (70, 98, 3), dtype=np.uint8)
    turned = np.asfortranarray(image)
    assert torch.equal(preprocess([turned], resolution=98).images, preprocess([image], resolution=98).images)
    alone = preprocess([image[..., 0]], resolution=98).images
    assert torch.equal(alone, preprocess([np.repeat(image[..., :1], 3, axis=2)], resolution=98).images)


def test_normalised_works_on_any_batch_shape() -> None:
    grey = torch.full((2, 5, 3, 14, 14), 0.5)
    expected = [(0.5 - mean) / deviation for mean, deviation in zip(MEAN, DEVIATION)]
    torch.testing.assert_close(normalised(grey)[1, 4, :, 0, 0], torch.tensor(expected))


@pytest.mark.parametrize("size", [(5000, 60), (60, 5000)])
def test_panoramas_without_a_patch_of_height_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="milder aspect"):
        processing(*size)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        ([], "at least one"),
        ([np.zeros((20, 20, 3), np.float32)], "uint8"),
        ([np.zeros((20, 20, 2), np.uint8)], "RGBA"),
        ([np.zeros((0, 20, 3), np.uint8)], "RGBA"),
    ],
)
def test_arrays_that_are_no_images_are_refused(images: list[np.ndarray], words: str) -> None:
    with pytest.raises(InputError, match=words):
        preprocess(images)


def test_other_faults_are_refused() -> None:
    image = np.zeros((28, 28, 3), np.uint8)
    with pytest.raises(InputError, match="intrinsics"):
        preprocess([image], np.eye(3))
    with pytest.raises(ConfigError, match="upper_bound_crop"):
        preprocess([image], method="stretch")
