"""The two networks of Depth Anything 3: any-view (cameras, depth, rays) and metric (depth, sky)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.models.depth_anything_3.backbone import Backbone, BackboneFeatures, ViewTokens
from spatial_fm_ros.core.models.depth_anything_3.cameras import CameraDecoder, CameraEncoder, decode_cameras
from spatial_fm_ros.core.models.depth_anything_3.dual_head import DualHead
from spatial_fm_ros.core.models.depth_anything_3.metric_head import MetricHead, sky_filled
from spatial_fm_ros.core.models.depth_anything_3.outputs import Output
from spatial_fm_ros.core.models.depth_anything_3.presets import PATCH, NetworkConfig
from spatial_fm_ros.core.models.depth_anything_3.published import Published
from spatial_fm_ros.core.models.depth_anything_3.ray_pose import cameras_from_rays
from spatial_fm_ros.core.models.depth_anything_3.reference_view import check_strategy

#: Views a head works on at a time; on the CPU more of them only leave the caches.
HEAD_CHUNK = {"cpu": 1, "cuda": 8}


def check_images(images: Tensor) -> None:
    """Raises InputError unless images are [B, S, 3, H, W] floats with sides that are multiples of 14."""
    shape = list(images.shape)
    if images.ndim != 5 or shape[2] != 3 or not images.is_floating_point() or 0 in shape:
        raise InputError(f"Depth Anything 3 takes normalised float images [B, S, 3, H, W], got {images.dtype} {shape}.")
    if shape[3] % PATCH or shape[4] % PATCH:
        raise InputError(
            f"Image sides must be multiples of {PATCH}, got {shape[3]} x {shape[4]} (height x width); "
            "resize with depth_anything_3.preprocess."
        )


class Network(Published):
    """What both networks share: the backbone, its head, and the head in chunks of views."""

    head: nn.Module

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = nn.ModuleDict({"pretrained": Backbone(config)})

    def branches(self) -> dict[str, tuple[str, nn.Module, NetworkConfig]]:
        return {"model.": ("", self, self.config)}

    @property
    def trunk(self) -> Backbone:
        trunk = self.backbone["pretrained"]
        assert isinstance(trunk, Backbone)
        return trunk

    def view_tokens(self, images: Tensor, aux_layers: Sequence[int] = ()) -> ViewTokens:
        """The part of the work on images [B, S, 3, H, W] that treats every view alone, for `forward`'s `views`."""
        check_images(images)
        return self.trunk.view_tokens(images, aux_layers)

    def _views(self, images: Tensor, views: ViewTokens | None, aux_layers: Sequence[int]) -> ViewTokens:
        if views is None:
            return self.trunk.view_tokens(images, aux_layers)
        grid = images.shape[-2] // PATCH, images.shape[-1] // PATCH
        if views.tokens.shape[:2] != images.shape[:2] or views.grid != grid:
            raise InputError(
                f"Tokens of {list(views.tokens.shape[:2])} views with patches {list(views.grid)} are not those of "
                f"images {list(images.shape)}; compute them with view_tokens from the same images."
            )
        return views

    def _in_chunks(self, head: Callable[..., tuple[Tensor, ...]], features: BackboneFeatures) -> list[Tensor]:
        """Results [B, S, ...] of a head on all views; heads keep the precision of their weights."""
        scenes = features.levels[0].shape[:2]
        precision = next(self.head.parameters()).dtype
        chunk = HEAD_CHUNK.get(features.camera.device.type, 1)
        levels = [level.flatten(0, 1).split(chunk) for level in features.levels]
        with torch.autocast(features.camera.device.type, enabled=False):
            chunks = [head([level.to(precision) for level in some], features.grid) for some in zip(*levels)]
        return [torch.cat(parts).unflatten(0, scenes) for parts in zip(*chunks)]


