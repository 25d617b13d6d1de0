"""Cameras into and out of the any-view network: known ones become tokens, tokens become predicted ones.

The network writes a camera as nine numbers of its world_from_camera matrix: translation, quaternion xyzw,
vertical and horizontal field of view in radians (vit/pose_encoding.py).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spatial_fm_ros.core.models.vit.block import Block, Mlp
from spatial_fm_ros.core.models.vit.pose_encoding import decode, encode, inverse_pose

EPS = 1e-5
ENCODER_BLOCKS = 4
ENCODER_HEADS = 16  # whatever the width
MIN_TANGENT = 1e-6  # of half the field of view: a vanishing one gives a huge finite focal length


def encode_cameras(extrinsics: Tensor, intrinsics: Tensor, size: tuple[int, int]) -> Tensor:
    """Pose vectors [..., 9] of camera_from_world [..., 4, 4] and K [..., 3, 3]; size = (height, width)."""
    return encode(inverse_pose(extrinsics), intrinsics, size)


def decode_cameras(pose_enc: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """camera_from_world [..., 3, 4] and K [..., 3, 3] of pose vectors [..., 9]; size = (height, width).

    The principal point is (width / 2, height / 2).
    """
    world_from_camera, intrinsics = decode(pose_enc, size, MIN_TANGENT)
    return inverse_pose(world_from_camera)[..., :3, :], intrinsics


class CameraEncoder(nn.Module):
    """Known cameras of a scene as tokens [B, S, dim]: an MLP each, then attention across the views."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.pose_branch = Mlp(9, dim // 2, dim)
        self.token_norm = nn.LayerNorm(dim, eps=EPS)
        self.trunk = nn.ModuleList(Block(dim, ENCODER_HEADS, eps=EPS) for _ in range(ENCODER_BLOCKS))
        self.trunk_norm = nn.LayerNorm(dim, eps=EPS)

    def forward(self, extrinsics: Tensor, intrinsics: Tensor, size: tuple[int, int]) -> Tensor:
        """camera_from_world [B, S, 4, 4] and K [B, S, 3, 3] of images of size (height, width)."""
        tokens = self.token_norm(self.pose_branch(encode_cameras(extrinsics, intrinsics, size)))
        for block in self.trunk:
            tokens = block(tokens)
        return self.trunk_norm(tokens)  # type: ignore[no-any-return]


class CameraDecoder(nn.Module):
    """Camera features [B, S, dim] to pose vectors [B, S, 9], in one pass."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim), nn.ReLU())
        self.fc_t = nn.Linear(dim, 3)
        self.fc_qvec = nn.Linear(dim, 4)
        self.fc_fov = nn.Sequential(nn.Linear(dim, 2))

    def forward(self, features: Tensor) -> Tensor:
        x = self.backbone(features)
        return torch.cat([self.fc_t(x), self.fc_qvec(x), F.relu(self.fc_fov(x))], dim=-1)
