"""Everything that decides a training run; written beside its state, so that it can go on elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from spatial_fm_ros.core.errors import ConfigError, InputError

Size = tuple[int, int]


@dataclass(frozen=True)
class Settings:
    """Of one run. Sizes are (height, width) with their shares; `views_per_step` images make a step, in scenes of
    `fewest_views` to `most_views`, the upper bound growing over the first `views_grow` share of the run. The first
    `coarse` share of the run sees images of half the size, and so many more of them that the pixels stay as many.

    network: fields of VggtConfig that differ from nano's. repeat: so many batches again and again; 0 = always new ones.
    known_rays: share of scenes whose cameras are told. Learning rate: warm-up, then a cosine down to `last_lr` of it.
    """

    seed: int = 1
    steps: int = 10_000
    network: dict[str, Any] = field(default_factory=dict)
    sizes: tuple[tuple[Size, float], ...] = (
        ((168, 224), 0.6),
        ((224, 168), 0.12),
        ((126, 224), 0.16),
        ((168, 168), 0.12),
    )
    views_per_step: int = 192
    fewest_views: int = 2
    most_views: int = 12
    views_grow: float = 0.3
    coarse: float = 0.4
    known_rays: float = 0.7
    textures: int = 96
    texture_size: int = 256
    repeat: int = 0
    lr: float = 6e-4
    last_lr: float = 0.01
    warmup: int = 500
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.05
    clip: float = 1.0
    ema: float = 0.999
    camera_weight: float = 5.0
    match_weight: float = 0.3
    log_every: int = 20
    check_every: int = 500
    check_scenes: int = 24
    check_views: int = 6
    bf16: bool = True
    compile: bool = False

    def __post_init__(self) -> None:
        patch = int(self.network.get("patch_size", 14))
        for (height, width), share in self.sizes:
            if height % patch or width % patch or min(height, width) < patch or share <= 0:
                raise ConfigError(
                    f"Training sizes need sides that are multiples of {patch} and shares above 0, got "
                    f"{height}x{width} with {share}."
                )
        if not 1 <= self.fewest_views <= self.most_views <= self.views_per_step or self.steps < 1:
            raise ConfigError(
                f"A run needs 1 <= fewest_views <= most_views <= views_per_step and a step, got {self.fewest_views}, "
                f"{self.most_views}, {self.views_per_step} and {self.steps} steps."
            )

    @staticmethod
    def read(values: Mapping[str, Any]) -> Settings:
        """From JSON. Raises ConfigError for unknown names."""
        known = {f.name for f in fields(Settings)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ConfigError(
                f"Unknown training settings {', '.join(unknown)}; expected some of {', '.join(sorted(known))}."
            )
        given = dict(values)
        if "sizes" in given:
            given["sizes"] = tuple((tuple(size), float(share)) for size, share in given["sizes"])
        if "betas" in given:
            given["betas"] = tuple(given["betas"])
        return Settings(**given)

    @staticmethod
    def load(path: Path) -> Settings:
        """Raises InputError where the file is missing or no settings."""
        try:
            return Settings.read(json.loads(path.read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise InputError(f"{path} holds no training settings ({error}); start a new run.") from error

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1) + "\n"


#: `smoke` learns one scene by heart on a processor in a minute; `small` learns from a stream of them there, slowly.
PRESETS: dict[str, Settings] = {
    "nano": Settings(),
    "small": Settings(
        network={
            "embed_dim": 128,
            "dino_depth": 2,
            "dino_num_heads": 2,
            "aa_depth": 4,
            "aa_num_heads": 2,
            "camera_num_heads": 4,
            "dpt_features": 32,
            "dpt_out_channels": [24, 32, 48, 64],
            "intermediate_layer_idx": [0, 1, 2, 3],
        },
        sizes=(((84, 112), 1.0),),
        views_per_step=12,
        most_views=4,
        coarse=0.0,
        textures=48,
        texture_size=128,
        warmup=100,
        lr=1e-3,
        check_every=200,
        check_scenes=12,
        check_views=4,
        bf16=False,
    ),
    "smoke": Settings(
        seed=13,
        steps=120,
        network={
            "embed_dim": 64,
            "dino_depth": 1,
            "dino_num_heads": 2,
            "aa_depth": 4,
            "aa_num_heads": 2,
            "camera_num_heads": 4,
            "dpt_features": 16,
            "dpt_out_channels": [16, 16, 24, 32],
            "intermediate_layer_idx": [0, 1, 2, 3],
        },
        sizes=(((56, 70), 1.0),),
        views_per_step=3,
        fewest_views=3,
        most_views=3,
        coarse=0.0,
        textures=16,
        texture_size=64,
        repeat=1,
        known_rays=1.0,
        warmup=10,
        lr=2e-3,
        weight_decay=0.0,
        ema=0.9,
        log_every=10,
        check_every=1000,
        check_scenes=1,
        check_views=3,
        bf16=False,
    ),
}


def preset(name: str, **changes: Any) -> Settings:
    """A preset with some settings changed. Raises ConfigError for an unknown one."""
    if name not in PRESETS:
        raise ConfigError(f"Unknown training preset '{name}'; expected one of {', '.join(PRESETS)}.")
    return replace(PRESETS[name], **changes)
