"""The DINOv2 transformer of Depth Anything 3: first every view for itself, then views that see each other.

Blocks below `alt_start` attend inside a view. From there on odd blocks attend across all views of a
scene. Work of the first kind depends on one image only, so that it can be kept while windows overlap:
`view_tokens` does it, `joint` the rest, `forward` both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from spatial_fm_ros.core.models.depth_anything_3.presets import PATCH, NetworkConfig
from spatial_fm_ros.core.models.depth_anything_3.reference_view import (
    reference_first,
    reference_view,
    reordered,
    restored,
)
from spatial_fm_ros.core.models.vit.block import Block, PatchEmbed
from spatial_fm_ros.core.models.vit.positions import grid_positions, resized_position_embedding
from spatial_fm_ros.core.models.vit.rope import RopeTable, rope_table

BLOCK_EPS = 1e-6
NORM_EPS = 1e-5
#: The position grid is resized by factors of (cells + this) / size of the learned grid.
GRID_OFFSET = 0.1


@dataclass(frozen=True, eq=False)
class ViewTokens:
    """What the blocks that see one view make of it; T = 1 + patches, the class token first.

    tokens [B, S, T, C] go into the joint blocks; describing [B, S, C] are the class tokens one block
    earlier, by which the reference view is chosen; grid = (rows, columns) of patches. taps: outputs
    [B, S, T, C] of those blocks that the head or the caller reads.
    """

    tokens: Tensor
    describing: Tensor
    grid: tuple[int, int]
    taps: dict[int, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class BackboneFeatures:
    """levels: four maps [B, S, patches, D] for the head; camera [B, S, D], not normalised; ref_idx int64 [B]
    or None where none was chosen; aux: block index to [B, S, rows, columns, C]."""

    levels: list[Tensor]
    camera: Tensor
    grid: tuple[int, int]
    ref_idx: Tensor | None
    aux: dict[int, Tensor]


class Backbone(nn.Module):
    """Normalised images [B, S, 3, H, W], sides multiples of 14, to BackboneFeatures."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.embed_dim
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        if config.alt_start != -1:
            self.camera_token = nn.Parameter(torch.zeros(1, 2, dim))  # of the reference, of the others
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + (config.img_size // PATCH) ** 2, dim))
        self.patch_embed = PatchEmbed(dim, PATCH)
        self.blocks = nn.ModuleList(
            Block(
                dim,
                config.num_heads,
                eps=BLOCK_EPS,
                qk_norm=config.qknorm_start != -1 and i >= config.qknorm_start,
                swiglu=config.ffn == "swiglu",
            )
            for i in range(config.depth)
        )
        self.norm = nn.LayerNorm(dim, eps=NORM_EPS)

    @property
    def joint_start(self) -> int:
        """The first block that may see what other views contributed."""
        return self.config.depth if self.config.alt_start == -1 else self.config.alt_start

    def forward(
        self,
        images: Tensor,
        camera_tokens: Tensor | None = None,
        strategy: str = "saddle_balanced",
        aux_layers: Sequence[int] = (),
    ) -> BackboneFeatures:
        """camera_tokens [B, S, C]: of known cameras, in place of the learned ones."""
        return self.joint(self.view_tokens(images, aux_layers), camera_tokens, strategy, aux_layers)

    def embedded(self, images: Tensor) -> Tensor:
        """Tokens [N, T, C] of images [N, 3, H, W], positions added."""
        rows, columns = images.shape[-2] // PATCH, images.shape[-1] // PATCH
        patches = self.patch_embed(images)
        tokens = torch.cat([self.cls_token.expand(len(images), -1, -1), patches], dim=1)
        return tokens + resized_position_embedding(self.pos_embed, rows, columns, antialias=False, offset=GRID_OFFSET)

    def view_tokens(self, images: Tensor, aux_layers: Sequence[int] = ()) -> ViewTokens:
        """The blocks below `joint_start` on images [B, S, 3, H, W]; every view for itself."""
        grid = images.shape[-2] // PATCH, images.shape[-1] // PATCH
        scenes = images.shape[:2]
        x = self.embedded(images.flatten(0, 1))
        describing = x[:, 0]
        taps = {}
        local, _ = self._ropes(grid, 1, x.device)
        for i in range(self.joint_start):
            describing = x[:, 0]
            x = self.blocks[i](x, self._rope(i, local))
            if i in self.config.out_layers or i in aux_layers:
                taps[i] = x.unflatten(0, scenes)
        return ViewTokens(x.unflatten(0, scenes), describing.unflatten(0, scenes), grid, taps)

    def joint(
        self,
        views: ViewTokens,
        camera_tokens: Tensor | None = None,
        strategy: str = "saddle_balanced",
        aux_layers: Sequence[int] = (),
    ) -> BackboneFeatures:
        """The blocks from `joint_start` on, and the final norm.

        aux_layers: of a chosen reference view, features of the blocks from alt_start - 1 on stay in the
        order with the reference first (as published).
        """
        config, grid = self.config, views.grid
        x = local_x = views.tokens
        batch, count = x.shape[:2]
        chooses = config.alt_start != -1 and count >= 3 and camera_tokens is None
        reference = reference_view(views.describing, strategy) if chooses else None
        order = None if reference is None else reference_first(reference, count)
        if order is not None:
            x = local_x = reordered(x, order)
        levels = {i: self._tapped(tap, tap) for i, tap in views.taps.items() if i in config.out_layers}
        aux = {i: self._aux(tap, grid) for i, tap in views.taps.items() if i in aux_layers}
        if order is not None and config.alt_start - 1 in aux:
            aux[config.alt_start - 1] = reordered(aux[config.alt_start - 1], order)
        if config.alt_start != -1:
            x = torch.cat([self._camera_tokens(batch, count, camera_tokens), x[:, :, 1:]], dim=2)
        local, everywhere = self._ropes(grid, count, x.device)
        for i in range(self.joint_start, config.depth):
            if i % 2:
                x = self.blocks[i](x.flatten(1, 2), self._rope(i, everywhere)).unflatten(1, (count, -1))
            else:
                x = local_x = self.blocks[i](x.flatten(0, 1), self._rope(i, local)).unflatten(0, (batch, count))
            if i in config.out_layers:
                tapped = self._tapped(local_x, x)
                levels[i] = tapped if order is None else restored(tapped, order)
            if i in aux_layers:
                aux[i] = self._aux(x, grid)
        taps = [levels[i] for i in config.out_layers]
        return BackboneFeatures([self._normalised(tap) for tap in taps], taps[-1][:, :, 0], grid, reference, aux)

    def _camera_tokens(self, batch: int, count: int, given: Tensor | None) -> Tensor:
        """[B, S, 1, C]: the given ones, or the learned ones of the first and of the other views."""
        if given is not None:
            return given[:, :, None]
        first, other = self.camera_token[:, :1], self.camera_token[:, 1:]
        return torch.cat([first, other.expand(-1, count - 1, -1)], dim=1)[:, :, None].expand(batch, -1, -1, -1)

    def _tapped(self, local_x: Tensor, x: Tensor) -> Tensor:
        return torch.cat([local_x, x], dim=-1) if self.config.cat_token else x

    def _normalised(self, tapped: Tensor) -> Tensor:
        """Patches of a tap; only the block's own output is normalised, not the local one beside it."""
        patches = tapped[:, :, 1:]
        if not self.config.cat_token:
            return self.norm(patches)  # type: ignore[no-any-return]
        local_x, x = patches.chunk(2, dim=-1)
        return torch.cat([local_x, self.norm(x)], dim=-1)

    def _aux(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        return self.norm(x[:, :, 1:]).unflatten(2, grid)  # type: ignore[no-any-return]

    def _rope(self, block: int, table: RopeTable) -> RopeTable | None:
        return table if self.config.rope_start != -1 and block >= self.config.rope_start else None

    def _ropes(self, grid: tuple[int, int], count: int, device: torch.device) -> tuple[RopeTable, RopeTable]:
        """Tables of local blocks (patches at their place) and of global ones (all patches at (1, 1))."""
        head_dim = self.config.embed_dim // self.config.num_heads
        positions = grid_positions(*grid, specials=1, device=device)
        local = rope_table(positions, head_dim)
        return local, rope_table(positions.clamp(max=1), head_dim).repeated(count)
