"""Pictures of a coloured cloud from any side: a z-buffer over points, in numpy."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from spatial_fm_ros.core.geometry.rotations import invert_pose, pose_from
from spatial_fm_ros.core.types import Array, Image, PointCloud

BACKGROUND = (250, 250, 250)
MOST_POINTS = 600_000
#: Cosine of view and normal below which a surface counts as seen from behind (normals are noisy).
AWAY = -0.25


@dataclass(frozen=True, eq=False)
class View:
    """A virtual camera (optical axes). `height` > 0: orthographic, that many world units tall."""

    name: str
    world_from_view: Array
    focal_share: float = 1.0  # focal length over picture height
    height: float = 0.0
    near: float = 0.0  # nothing nearer than this is drawn


def look_at(eye: Array, target: Array, up: Array) -> Array:
    """world_from_view of a camera at `eye` that looks at `target`, z forward, y down."""
    forward = (target - eye) / np.linalg.norm(target - eye)
    right = np.cross(forward, up)
    if np.linalg.norm(right) < 1e-9:
        right = np.cross(forward, np.array([1.0, 0.0, 0.0]) if abs(forward[0]) < 0.9 else np.array([0.0, 1.0, 0.0]))
    right /= np.linalg.norm(right)
    return pose_from(np.stack([right, np.cross(forward, right), forward], axis=1), eye)


def render(
    points: Array, colors: Image, view: View, width: int = 960, height: int = 640, point_size: float = 0.0
) -> Image:
    """RGB uint8 [height, width, 3]. Points [n, 3] of `point_size` world units hide what lies behind them."""
    view_from_world = invert_pose(view.world_from_view)
    local: Array = points @ view_from_world[:3, :3].T + view_from_world[:3, 3]
    z: Array = local[:, 2]
    if view.height > 0:
        scale: Array = np.full(len(z), height / view.height)
    else:
        front = z > max(view.near, 1e-6)
        local, z, colors = local[front], z[front], colors[front]
        scale = view.focal_share * height / z
    u = np.round(local[:, 0] * scale + (width - 1) / 2).astype(np.int64)
    v = np.round(local[:, 1] * scale + (height - 1) / 2).astype(np.int64)
    radius = np.clip(np.ceil((point_size * scale - 1.0) / 2.0), 0, 8).astype(np.int64)
    depth = np.full(height * width, np.inf, np.float32)
    shown = np.empty((height * width, 3), np.uint8)
    shown[:] = BACKGROUND
    order = np.argsort(-z, kind="stable")
    u, v, z, colors, radius = u[order], v[order], z[order], colors[order], radius[order]
    for size in np.unique(radius):
        part = radius == size
        for dv in range(-int(size), int(size) + 1):
            for du in range(-int(size), int(size) + 1):
                x, y = u[part] + du, v[part] + dv
                inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
                pixel = y[inside] * width + x[inside]
                pixel, distance = y[inside] * width + x[inside], z[part][inside]
                # Within a part far comes before near, so the last write to a pixel is its nearest point.
                nearer = distance < depth[pixel]
                depth[pixel[nearer]] = distance[nearer]
                shown[pixel[nearer]] = colors[part][inside][nearer]
    return shown.reshape(height, width, 3)


def views_of(points: Array, up: Array, cameras: Array) -> list[View]:
    """From above and from three sides around the bulk of the points, and over the shoulder of a camera.

    points [n, 3], up [3], cameras: world_from_camera [k, 4, 4] in order of time.
    """
    low, high = np.percentile(points, [3, 97], axis=0)
    centre, radius = (low + high) / 2, float(np.linalg.norm(high - low)) / 2 + 1e-9
    forward = cameras[:, :3, 2].mean(axis=0)
    forward = forward - up * (forward @ up)
    if np.linalg.norm(forward) < 1e-3:
        forward = cameras[0, :3, 0] - up * (cameras[0, :3, 0] @ up)
    forward = forward / max(np.linalg.norm(forward), 1e-9)
    side = np.cross(up, forward)
    flat = (points - centre) @ np.stack([forward, side]).T
    inner = np.all(np.abs(flat) < 1.2 * np.percentile(np.abs(flat), 97, axis=0), axis=1)
    # The picture from above lies along the walls: the tightest rectangle around the bulk of the points.
    middle_of, size, degrees = cv2.minAreaRect(flat[inner].astype(np.float32))
    turn = np.radians(degrees if size[0] <= size[1] else degrees + 90.0)
    ahead = np.cos(turn) * forward + np.sin(turn) * side
    target = centre + middle_of[0] * forward + middle_of[1] * side
    tall = 1.1 * max(min(size), max(size) * 640 / 960, 1e-6)
    views = [View("top", look_at(target + up * 3 * radius, target + ahead * 1e-6 * radius, ahead), height=tall)]
    for name, angle in (("left", 140.0), ("back", 180.0), ("right", 220.0)):
        a = np.radians(angle)
        direction = 0.87 * (np.cos(a) * forward + np.sin(a) * side) + 0.5 * up
        distance = 2.2 * radius
        views.append(View(name, look_at(centre + direction * distance, centre, up), 1.45))
    middle = cameras[len(cameras) // 2]
    eye = middle[:3, 3] - 0.35 * radius * middle[:3, 2] + 0.12 * radius * up
    views.append(View("camera", look_at(eye, eye + middle[:3, 2], up), 0.9, near=0.05 * radius))
    return views


def normals_towards(points: Array, eyes: Array) -> Array:
    """Unit surface normals [n, 3], each turned to the nearest of `eyes` [k, 3], from where it was seen."""
    import open3d as o3d
    from scipy.spatial import cKDTree

    cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(points))
    cloud.estimate_normals(o3d.geometry.KDTreeSearchParamKNN(30))
    normals: Array = np.asarray(cloud.normals, dtype=np.float64)
    _, nearest = cKDTree(eyes).query(points, workers=2)
    away = np.einsum("ij,ij->i", normals, eyes[nearest] - points) < 0
    normals[away] *= -1
    return normals


def map_views(cloud: PointCloud, cameras: Array, point_size: float, up: Array | None = None) -> dict[str, Image]:
    """Pictures of a map by name: top, left, back, right, camera. Empty for an empty map.

    cameras: world_from_camera [k, 4, 4], k > 0. From outside, surfaces that were seen from the other
    side only are left out: walls and ceilings open the view into the room.
    """
    if len(cloud) < 10 or not len(cameras):
        return {}
    points, colors = cloud.points.astype(np.float64), cloud.colors
    if len(points) > MOST_POINTS:
        chosen = np.random.default_rng(0).choice(len(points), MOST_POINTS, replace=False)
        points, colors = points[chosen], colors[chosen]
    up = np.array([0.0, 0.0, 1.0]) if up is None else up
    normals = normals_towards(points, cameras[:, :3, 3])
    pictures = {}
    for view in views_of(points, up, cameras):
        shown = np.ones(len(points), bool)
        if view.name != "camera":
            towards = view.world_from_view[:3, 3] - points
            if view.height > 0:  # all rays of an orthographic view are parallel
                towards = np.broadcast_to(-view.world_from_view[:3, 2], points.shape)
            facing = np.einsum("ij,ij->i", normals, towards) / np.linalg.norm(towards, axis=1)
            shown = facing > AWAY
        pictures[view.name] = render(points[shown], colors[shown], view, point_size=1.2 * point_size)
    return pictures
