"""The dual head of the any-view network: depth from one fusion chain, rays from another on the same levels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spatial_fm_ros.core.models.depth_anything_3.presets import PATCH, NetworkConfig
from spatial_fm_ros.core.models.vit.dpt import PixelLayers, Reassemble, Scratch, with_sine_map

#: Width of the last hidden layer.
HIDDEN = 32
AUX = "_aux"
#: The published file holds four output stacks for rays; only the last was trained to be read.
AUX_STACK = "3"


class RayLayers(nn.Module):
    """3x3, LayerNorm over channels, ReLU, 1x1, under the file's numbers."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.add_module("0", nn.Conv2d(channels, HIDDEN, 3, padding=1))
        self.add_module("2", nn.LayerNorm(HIDDEN, eps=1e-5))
        self.add_module("5", nn.Conv2d(HIDDEN, 7, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.get_submodule("2")(self.get_submodule("0")(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self.get_submodule("5")(F.relu(x))  # type: ignore[no-any-return]


def ray_neck(features: int) -> nn.Sequential:
    """Five 3x3 convolutions, alternating to half the width and back, with nothing between them."""
    wide, narrow = features, features // 2
    widths = [wide, narrow, wide, narrow, wide, narrow]
    return nn.Sequential(*(nn.Conv2d(a, b, 3, padding=1) for a, b in zip(widths, widths[1:])))


class DualScratch(Scratch):
    """The fusion chains and output layers of both results."""

    def __init__(self, channels: Sequence[int], features: int) -> None:
        super().__init__(channels, features, relu_skip=False, suffixes=("", AUX))
        self.output_conv1 = nn.Conv2d(features, features // 2, 3, padding=1)
        self.output_conv2 = PixelLayers(features // 2, HIDDEN, 2)
        self.output_conv1_aux = nn.ModuleDict({AUX_STACK: ray_neck(features)})
        self.output_conv2_aux = nn.ModuleDict({AUX_STACK: RayLayers(features // 2)})

    def depth_logits(self, levels: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """[N, 2, *size] of four lateral maps."""
        x = self.output_conv1(self.fused(levels))
        return self.output_conv2(x, size, size[1] / size[0], torch.float32)  # type: ignore[no-any-return]

    def ray_logits(self, levels: Sequence[Tensor], aspect: float) -> Tensor:
        """[N, 7, 2h, 2w] of four lateral maps, the finest [N, features, h, w]."""
        x = self.output_conv1_aux[AUX_STACK](self.fused(levels, AUX))
        return self.output_conv2_aux[AUX_STACK](with_sine_map(x, aspect, torch.float32))  # type: ignore[no-any-return]


class DualHead(Reassemble):
    """Four token maps [N, patches, D] to depth with confidence and to rays with confidence."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config.head_dim_in, config.out_channels)
        self.scratch = DualScratch(config.out_channels, config.features)

    def forward(self, tokens: Sequence[Tensor], grid: tuple[int, int], rays: bool = True) -> tuple[Tensor, ...]:
        """depth and confidence [N, H, W], then (with `rays`) rays [N, h, w, 6] and confidence [N, h, w].

        grid = (rows, columns) of patches; H = 14 rows, h = 8 rows, and so on.
        """
        aspect = grid[1] / grid[0]
        levels = [
            self.scratch.lateral(k, self.reassembled(t, k, grid, aspect, torch.float32)) for k, t in enumerate(tokens)
        ]
        logits = self.scratch.depth_logits(levels, (PATCH * grid[0], PATCH * grid[1]))
        depth = logits[:, 0].exp(), logits[:, 1].exp() + 1.0
        if not rays:
            return depth
        ray = self.scratch.ray_logits(levels, aspect).permute(0, 2, 3, 1)
        return *depth, ray[..., :6], ray[..., 6].exp() + 1.0
