"""A room with exact depth, and cameras in it, for the tests of the foundation models' adapter."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from spatial_fm_ros.core.geometry.cameras import pinhole_rays, unproject
from spatial_fm_ros.core.types import Camera, Keyframe

LOW, HIGH = np.array([-4.0, -2.0, -3.0]), np.array([4.0, 2.0, 6.0])


def pinhole(width: int = 160, height: int = 120, focal: float = 130.0) -> Camera:
    return Camera(width, height, np.array([[focal, 0, width / 2 + 3], [0, focal, height / 2 - 2], [0, 0, 1.0]]))


def room_depth(world_from_camera: np.ndarray, camera: Camera) -> np.ndarray:
    """Depth float64 [h, w] along z from a camera inside the room."""
    rays = pinhole_rays(camera.K, camera.width, camera.height) @ world_from_camera[:3, :3].T
    centre = world_from_camera[:3, 3]
    with np.errstate(divide="ignore", invalid="ignore"):
        walls = np.where(rays > 0, (HIGH - centre) / rays, (LOW - centre) / rays)
    return np.where(rays == 0, np.inf, walls).min(axis=-1)


def room_image(world_from_camera: np.ndarray, camera: Camera) -> np.ndarray:
    """What the camera sees: RGB uint8 [h, w, 3] of waves in space that cover the walls."""
    points = unproject(camera.K, room_depth(world_from_camera, camera))
    points = points @ world_from_camera[:3, :3].T + world_from_camera[:3, 3]
    waves = np.random.default_rng(3).normal(0, 4, (3, 12))
    levels = np.sin(points @ waves + np.arange(12)).reshape(*points.shape[:2], 3, 4).sum(-1)
    return (127 + 30 * levels).clip(0, 255).astype(np.uint8)


def poses(kind: str, count: int = 6) -> np.ndarray:
    """world_from_camera [count, 4, 4] of a motion: sideways, forward, around (a point 3 m ahead, 60 degrees)."""
    along = np.linspace(-0.5, 0.5, count)
    result = np.tile(np.eye(4), (count, 1, 1))
    if kind == "sideways":
        result[:, 0, 3], result[:, 1, 3] = 2 * along, 0.3 * along**2
    elif kind == "forward":
        result[:, 2, 3] = 2 * along
    elif kind == "around":
        angle = np.radians(60) * along
        result[:, :3, :3] = Rotation.from_rotvec(angle[:, None] * [0, 1, 0]).as_matrix()
        result[:, 0, 3], result[:, 2, 3] = -3 * np.sin(angle), 3 * (1 - np.cos(angle))
    else:
        raise AssertionError(kind)
    return result


def keyframes(
    world_from_camera: np.ndarray, camera: Camera, first_id: int = 0, odometry: bool = False
) -> tuple[Keyframe, ...]:
    """What a calibrated camera sees at these poses; with `odometry` the poses as priors."""
    return tuple(
        Keyframe(
            first_id + i, i, room_image(pose, camera), camera, "camera", 10.0, "moved", pose if odometry else None
        )
        for i, pose in enumerate(world_from_camera)
    )
