"""Which parameters may be of low precision, and which precision suits a device."""

from __future__ import annotations

import re
from collections.abc import Callable

import torch
from torch import Tensor

#: Products of transformer blocks: nearly all of the weights and of the work.
_BLOCKS = re.compile(r"(^|\.)(\w*blocks|trunk)\.\d+\.(attn\.(qkv|proj)|mlp\.(fc1|fc2|w12|w3))\.(weight|bias)$")
#: VGGT's camera head has one more large matrix, which sees a token a frame.
_CAMERA = re.compile(r"^camera_head\.poseLN_modulation\.1\.(weight|bias)$")
#: Convolutions of dense heads, less those that write numbers of the result and the cheap ones that end a fusion: in
#: bfloat16 these alone made a third of the error of depth.
_DENSE = re.compile(
    r"(^|\.)(head|depth_head|point_head)\.(projects\.\d|resize_layers\.\d|scratch\.(layer\d_rn|refinenet\d(_aux)?\.resConfUnit.*|"
    r"output_conv1|output_conv1_aux\.\d\.\d))\.(weight|bias)$"
)
#: VGGT's tracker has blocks of its own kind, and its loop is ill-conditioned.
_FULL = re.compile(r"(^|\.)track_head\.")


def dtype_policy(precision: torch.dtype) -> Callable[[str, Tensor], torch.dtype]:
    """The dtype of every parameter by its name, for weights.load.fill.

    float32: all. Otherwise products of transformer blocks and inner convolutions of dense heads are of `precision`;
    norms, LayerScale, tokens, position embeddings, patch embedding, other camera layers, the last convolutions of every
    head and tracks stay float32, as do residuals between blocks (block.FastBlock).
    """

    def dtype_of(name: str, tensor: Tensor) -> torch.dtype:
        low = any(kind.search(name) for kind in (_BLOCKS, _CAMERA, _DENSE)) and not _FULL.search(name)
        return precision if low else torch.float32

    return dtype_of
