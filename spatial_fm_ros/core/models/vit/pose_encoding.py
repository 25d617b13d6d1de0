"""Cameras as nine numbers, [t (3), quaternion xyzw (4), vertical and horizontal field of view (2)], in torch.

Which pose the encoding holds differs: camera_from_world in VGGT, world_from_camera in Depth Anything 3.
Image sizes are those of the network input; the principal point is taken to be its centre (W/2, H/2), with
pixel (0, 0) covering [0, 1) x [0, 1), so it lies at (W - 1)/2 where pixel centres are integers.
Everything is batched, differentiable and in the dtype of its input.
"""

from __future__ import annotations

import torch
from torch import Tensor


def matrix_from_quaternion(quaternion: Tensor) -> Tensor:
    """Rotations [..., 3, 3] of quaternions xyzw [..., 4] of any length but zero (which gives NaN)."""
    x, y, z, w = quaternion.unbind(-1)
    s = 2.0 / quaternion.square().sum(-1)
    rows = (
        (1 - s * (y * y + z * z), s * (x * y - z * w), s * (x * z + y * w)),
        (s * (x * y + z * w), 1 - s * (x * x + z * z), s * (y * z - x * w)),
        (s * (x * z - y * w), s * (y * z + x * w), 1 - s * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def quaternion_from_matrix(rotation: Tensor) -> Tensor:
    """Quaternions xyzw [..., 4], w >= 0, of rotations [..., 3, 3].

    Solved for the largest of the four components (the first of w, x, y, z on a tie), which never divides by
    a small number (Shepperd, 'Quaternion from Rotation Matrix', 1978).
    """
    (a, b, c), (d, e, f), (g, h, i) = (row.unbind(-1) for row in rotation.unbind(-2))
    squares = torch.stack([1 + a + e + i, 1 + a - e - i, 1 - a + e - i, 1 - a - e + i], dim=-1).clamp(min=0)
    w2, x2, y2, z2 = squares.unbind(-1)
    products = torch.stack(
        [w2, h - f, c - g, d - b, h - f, x2, d + b, c + g, c - g, d + b, y2, f + h, d - b, g + c, h + f, z2], dim=-1
    ).unflatten(-1, (4, 4))  # row k: 4 * component k * (w, x, y, z)
    best = squares.argmax(-1, keepdim=True)
    row = products.take_along_dim(best[..., None], dim=-2)[..., 0, :]
    # The floor of 0.1 acts only on matrices that are no rotations; the published encoders have it.
    wxyz = row / (2 * squares.take_along_dim(best, dim=-1).clamp(min=0.01).sqrt())
    wxyz = torch.where(wxyz[..., :1] < 0, -wxyz, wxyz)
    return wxyz.roll(-1, dims=-1)


def encode(pose: Tensor, intrinsics: Tensor, size: tuple[int, int]) -> Tensor:
    """The encoding [..., 9] of poses [..., 3 or 4, 4] and K [..., 3, 3]; the principal point is not kept.

    size: (height, width) of the image.
    """
    focal = torch.stack([intrinsics[..., 1, 1], intrinsics[..., 0, 0]], dim=-1)
    half = focal.new_tensor(size) / 2
    fov = 2 * torch.atan(half / focal)
    return torch.cat([pose[..., :3, 3], quaternion_from_matrix(pose[..., :3, :3]), fov], dim=-1)


def decode(encoding: Tensor, size: tuple[int, int], smallest_tangent: float | None = None) -> tuple[Tensor, Tensor]:
    """Poses [..., 3, 4] and K [..., 3, 3] of encodings [..., 9] for images of size (height, width).

    smallest_tangent: lower bound of tan(fov / 2), which keeps the focal length finite and positive;
    without it a field of view of 0 gives an infinite one.
    """
    pose = torch.cat([matrix_from_quaternion(encoding[..., 3:7]), encoding[..., :3, None]], dim=-1)
    tangent = torch.tan(encoding[..., 7:9] / 2)
    if smallest_tangent is not None:
        tangent = tangent.clamp(min=smallest_tangent)
    half = encoding.new_tensor(size) / 2
    focal = half / tangent
    zero, one = torch.zeros_like(focal[..., 0]), torch.ones_like(focal[..., 0])
    rows = (
        torch.stack([focal[..., 1], zero, one * half[1]], dim=-1),
        torch.stack([zero, focal[..., 0], one * half[0]], dim=-1),
        torch.stack([zero, zero, one], dim=-1),
    )
    return pose, torch.stack(rows, dim=-2)


def inverse_pose(a_from_b: Tensor) -> Tensor:
    """b_from_a [..., 4, 4] of rigid poses [..., 3 or 4, 4] by the transpose, in the input's dtype."""
    transposed = a_from_b[..., :3, :3].transpose(-1, -2)
    top = torch.cat([transposed, -transposed @ a_from_b[..., :3, 3:]], dim=-1)
    bottom = top.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(*top.shape[:-2], 1, 4)
    return torch.cat([top, bottom], dim=-2)
