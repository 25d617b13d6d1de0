"""Depth Anything 3 (Lin et al., 'Depth Anything 3: Recovering the Visual Space from Any Views', 2025).

Written from a description of the published networks; takes their weights. Plain PyTorch that can be trained and
is the oracle of faster twins. No buffers, and nothing in constructors depends on values, so a network may be
built on the meta device and be given its weights later.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spatial_fm_ros.core.models.depth_anything_3.nested import Nested
from spatial_fm_ros.core.models.depth_anything_3.network import AnyView, Metric
from spatial_fm_ros.core.models.depth_anything_3.outputs import Output
from spatial_fm_ros.core.models.depth_anything_3.presets import PRESETS, NestedConfig, configuration

__all__ = ["PRESETS", "AnyView", "Metric", "Nested", "Output", "build"]


def build(config: Mapping[str, Any] | str) -> AnyView | Metric | Nested:
    """A network with random weights: a preset by name (small, base, large, giant, metric-large, mono-large, nested),
    or a mapping as `presets.configuration` takes it. Raises ConfigError."""
    settings = configuration(config)
    if isinstance(settings, NestedConfig):
        return Nested(settings)
    return AnyView(settings) if settings.kind == "anyview" else Metric(settings)
