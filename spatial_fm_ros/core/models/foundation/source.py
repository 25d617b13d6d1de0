"""From `model.checkpoint` to a network with weights on the device."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from spatial_fm_ros.core.config import ModelConfig
from spatial_fm_ros.core.errors import ModelError
from spatial_fm_ros.core.models.vit.fast import dtype_policy, optimised
from spatial_fm_ros.core.models.weights.files import read
from spatial_fm_ros.core.models.weights.identify import expect
from spatial_fm_ros.core.models.weights.licences import published
from spatial_fm_ros.core.models.weights.load import fill
from spatial_fm_ros.core.models.weights.random import randomise
from spatial_fm_ros.core.models.weights.source import resolve
from spatial_fm_ros.core.types import Prediction

#: `checkpoint: random` or `random:VARIANT`.
RANDOM = "random"
MEANINGLESS = "RANDOM WEIGHTS: nothing of this says anything about the world"
_SEED = 0

#: Builds a network from the settings in a checkpoint's config.json (without one, `model_name` where the hub's id tells
#: it), and the variant's name (as its tensors or the user's `random:VARIANT` say, may be empty).
Build = Callable[[Mapping[str, Any], str], nn.Module]


@dataclass(frozen=True, eq=False)
class Weights:
    """A network ready to run. words: where its weights come from, for people."""

    network: nn.Module
    words: str
    random: bool

    def marked(self, prediction: Prediction) -> Prediction:
        """The prediction; with random weights its note says so first, and its metres are none."""
        if not self.random:
            return prediction
        note = f"{MEANINGLESS}; {prediction.note}" if prediction.note else MEANINGLESS
        return replace(prediction, note=note, metric=False)


def load_network(model: str, config: ModelConfig, device: torch.device, build: Build) -> Weights:
    """The network of `config.checkpoint`, built without memory of its own and filled on the device.

    Raises ModelError (what is wrong with file, download or fit, and the remedy) and ConfigError.
    """
    dtype_of = dtype_policy(pick_precision(config.dtype, device))
    kind, _, variant = config.checkpoint.partition(":")
    if kind == RANDOM:
        with torch.device("meta"):
            network = build({"model_name": variant}, variant)
        randomise(network, _SEED, device, dtype_of)  # the plain layers: it draws by their kind
        return Weights(optimised(network), f"{MEANINGLESS} ({variant or 'default size'})", random=True)
    file = resolve(config.checkpoint, model, config.sha256)
    name = published("/".join(file.source.partition("@")[0].split("/")[:2]))
    checkpoint = read(file.path)
    found = expect(model, checkpoint.shapes, file.path)
    with torch.device("meta"):
        settings = _settings(file.path.parent / "config.json")
        network = optimised(build({"model_name": name.variant, **settings} if name else settings, found.variant))
    fill(network, checkpoint.tensors, device, dtype_of)
    licence = file.licence.sentence if file.licence else "licence not known"
    return Weights(network, f"{file.source} ({licence})", random=False)


def _settings(path: Path) -> Mapping[str, Any]:
    """The config.json beside a checkpoint; empty where there is none. Raises ModelError for one that is no JSON."""
    try:
        settings = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ModelError(f"The settings {path} beside the checkpoint cannot be read: {error}.") from error
    return settings if isinstance(settings, Mapping) else {}


def pick_precision(name: str, device: torch.device) -> torch.dtype:
    """The dtype of `model.dtype`; auto is bfloat16 on a GPU that computes in it, float32 elsewhere."""
    if name != "auto":
        return {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}[name]
    return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float32
