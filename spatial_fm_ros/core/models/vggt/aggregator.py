"""The trunk of VGGT: attention inside every frame and over all frames, in turn.

Wang et al., 'VGGT: Visual Geometry Grounded Transformer', CVPR 2025, section 3.2.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn

from spatial_fm_ros.core.models.vggt.config import VggtConfig
from spatial_fm_ros.core.models.vit.block import Block
from spatial_fm_ros.core.models.vit.dino import DinoV2, fresh_tokens
from spatial_fm_ros.core.models.vit.positions import grid_positions
from spatial_fm_ros.core.models.vit.rope import rope_table

EPS = 1e-5
LAYER_SCALE = 0.01
#: ImageNet statistics, as DINOv2 was trained.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Aggregator(nn.Module):
    """Images to tokens, in two steps so that the first can be kept: `patch_tokens` looks at every frame
    alone, `forward` relates the frames of a window."""

    def __init__(self, config: VggtConfig) -> None:
        super().__init__()
        dim, registers = config.embed_dim, config.num_register_tokens
        self.rope_base, self.head_dim = config.rope_freq, dim // config.aa_num_heads
        #: Tokens of a frame before its patches: the camera's and the registers.
        self.specials = 1 + registers
        # Index 0 of dimension 1 is for the first frame of a scene, index 1 for all others.
        self.camera_token = fresh_tokens(1, 2, 1, dim)
        self.register_token = fresh_tokens(1, 2, registers, dim)
        self.patch_embed = DinoV2(
            config.img_size,
            config.patch_size,
            dim,
            config.dino_depth,
            config.dino_num_heads,
            config.dino_mlp_ratio,
            registers,
        )

        def blocks() -> nn.ModuleList:
            return nn.ModuleList(
                Block(
                    dim,
                    config.aa_num_heads,
                    eps=EPS,
                    mlp_ratio=config.aa_mlp_ratio,
                    qk_norm=True,
                    layer_scale=LAYER_SCALE,
                )
                for _ in range(config.aa_depth)
            )

        self.frame_blocks = blocks()
        self.global_blocks = blocks()

    def patch_tokens(self, images: Tensor) -> Tensor:
        """Images [B, S, 3, H, W] in [0, 1] to patch tokens [B, S, H/patch * W/patch, C], frame by frame."""
        mean, std = images.new_tensor(MEAN), images.new_tensor(STD)
        normalised = (images - mean[:, None, None]) / std[:, None, None]
        return self.patch_embed(normalised.flatten(0, 1)).unflatten(0, images.shape[:2])  # type: ignore[no-any-return]

    def forward(self, patch_tokens: Tensor, grid: tuple[int, int], taps: Collection[int]) -> dict[int, Tensor]:
        """The outputs of the tapped pairs of blocks, {layer: [B, S, specials + rows * columns, 2C]}.

        The first C channels are the frame block's output, the last C the global block's, in the dtype of the blocks'
        large weights. `grid` = (rows, columns) of the patch tokens [B, S, rows * columns, C].
        """
        batch, frames = patch_tokens.shape[:2]
        special = torch.cat([self.camera_token, self.register_token], dim=2)
        special = torch.cat([special[:, :1], special[:, 1:].expand(-1, frames - 1, -1, -1)], dim=1)
        x = torch.cat([special.expand(batch, -1, -1, -1).to(patch_tokens.dtype), patch_tokens], dim=2)

        positions = grid_positions(*grid, self.specials, x.device)
        in_frame = rope_table(positions, self.head_dim, self.rope_base)
        in_scene = in_frame.repeated(frames)  # frames are told apart by their content alone
        # Tokens are no more exact than the products they came from.
        kept = self.frame_blocks.get_parameter("0.attn.qkv.weight").dtype
        tapped = {}
        for layer, (frame_block, global_block) in enumerate(zip(self.frame_blocks, self.global_blocks, strict=True)):
            x = own = frame_block(x.flatten(0, 1), in_frame).unflatten(0, (batch, frames))  # the old x goes now
            x = global_block(own.flatten(1, 2), in_scene).unflatten(1, (frames, -1))
            if layer in taps:
                tapped[layer] = torch.cat([own.to(kept), x.to(kept)], dim=-1)
        return tapped
