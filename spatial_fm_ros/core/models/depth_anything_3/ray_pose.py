"""Cameras from predicted rays: a homography from image to ray directions, split into rotation and focal length.

A pinhole maps image coordinates p to ray directions d ~ R K^-1 p. The homography is found by RANSAC over
weighted direct linear transforms (Hartley and Zisserman, 'Multiple View Geometry', 4.1 and 4.7) and
split as an orthogonal times a lower triangular matrix, as published. K^-1 is upper triangular, so this is
exact only for a centred principal point; otherwise rotation and focal length come out slightly wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from spatial_fm_ros.core.models.vit.pose_encoding import inverse_pose

DRAWS = 100
DRAWN_POINTS = 8
#: Share of the most confident rays from which samples are drawn.
CANDIDATES = 0.3
#: Largest error of an inlier, in units of direction at z = 1.
MAX_ERROR = 0.2
#: Rays whose direction has a smaller z count nothing.
MIN_Z = 1e-4


@dataclass(frozen=True, eq=False)
class RayCameras:
    """N cameras: homographies [N, 3, 3] with last entry 1, world_from_camera [N, 4, 4], focal [N, 2] and
    centre [N, 2] (x, y) in half widths and half heights, centre from the image's corner. float64; NaN where
    a view has no usable rays."""

    homography: Tensor
    world_from_camera: Tensor
    focal: Tensor
    centre: Tensor


def cameras_from_rays(
    ray: Tensor,
    ray_conf: Tensor,
    size: tuple[int, int],
    *,
    samples: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """camera_from_world [B, S, 3, 4] and K [B, S, 3, 3] for images of size (height, width), float32.

    ray [B, S, h, w, 6] (direction, origin) and ray_conf [B, S, h, w]; samples, generator: see `fit_cameras`.
    """
    scenes = ray.shape[:2]
    found = fit_cameras(ray.flatten(0, 1), ray_conf.flatten(0, 1), samples=samples, generator=generator)
    half = found.focal.new_tensor([size[1], size[0]]) / 2
    intrinsics = torch.diag_embed(F.pad(found.focal * half, (0, 1), value=1.0))
    intrinsics[:, :2, 2] = found.centre * half
    extrinsics = inverse_pose(found.world_from_camera)[:, :3]
    return extrinsics.float().unflatten(0, scenes), intrinsics.float().unflatten(0, scenes)


def fit_cameras(
    ray: Tensor, ray_conf: Tensor, *, samples: Tensor | None = None, generator: torch.Generator | None = None
) -> RayCameras:
    """Fit a camera to each of N ray maps [N, h, w, 6] with confidence [N, h, w].

    samples int64 [draws, 8]: indices into the rays sorted by falling confidence, the same for all maps;
    without them they are drawn on the CPU with `generator`, or one seeded 0. All inliers enter the
    final fit (the published code takes at most 8000 of them at random).
    """
    count, rows, columns, _ = ray.shape
    points = _canonical_points(rows, columns, ray.device)
    candidates = candidate_count(rows, columns)
    if samples is None:
        samples = draw_samples(candidates, generator)
    samples = samples.to(ray.device)
    rays, weights = ray.double().flatten(1, 2), ray_conf.double().flatten(1)
    usable = rays.isfinite().all(-1) & weights.isfinite() & (rays[..., 2].abs() > MIN_Z)
    weights = torch.where(usable, weights, 0.0)
    directions = torch.where(usable[..., None], rays[..., :3] / rays[..., 2:3], 0.0)[..., :2]
    homographies = torch.stack(
        [_best_homography(points, directions[n], weights[n], samples, candidates) for n in range(count)]
    )
    rotation, focal, centre = _split(homographies)
    origins = torch.where(usable[..., None], rays[..., 3:], 0.0)
    position = (origins * weights[..., None]).sum(1) / weights.sum(1)[:, None]
    world_from_camera = torch.eye(4, dtype=torch.float64, device=ray.device).repeat(count, 1, 1)
    world_from_camera[:, :3, :3], world_from_camera[:, :3, 3] = rotation, position
    return RayCameras(homographies, world_from_camera, focal, centre)


def candidate_count(rows: int, columns: int) -> int:
    """How many of a map's most confident rays samples are drawn from."""
    return max(DRAWN_POINTS, int(CANDIDATES * rows * columns))


