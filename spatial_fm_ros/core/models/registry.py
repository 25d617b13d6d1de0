"""Models by name. A new architecture adds one line here; its module is imported only when asked for."""

from __future__ import annotations

from importlib import import_module

from spatial_fm_ros.core.config import ModelConfig
from spatial_fm_ros.core.errors import ModelError
from spatial_fm_ros.core.models.base import SpatialModel
from spatial_fm_ros.core.threads import wait_passively

MODELS: dict[str, str] = {
    "geometric": "spatial_fm_ros.core.models.geometric.model:GeometricModel",
    "vggt": "spatial_fm_ros.core.models.vggt.adapter:VggtModel",
    "depth_anything_3": "spatial_fm_ros.core.models.depth_anything_3.adapter:DepthAnything3Model",
    "nano": "spatial_fm_ros.core.models.nano.adapter:NanoModel",
    "hybrid": "spatial_fm_ros.core.models.hybrid.model:HybridModel",
    "oracle": "spatial_fm_ros.core.models.oracle:OracleModel",
}


def create_model(config: ModelConfig) -> SpatialModel:
    """The model `config.name`, not loaded yet. Raises ModelError for an unknown name."""
    if config.name not in MODELS:
        raise ModelError(f"Unknown model '{config.name}'; expected one of {', '.join(sorted(MODELS))}.")
    wait_passively()
    module, _, cls = MODELS[config.name].partition(":")
    return getattr(import_module(module), cls)(config)  # type: ignore[no-any-return]
