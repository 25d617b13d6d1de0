"""The oracle's errors are as large as it is told, and it is exact where it is told nothing."""

from __future__ import annotations

import numpy as np
import pytest

from spatial_fm_ros.core.config import ModelConfig, OracleConfig
from spatial_fm_ros.core.models.oracle import OracleModel
from spatial_fm_ros.core.types import Camera, Depth, Keyframe, Prediction, Window
from spatial_fm_ros.evaluation.relative_pose import pair_errors

CAMERA = Camera(160, 120, np.array([[120.0, 0.0, 79.5], [0.0, 120.0, 59.5], [0.0, 0.0, 1.0]]))
VIEWS = 6


class Wall:
    """A wall in front of a camera that drives sideways and turns; stamps count views."""

    def world_from_camera(self, stamp_ns: int, frame_id: str = "") -> np.ndarray:
        angle = 0.05 * stamp_ns
        pose = np.eye(4)
        pose[:3, :3] = [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
        pose[:3, 3] = (0.3 * stamp_ns, 0.02 * stamp_ns, 0.05 * stamp_ns**2)
        return pose

    def depth(self, stamp_ns: int, camera: Camera, frame_id: str = "") -> Depth:
        return np.full((camera.height, camera.width), 4.0 + 0.1 * stamp_ns, np.float32)


def predicted(options: OracleConfig, index: int = 0) -> Prediction:
    blank = np.zeros((CAMERA.height, CAMERA.width, 3), np.uint8)
    keyframes = tuple(Keyframe(i, i, blank, CAMERA, "camera", 9.0, "disparity") for i in range(VIEWS))
    return OracleModel(ModelConfig(oracle=options), Wall()).infer(Window(index, keyframes, 0))


TRUTH = np.array([Wall().world_from_camera(i) for i in range(VIEWS)])
DEPTH = np.array([Wall().depth(i, CAMERA) for i in range(VIEWS)])


def test_the_oracle_is_exact_by_default() -> None:
    told = predicted(OracleConfig(random_gauge=False))
    assert np.array_equal(told.world_from_camera, TRUTH) and np.array_equal(told.depth, DEPTH)


@pytest.mark.parametrize(("rotation", "direction"), [(1.0, 5.0), (3.0, 12.0), (0.0, 5.0)])
def test_cameras_err_by_the_stated_medians(rotation: float, direction: float) -> None:
    found = [
        pair_errors(predicted(OracleConfig(rotation_error_deg=rotation, direction_error_deg=direction), i)
                    .world_from_camera, TRUTH, neighbours=True)
        for i in range(60)
    ]  # fmt: skip
    turned, aside = (np.concatenate(part) for part in zip(*found))
    assert np.median(turned) == pytest.approx(rotation, rel=0.12, abs=1e-6)
    assert np.median(aside) == pytest.approx(direction, rel=0.15)


@pytest.mark.parametrize("size", [0.07, 0.12])
def test_depth_is_bent_by_the_stated_mean_and_smoothly(size: float) -> None:
    options = OracleConfig(warp=size, random_gauge=False)
    wrong = np.concatenate([np.log(predicted(options, i).depth / DEPTH) for i in range(10)])
    assert np.abs(wrong).mean() == pytest.approx(size, rel=0.12)
    across = np.abs(np.diff(wrong, axis=2)).mean()
    assert across < 0.1 * np.abs(wrong).mean()
    assert np.corrcoef(wrong[0].ravel(), wrong[1].ravel())[0, 1] < 0.9  # another bend in every view
    assert np.array_equal(predicted(options, 3).depth, predicted(options, 3).depth)


def test_errors_leave_what_was_drawn_before_as_it_was() -> None:
    noisy = OracleConfig(noise=0.05, outliers=0.1, pose_noise=0.02, seed=4)
    plain, turned = predicted(noisy), predicted(OracleConfig(**{**vars(noisy), "rotation_error_deg": 1.0}))
    assert np.array_equal(plain.depth, turned.depth)
    assert not np.allclose(plain.world_from_camera[:, :3, :3], turned.world_from_camera[:, :3, :3], atol=1e-6)