def draw_samples(candidates: int, generator: torch.Generator | None = None) -> Tensor:
    """int64 [DRAWS, 8], different indices below `candidates` in each row, on the CPU."""
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    return torch.stack([torch.randperm(candidates, generator=generator)[:DRAWN_POINTS] for _ in range(DRAWS)])


def _canonical_points(rows: int, columns: int, device: torch.device) -> Tensor:
    """Cell centres (x, y) float64 [rows * columns, 2] of the image as [-1, 1]^2, row-major."""
    y = (2 * torch.arange(rows, dtype=torch.float64, device=device) + 1) / rows - 1
    x = (2 * torch.arange(columns, dtype=torch.float64, device=device) + 1) / columns - 1
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).flatten(0, 1)


def _best_homography(points: Tensor, targets: Tensor, weights: Tensor, samples: Tensor, candidates: int) -> Tensor:
    """RANSAC, then a fit to the best draw's inliers: [3, 3], NaN when too few rays count."""
    if int((weights > 0).sum()) < DRAWN_POINTS:
        return points.new_full((3, 3), torch.nan)
    order = weights.argsort(descending=True, stable=True)[:candidates]
    drawn = order[samples]
    tried = _homography(points[drawn], targets[drawn], weights[drawn])
    inliers = _errors(tried, points, targets) < MAX_ERROR
    best = inliers[(inliers * weights).sum(-1).argmax()] & (weights > 0)
    return _homography(points[best], targets[best], weights[best])


def _homography(points: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Weighted direct linear transform of points to targets [..., n, 2]: [..., 3, 3] with last entry 1."""
    x, y = points.unbind(-1)
    one, zero = torch.ones_like(x), torch.zeros_like(x)
    u, v = targets.unbind(-1)
    rows_u = torch.stack([-x, -y, -one, zero, zero, zero, x * u, y * u, u], dim=-1)
    rows_v = torch.stack([zero, zero, zero, -x, -y, -one, x * v, y * v, v], dim=-1)
    system = torch.cat([rows_u, rows_v], dim=-2) * torch.cat([weights, weights], dim=-1).sqrt()[..., None]
    solution = torch.linalg.svd(system, full_matrices=False).Vh[..., -1, :]
    return (solution / solution[..., -1:]).unflatten(-1, (3, 3))  # type: ignore[no-any-return]


def _errors(homographies: Tensor, points: Tensor, targets: Tensor) -> Tensor:
    """Distances [K, n] of K homographies' images of points [n, 2] from targets [n, 2]."""
    mapped = points @ homographies[:, :, :2].mT + homographies[:, None, :, 2]
    return (mapped[..., :2] / mapped[..., 2:] - targets).norm(dim=-1)  # type: ignore[no-any-return]


def _split(homographies: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rotation [N, 3, 3], focal [N, 2] and centre [N, 2] by the QL decomposition."""
    usable = homographies.isfinite().all(-1).all(-1)
    H = torch.where(usable[:, None, None], homographies, torch.eye(3, dtype=homographies.dtype, device=usable.device))
    H = torch.where(torch.linalg.det(H)[:, None, None] < 0, -H, H)
    Q, R = torch.linalg.qr(H.flip(-1))
    Q, L = Q.flip(-1), R.flip(-1, -2)
    sign = torch.where(L.diagonal(dim1=-2, dim2=-1) < 0, -1.0, 1.0).to(L.dtype)
    Q, L = Q * sign[:, None, :], L * sign[:, :, None]
    L = L / L[:, 2:, 2:]
    focal = 1 / torch.stack([L[:, 0, 0], L[:, 1, 1]], dim=-1)
    centre = L[:, 2, :2] + 1
    nan = torch.where(usable, 0.0, torch.nan)[:, None].to(L.dtype)
    return Q + nan[..., None], focal + nan, centre + nan
