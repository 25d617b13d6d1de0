"""The sizes of a VGGT network; the defaults are those of VGGT-1B."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from spatial_fm_ros.core.errors import ConfigError

#: Levels every dense head fuses.
LEVELS = 4


@dataclass(frozen=True)
class VggtConfig:
    """Sizes by which every weight's shape is known. Raises ConfigError where they contradict each other."""

    img_size: int = 518  # of the learned position embedding
    patch_size: int = 14
    embed_dim: int = 1024
    num_register_tokens: int = 4
    dino_depth: int = 24
    dino_num_heads: int = 16
    dino_mlp_ratio: float = 4.0
    aa_depth: int = 24  # pairs of a frame block and a global block
    aa_num_heads: int = 16
    aa_mlp_ratio: float = 4.0
    rope_freq: float = 100.0
    camera_trunk_depth: int = 4
    camera_num_heads: int = 16
    dpt_features: int = 256
    dpt_out_channels: tuple[int, ...] = (256, 512, 1024, 1024)
    intermediate_layer_idx: tuple[int, ...] = (4, 11, 17, 23)  # tapped pairs, from 0
    track_features: int = 128
    track_iters: int = 4
    track_stride: int = 2
    track_corr_levels: int = 7
    track_corr_radius: int = 4
    track_hidden_size: int = 384
    track_depth: int = 6

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            numbers = value if isinstance(value, tuple) else (value,)
            smallest = 0 if name in ("intermediate_layer_idx", "num_register_tokens") else 1
            whole = not isinstance(getattr(VggtConfig, name), float)
            if not all(_is_number(n, whole) and n >= smallest for n in numbers):
                kind = "whole numbers" if whole else "numbers"
                raise ConfigError(f"VGGT's '{name}' needs {kind} of at least {smallest}, got {value!r}.")
        for name in ("dpt_out_channels", "intermediate_layer_idx"):
            if not isinstance(getattr(self, name), tuple) or len(getattr(self, name)) != LEVELS:
                raise ConfigError(f"VGGT's '{name}' needs {LEVELS} whole numbers, got {getattr(self, name)!r}.")
        if max(self.intermediate_layer_idx) >= self.aa_depth:
            raise ConfigError(
                f"VGGT's 'intermediate_layer_idx' taps layers {list(self.intermediate_layer_idx)}, but "
                f"'aa_depth' {self.aa_depth} gives layers 0 to {self.aa_depth - 1}."
            )
        for size, divisor, why in (
            ("img_size", self.patch_size, "patch_size"),
            ("embed_dim", self.dino_num_heads, "dino_num_heads"),
            ("embed_dim", 4 * self.aa_num_heads, "4 * aa_num_heads: RoPE turns pairs of channels on two axes"),
            ("embed_dim", self.camera_num_heads, "camera_num_heads"),
            ("dpt_features", 8, "8: half of them carry a sine map"),
            ("track_features", 4, "4"),
            ("track_hidden_size", 8, "8, the heads of the tracker"),
        ):
            if getattr(self, size) % divisor:
                raise ConfigError(f"VGGT's '{size}' {getattr(self, size)} has to be a multiple of {divisor} ({why}).")
        if any(channels % 4 for channels in self.dpt_out_channels):
            raise ConfigError(
                f"VGGT's 'dpt_out_channels' have to be multiples of 4 (sine map), got {list(self.dpt_out_channels)}."
            )

    @classmethod
    def read(cls, values: Mapping[str, Any] | None) -> VggtConfig:
        """From the keys of a configuration file. Raises ConfigError for an unknown key or a wrong value."""
        given: dict[str, Any] = dict(values or {})
        known = [f.name for f in fields(cls)]
        unknown = sorted(set(given) - set(known))
        if unknown:
            raise ConfigError(f"Unknown VGGT settings {', '.join(unknown)}; expected some of {', '.join(known)}.")
        for name, value in given.items():
            given[name] = tuple(value) if isinstance(value, list) else value
        return cls(**given)


def _is_number(value: object, whole: bool) -> bool:
    return isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
