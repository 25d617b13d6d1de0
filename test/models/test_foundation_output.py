"""From what a network says to the Prediction, with networks that are right, or wrong in a known way."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from foundation_scene import HIGH, LOW, keyframes, pinhole, poses, room_depth

from spatial_fm_ros.core.config import FoundationConfig
from spatial_fm_ros.core.geometry.cameras import unproject
from spatial_fm_ros.core.models.foundation.images import draw
from spatial_fm_ros.core.models.foundation.output import NetworkOutput, to_prediction
from spatial_fm_ros.core.types import Camera, Keyframe, Prediction, WindowState

CPU = torch.device("cpu")
PLAIN = FoundationConfig(edge_tolerance=0.0, drop_saturated=False)
LONG_SIDE = 140


class Right:
    """A window of the room and a network that sees it exactly, on its canvas."""

    def __init__(self, motion: str = "sideways", cameras: tuple[Camera, ...] = (pinhole(),)) -> None:
        self.poses = poses(motion)
        each = [cameras[i % len(cameras)] for i in range(len(self.poses))]
        self.keyframes = [
            keyframes(self.poses[i : i + 1], camera, first_id=i)[0] for i, camera in enumerate(each)
        ]
        self.canvas = draw([keyframe.image for keyframe in self.keyframes], LONG_SIDE, CPU, 1.0)
        width, height = self.canvas.size
        K = np.stack([at.K_on_canvas(camera) for at, camera in zip(self.canvas.placements, each)])
        depth = np.stack([room_depth(p, Camera(width, height, k)) for p, k in zip(self.poses, K)]).astype(np.float32)
        self.output = NetworkOutput(self.poses, K, depth, np.full_like(depth, 5.0))
        first = self.canvas.placements[0]
        self.grid = (first.width, first.height)

    def predict(self, config: FoundationConfig = PLAIN, half: float = 1.0, **changes) -> Prediction:
        output = replace(self.output, **changes)
        return to_prediction(output, self.keyframes, self.canvas.placements, self.grid, config, half)

    def without_cameras(self) -> Right:
        self.keyframes = [replace(keyframe, camera=None) for keyframe in self.keyframes]
        return self


def missed(prediction: Prediction, world: np.ndarray) -> float:
    """Largest distance of the prediction's points from the walls of the room, over depth."""
    points = unproject(prediction.K, prediction.depth)
    points = np.einsum("nij,nhwj->nhwi", world[:, :3, :3], points) + world[:, None, None, :3, 3]
    off = np.minimum(np.abs(points - LOW), np.abs(points - HIGH)).min(axis=-1)
    return float(np.nanmax(off / prediction.depth))


@pytest.mark.parametrize("known", [True, False])
def test_a_right_network_gives_a_right_prediction(known: bool) -> None:
    right = Right() if known else Right().without_cameras()
    prediction = right.predict()
    assert prediction.state is WindowState.OK and prediction.posed.all() and not prediction.metric
    np.testing.assert_array_equal(prediction.world_from_camera, right.poses)
    np.testing.assert_allclose(prediction.K[0], pinhole().resized(*right.grid).K, atol=1e-9)
    assert prediction.depth.dtype == prediction.confidence.dtype == np.float32
    assert missed(prediction, prediction.world_from_camera) < 1e-5
    assert prediction.confidence == pytest.approx(1 - 0.5**4)


def test_images_of_several_sizes_share_one_grid_with_the_right_rays() -> None:
    """Landscape, portrait and a strip: their own cameras, one depth size, every pixel on its wall."""
    right = Right("around", (pinhole(), pinhole(120, 160, 110.0), pinhole(300, 40, 250.0)))
    prediction = right.predict()
    assert prediction.depth.shape[1:] == (right.grid[1], right.grid[0]) == (112, 140)
    np.testing.assert_allclose(prediction.K[1], pinhole(120, 160, 110.0).resized(*right.grid).K, atol=1e-9)
    # Nearest pixels are off by up to half of one.
    assert missed(prediction, prediction.world_from_camera) < 0.02
    assert np.isfinite(prediction.depth).all()


@pytest.mark.parametrize("factor", [0.9, 1.15])
def test_a_wrong_focal_length_gives_way_to_the_cameras_own(factor: float) -> None:
    right = Right()
    K = right.output.K.copy()
    K[:, [0, 1], [0, 1]] *= factor
    stretch = np.linalg.inv(K[0]) @ right.output.K[0] * factor
    through = right.poses.copy()
    through[:, :3, 3] = right.poses[:, :3, 3] @ stretch.T
    prediction = right.predict(world_from_camera=through, K=K, depth=right.output.depth * np.float32(factor))
    assert prediction.figures["focal_ratio"] == pytest.approx(1 / factor, rel=1e-6)
    moved = prediction.world_from_camera.copy()
    moved[:, :3, 3] += right.poses[:, :3, 3].mean(0) - moved[:, :3, 3].mean(0)
    np.testing.assert_allclose(moved, right.poses, atol=1e-6)
    assert missed(prediction, moved) < 1e-5


