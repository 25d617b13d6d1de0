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
from spatial_fm_ros.core.io.names import shown
from spatial_fm_ros.core.io.reading import read_text
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
_SETTINGS_BYTES = 2**20
#: Largest number that settings may hold: widths, sizes of images.
_LARGEST = 1_000_000
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
    settings = _settings(file.path.parent / "config.json", len(checkpoint.tensors))
    with torch.device("meta"):
        try:
            network = optimised(build({"model_name": name.variant, **settings} if name else settings, found.variant))
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RuntimeError) as error:
            raise ModelError(
                f"No network can be built with the settings beside {shown(file.path)} (config.json): {shown(error)}; "
                "get them again, or remove them where the weights are published ones."
            ) from error
    fill(network, checkpoint.tensors, device, dtype_of)
    licence = file.licence.sentence if file.licence else "licence not known"
    return Weights(network, f"{file.source} ({licence})", random=False)


def _settings(path: Path, tensors: int) -> Mapping[str, Any]:
    """The config.json beside a checkpoint of so many tensors; empty where there is none.

    Raises ModelError for one that is no JSON, and for numbers that no network of these tensors has.
    """
    if not path.exists():
        return {}
    try:
        settings = json.loads(read_text(path, "settings file", _SETTINGS_BYTES, ModelError))
        _bound(settings, path, tensors)
    except (ValueError, RecursionError) as error:
        raise ModelError(
            f"The settings {shown(path)} beside the checkpoint cannot be read: {shown(error)}; expected JSON."
        ) from error
    return settings if isinstance(settings, Mapping) else {}


def _bound(value: Any, path: Path, tensors: int, key: str = "") -> None:
    """A network of 10^12 blocks, or blocks as wide, would be built before it is found not to fit."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            _bound(inner, path, tensors, name)
    elif isinstance(value, list):
        for inner in value[: _LARGEST + 1]:
            _bound(inner, path, tensors, key)
    elif isinstance(value, (int, float)):
        most = tensors if "depth" in key or "levels" in key else _LARGEST
        if not abs(value) <= most:
            raise ModelError(
                f"The settings {shown(path)} beside the checkpoint give '{shown(key, 80)}' as {shown(value, 40)}, but "
                f"with {tensors} tensors it is at most {most}; get them again."
            )


def pick_precision(name: str, device: torch.device) -> torch.dtype:
    """The dtype of `model.dtype`; auto is bfloat16 on a GPU that computes in it, float32 elsewhere."""
    if name != "auto":
        return {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}[name]
    return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float32
