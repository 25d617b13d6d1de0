"""VGGT (Wang et al., 'VGGT: Visual Geometry Grounded Transformer', CVPR 2025), written from its description.

Plain PyTorch that can be trained and loads the published checkpoints; the oracle of every faster path.
"""

from spatial_fm_ros.core.models.vggt.config import VggtConfig
from spatial_fm_ros.core.models.vggt.network import HEADS, Vggt, VggtOutput, build

__all__ = ["HEADS", "Vggt", "VggtConfig", "VggtOutput", "build"]