@pytest.mark.parametrize("bent", [True, False])
def test_metres_follow_the_true_focal_length(bent: bool) -> None:
    """A metric network multiplies by its focal length: with a tenth too much, everything is a tenth too large.

    Whether its geometry was bent to the wrong focal length as well or not, the room comes out in metres.
    """
    right, factor = Right(), 1.1
    K = right.output.K.copy()
    K[:, [0, 1], [0, 1]] *= factor
    through, depth = right.poses.copy(), right.output.depth * np.float32(factor)
    stretch = np.linalg.inv(K[0]) @ right.output.K[0] * factor if bent else np.eye(3) * factor
    through[:, :3, 3] = right.poses[:, :3, 3] @ stretch.T
    prediction = right.predict(world_from_camera=through, K=K, depth=depth, metric=True)
    assert prediction.metric
    np.testing.assert_allclose(prediction.depth, right.output.depth, rtol=1e-5)
    centres = prediction.world_from_camera[:, :3, 3]
    np.testing.assert_allclose(centres - centres[0], right.poses[:, :3, 3] - right.poses[0, :3, 3], atol=1e-6)


def test_what_is_not_finite_is_not_posed() -> None:
    right = Right()
    poses_, depth, K = right.poses.copy(), right.output.depth.copy(), right.output.K.copy()
    poses_[1] = np.nan
    depth[2] = np.inf
    depth[3, :10] = -1.0
    K[4] = np.inf
    prediction = right.predict(world_from_camera=poses_, depth=depth, K=K)
    assert prediction.posed.tolist() == [True, False, False, True, True, True]  # the camera of 4 is known
    assert np.isnan(prediction.depth[[1, 2]]).all() and np.isnan(prediction.depth[3, :10]).all()
    assert not prediction.confidence[[1, 2]].any() and "2 of 6 keyframes" in prediction.note
    assert np.isfinite(prediction.K).all()
    blind = Right().without_cameras().predict(K=K)
    assert blind.posed.tolist() == [True] * 4 + [False, True] and np.isfinite(blind.K).all()


@pytest.mark.parametrize("broken", ["world_from_camera", "depth"])
@pytest.mark.parametrize("known", [True, False])
def test_nothing_finite_is_a_failed_window(broken: str, known: bool) -> None:
    right = Right() if known else Right().without_cameras()
    prediction = right.predict(**{broken: np.full_like(getattr(right.output, broken), np.nan)})
    assert prediction.state is WindowState.FAILED and not prediction.posed.any() and "no finite" in prediction.note
    assert np.isfinite(prediction.K).all() and not prediction.has_depth
    Camera(*right.grid, prediction.K[0])  # a real one


def test_sky_and_backgrounds_are_removed_and_doubtful_areas_lose_confidence() -> None:
    right = Right()
    image = right.keyframes[0].image.copy()
    image[:30, :40], image[90:, :40], image[90:, 120:] = 255, 0, 244
    right.keyframes[0] = replace(right.keyframes[0], image=image)
    sky = np.zeros(right.output.depth.shape, bool)
    sky[0, :20, 80:] = True
    depth = right.output.depth.copy()
    depth[0, 60:75, 60:80] /= 3  # a box in the room

    seen = right.predict(FoundationConfig(), depth=depth, sky=sky)
    assert np.isnan(seen.depth[0, :20, 80:]).all() and np.isfinite(seen.depth[1:]).all()
    assert not seen.confidence[0, :20, 80:].any()
    assert not seen.confidence[0, 1:24, 1:33].any() and np.isfinite(seen.depth[0, 1:24, 1:33]).all()  # blown out
    rim = seen.confidence[0, 58:78, 58:83]
    assert (rim == 0).sum() > 60 and rim[6:12, 6:12].all()  # its outline, not its inside
    assert np.isfinite(right.predict(FoundationConfig(sky="none"), sky=sky).depth).all()
    background = right.predict(FoundationConfig(drop_white=True, drop_black=True), sky=None)
    assert np.isnan(background.depth[0, 85:, :30]).all() and np.isnan(background.depth[0, 85:, 110:]).all()


def test_one_view_and_float_images() -> None:
    right = Right()
    right.keyframes = [replace(k, image=(k.image / 255).astype(np.float32)) for k in right.keyframes[:1]]
    whole = right.output
    one = NetworkOutput(whole.world_from_camera[:1], whole.K[:1], whole.depth[:1], whole.confidence[:1])
    prediction = to_prediction(one, right.keyframes, right.canvas.placements[:1], right.grid, PLAIN, 1.0)
    assert prediction.posed.all() and missed(prediction, prediction.world_from_camera) < 1e-5


def test_keyframes_are_what_they_were() -> None:
    """Nothing the adapter does writes into a keyframe's image."""
    right = Right()
    before = [keyframe.image.copy() for keyframe in right.keyframes]
    right.predict(FoundationConfig(sky="colour", drop_white=True, drop_black=True))
    assert all(isinstance(k, Keyframe) and np.array_equal(k.image, b) for k, b in zip(right.keyframes, before))
