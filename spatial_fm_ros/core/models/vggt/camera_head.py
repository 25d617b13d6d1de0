"""VGGT's cameras: an estimate refined in four rounds from every frame's camera token."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spatial_fm_ros.core.models.vggt.config import VggtConfig
from spatial_fm_ros.core.models.vit.block import Block, Mlp

ITERATIONS = 4
EPS = 1e-5
#: Of the normalisation whose scale and shift come from the pose so far (Peebles and Xie, DiT, 2023).
MODULATED_EPS = 1e-6
LAYER_SCALE = 0.01
ENCODING = 9


class CameraHead(nn.Module):
    """Camera tokens [B, S, 2C] to pose encodings (vit/pose_encoding.py), camera_from_world."""

    def __init__(self, config: VggtConfig) -> None:
        super().__init__()
        dim = 2 * config.embed_dim
        self.empty_pose_tokens = nn.Parameter(torch.zeros(1, 1, ENCODING))
        self.trunk = nn.ModuleList(
            Block(dim, config.camera_num_heads, eps=EPS, layer_scale=LAYER_SCALE)
            for _ in range(config.camera_trunk_depth)
        )
        self.token_norm = nn.LayerNorm(dim, eps=EPS)
        self.trunk_norm = nn.LayerNorm(dim, eps=EPS)
        self.embed_pose = nn.Linear(ENCODING, dim)
        self.poseLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(dim, 3 * dim))
        self.pose_branch = Mlp(dim, dim // 2, ENCODING)

    def forward(self, camera_tokens: Tensor) -> list[Tensor]:
        """The pose encoding [B, S, 9] after every iteration; the last is the prediction."""
        tokens = self.token_norm(camera_tokens.to(self.token_norm.weight.dtype))
        plain = F.layer_norm(tokens, tokens.shape[-1:], eps=MODULATED_EPS)
        raw: Tensor | None = None
        iterations = []
        for _ in range(ITERATIONS):
            # The next round sees the raw numbers, not the activated ones; so the checkpoint was trained.
            before = self.empty_pose_tokens.expand(*tokens.shape[:2], -1) if raw is None else raw
            shift, scale, gate = self.poseLN_modulation(self.embed_pose(before)).chunk(3, dim=-1)
            x = tokens + gate * (plain * (1 + scale) + shift)
            for block in self.trunk:
                x = block(x)
            delta = self.pose_branch(self.trunk_norm(x))
            raw = delta if raw is None else raw + delta
            iterations.append(torch.cat([raw[..., :7], F.relu(raw[..., 7:])], dim=-1))
        return iterations
