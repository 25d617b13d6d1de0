"""A calibration is of the pixels as stored and of one size: images and calibration are turned upright together."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spatial_fm_ros.core.geometry.cameras import project
from spatial_fm_ros.core.geometry.turn import turned_camera, turned_image
from spatial_fm_ros.core.types import Camera
from spatial_fm_ros.sources.base import SourceOptions
from spatial_fm_ros.sources.open_source import open_source
from test.pictures.making import encoded, exif, scene
from test.sources.video_writing import rotate, write_video

RGB = scene(48, 64)
K = [[50.0, 0, 30], [0, 55, 20], [0, 0, 1]]
GIVEN = "50,55,30,20,0.1,-0.05,0.01,-0.02"
QUARTERS = {1: 0, 6: 1, 3: 2, 8: 3}


def photos(folder, orientations, kind="PNG", sizes=((48, 64),)):
    folder.mkdir(parents=True)
    for i, orientation in enumerate(orientations):
        pixels = scene(*sizes[i % len(sizes)])
        (folder / f"photo {i}.{kind.lower()}").write_bytes(encoded(pixels, kind, exif=exif(orientation)))
    return folder


def frames_of(path, **options):
    with open_source(path, SourceOptions(**options)) as source:
        return list(source), source


small = st.floats(-0.05, 0.05)


@settings(max_examples=60, deadline=None)
@given(
    coefficients=st.one_of(
        st.just([]),
        st.lists(small, min_size=4, max_size=4),
        st.lists(small, min_size=5, max_size=5),
        st.lists(small, min_size=8, max_size=8),
        st.lists(small, min_size=12, max_size=12),
    ),
    fisheye=st.booleans(),
    quarters=st.integers(0, 3),
)
def test_the_turned_camera_sees_a_turned_point_at_the_turned_pixel(coefficients, fisheye, quarters):
    model = {0: "none", 4: "equidistant" if fisheye else "plumb_bob", 5: "plumb_bob"}.get(
        len(coefficients), "rational_polynomial"
    )
    camera = Camera(64, 48, K, model, tuple(coefficients))
    turned = turned_camera(camera, quarters)
    points = np.random.default_rng(0).uniform((-0.5, -0.5, 1), (0.5, 0.5, 2), (20, 3))
    turn = np.linalg.matrix_power(np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]]), quarters)
    before, after = project(camera, points), project(turned, points @ turn.T)
    u, v = before.T
    want = [(u, v), (47 - v, u), (63 - u, 47 - v), (v, 63 - u)][quarters]
    np.testing.assert_allclose(after, np.stack(want, axis=1), atol=1e-9)
    assert (turned.width, turned.height) == ((64, 48), (48, 64))[quarters % 2]


def test_pixels_go_where_the_camera_says():
    image = np.arange(48 * 64 * 3, dtype=np.int32).reshape(48, 64, 3)
    for quarters, (u, v) in enumerate([(10, 5), (47 - 5, 10), (63 - 10, 47 - 5), (5, 63 - 10)]):
        np.testing.assert_array_equal(turned_image(image, quarters)[v, u], image[5, 10])


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
@pytest.mark.parametrize("orientation", QUARTERS)
def test_photos_and_their_calibration_are_turned_together(tmp_path, kind, orientation):
    folder = photos(tmp_path / "f", [orientation] * 3, kind)
    stored = Camera(64, 48, K, "plumb_bob", (0.1, -0.05, 0.01, -0.02))
    want = turned_camera(stored, QUARTERS[orientation])
    frames, source = frames_of(folder, intrinsics=GIVEN)
    for frame in frames:
        height, width = frame.image.shape[:2]
        assert (frame.camera.width, frame.camera.height) == (width, height) == (want.width, want.height)
        np.testing.assert_array_equal(frame.camera.K, want.K)
        assert frame.camera.distortion == want.distortion and frame.image.flags.c_contiguous
        tolerance = 60 if kind == "JPEG" else 0
        assert np.abs(frame.image.astype(int) - turned_image(RGB, QUARTERS[orientation])).max() <= tolerance
    said = [note for note in source.notes if "turned" in note]
    assert len(said) == (orientation != 1) and all("calibration (of the pixels as stored) with it" in n for n in said)
    uncalibrated, _ = frames_of(folder)
    assert uncalibrated[0].camera is None and uncalibrated[0].image.shape == frames[0].image.shape


@pytest.mark.parametrize("orientation", [2, 4, 5, 7])
def test_mirrored_photos_are_taken_as_stored(tmp_path, orientation):
    frames, source = frames_of(photos(tmp_path / "f", [orientation] * 2), intrinsics=GIVEN)
    np.testing.assert_array_equal(frames[0].image, RGB)
    np.testing.assert_array_equal(frames[0].camera.K, K)
    assert any(f"stored mirrored (EXIF orientation {orientation})" in note for note in source.notes)


def test_a_sequence_describes_pixels_as_stored(tmp_path):
    photos(tmp_path / "images", [6, 6, 1], "JPEG")
    described = {"rate_hz": 10, "width": 64, "height": 48, "K": np.ravel(K).tolist()}
    (tmp_path / "sequence.json").write_text(json.dumps(described))
    frames, source = frames_of(tmp_path)
    assert len(frames) == 3 and all(frame.image.shape == (48, 64, 3) for frame in frames)
    np.testing.assert_array_equal(frames[0].camera.K, K)
    assert len([note for note in source.notes if "taken as stored" in note]) == 1


def test_intrinsics_are_of_the_first_images_size(tmp_path):
    folder = photos(tmp_path / "f", [1, 6, 1, 1], sizes=((48, 64), (48, 64), (96, 128), (24, 32)))
    frames, source = frames_of(folder, intrinsics=GIVEN)
    assert [frame.image.shape[:2] for frame in frames] == [(48, 64), (64, 48)]
    said = [
        reason for reason in source.bad if "the intrinsics given are taken to be of the first image's size" in reason
    ]
    assert len(said) == 2 and any("128x96" in reason and "64x48" in reason for reason in said)
    assert len(frames_of(folder)[0]) == 4  # without a calibration any size will do


def test_frames_of_another_size_than_the_sequence_says_are_named(tmp_path):
    photos(tmp_path / "images", [1, 1, 1], sizes=((48, 64), (96, 128), (96, 128)))
    described = {"rate_hz": 10, "width": 64, "height": 48, "K": np.ravel(K).tolist()}
    (tmp_path / "sequence.json").write_text(json.dumps(described))
    frames, source = frames_of(tmp_path)
    assert len(frames) == 1
    assert source.bad["an image has 128x96 pixels as stored; the calibration is of 64x48"] == 2


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_videos_and_their_calibration_are_turned_together(tmp_path, degrees):
    path = write_video(tmp_path / "v.mp4", [RGB] * 4)
    plain, _ = frames_of(path, intrinsics=GIVEN)
    rotate(path, degrees)
    frames, source = frames_of(path, intrinsics=GIVEN)
    want = turned_camera(plain[0].camera, degrees // 90)
    np.testing.assert_array_equal(frames[0].image, turned_image(plain[0].image, degrees // 90))
    np.testing.assert_array_equal(frames[0].camera.K, want.K)
    assert frames[0].camera.distortion == want.distortion
    assert any(f"turned by {degrees} degrees" in note for note in source.notes)
