"""The network guessed another focal length than the camera has: what becomes of poses and depth."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

sys.path.insert(0, str(Path(__file__).parent))
from foundation_scene import pinhole, poses, room_depth, room_image

from spatial_fm_ros.core.models.foundation.focal import under_true_cameras

CAMERA = pinhole()


class Seen:
    """A window's truth, and a network's camera whose focal length is `factor` times the true one, and centred."""

    def __init__(self, motion: str, factor: float) -> None:
        self.poses = poses(motion)
        self.K = np.tile(CAMERA.K, (len(self.poses), 1, 1))
        self.K_net = self.K.copy()
        self.K_net[:, [0, 1], [0, 1]] *= factor
        self.K_net[:, :2, 2] = (CAMERA.width - 1) / 2, (CAMERA.height - 1) / 2
        self.depth = np.stack([room_depth(pose, CAMERA) for pose in self.poses]).astype(np.float32)
        self.grey = np.stack([room_image(pose, CAMERA)[..., 1] for pose in self.poses])

    def errors(self, found, depth: np.ndarray) -> tuple[float, float, float]:
        """Of centres in metres, of depth as a share, of rotations in radians; about the mean centre."""
        centres = found.world_from_camera[:, :3, 3]
        truth = self.poses[:, :3, 3]
        missed = np.abs((centres - centres.mean(0)) - (truth - truth.mean(0))).max()
        turned = np.swapaxes(self.poses[:, :3, :3], 1, 2) @ found.world_from_camera[:, :3, :3]
        angle = Rotation.from_matrix(turned).magnitude().max()
        return missed, np.abs(depth * found.depth_factor / self.depth - 1).max(), angle


@pytest.mark.parametrize("factor", [0.85, 0.97, 1.05, 1.2])
@pytest.mark.parametrize("motion", ["sideways", "forward"])
def test_a_world_seen_through_the_wrong_camera_becomes_the_true_one(motion: str, factor: float) -> None:
    """Views of one orientation fit any focal length: the network's world is the true one stretched along the axis."""
    seen = Seen(motion, factor)
    stretch = np.linalg.inv(seen.K_net[0]) @ CAMERA.K * factor
    through_network = seen.poses.copy()
    through_network[:, :3, 3] = seen.poses[:, :3, 3] @ stretch.T
    found = under_true_cameras(through_network, seen.K_net, seen.K, seen.depth * np.float32(factor), seen.grey)
    assert found.ratio == pytest.approx(1 / factor)
    assert max(seen.errors(found, seen.depth * factor)) < 1e-5


@pytest.mark.parametrize("factor", [0.9, 1.1])
@pytest.mark.parametrize("motion", ["sideways", "forward", "around"])
def test_geometry_that_is_right_beside_a_wrong_focal_length_stays(motion: str, factor: float) -> None:
    seen = Seen(motion, factor)
    found = under_true_cameras(seen.poses, seen.K_net, seen.K, seen.depth, seen.grey)
    assert found.depth_factor == 1.0 and found.ratio == pytest.approx(1 / factor)
    assert max(seen.errors(found, seen.depth)) == pytest.approx(0.0, abs=1e-7)


@pytest.mark.parametrize("factor", [1.001, 4.0, 0.1])
def test_what_is_no_focal_length_corrects_nothing(factor: float) -> None:
    seen = Seen("sideways", factor)
    found = under_true_cameras(seen.poses, seen.K_net, seen.K, seen.depth, seen.grey)
    assert found.depth_factor == 1.0 and found.world_from_camera is seen.poses


def test_views_without_shared_pixels_or_depth_are_still_corrected() -> None:
    seen = Seen("sideways", 1.1)
    one = under_true_cameras(seen.poses[:1], seen.K_net[:1], seen.K[:1], seen.depth[:1], seen.grey[:1])
    none = under_true_cameras(seen.poses, seen.K_net, seen.K, np.full_like(seen.depth, np.nan), seen.grey)
    assert one.depth_factor == none.depth_factor == pytest.approx(1 / 1.1)
    np.testing.assert_allclose(one.world_from_camera[0], seen.poses[0], atol=1e-9)
