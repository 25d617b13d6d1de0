"""Spatial foundation models on ROS 2: images in, a metric map out.

The public names are kept stable; README.md shows a program that uses them.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import extend_path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spatial_fm_ros.core.config import Config
    from spatial_fm_ros.core.config_files import load_config
    from spatial_fm_ros.core.errors import SpatialFMError
    from spatial_fm_ros.core.io.cloud_files import read_cloud, read_map, write_cloud, write_map
    from spatial_fm_ros.core.pipeline import Pipeline
    from spatial_fm_ros.evaluation.tum import read_tum, write_tum
    from spatial_fm_ros.sources.base import SourceOptions
    from spatial_fm_ros.sources.open_source import open_source

# Run from the checkout, this folder hides the built package; its generated msg and srv are found all the same.
__path__ = extend_path(__path__, __name__)

#: Public name -> module that has it; imported when it is first used, for torch takes seconds.
_PUBLIC = {
    "Config": "core.config",
    "Pipeline": "core.pipeline",
    "SourceOptions": "sources.base",
    "SpatialFMError": "core.errors",
    "load_config": "core.config_files",
    "open_source": "sources.open_source",
    "read_cloud": "core.io.cloud_files",
    "read_map": "core.io.cloud_files",
    "read_tum": "evaluation.tum",
    "write_cloud": "core.io.cloud_files",
    "write_map": "core.io.cloud_files",
    "write_tum": "evaluation.tum",
}
__all__ = [
    "Config", "Pipeline", "SourceOptions", "SpatialFMError", "load_config", "open_source", "read_cloud", "read_map",
    "read_tum", "write_cloud", "write_map", "write_tum",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    value = getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
