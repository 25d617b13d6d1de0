"""Dense prediction transformer head: four token maps of one grid fused from coarse to fine (Ranftl et al., 2021)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spatial_fm_ros.core.models.vit import sine_map as sine


def resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear to (rows, columns) with the corners of both grids on each other, as all these heads do."""
    return F.interpolate(x, size=size, mode="bilinear", align_corners=True)


def with_sine_map(x: Tensor, aspect: float, precision: torch.dtype) -> Tensor:
    """x [N, C, h, w] plus the weighted sine map of its grid."""
    added = sine.sine_map(x.shape[-2], x.shape[-1], x.shape[1], aspect, precision, x.device)
    return x + (sine.WEIGHT * added).to(x.dtype)


class PixelLayers(nn.Module):
    """A map brought to the image's size, then a 3x3 convolution, ReLU and a 1x1 convolution to the last numbers."""

    def __init__(self, channels: int, hidden: int, out: int) -> None:
        super().__init__()
        self.out = out
        # The names they have in the checkpoints.
        self.add_module("0", nn.Conv2d(channels, hidden, 3, padding=1))
        self.add_module("2", nn.Conv2d(hidden, out, 1))

    def forward(
        self, x: Tensor, size: tuple[int, int], aspect: float = 1.0, map_precision: torch.dtype | None = None
    ) -> Tensor:
        """x [N, channels, h, w] to [N, out, *size]; map_precision None: no sine map is added."""
        x = resized(x, size)
        if map_precision is not None:
            x = with_sine_map(x, aspect, map_precision)
        return self.get_submodule("2")(F.relu(self.get_submodule("0")(x)))  # type: ignore[no-any-return]


class ResidualConvUnit(nn.Module):
    """conv2(relu(conv1(relu x))) plus x, or plus relu(x) with `relu_skip` (VGGT was trained so)."""

    def __init__(self, features: int, relu_skip: bool) -> None:
        super().__init__()
        self.relu_skip = relu_skip
        self.conv1 = nn.Conv2d(features, features, 3, padding=1)
        self.conv2 = nn.Conv2d(features, features, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(x)
        return self.conv2(F.relu(self.conv1(active))) + (active if self.relu_skip else x)  # type: ignore[no-any-return]


class FusionBlock(nn.Module):
    """Adds a refined lateral map to the coarser one, refines, and brings it to the next size."""

    def __init__(self, features: int, relu_skip: bool, lateral: bool = True) -> None:
        super().__init__()
        if lateral:
            self.resConfUnit1 = ResidualConvUnit(features, relu_skip)
        self.resConfUnit2 = ResidualConvUnit(features, relu_skip)
        self.out_conv = nn.Conv2d(features, features, 1)

    def forward(self, top: Tensor, lateral: Tensor | None, size: tuple[int, int]) -> Tensor:
        if lateral is not None:
            top = top + self.resConfUnit1(lateral)
        return self.out_conv(resized(self.resConfUnit2(top), size))  # type: ignore[no-any-return]


class Reassemble(nn.Module):
    """Tokens of four levels to maps at 4, 2, 1 and 1/2 times the patch grid.

    Holds the checkpoint's `norm` (or none), `projects` and `resize_layers`.
    """

    def __init__(self, dim: int, channels: Sequence[int], norm_eps: float | None = 1e-5) -> None:
        super().__init__()
        self.norm: nn.Module = nn.Identity() if norm_eps is None else nn.LayerNorm(dim, eps=norm_eps)
        self.projects = nn.ModuleList(nn.Conv2d(dim, c, 1) for c in channels)
        self.resize_layers = nn.ModuleList(
            [
                nn.ConvTranspose2d(channels[0], channels[0], 4, stride=4),
                nn.ConvTranspose2d(channels[1], channels[1], 2, stride=2),
                nn.Identity(),
                nn.Conv2d(channels[3], channels[3], 3, stride=2, padding=1),
            ]
        )

    def reassembled(
        self, tokens: Tensor, level: int, grid: tuple[int, int], aspect: float, map_precision: torch.dtype | None
    ) -> Tensor:
        """Patch tokens [N, rows*columns, dim] of one level as [N, channels[level], h, w].

        map_precision None: no sine map is added.
        """
        x = self.norm(tokens).transpose(1, 2).unflatten(2, grid)
        x = self.projects[level](x)
        if map_precision is not None:
            x = with_sine_map(x, aspect, map_precision)
        return self.resize_layers[level](x)  # type: ignore[no-any-return]


class Scratch(nn.Module):
    """The fusion chain(s) of a head under the names of the checkpoints: layer{1..4}_rn and refinenet{1..4}<suffix>.

    Subclasses or owners add the output convolutions the checkpoint keeps here.
    """

    def __init__(
        self, channels: Sequence[int], features: int, relu_skip: bool, suffixes: Sequence[str] = ("",)
    ) -> None:
        super().__init__()
        for level, c in enumerate(channels, start=1):
            self.add_module(f"layer{level}_rn", nn.Conv2d(c, features, 3, padding=1, bias=False))
        for suffix in suffixes:
            for level in range(1, len(channels) + 1):
                block = FusionBlock(features, relu_skip, lateral=level < len(channels))
                self.add_module(f"refinenet{level}{suffix}", block)

    def lateral(self, level: int, x: Tensor) -> Tensor:
        """Level 0..3 at its own channels to `features` channels."""
        return self.get_submodule(f"layer{level + 1}_rn")(x)  # type: ignore[no-any-return]

    def fused(self, levels: Sequence[Tensor], suffix: str = "") -> Tensor:
        """Four lateral maps, fine to coarse, to one at twice the finest grid."""
        x: Tensor | None = None
        for level in range(len(levels), 0, -1):
            finer = levels[level - 2].shape[-2:] if level > 1 else [2 * n for n in levels[0].shape[-2:]]
            block = self.get_submodule(f"refinenet{level}{suffix}")
            size = (int(finer[0]), int(finer[1]))
            x = block(levels[level - 1], None, size) if x is None else block(x, levels[level - 1], size)
        assert x is not None
        return x
