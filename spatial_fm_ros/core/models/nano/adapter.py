"""Model `nano`: the small network on windows of keyframes, with the cameras it is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from spatial_fm_ros.core.config import ModelConfig
from spatial_fm_ros.core.errors import ConfigError, ModelError
from spatial_fm_ros.core.models.base import Supports
from spatial_fm_ros.core.models.foundation.features import Features
from spatial_fm_ros.core.models.foundation.images import Canvas
from spatial_fm_ros.core.models.nano.network import Nano, build
from spatial_fm_ros.core.models.vggt.adapter import VggtModel
from spatial_fm_ros.core.models.vggt.config import VggtConfig
from spatial_fm_ros.core.models.vggt.network import VggtOutput
from spatial_fm_ros.core.types import Keyframe

#: The weights that come with the package lie here.
WEIGHTS = Path(__file__).parent / "weights" / "nano.safetensors"
#: Sizes for `checkpoint: random:VARIANT`; tiny runs anywhere in milliseconds.
VARIANTS: dict[str, dict[str, Any]] = {
    "": {},
    "tiny": {
        "embed_dim": 64,
        "dino_depth": 1,
        "dino_num_heads": 2,
        "aa_num_heads": 2,
        "camera_num_heads": 2,
        "dpt_features": 16,
        "dpt_out_channels": [8, 12, 16, 20],
    },
}


class NanoModel(VggtModel):
    """Cameras and depth, or points, in the frame of the window's first camera, up to scale.

    Known intrinsics of any keyframes are told to the network. `checkpoint` empty: the package's own weights.
    """

    name = "nano"
    supports = Supports(min_views=1, max_views=24, intrinsics=True)
    trained_width = 224
    margin = 0.5

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config if config.checkpoint else replace(config, checkpoint=str(WEIGHTS)))

    def load(self) -> None:
        if self.config.checkpoint == str(WEIGHTS) and not WEIGHTS.is_file():
            raise ModelError(
                f"The model 'nano' has no weights here: {WEIGHTS.name} is not in the package yet. Train them "
                "(docs/training.md) and give the file as model.checkpoint, try speed and memory with "
                "model.checkpoint random, or take model:=geometric, which needs none."
            )
        super().load()

    def build(self, settings: Mapping[str, Any], variant: str) -> Nano:
        known = {field.name for field in fields(VggtConfig)}
        given = {key: value for key, value in settings.items() if key in known}
        if not given:
            if variant not in VARIANTS:
                raise ConfigError(f"Unknown nano variant '{variant}'; expected none or tiny.")
            given = VARIANTS[variant]
        return build(given, heads=("camera", self._dense_head))

    def run_network(
        self, network: nn.Module, features: Features, canvas: Canvas, keyframes: Sequence[Keyframe]
    ) -> VggtOutput:
        width, height = canvas.size
        known = [
            np.full((3, 3), np.nan) if keyframe.camera is None else at.K_on_canvas(keyframe.camera)
            for keyframe, at in zip(keyframes, canvas.placements, strict=True)
        ]
        return cast(Nano, network).relate(features[0][None], (height, width), torch.from_numpy(np.stack(known)))
