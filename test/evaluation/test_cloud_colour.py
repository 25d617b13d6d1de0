"""Colour figures of clouds: constructed differences come out as they were put in."""

import cv2
import numpy as np
import pytest

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.evaluation.cloud_colour import colour_consistency, evaluate_colours, to_lab

GREY = np.full((1000, 3), 128, np.uint8)


def points(n=1000, seed=0):
    return np.random.default_rng(seed).uniform(0, 1, (n, 3))


def test_lab_is_what_the_standard_says():
    # D65 white, black, and sRGB red (CIE 1976 values).
    np.testing.assert_allclose(
        to_lab(np.array([[255, 255, 255], [0, 0, 0], [255, 0, 0]], np.uint8)),
        [[100, 0, 0], [0, 0, 0], [53.24, 80.09, 67.20]],
        atol=0.3,
    )


def test_the_same_colours_have_no_error():
    errors = evaluate_colours(points(), GREY, points(), GREY, reach=0.01, voxel=0.3)
    assert errors.reference_mean == 0.0 and errors.consistency < 1e-3 and errors.compared == 1.0


def test_a_brighter_cloud_is_as_far_as_its_lightness():
    brighter = np.full_like(GREY, 150)
    wanted = float(to_lab(brighter[:1])[0, 0] - to_lab(GREY[:1])[0, 0])
    errors = evaluate_colours(points(), brighter, points(), GREY, reach=0.01, voxel=0.3)
    assert errors.reference_mean == pytest.approx(wanted, rel=1e-4) and errors.consistency < 1e-3


def test_two_exposures_in_one_voxel_show():
    mixed = GREY.copy()
    mixed[::2] = 150
    value, voxels = colour_consistency(points(), mixed, 0.5)
    half = 0.5 * float(to_lab(mixed[:1])[0, 0] - to_lab(mixed[1:2])[0, 0])
    assert value == pytest.approx(half, rel=0.1) and voxels == 8


def test_points_without_reference_are_left_out():
    errors = evaluate_colours(points() + [[2.0, 0, 0]], GREY, points(), GREY, reach=0.01, voxel=0.3)
    assert errors.compared == 0.0 and np.isnan(errors.reference_mean)
    with pytest.raises(InputError):
        evaluate_colours(np.zeros((0, 3)), np.zeros((0, 3), np.uint8), points(), GREY, reach=0.1, voxel=0.1)


def test_lab_agrees_with_eight_bit_conversion():
    colors = np.random.default_rng(0).integers(0, 256, (500, 3), dtype=np.uint8)
    eight = cv2.cvtColor(colors[None], cv2.COLOR_RGB2LAB)[0].astype(float)
    np.testing.assert_allclose(to_lab(colors), eight * [100 / 255, 1, 1] - [0, 128, 128], atol=1.2)
