"""An any-view network brought to metres by a metric one that sees the same images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from spatial_fm_ros.core.models.depth_anything_3.backbone import ViewTokens
from spatial_fm_ros.core.models.depth_anything_3.metric_head import FEW_PIXELS, NON_SKY, SKY_QUANTILE, metres
from spatial_fm_ros.core.models.depth_anything_3.network import AnyView, Metric
from spatial_fm_ros.core.models.depth_anything_3.outputs import Output
from spatial_fm_ros.core.models.depth_anything_3.presets import NestedConfig, NetworkConfig
from spatial_fm_ros.core.models.depth_anything_3.published import Published
from spatial_fm_ros.core.models.depth_anything_3.statistics import quantile

#: Depths at or below these do not enter the alignment: metres, and the any-view network's unit.
MIN_METRES = 0.01
MIN_DEPTH = 0.001
#: Sky is put no farther than this, in metres.
MAX_SKY = 200.0


@dataclass(frozen=True, eq=False)
class Alignment:
    """metric_depth [B, S, H, W] in metres by the predicted focal lengths; mask: pixels compared; median_conf and
    scale without dimensions, scale NaN where nothing could be compared."""

    metric_depth: Tensor
    non_sky: Tensor
    median_conf: Tensor
    mask: Tensor
    scale: Tensor


class Nested(Published):
    """Images to cameras and depth in metres; `da3` and `da3_metric` under the published names."""

    def __init__(self, config: NestedConfig) -> None:
        super().__init__()
        self.config = config
        self.da3 = AnyView(config.anyview)
        self.da3_metric = Metric(config.metric)

    def branches(self) -> dict[str, tuple[str, nn.Module, NetworkConfig]]:
        return {
            "model.da3.": ("da3.", self.da3, self.config.anyview),
            "model.da3_metric.": ("da3_metric.", self.da3_metric, self.config.metric),
        }

    def view_tokens(self, images: Tensor, aux_layers: Sequence[int] = ()) -> ViewTokens:
        """The any-view network's work on single views, for `forward`'s `views`."""
        return self.da3.view_tokens(images, aux_layers)

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
        """As AnyView, with depth and translations in metres; rays, pose_enc and aux stay the any-view network's.

        sky is the metric network's. Where nothing but sky is seen scale_factor, depth and translations are NaN.
        """
        found = self.da3(
            images,
            extrinsics,
            intrinsics,
            reference=reference,
            rays=rays,
            use_ray_pose=use_ray_pose,
            aux_layers=aux_layers,
            views=views,
            generator=generator,
        )
        metric = self.da3_metric(images)
        alignment = align(found.depth, found.depth_conf, found.intrinsics, metric.depth, metric.sky)
        return in_metres(found, metric.sky, alignment)


def align(depth: Tensor, conf: Tensor, intrinsics: Tensor, metric_depth: Tensor, sky: Tensor) -> Alignment:
    """Scale that brings depth to the metric network's, by least squares over the more confident half.

    depth, conf, metric_depth (sky filled) and sky [B, S, H, W]; intrinsics predicted, [B, S, 3, 3]. One scale
    for everything passed.
    """
    metric_depth = metres(metric_depth, intrinsics)
    non_sky = sky < NON_SKY
    if int(non_sky.sum()) <= FEW_PIXELS:
        unknown = depth.new_tensor(torch.nan)
        return Alignment(metric_depth, non_sky, unknown, torch.zeros_like(non_sky), unknown)
    median_conf = quantile(conf[non_sky], 0.5)
    mask = (conf >= median_conf) & non_sky & (metric_depth > MIN_METRES) & (depth > MIN_DEPTH)
    ours, theirs = depth[mask].double(), metric_depth[mask].double()
    scale = (theirs @ ours) / ours.square().sum() if len(ours) else ours.new_tensor(torch.nan)
    return Alignment(metric_depth, non_sky, median_conf, mask, scale.to(depth.dtype))


def in_metres(found: Output, sky: Tensor, alignment: Alignment) -> Output:
    """The any-view output with depth and translations scaled; sky pixels far away and of the least confidence.

    Unknown depth (NaN) stays unknown.
    """
    assert found.depth_conf is not None and found.extrinsics is not None
    scale, non_sky = alignment.scale, alignment.non_sky
    depth = found.depth * scale
    extrinsics = torch.cat([found.extrinsics[..., :3], found.extrinsics[..., 3:] * scale], dim=-1)
    if bool(non_sky.any()):
        far = quantile(depth[non_sky], SKY_QUANTILE).clamp(max=MAX_SKY)
        depth = torch.where(non_sky | depth.isnan(), depth, far)
    conf = torch.where(non_sky, found.depth_conf, 1.0)
    return replace(found, depth=depth, depth_conf=conf, extrinsics=extrinsics, sky=sky, scale_factor=scale)
