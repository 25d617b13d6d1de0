"""VGGT as a whole: images in; cameras, depth, points and tracks out."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from spatial_fm_ros.core.errors import InputError, ModelError
from spatial_fm_ros.core.models.vggt.aggregator import Aggregator
from spatial_fm_ros.core.models.vggt.camera_head import CameraHead
from spatial_fm_ros.core.models.vggt.config import VggtConfig
from spatial_fm_ros.core.models.vggt.dense_head import DenseHead, in_chunks, signed_expm1
from spatial_fm_ros.core.models.vggt.track_head import TrackHead
from spatial_fm_ros.core.models.weights.load import check

HEADS = ("camera", "depth", "point", "track")
#: Frames a dense head works on at a time, where the caller does not say; on the CPU more of them only leave the caches.
FRAMES_PER_CHUNK = {"cpu": 1, "cuda": 8}


@dataclass(eq=False)
class VggtOutput:
    """What one call gives; None for heads that are off. B scenes, S frames, H x W pixels, N tracks.

    pose_enc [B, S, 9] holds camera_from_world (vit/pose_encoding.py) in a world close to the first camera,
    in an arbitrary unit; depth [B, S, H, W, 1] is along z; world_points [B, S, H, W, 3]; confidences
    [B, S, H, W] are >= 1 and of no fixed scale. track [B, S, N, 2] are pixels (x, y); vis and conf
    [B, S, N] lie in [0, 1]. The lists hold what every iteration gave, the last equal to the prediction.
    """

    pose_enc: Tensor | None = None
    pose_enc_iterations: list[Tensor] | None = None
    depth: Tensor | None = None
    depth_conf: Tensor | None = None
    world_points: Tensor | None = None
    world_points_conf: Tensor | None = None
    track: Tensor | None = None
    track_iterations: list[Tensor] | None = None
    vis: Tensor | None = None
    conf: Tensor | None = None


class Vggt(nn.Module):
    """The network. Its parameters have the names and shapes of the published checkpoints.

    heads: those to create. `forward` is `embed`, which looks at every frame alone and may be kept for
    frames that come again, and then `relate`.
    """

    def __init__(self, config: VggtConfig, heads: Collection[str] = HEADS) -> None:
        super().__init__()
        self.config = config
        self.heads = _known_heads(heads, HEADS)
        self.aggregator = Aggregator(config)
        self.camera_head = CameraHead(config) if "camera" in self.heads else None
        self.point_head = DenseHead(config, 3, signed_expm1) if "point" in self.heads else None
        self.depth_head = DenseHead(config, 1, torch.exp) if "depth" in self.heads else None
        self.track_head = TrackHead(config) if "track" in self.heads else None

    def forward(
        self,
        images: Tensor,
        query_points: Tensor | None = None,
        *,
        heads: Collection[str] | None = None,
        frames_per_chunk: int | None = None,
    ) -> VggtOutput:
        """Images [B, S, 3, H, W] or [S, 3, H, W]: RGB, floating in [0, 1] or uint8; H and W multiples of the patch.

        query_points: [B, N, 2] or [N, 2] pixels (x, y) of the first frame to track. heads: those to run, of
        the ones the network has (default: all). Raises InputError for images or points of another shape.
        """
        images = self._checked(images)
        size = (images.shape[-2], images.shape[-1])
        return self.relate(self.embed(images), size, query_points, heads=heads, frames_per_chunk=frames_per_chunk)

    def embed(self, images: Tensor) -> Tensor:
        """Patch tokens [B, S, patches, C] of images as `forward` takes them; every frame's are its own."""
        return self.aggregator.patch_tokens(self._checked(images))

    def relate(
        self,
        patch_tokens: Tensor,
        size: tuple[int, int],
        query_points: Tensor | None = None,
        *,
        heads: Collection[str] | None = None,
        frames_per_chunk: int | None = None,
    ) -> VggtOutput:
        """The rest of `forward` from the patch tokens of images of `size` = (H, W)."""
        running = _known_heads(self.heads if heads is None else heads, self.heads)
        height, width = int(size[0]), int(size[1])
        grid = (height // self.config.patch_size, width // self.config.patch_size)
        if patch_tokens.ndim != 4 or patch_tokens.shape[2] != grid[0] * grid[1]:
            raise InputError(
                f"Images of {width}x{height} have patch tokens [B, S, {grid[0] * grid[1]}, C], got "
                f"{list(patch_tokens.shape)}; pass what `embed` gave for images of this size."
            )
        if frames_per_chunk is None:
            frames_per_chunk = FRAMES_PER_CHUNK.get(patch_tokens.device.type, 1)
        if frames_per_chunk < 1:
            raise InputError(f"VGGT's dense heads need chunks of at least 1 frame, got {frames_per_chunk}.")
        if query_points is None or "track" not in running:
            running -= {"track"}
        else:
            query_points = _checked_points(query_points, patch_tokens)

        last, levels = self.config.aa_depth - 1, self.config.intermediate_layer_idx
        wanted = set(levels) if running - {"camera"} else set()
        taps = self.aggregator(patch_tokens, grid, wanted | ({last} if "camera" in running else set()))
        output = VggtOutput()
        # The published model runs these three in full precision under any autocast, and tracks are no less exact.
        with torch.autocast(patch_tokens.device.type, enabled=False):
            if self.camera_head is not None and "camera" in running:
                output.pose_enc_iterations = self.camera_head(taps[last][:, :, 0])
                output.pose_enc = output.pose_enc_iterations[-1]
            dense = ([taps[k] for k in levels] if wanted else [], self.aggregator.specials, grid, (height, width))
            if self.depth_head is not None and "depth" in running:
                output.depth, output.depth_conf = in_chunks(self.depth_head, *dense, frames_per_chunk)
            if self.point_head is not None and "point" in running:
                output.world_points, output.world_points_conf = in_chunks(self.point_head, *dense, frames_per_chunk)
            if self.track_head is not None and "track" in running:
                tracks = self.track_head(*dense, query_points, frames_per_chunk)
                output.track, output.track_iterations = tracks.iterations[-1], tracks.iterations
                output.vis, output.conf = tracks.visible, tracks.confidence
        return output

    def load_published(self, state: Mapping[str, Tensor], assign: bool = False) -> None:
        """Strictly load a checkpoint, less the tensors of heads this network was built without.

        Exactly the names that an absent head would have may be there or not. assign: take the tensors themselves, as
        a network on the meta device needs. Raises ModelError that names what is missing or foreign.
        """
        absent = self._names_of_absent_heads()
        kept = {name: tensor for name, tensor in state.items() if name not in absent}
        check(self, {name: tuple(tensor.shape) for name, tensor in kept.items()})
        self.load_state_dict(kept, strict=True, assign=assign)

    def _names_of_absent_heads(self) -> set[str]:
        absent = set(HEADS) - self.heads
        if not absent:
            return set()
        with torch.device("meta"):
            other = Vggt(self.config, absent)
        return {name for name in other.state_dict() if not name.startswith("aggregator.")}

    def _checked(self, images: Tensor) -> Tensor:
        """The images as [B, S, 3, H, W], floating like the weights."""
        if images.ndim == 4:
            images = images[None]
        patch = self.config.patch_size
        if images.ndim != 5 or images.shape[2] != 3 or 0 in images.shape:
            raise InputError(f"VGGT needs images [B, S, 3, H, W] or [S, 3, H, W], got {list(images.shape)}.")
        if images.shape[-2] % patch or images.shape[-1] % patch:
            raise InputError(
                f"VGGT needs images whose sides are multiples of {patch}, got {images.shape[-1]}x{images.shape[-2]}; "
                "resize them with vggt.preprocess."
            )
        dtype = self.aggregator.camera_token.dtype
        if images.dtype == torch.uint8:
            return images.to(dtype) / 255
        if not images.dtype.is_floating_point:
            raise InputError(f"VGGT needs floating images in [0, 1] or uint8 ones, got {images.dtype}.")
        return images.to(dtype)


def build(config: Mapping[str, Any] | None = None, heads: Collection[str] = HEADS) -> Vggt:
    """A VGGT with fresh weights: VGGT-1B, or of the sizes in `config` (the fields of VggtConfig).

    heads: those to create. Build it under `torch.device("meta")` to assign weights that lie elsewhere.
    Raises ConfigError for unknown settings and ModelError for unknown heads.
    """
    return Vggt(VggtConfig.read(config), heads)


def _known_heads(heads: Collection[str], available: Collection[str]) -> frozenset[str]:
    unknown = sorted(set(heads) - set(available))
    if unknown:
        raise ModelError(f"This VGGT has the heads {', '.join(sorted(available)) or 'none'}, not {', '.join(unknown)}.")
    return frozenset(heads)


def _checked_points(points: Tensor, like: Tensor) -> Tensor:
    """Query points as [B, N, 2], floating like the weights."""
    if points.ndim == 2:
        points = points[None]
    if points.ndim != 3 or points.shape[0] != like.shape[0] or points.shape[1] < 1 or points.shape[2] != 2:
        raise InputError(
            f"Query points need the shape [{like.shape[0]}, N, 2] with N of at least 1, got {list(points.shape)}."
        )
    return points.to(like)
