"""The tiny checkpoints laid out as the hub lays them out, and models made of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from spatial_fm_ros.core.config import FoundationConfig, ModelConfig
from spatial_fm_ros.core.models.registry import create_model
from spatial_fm_ros.core.types import Keyframe, Window

DATA = Path(__file__).parent / "data"
#: Tiny checkpoint -> its model.
TINY = {"vggt_tiny_a": "vggt", "da3_tiny_a": "depth_anything_3", "da3_tiny_b": "depth_anything_3"}
SMALL = FoundationConfig(image_width=84, edge_tolerance=0.0, drop_saturated=False)
MODELS = ("vggt", "depth_anything_3")


def source(name: str) -> tuple[Path, Path]:
    """Weights and settings of a copied tiny checkpoint."""
    folder = DATA / ("vggt" if name.startswith("vggt") else "da3")
    return folder / f"{name}_weights.safetensors", folder / f"{name}_config.json"


# Networks this small gain nothing from more threads.
torch.set_num_threads(2)


def loaded(name: str, checkpoint: object, foundation: FoundationConfig = SMALL, **changes):
    config = ModelConfig(name=name, checkpoint=str(checkpoint), device="cpu", threads=2, foundation=foundation)
    model = create_model(replace(config, **changes))
    model.load()
    return model


def window(frames: tuple[Keyframe, ...], index: int = 0, overlap: int = 0) -> Window:
    return Window(index, tuple(frames), overlap)
