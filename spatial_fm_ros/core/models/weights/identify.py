"""Which architecture a checkpoint holds, by its keys and shapes alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from spatial_fm_ros.core.errors import ModelError
from spatial_fm_ros.core.io.names import shown
from spatial_fm_ros.core.models.weights.licences import DEPTH_ANYTHING_3, NANO, VGGT

Shape = tuple[int, ...]

#: Depth Anything 3 by the width of its backbone. LARGE and the metric model share 1024.
_DA3_WIDTHS = {384: "small", 768: "base", 1024: "large", 1536: "giant"}

#: Keys by which well-known networks that people try by mistake can be told, in this order.
_FOREIGN: tuple[tuple[str, str], ...] = (
    (r"^(dec_blocks|enc_blocks)\.", "a DUSt3R or MASt3R checkpoint"),
    (r"^pretrained\.blocks\.", "a Depth Anything 1 or 2 checkpoint"),
    (r"^dinov2\.|^backbone\.embeddings\.", "a Depth Anything 1 or 2 checkpoint of transformers"),
    (r"^(text_model|vision_model)\.|^visual\.(transformer|class_embedding)", "a CLIP checkpoint"),
    (r"^image_encoder\.", "a Segment Anything checkpoint"),
    (r"^embeddings\.patch_embeddings\.", "a vision transformer of transformers (such as DINOv2)"),
    (r"^blocks\.\d+\.(\d+\.)?attn\.qkv\.|^patch_embed\.proj\.", "a vision transformer (such as DINOv2)"),
    (r"^layer\d\.\d+\.conv1\.", "a ResNet"),
    (r"^base_model\.|\.lora_[AB]\.", "a set of LoRA adapters"),
)


@dataclass(frozen=True)
class Architecture:
    """`model` as in model.name, empty for a foreign file; `variant` as in its presets, empty for other sizes.

    `heads` are those of a VGGT that the file holds, as vggt.build names them; empty for other models.
    """

    model: str
    variant: str
    note: str  # in words, to stand after "it is" or "it looks like"
    heads: tuple[str, ...] = ()


def identify(shapes: Mapping[str, Shape]) -> Architecture:
    """The architecture of a set of tensors, {key: shape}.

    DA3 METRIC and MONO have the same tensors and are both called metric-large; -1.1 editions are not told apart.
    """
    if any(key.startswith(("model.da3_metric.", "da3_metric.")) for key in shapes):
        return Architecture(DEPTH_ANYTHING_3, "nested", "a Depth Anything 3 NESTED checkpoint")
    if "aggregator.camera_token" in shapes:
        return _vggt(shapes)
    for prefix in ("model.", ""):
        embedding = shapes.get(f"{prefix}backbone.pretrained.cls_token")
        if embedding is not None:
            return _da3(shapes, prefix, _width(embedding))
    for pattern, name in _FOREIGN:
        if any(re.search(pattern, key) for key in shapes):
            return Architecture("", "", name)
    first = ", ".join(shown(name, 80) for name in list(shapes)[:3])
    return Architecture("", "", f"a network this package does not know (its tensors begin with {first})")


def expect(model: str, shapes: Mapping[str, Shape], path: Path) -> Architecture:
    """The architecture of a checkpoint for `model` (as in model.name). Raises ModelError for one of another model."""
    found = identify(shapes)
    if found.model == model:
        return found
    remedy = (
        f"use model:={found.model}, or give a checkpoint of {model}."
        if found.model
        else f"give a checkpoint of {model}: spatial-fm weights list names them."
    )
    raise ModelError(f"{shown(path)} is {found.note}, but model:={model} was asked for: {remedy}")


def _width(shape: Shape) -> int:
    return shape[-1] if shape else 0


def _vggt(shapes: Mapping[str, Shape]) -> Architecture:
    width = _width(shapes["aggregator.camera_token"])
    pairs = len({key.split(".")[2] for key in shapes if key.startswith("aggregator.frame_blocks.")})
    heads = tuple(h for h in ("camera", "depth", "point", "track") if any(k.startswith(f"{h}_head.") for k in shapes))
    without = "" if len(heads) == 4 else f" with the heads {', '.join(heads)} only" if heads else " without heads"
    if any(key.startswith("ray_embed.") for key in shapes):
        return Architecture(NANO, "", f"a nano checkpoint (width {width}, {pairs} block pairs){without}", heads)
    if (width, pairs) == (1024, 24):
        return Architecture(VGGT, "1B", f"a VGGT-1B checkpoint{without}", heads)
    other = f"a VGGT checkpoint of another size (width {width}, {pairs} block pairs){without}"
    return Architecture(VGGT, "", other, heads)


def _da3(shapes: Mapping[str, Shape], prefix: str, width: int) -> Architecture:
    backbone = f"{prefix}backbone.pretrained."
    blocks = len({key[len(backbone) :].split(".")[1] for key in shapes if key.startswith(f"{backbone}blocks.")})
    any_view = f"{backbone}camera_token" in shapes
    variant = _DA3_WIDTHS.get(width, "")
    depth = {"small": 12, "base": 12, "large": 24, "giant": 40}.get(variant)
    if variant and blocks == depth and (any_view or variant == "large"):
        if not any_view:
            return Architecture(DEPTH_ANYTHING_3, "metric-large", "a Depth Anything 3 METRIC or MONO checkpoint")
        return Architecture(DEPTH_ANYTHING_3, variant, f"a Depth Anything 3 {variant.upper()} checkpoint")
    kind = "any-view" if any_view else "metric"
    note = f"a Depth Anything 3 checkpoint of another size ({kind}, width {width}, {blocks} blocks)"
    return Architecture(DEPTH_ANYTHING_3, "", note)
