"""DINOv2 (Oquab et al., 2023): the patch embedder below VGGT; Depth Anything 3 varies its blocks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from spatial_fm_ros.core.models.vit.block import Block, PatchEmbed
from spatial_fm_ros.core.models.vit.positions import resized_position_embedding

#: Epsilon of DINOv2's LayerNorms.
EPS = 1e-6
#: Standard deviation of fresh tokens and positions; equal ones would stay equal in training.
TOKEN_SIGMA = 0.02


def fresh_tokens(*shape: int) -> nn.Parameter:
    """Evenly drawn: a normal draw on the meta device imports 150 MB of torch that inference never needs."""
    bound = TOKEN_SIGMA * 3**0.5
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound))


class DinoV2(nn.Module):
    """ViT with class and register tokens. Images [N, 3, H, W], normalised, to patch tokens [N, H/p * W/p, dim]."""

    def __init__(
        self, image_size: int, patch: int, dim: int, depth: int, heads: int, mlp_ratio: float, registers: int
    ) -> None:
        super().__init__()
        self.patch = patch
        self.cls_token = fresh_tokens(1, 1, dim)
        self.pos_embed = fresh_tokens(1, 1 + (image_size // patch) ** 2, dim)
        self.register_tokens = fresh_tokens(1, registers, dim)
        self.mask_token = nn.Parameter(torch.zeros(1, dim))  # in the checkpoint; only training masks patches
        self.patch_embed = PatchEmbed(dim, patch)
        self.blocks = nn.ModuleList(Block(dim, heads, eps=EPS, mlp_ratio=mlp_ratio) for _ in range(depth))
        self.norm = nn.LayerNorm(dim, eps=EPS)

    def forward(self, images: Tensor) -> Tensor:
        count = len(images)
        rows, columns = images.shape[-2] // self.patch, images.shape[-1] // self.patch
        position = resized_position_embedding(self.pos_embed, rows, columns, antialias=True, offset=0.0)
        patches = self.patch_embed(images) + position[:, 1:]
        cls = (self.cls_token + position[:, :1]).expand(count, -1, -1)
        x = torch.cat([cls, self.register_tokens.expand(count, -1, -1), patches], dim=1)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)[:, x.shape[1] - patches.shape[1] :]  # type: ignore[no-any-return]
