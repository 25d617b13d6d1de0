"""The published variants of Depth Anything 3 (Lin et al., 2025) and the configuration that describes one.

The keys of a configuration are those of the parity fixtures; `kind` is "anyview" (several views, cameras,
dual head), "metric" (one view at a time, depth and sky) or "nested" (one of each).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from spatial_fm_ros.core.errors import ConfigError

#: Side of a patch in pixels, in every variant.
PATCH = 14


@dataclass(frozen=True)
class NetworkConfig:
    """One network.

    img_size: the learned position grid has (img_size / 14)^2 cells. alt_start, qknorm_start, rope_start:
    block from which views attend to each other, queries and keys are normalised, positions are
    rotated in; -1 = never. out_layers: the four blocks (from 0) that the head reads. cat_token: the head
    reads the last local block's output beside each of them. features, out_channels: widths of the head.
    gs: the published file may hold a Gaussian head, which is not built.
    Raises ConfigError for numbers that contradict each other.
    """

    embed_dim: int
    depth: int
    num_heads: int
    out_layers: tuple[int, ...]
    features: int
    out_channels: tuple[int, ...]
    kind: str = "anyview"
    img_size: int = 518
    ffn: str = "mlp"
    alt_start: int = -1
    qknorm_start: int = -1
    rope_start: int = -1
    cat_token: bool = False
    gs: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "out_layers", tuple(self.out_layers))
        object.__setattr__(self, "out_channels", tuple(self.out_channels))
        anyview = self.kind == "anyview"
        layers = self.out_layers
        ascending = len(layers) == 4 and list(layers) == sorted(set(layers)) and layers[0] >= 0
        checks = [
            (self.kind in ("anyview", "metric"), f"kind is anyview, metric or nested, got '{self.kind}'"),
            (self.ffn in ("mlp", "swiglu"), f"ffn is mlp or swiglu, got '{self.ffn}'"),
            (self.img_size >= PATCH, f"img_size is at least {PATCH}, got {self.img_size}"),
            (
                self.num_heads > 0 and self.embed_dim > 0 and self.embed_dim % (4 * self.num_heads) == 0,
                f"embed_dim is a multiple of 4 * num_heads, got {self.embed_dim} and {self.num_heads}",
            ),
            (
                ascending and layers[-1] < self.depth,
                f"out_layers are four ascending blocks below depth {self.depth}, got {list(layers)}",
            ),
            (
                len(self.out_channels) == 4 and all(c > 0 and c % 4 == 0 for c in self.out_channels),
                f"out_channels are four positive multiples of 4, got {list(self.out_channels)}",
            ),
            (self.features > 0 and self.features % 8 == 0, f"features is a multiple of 8, got {self.features}"),
            (
                1 <= self.alt_start < self.depth if anyview else self.alt_start == -1,
                f"alt_start is from 1 to depth - 1 (anyview) or -1 (metric), got {self.alt_start}",
            ),
        ]
        wrong = [message for holds, message in checks if not holds]
        if wrong:
            raise ConfigError(f"This Depth Anything 3 configuration cannot be built: {'; '.join(wrong)}.")

    @property
    def head_dim_in(self) -> int:
        return self.embed_dim * (2 if self.cat_token else 1)


@dataclass(frozen=True)
class NestedConfig:
    """An any-view network whose depth a metric network brings to metres."""

    anyview: NetworkConfig
    metric: NetworkConfig


def _anyview(dim: int, depth: int, heads: int, alt: int, layers: tuple[int, ...], features: int) -> NetworkConfig:
    channels = (256, 512, 1024, 1024) if features == 256 else tuple(features * 3 // 4 * 2**k for k in range(4))
    return NetworkConfig(
        embed_dim=dim,
        depth=depth,
        num_heads=heads,
        out_layers=layers,
        features=features,
        out_channels=channels,
        alt_start=alt,
        qknorm_start=alt,
        rope_start=alt,
        cat_token=True,
    )


_METRIC = NetworkConfig(
    embed_dim=1024,
    depth=24,
    num_heads=16,
    out_layers=(4, 11, 17, 23),
    features=256,
    out_channels=(256, 512, 1024, 1024),
    kind="metric",
)
_GIANT = replace(_anyview(1536, 40, 24, 13, (19, 27, 33, 39), 256), ffn="swiglu", gs=True)

PRESETS: dict[str, NetworkConfig | NestedConfig] = {
    "small": _anyview(384, 12, 6, 4, (5, 7, 9, 11), 64),
    "base": _anyview(768, 12, 12, 4, (5, 7, 9, 11), 128),
    "large": _anyview(1024, 24, 16, 8, (11, 15, 19, 23), 256),
    "giant": _GIANT,
    "metric-large": _METRIC,
    "mono-large": _METRIC,
    "nested": NestedConfig(_GIANT, _METRIC),
}

#: `model_name` in the config.json of the hub's repositories.
HUB_NAMES = {
    "da3-small": "small",
    "da3-base": "base",
    "da3-large": "large",
    "da3-giant": "giant",
    "da3metric-large": "metric-large",
    "da3mono-large": "mono-large",
    "da3nested-giant-large": "nested",
}


def configuration(config: Mapping[str, Any] | str) -> NetworkConfig | NestedConfig:
    """A preset by its name (or its name on the hub), or the configuration of a mapping.

    A mapping holds the fields of NetworkConfig, or kind "nested" with the mappings `anyview` and
    `metric`. Raises ConfigError for unknown names, unknown or missing keys and impossible numbers.
    """
    if isinstance(config, str):
        name = HUB_NAMES.get(config, config)
        if name not in PRESETS:
            raise ConfigError(f"Unknown Depth Anything 3 variant '{config}'; expected one of {', '.join(PRESETS)}.")
        return PRESETS[name]
    if config.get("kind") == "nested":
        _check_keys(config, {"kind", "anyview", "metric"}, {"anyview", "metric"})
        branches = configuration(config["anyview"]), configuration(config["metric"])
        anyview, metric = branches
        if not isinstance(anyview, NetworkConfig) or not isinstance(metric, NetworkConfig):
            raise ConfigError("A nested configuration holds two plain networks, not another nested one.")
        if (anyview.kind, metric.kind) != ("anyview", "metric"):
            raise ConfigError(
                f"A nested configuration needs kinds anyview and metric, got {anyview.kind} and {metric.kind}."
            )
        return NestedConfig(anyview, metric)
    known = {field.name for field in fields(NetworkConfig)}
    _check_keys(config, known, {"embed_dim", "depth", "num_heads", "out_layers", "features", "out_channels"})
    return NetworkConfig(**config)


def _check_keys(config: Mapping[str, Any], known: set[str], needed: set[str]) -> None:
    if unknown := sorted(set(config) - known):
        raise ConfigError(
            f"Unknown key(s) {', '.join(unknown)} in a Depth Anything 3 configuration; "
            f"expected {', '.join(sorted(known))}."
        )
    if missing := sorted(needed - set(config)):
        raise ConfigError(f"A Depth Anything 3 configuration needs {', '.join(missing)}, or name a preset.")
