"""VGGT's tracker: points of the first frame followed through the others, refined in four rounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.models.vggt.config import VggtConfig
from spatial_fm_ros.core.models.vggt.dense_head import TrackFeatures, in_chunks
from spatial_fm_ros.core.models.vggt.sampling import Correlation, motion_embedding, position_map, sampled
from spatial_fm_ros.core.models.vggt.update_transformer import UpdateTransformer
from spatial_fm_ros.core.models.vit.block import Mlp

EPS = 1e-5
#: Displacements are divided by this many cells of the feature map.
MAX_SCALE = 518


@dataclass(frozen=True, eq=False)
class Tracks:
    """Pixels [B, S, N, 2] = (x, y) after every iteration; chance of being visible and confidence [B, S, N]."""

    iterations: list[Tensor]
    visible: Tensor
    confidence: Tensor


class Tracker(nn.Module):
    """Feature maps [B, S, C, h, w] and pixels of the first frame to `Tracks`."""

    def __init__(self, config: VggtConfig) -> None:
        super().__init__()
        features, hidden = config.track_features, config.track_hidden_size
        self.iterations, self.stride = config.track_iters, config.track_stride
        self.levels, self.radius = config.track_corr_levels, config.track_corr_radius
        tokens = 3 * features + 4
        # Index 0 of dimension 1 marks the frame of the query, index 1 the others.
        self.query_ref_token = nn.Parameter(torch.randn(1, 2, tokens))
        self.corr_mlp = Mlp(self.levels * (2 * self.radius + 1) ** 2, hidden, features)
        self.fmap_norm = nn.LayerNorm(features, eps=EPS)
        self.updateformer = UpdateTransformer(tokens, hidden, features + 2, config.track_depth)
        self.ffeat_norm = nn.GroupNorm(1, features, eps=EPS)
        self.ffeat_updater = nn.Sequential(nn.Linear(features, features), nn.GELU())
        self.vis_predictor = nn.Sequential(nn.Linear(features, 1))
        self.conf_predictor = nn.Sequential(nn.Linear(features, 1))

    def forward(self, maps: Tensor, query_points: Tensor) -> Tracks:
        """query_points [B, N, 2] are pixels of the network's first frame.

        Gradients do not flow through the positions at which an iteration reads the maps: each learns from its
        own update (Teed and Deng, RAFT, 2020).
        """
        batch, frames = maps.shape[:2]
        maps = self.fmap_norm(maps.movedim(2, -1)).movedim(-1, 2)
        correlation = Correlation(maps.flatten(0, 1), self.levels, self.radius)
        start = query_points / self.stride
        first = sampled(maps[:, 0], start, "border")  # [B, N, C]
        rows, columns = maps.shape[-2:]
        grid = position_map(3 * maps.shape[2] + 4, rows, columns, maps.device).to(maps.dtype)
        place = sampled(grid.expand(batch, -1, -1, -1), start, "border")

        coords = start[:, None].expand(-1, frames, -1, -1)
        features = first[:, None].expand(-1, frames, -1, -1)
        others = self.query_ref_token[:, 1:].expand(-1, frames - 1, -1)
        # [B, S, N, tokens]: where a track starts, and whether this is the frame it starts in
        marks = place[:, None] + torch.cat([self.query_ref_token[:, :1], others], dim=1)[:, :, None]

        iterations = []
        for _ in range(self.iterations):
            coords = coords.detach()
            likeness = correlation(features.flatten(0, 1), coords.flatten(0, 1)).unflatten(0, (batch, frames))
            flow = coords - start[:, None]
            motion = motion_embedding(flow, maps.shape[2] // 2)
            flow = flow / MAX_SCALE
            tokens = torch.cat([motion, flow, flow, self.corr_mlp(likeness), features], dim=-1) + marks
            update = self.updateformer(tokens.transpose(1, 2)).transpose(1, 2)
            change = self.ffeat_norm(update[..., 2:].flatten(0, 2)).view_as(features)
            features = features + self.ffeat_updater(change)
            coords = torch.cat([start[:, None], (coords + update[..., :2])[:, 1:]], dim=1)
            iterations.append(coords * self.stride)
        visible = torch.sigmoid(self.vis_predictor(features))[..., 0]
        return Tracks(iterations, visible, torch.sigmoid(self.conf_predictor(features))[..., 0])


class TrackHead(nn.Module):
    """The tapped tokens and pixels of the first frame to `Tracks`."""

    def __init__(self, config: VggtConfig) -> None:
        super().__init__()
        self.feature_extractor = TrackFeatures(config)
        self.tracker = Tracker(config)
        #: Sides of an image below which the coarsest level of the correlation would be empty.
        self.smallest = config.track_stride * 2 ** (config.track_corr_levels - 1)

    def forward(
        self,
        taps: Sequence[Tensor],
        specials: int,
        grid: tuple[int, int],
        size: tuple[int, int],
        query_points: Tensor,
        chunk: int,
    ) -> Tracks:
        """Raises InputError for images too small to track in."""
        if min(size) < self.smallest:
            raise InputError(
                f"Tracking needs images of at least {self.smallest} pixels on either side, got "
                f"{size[1]}x{size[0]}; enlarge them or leave out the query points."
            )
        (maps,) = in_chunks(self.feature_extractor, taps, specials, grid, size, chunk)
        return self.tracker(maps, query_points)  # type: ignore[no-any-return]
