"""Model `vggt`: VGGT on windows of keyframes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, cast

import torch
from torch import Tensor, nn

from spatial_fm_ros.core.errors import ConfigError
from spatial_fm_ros.core.models.base import Supports
from spatial_fm_ros.core.models.foundation.confidence import HALF_BY_LOSS
from spatial_fm_ros.core.models.foundation.features import Features
from spatial_fm_ros.core.models.foundation.images import Canvas
from spatial_fm_ros.core.models.foundation.model import FoundationModel
from spatial_fm_ros.core.models.foundation.output import NetworkOutput
from spatial_fm_ros.core.models.vggt.config import VggtConfig
from spatial_fm_ros.core.models.vggt.network import Vggt, VggtOutput, build
from spatial_fm_ros.core.models.vit import pose_encoding
from spatial_fm_ros.core.types import Keyframe

#: Sizes for `checkpoint: random:VARIANT`; tiny runs anywhere in milliseconds.
VARIANTS: dict[str, dict[str, Any]] = {
    "1B": {},
    "tiny": {
        "embed_dim": 64,
        "dino_depth": 2,
        "dino_num_heads": 2,
        "aa_depth": 4,
        "aa_num_heads": 2,
        "camera_trunk_depth": 1,
        "camera_num_heads": 2,
        "dpt_features": 16,
        "dpt_out_channels": [8, 12, 16, 20],
        "intermediate_layer_idx": [0, 1, 2, 3],
    },
}


class VggtModel(FoundationModel):
    """Cameras and depth, or points, in the frame of the window's first camera, up to scale."""

    name = "vggt"
    supports = Supports(min_views=1, max_views=64, intrinsics=True)
    trained_width = 518
    margin = 1.0  # white, as the published loader pads
    even_confidence = HALF_BY_LOSS

    @property
    def _dense_head(self) -> str:
        return "point" if self.config.foundation.points_from == "points" else "depth"

    def build(self, settings: Mapping[str, Any], variant: str) -> Vggt:
        known = {field.name for field in fields(VggtConfig)}
        given = {key: value for key, value in settings.items() if key in known}
        if not given:
            if variant not in ("", *VARIANTS):
                raise ConfigError(f"Unknown VGGT variant '{variant}'; expected one of {', '.join(VARIANTS)}.")
            given = VARIANTS.get(variant, {})
        return build(given, heads=("camera", self._dense_head))

    def embed(self, network: nn.Module, images: Tensor) -> Features:
        return (cast(Vggt, network).embed(images[None])[0],)

    def run_network(
        self, network: nn.Module, features: Features, canvas: Canvas, keyframes: Sequence[Keyframe]
    ) -> VggtOutput:
        """The network on the patch tokens of one window."""
        width, height = canvas.size
        return cast(Vggt, network).relate(features[0][None], (height, width))

    def relate(
        self, network: nn.Module, features: Features, canvas: Canvas, keyframes: Sequence[Keyframe]
    ) -> NetworkOutput:
        width, height = canvas.size
        found = self.run_network(network, features, canvas, keyframes)
        assert found.pose_enc is not None
        camera_from_world, K = pose_encoding.decode(found.pose_enc[0].double().cpu(), (height, width))
        world_from_camera = pose_encoding.inverse_pose(camera_from_world)
        K[:, :2, 2] -= 0.5  # to pixel centres at integers
        if found.depth is not None:
            depth, confidence = found.depth[0, ..., 0], found.depth_conf
        else:
            assert found.world_points is not None
            depth, confidence = _depth_of_points(found.world_points[0], camera_from_world), found.world_points_conf
        assert confidence is not None
        return NetworkOutput(
            world_from_camera=world_from_camera.numpy(),
            K=K.numpy(),
            depth=depth.float().cpu().numpy(),
            confidence=confidence[0].float().cpu().numpy(),
        )


def _depth_of_points(points: Tensor, camera_from_world: Tensor) -> Tensor:
    """Depth [N, h, w] along z of world points [N, h, w, 3] as the cameras [N, 3, 4] see them.

    Where a point lies across its pixel's ray is dropped: a depth image has one number a pixel.
    """
    pose = camera_from_world.to(points)
    return torch.einsum("nj,nhwj->nhw", pose[:, 2, :3], points) + pose[:, 2, 3, None, None]
