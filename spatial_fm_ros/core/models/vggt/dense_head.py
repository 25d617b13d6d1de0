"""VGGT's dense heads: depth, points, and the feature maps of the tracker."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from spatial_fm_ros.core.models.vggt.config import VggtConfig
from spatial_fm_ros.core.models.vit.dpt import PixelLayers, Reassemble, Scratch, resized

#: Channels between the last two convolutions.
INNER = 32
#: VGGT's sine maps have their angles in float64.
MAP_PRECISION = torch.float64


class FusedFeatures(Reassemble):
    """Four levels of patch tokens to one feature map; with `sine_maps`, cells are told where they lie."""

    def __init__(self, config: VggtConfig, features: int, out: int, sine_maps: bool) -> None:
        super().__init__(2 * config.embed_dim, config.dpt_out_channels)
        self.map_precision = MAP_PRECISION if sine_maps else None
        self.scratch = Scratch(config.dpt_out_channels, features, relu_skip=True)
        self.scratch.add_module("output_conv1", nn.Conv2d(features, out, 3, padding=1))

    def fused(self, tokens: Sequence[Tensor], grid: tuple[int, int], aspect: float) -> Tensor:
        """Patch tokens [N, rows * columns, 2C] of four levels to features [N, out, 8 rows, 8 columns]."""
        precision = self.get_parameter("norm.weight").dtype
        laterals = [
            self.scratch.lateral(level, self.reassembled(t, level, grid, aspect, self.map_precision))
            for level, t in enumerate(t.to(precision) for t in tokens)
        ]
        return self.scratch.get_submodule("output_conv1")(self.scratch.fused(laterals))  # type: ignore[no-any-return]


class TrackFeatures(FusedFeatures):
    """The tracker's feature maps, at the image's size divided by the stride."""

    def __init__(self, config: VggtConfig) -> None:
        super().__init__(config, config.track_features, config.track_features, sine_maps=False)
        self.stride = config.track_stride

    def forward(self, tokens: Sequence[Tensor], grid: tuple[int, int], size: tuple[int, int]) -> tuple[Tensor]:
        """Patch tokens of four levels to maps [N, features, H // stride, W // stride] of images of `size`."""
        height, width = size
        x = self.fused(tokens, grid, width / height)
        return (resized(x, (height // self.stride, width // self.stride)),)


class DenseHead(FusedFeatures):
    """A value and its confidence for every pixel.

    channels: of the value; `activation` makes the value of the network's last numbers.
    """

    def __init__(self, config: VggtConfig, channels: int, activation: Callable[[Tensor], Tensor]) -> None:
        half = config.dpt_features // 2
        super().__init__(config, config.dpt_features, half, sine_maps=True)
        self.activation = activation
        self.scratch.add_module("output_conv2", PixelLayers(half, INNER, channels + 1))

    def forward(self, tokens: Sequence[Tensor], grid: tuple[int, int], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Patch tokens of four levels to values [N, H, W, channels] and confidence >= 1, [N, H, W]."""
        aspect = size[1] / size[0]
        x = self.fused(tokens, grid, aspect)
        x = self.scratch.get_submodule("output_conv2")(x, size, aspect, self.map_precision)
        return activated(x, self.activation)


def activated(x: Tensor, activation: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """The network's last numbers [N, channels + 1, H, W] as values, channels last, and confidence."""
    x = x.movedim(1, -1)
    return activation(x[..., :-1]), 1 + x[..., -1].exp()


def signed_expm1(x: Tensor) -> Tensor:
    """sign(x) * (exp|x| - 1): coordinates from numbers that grow with their logarithm."""
    return x.sign() * x.abs().expm1()


def in_chunks(
    head: Callable[..., tuple[Tensor, ...]],
    taps: Sequence[Tensor],
    specials: int,
    grid: tuple[int, int],
    size: tuple[int, int],
    chunk: int,
) -> list[Tensor]:
    """A dense head over the frames of the tapped tokens [B, S, specials + patches, 2C], `chunk` frames at a time.

    Frames do not see each other here, so chunks bound the memory and change nothing else. Returns the head's
    tensors as [B, S, ...].
    """
    batch, frames = taps[0].shape[:2]
    flat = [t.flatten(0, 1)[:, specials:] for t in taps]
    parts = [head([t[i : i + chunk] for t in flat], grid, size) for i in range(0, batch * frames, chunk)]
    return [torch.cat(tensors).unflatten(0, (batch, frames)) for tensors in zip(*parts, strict=True)]
