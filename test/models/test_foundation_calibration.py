"""A focal length for images that come without calibration."""

from __future__ import annotations

import numpy as np
import pytest
from foundation_scene import keyframes, pinhole, poses

from spatial_fm_ros.core.models.foundation.calibration import FocalMemory
from spatial_fm_ros.core.models.foundation.images import place
from spatial_fm_ros.core.types import Keyframe


def uncalibrated(count: int, first_id: int = 0, width: int = 160, height: int = 120) -> list[Keyframe]:
    image = np.zeros((height, width, 3), np.uint8)
    return [Keyframe(first_id + i, i, image, None, "camera", 10.0, "moved") for i in range(count)]


def guesses(frames: list[Keyframe], focal: np.ndarray) -> tuple[tuple, np.ndarray]:
    """Placements, and the intrinsics of a network that sees these focal lengths in source pixels."""
    places = place([(k.image.shape[1], k.image.shape[0]) for k in frames], 252)[1]
    K = np.tile(np.eye(3), (len(frames), 1, 1))
    for k, at, f in zip(K, places, focal):
        k[0, 0], k[1, 1] = f * at.width / at.source_width, f * at.height / at.source_height
    return places, K


def test_one_camera_for_all_windows() -> None:
    memory, rng = FocalMemory(), np.random.default_rng(0)
    for first in range(0, 40, 4):
        frames = uncalibrated(5, first)
        cameras = [k.camera for k in memory.calibrated(frames, *guesses(frames, 130 * np.exp(rng.normal(0, 0.03, 5))))]
        assert all(np.array_equal(camera.K, cameras[0].K) for camera in cameras)
    K = cameras[0].K
    assert K[0, 0] == K[1, 1] == pytest.approx(130, rel=0.015)
    assert (K[0, 2], K[1, 2]) == (79.5, 59.5) and (cameras[0].width, cameras[0].height) == (160, 120)


def test_a_size_has_a_camera_of_its_own_and_known_cameras_stay() -> None:
    memory = FocalMemory()
    frames = [*uncalibrated(2), *uncalibrated(2, 2, 120, 160), *keyframes(poses("around", 1), pinhole(), first_id=9)]
    found = memory.calibrated(frames, *guesses(frames, np.array([100.0, 104.0, 200.0, 200.0, 500.0])))
    assert [k.camera.K[0, 0] for k in found] == pytest.approx([102, 102, 200, 200, 130], rel=1e-3)
    assert found[4] is frames[4]
    memory.clear()
    again = memory.calibrated(frames[:1], *guesses(frames[:1], np.array([80.0])))
    assert again[0].camera.K[0, 0] == pytest.approx(80)


def test_photos_of_several_lenses_keep_their_own_focal_lengths() -> None:
    frames = uncalibrated(4)
    found = FocalMemory().calibrated(frames, *guesses(frames, np.array([100.0, 150.0, 220.0, 400.0])))
    assert all(k.camera is None for k in found)


@pytest.mark.parametrize("broken", [np.nan, np.inf, 0.0, -3.0])
def test_what_is_no_focal_length_is_not_learnt(broken: float) -> None:
    frames = uncalibrated(3)
    found = FocalMemory().calibrated(frames, *guesses(frames, np.array([broken, 120.0, 122.0])))
    assert found[0].camera.K[0, 0] == pytest.approx(121, rel=1e-3)
    nothing = FocalMemory().calibrated(frames, *guesses(frames, np.full(3, broken)))
    assert all(k.camera is None for k in nothing)


def test_memory_is_bounded_to_the_newest() -> None:
    memory = FocalMemory()
    for first in range(0, 2000, 100):
        frames = uncalibrated(100, first)
        found = memory.calibrated(frames, *guesses(frames, np.full(100, 100.0 + first / 1000)))
    assert found[0].camera.K[0, 0] == pytest.approx(101.85, abs=0.06)
    assert sum(len(logs) for logs in memory._logs.values()) == 200
