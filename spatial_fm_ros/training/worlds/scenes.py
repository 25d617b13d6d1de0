"""The kinds of scenes a batch is made of."""

from __future__ import annotations

import torch
from torch import Tensor

from spatial_fm_ros.training.worlds.layout import Layout
from spatial_fm_ros.training.worlds.layout_indoor import indoor
from spatial_fm_ros.training.worlds.layout_outdoor import field, street
from spatial_fm_ros.training.worlds.random import Draw

#: Kinds of scenes and their shares.
SCENES = {"room": 0.34, "hall": 0.18, "table": 0.16, "street": 0.16, "field": 0.16}


def draw_layout(draw: Draw, batch: int) -> tuple[Layout, Tensor]:
    """A layout of every scene and its kind int64 [B] (place in SCENES)."""
    kind = draw.weighted(list(SCENES.values()), batch)
    every = [indoor(draw, batch, kind), street(draw, batch), field(draw, batch)]
    which = torch.tensor([0, 0, 0, 1, 2], device=draw.device)[kind]
    scenes = torch.arange(batch, device=draw.device)
    merged = {
        name: torch.stack([getattr(layout, name) for layout in every])[which, scenes]
        for name in Layout.__dataclass_fields__
    }
    return Layout(**merged), kind
