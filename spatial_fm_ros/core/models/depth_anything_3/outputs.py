"""What a network of the family returns."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Output:
    """B scenes of S views of H x W pixels; float32, None where the network has no such result.

    depth [B, S, H, W] along z; depth_conf [B, S, H, W] >= 1. ray [B, S, 4H/7, 4W/7, 6]: direction and origin
    of each cell's ray in the world frame; ray_conf >= 1. pose_enc [B, S, 9] as in cameras.py, extrinsics
    camera_from_world [B, S, 3, 4], intrinsics [B, S, 3, 3] in pixels of the network's input. ref_idx int64 [B]:
    the view whose camera is the world (None: the first). sky [B, S, H, W] >= 0, not a probability;
    raw_depth: depth before sky pixels were filled. scale_factor: what nested alignment multiplied depth and
    translations by. aux: features [B, S, H/14, W/14, C] of the blocks asked for.
    """

    depth: Tensor
    depth_conf: Tensor | None = None
    ray: Tensor | None = None
    ray_conf: Tensor | None = None
    pose_enc: Tensor | None = None
    extrinsics: Tensor | None = None
    intrinsics: Tensor | None = None
    ref_idx: Tensor | None = None
    sky: Tensor | None = None
    raw_depth: Tensor | None = None
    scale_factor: Tensor | None = None
    aux: dict[int, Tensor] = field(default_factory=dict)
