"""Whether a checkpoint fits the network that it seems to be made for."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from spatial_fm_ros.core.models import depth_anything_3, vggt
from spatial_fm_ros.core.models.weights.identify import Architecture, Shape, identify
from spatial_fm_ros.core.models.weights.licences import VGGT
from spatial_fm_ros.core.models.weights.load import check


def fit(shapes: Mapping[str, Shape]) -> tuple[Architecture, str]:
    """What the tensors are, and how they fit, in words. Raises ModelError where keys or shapes are wrong."""
    found = identify(shapes)
    if not found.model:
        return found, "nothing here"
    if not found.variant:
        return found, "only a network built with its own settings, not a published one"
    with torch.device("meta"):
        network = vggt.build(heads=found.heads) if found.model == VGGT else depth_anything_3.build(found.variant)
    check(network, shapes)
    return found, "every name and shape is as published"