class AnyView(Network):
    """S views of each of B scenes to cameras, depth and rays in one frame, up to scale."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config)
        self.head = DualHead(config)
        self.cam_enc = CameraEncoder(config.embed_dim)
        self.cam_dec = CameraDecoder(config.head_dim_in)

    def forward(
        self,
        images: Tensor,
        extrinsics: Tensor | None = None,
        intrinsics: Tensor | None = None,
        *,
        reference: str = "saddle_balanced",
        rays: bool = True,
        use_ray_pose: bool = False,
        aux_layers: Sequence[int] = (),
        views: ViewTokens | None = None,
        generator: torch.Generator | None = None,
    ) -> Output:
        """Normalised images [B, S, 3, H, W]; known camera_from_world [B, S, 4, 4] and K [B, S, 3, 3], both or none.

        reference: see reference_view.py (three or more views without known cameras). rays: False saves the ray
        head. use_ray_pose: cameras from the rays instead of from the camera decoder; `generator` draws its
        samples (None: one seeded 0). aux_layers: blocks whose features are returned. views: `view_tokens` of
        the same images, to save that part. Raises InputError, ConfigError.
        """
        check_images(images)
        check_strategy(reference)
        size = images.shape[-2], images.shape[-1]
        camera_tokens = self._camera_tokens(images, extrinsics, intrinsics)
        views = self._views(images, views, aux_layers)
        features = self.trunk.joint(views, camera_tokens, reference, aux_layers)
        with_rays = rays or use_ray_pose
        results = self._in_chunks(lambda tokens, grid: self.head(tokens, grid, with_rays), features)
        depth, depth_conf = results[:2]
        ray, ray_conf = results[2:] if with_rays else (None, None)
        with torch.autocast(images.device.type, enabled=False):
            pose_enc = self.cam_dec(features.camera.to(self.cam_dec.fc_t.weight.dtype)).float()
            found = decode_cameras(pose_enc, size)
        if use_ray_pose:
            assert ray is not None and ray_conf is not None
            found = cameras_from_rays(ray, ray_conf, size, generator=generator)
        return Output(
            depth=depth,
            depth_conf=depth_conf,
            ray=ray,
            ray_conf=ray_conf,
            pose_enc=pose_enc,
            extrinsics=found[0],
            intrinsics=found[1],
            ref_idx=features.ref_idx,
            aux=features.aux,
        )

    def _camera_tokens(self, images: Tensor, extrinsics: Tensor | None, intrinsics: Tensor | None) -> Tensor | None:
        if extrinsics is None and intrinsics is None:
            return None
        if extrinsics is None or intrinsics is None:
            raise InputError("Known cameras need both extrinsics and intrinsics; give both or neither.")
        scenes = images.shape[:2]
        if extrinsics.shape != (*scenes, 4, 4) or intrinsics.shape != (*scenes, 3, 3):
            raise InputError(
                f"Known cameras of {scenes[0]} x {scenes[1]} views are {[*scenes, 4, 4]} and {[*scenes, 3, 3]}, got "
                f"{list(extrinsics.shape)} and {list(intrinsics.shape)}."
            )
        precision = self.cam_enc.token_norm.weight.dtype
        with torch.autocast(images.device.type, enabled=False):
            size = images.shape[-2], images.shape[-1]
            return self.cam_enc(extrinsics.to(precision), intrinsics.to(precision), size)  # type: ignore[no-any-return]


class Metric(Network):
    """Views one by one to depth and sky. Depth of the metric variant times focal / 300 is metres (`metres`)."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config)
        self.head = MetricHead(config)

    def forward(self, images: Tensor, *, aux_layers: Sequence[int] = (), views: ViewTokens | None = None) -> Output:
        """Normalised images [B, S, 3, H, W]; `views` and `aux_layers` as in AnyView. Raises InputError."""
        check_images(images)
        views = self._views(images, views, aux_layers)
        features = self.trunk.joint(views, aux_layers=aux_layers)
        raw_depth, sky = self._in_chunks(self.head, features)
        return Output(depth=sky_filled(raw_depth, sky), raw_depth=raw_depth, sky=sky, aux=features.aux)
