"""The head of the metric and mono networks: depth and sky of single views, and what sky means for depth."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spatial_fm_ros.core.models.depth_anything_3.dual_head import HIDDEN
from spatial_fm_ros.core.models.depth_anything_3.presets import PATCH, NetworkConfig
from spatial_fm_ros.core.models.depth_anything_3.statistics import quantile
from spatial_fm_ros.core.models.vit.dpt import PixelLayers, Reassemble, Scratch

#: Below this the sky channel says "not sky" when depth is filled or aligned.
NON_SKY = 0.3
#: With no more pixels than this on either side, sky is left alone.
FEW_PIXELS = 10
SKY_QUANTILE = 0.99
#: Focal length in pixels at which the metric network's output is in metres.
METRIC_FOCAL = 300.0


class MetricScratch(Scratch):
    """The fusion chain and the output layers of depth and sky."""

    def __init__(self, channels: Sequence[int], features: int) -> None:
        super().__init__(channels, features, relu_skip=False)
        self.output_conv1 = nn.Conv2d(features, features // 2, 3, padding=1)
        self.output_conv2 = PixelLayers(features // 2, HIDDEN, 1)
        self.sky_output_conv2 = PixelLayers(features // 2, HIDDEN, 1)

    def logits(self, levels: Sequence[Tensor], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Of depth and sky, [N, 1, *size], of four lateral maps."""
        x = self.output_conv1(self.fused(levels))
        return self.output_conv2(x, size), self.sky_output_conv2(x, size)


class MetricHead(Reassemble):
    """Four token maps [N, patches, D] to depth and sky [N, H, W]; no norm, no sine maps."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config.head_dim_in, config.out_channels, norm_eps=None)
        self.scratch = MetricScratch(config.out_channels, config.features)

    def forward(self, tokens: Sequence[Tensor], grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """grid = (rows, columns) of patches; H = 14 rows, W = 14 columns."""
        aspect = grid[1] / grid[0]
        levels = [self.scratch.lateral(k, self.reassembled(t, k, grid, aspect, None)) for k, t in enumerate(tokens)]
        depth, sky = self.scratch.logits(levels, (PATCH * grid[0], PATCH * grid[1]))
        return depth[:, 0].exp(), F.relu(sky[:, 0])


def sky_filled(depth: Tensor, sky: Tensor) -> Tensor:
    """Depth with the far end (0.99 quantile) of what is not sky put where sky is, over all views together.

    depth, sky of one shape. The whole set is ranked; the published code draws 100 000 values of it.
    Unchanged where no more than 10 pixels are sky, or are not. Unknown depth (NaN) stays unknown.
    """
    non_sky = sky < NON_SKY
    count = int(non_sky.sum())
    if count <= FEW_PIXELS or non_sky.numel() - count <= FEW_PIXELS:
        return depth
    return torch.where(non_sky | depth.isnan(), depth, quantile(depth[non_sky], SKY_QUANTILE))


def metres(depth: Tensor, intrinsics: Tensor) -> Tensor:
    """The metric network's depth [..., H, W] in metres, for K [..., 3, 3] in pixels of the network's input."""
    focal = (intrinsics[..., 0, 0] + intrinsics[..., 1, 1]) / 2
    return depth * (focal / METRIC_FOCAL)[..., None, None]
