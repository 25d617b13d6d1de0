"""The nano network: a small VGGT whose patches are told the camera's rays."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.models.nano.rays import RayEmbedding
from spatial_fm_ros.core.models.vggt.config import VggtConfig
from spatial_fm_ros.core.models.vggt.network import Vggt, VggtOutput

HEADS = ("camera", "depth", "point")
#: The sizes that ship, in the terms of VggtConfig: 17.7 million parameters with all heads.
SETTINGS: dict[str, Any] = {
    "img_size": 224,
    "patch_size": 14,
    "embed_dim": 256,
    "num_register_tokens": 4,
    "dino_depth": 4,
    "dino_num_heads": 4,
    "aa_depth": 5,
    "aa_num_heads": 4,
    "camera_trunk_depth": 1,
    "camera_num_heads": 8,
    "dpt_features": 64,
    "dpt_out_channels": [48, 64, 96, 128],
    "intermediate_layer_idx": [1, 2, 3, 4],
}


class Nano(Vggt):
    """A VGGT of another size with `ray_embed`. Intrinsics may be known of all, some or none of the views."""

    def __init__(self, config: VggtConfig, heads: Collection[str] = HEADS) -> None:
        super().__init__(config, heads)
        self.ray_embed = RayEmbedding(config.embed_dim, config.patch_size)

    def forward(  # cameras in the place of query points: it does not track
        self,
        images: Tensor,
        K: Tensor | None = None,
        *,
        heads: Collection[str] | None = None,
        frames_per_chunk: int | None = None,
    ) -> VggtOutput:
        """As Vggt.forward; K [B, S, 3, 3] or [S, 3, 3] (None, or not finite: unknown), pixel centres at integers."""
        images = self._checked(images)
        size = (images.shape[-2], images.shape[-1])
        return self.relate(self.embed(images), size, K, heads=heads, frames_per_chunk=frames_per_chunk)

    def relate(
        self,
        patch_tokens: Tensor,
        size: tuple[int, int],
        K: Tensor | None = None,
        *,
        heads: Collection[str] | None = None,
        frames_per_chunk: int | None = None,
    ) -> VggtOutput:
        """The rest of `forward` from the patch tokens of images of `size` = (H, W)."""
        batch, frames = patch_tokens.shape[:2]
        if K is None:
            K = torch.full((batch, frames, 3, 3), float("nan"))
        K = K[None] if K.ndim == 3 else K
        if K.shape != (batch, frames, 3, 3):
            raise InputError(f"Cameras of {frames} views need K [{batch}, {frames}, 3, 3], got {list(K.shape)}.")
        patch = self.config.patch_size
        told = self.ray_embed(K.to(patch_tokens), (int(size[0]) // patch, int(size[1]) // patch))
        # Tokens of another size are left as they are: Vggt says what is wrong with them.
        if told.shape == patch_tokens.shape:
            patch_tokens = patch_tokens + told
        return super().relate(patch_tokens, size, heads=heads, frames_per_chunk=frames_per_chunk)


def build(config: Mapping[str, Any] | None = None, heads: Collection[str] = HEADS) -> Nano:
    """A nano with fresh weights of the sizes in `config` (fields of VggtConfig; those left out are nano's).

    Raises ConfigError for unknown settings and ModelError for unknown heads.
    """
    return Nano(VggtConfig.read({**SETTINGS, **(config or {})}), heads)
