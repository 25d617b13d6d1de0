"""The transformer of VGGT's tracker: over time within a track, over space through virtual tracks.

Karaev et al., 'CoTracker3', 2024, on which the tracker of VGGT builds.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from spatial_fm_ros.core.models.vit.block import Mlp

EPS = 1e-5
HEADS = 8
MLP_RATIO = 4


class SelfBlock(nn.Module):
    """Self-attention and feed-forward on [B, T, dim]; the residual starts from the normalised input."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=EPS)
        self.attn = nn.MultiheadAttention(dim, HEADS, batch_first=True)
        self.norm2 = nn.LayerNorm(dim, eps=EPS)
        self.mlp = Mlp(dim, MLP_RATIO * dim)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(x)
        x = x + self.attn(x, x, x, need_weights=False)[0]
        return x + self.mlp(self.norm2(x))  # type: ignore[no-any-return]


class CrossBlock(nn.Module):
    """The same with keys and values from a context [B, U, dim]."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=EPS)
        self.norm_context = nn.LayerNorm(dim, eps=EPS)
        self.cross_attn = nn.MultiheadAttention(dim, HEADS, batch_first=True)
        self.norm2 = nn.LayerNorm(dim, eps=EPS)
        self.mlp = Mlp(dim, MLP_RATIO * dim)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        x, context = self.norm1(x), self.norm_context(context)
        x = x + self.cross_attn(x, context, context, need_weights=False)[0]
        return x + self.mlp(self.norm2(x))  # type: ignore[no-any-return]


class UpdateTransformer(nn.Module):
    """Tokens of tracks [B, N, S, dim] (N tracks, S frames) to their updates [B, N, S, out]."""

    def __init__(self, dim: int, hidden: int, out: int, depth: int, virtual_tracks: int = 64) -> None:
        super().__init__()
        self.virual_tracks = nn.Parameter(torch.randn(1, virtual_tracks, 1, hidden))  # the checkpoint's spelling
        self.input_norm = nn.LayerNorm(dim, eps=EPS)
        self.input_transform = nn.Linear(dim, hidden)
        self.time_blocks = nn.ModuleList(SelfBlock(hidden) for _ in range(depth))
        self.space_virtual_blocks = nn.ModuleList(SelfBlock(hidden) for _ in range(depth))
        self.space_point2virtual_blocks = nn.ModuleList(CrossBlock(hidden) for _ in range(depth))
        self.space_virtual2point_blocks = nn.ModuleList(CrossBlock(hidden) for _ in range(depth))
        self.output_norm = nn.LayerNorm(hidden, eps=EPS)
        self.flow_head = nn.Linear(hidden, out)

    def forward(self, x: Tensor) -> Tensor:
        batch, tracks, frames, _ = x.shape
        start = self.input_transform(self.input_norm(x))
        x = torch.cat([start, self.virual_tracks.expand(batch, -1, frames, -1)], dim=1)
        for time, virtual_self, to_virtual, to_points in zip(
            self.time_blocks,
            self.space_virtual_blocks,
            self.space_virtual2point_blocks,
            self.space_point2virtual_blocks,
            strict=True,
        ):
            x = time(x.flatten(0, 1)).unflatten(0, (batch, -1))
            space = x.transpose(1, 2).flatten(0, 1)  # [B * S, tracks, hidden]
            points, virtual = space[:, :tracks], space[:, tracks:]
            virtual = virtual_self(to_virtual(virtual, points))
            points = to_points(points, virtual)
            x = torch.cat([points, virtual], dim=1).unflatten(0, (batch, frames)).transpose(1, 2)
        return self.flow_head(self.output_norm(x[:, :tracks] + start))  # type: ignore[no-any-return]
