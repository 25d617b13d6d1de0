"""Dense heads for inference: channels last, 1x1 convolutions before a resize, full size in bands of rows."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spatial_fm_ros.core.models.vit import sine_map as sine
from spatial_fm_ros.core.models.vit.dpt import FusionBlock, PixelLayers, ResidualConvUnit, resized
from spatial_fm_ros.core.models.vit.fast import winograd
from spatial_fm_ros.core.models.vit.fast.linear import product

#: Bytes of the widest map of a band; it stays in the shared cache, and on a GPU it bounds memory.
BAND_BYTES = {"cpu": 6 << 20, "cuda": 256 << 20}


class FastConv2d(nn.Module):
    """A convolution (or transposed one) in the dtype of its weights, channels last.

    1x1 is a linear layer of every pixel; 3x3 of large float32 maps goes by Winograd on the CPU.
    """

    def __init__(self, plain: nn.Conv2d | nn.ConvTranspose2d) -> None:
        super().__init__()
        self.weight, self.bias = plain.weight, plain.bias
        self.stride, self.padding, self.transposed = plain.stride, plain.padding, plain.transposed
        same = not plain.transposed and plain.stride == (1, 1) and plain.groups == 1 and plain.dilation == (1, 1)
        self.pointwise = same and plain.kernel_size == (1, 1) and plain.padding == (0, 0)
        self.filters = same and plain.kernel_size == (3, 3) and plain.padding == (1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(self.weight.dtype).contiguous(memory_format=torch.channels_last)
        if self.filters and winograd.pays(x, self.weight):
            return winograd.convolved(x, self.weight, self.bias)
        if self.pointwise:
            return product(x.permute(0, 2, 3, 1), self.weight[:, :, 0, 0], self.bias).permute(0, 3, 1, 2)
        run = F.conv_transpose2d if self.transposed else F.conv2d
        return run(x, self.weight, self.bias, self.stride, self.padding)  # type: ignore[arg-type]


class FastResidualConvUnit(nn.Module):
    """ResidualConvUnit with the sum in float32; its input may be overwritten when `spare` is set."""

    def __init__(self, plain: ResidualConvUnit) -> None:
        super().__init__()
        self.relu_skip = plain.relu_skip
        self.conv1, self.conv2 = plain.conv1, plain.conv2

    def forward(self, x: Tensor, spare: bool = False) -> Tensor:
        active = x.relu_() if spare and self.relu_skip else x.relu()
        change: Tensor = self.conv2(self.conv1(active).relu_())
        return change.float().add_(active if self.relu_skip else x)


class FastFusionBlock(nn.Module):
    """FusionBlock with out_conv at the smaller size: it and the resize are linear, and weights of a resize add up
    to 1, so that they may change places."""

    def __init__(self, plain: FusionBlock) -> None:
        super().__init__()
        if hasattr(plain, "resConfUnit1"):
            self.resConfUnit1 = plain.resConfUnit1
        self.resConfUnit2 = plain.resConfUnit2
        self.out_conv = plain.out_conv

    def forward(self, top: Tensor, lateral: Tensor | None, size: tuple[int, int]) -> Tensor:
        x = self.resConfUnit2(top) if lateral is None else self.resConfUnit1(lateral).add_(top)
        if lateral is not None:
            x = self.resConfUnit2(x, spare=True)
        x = self.out_conv(x).to((top if lateral is None else lateral).dtype)
        return resized(x, size)


class FastPixelLayers(nn.Module):
    """PixelLayers on one band of rows after the other, so that the map of full size and full width never exists.

    The convolution of a sine map is the same in all rows but the outer ones, and so are the columns; it is
    computed for three of each and added after the convolution, where there are fewer channels.
    """

    def __init__(self, plain: PixelLayers) -> None:
        super().__init__()
        self.out = plain.out
        for name, layer in plain.named_children():
            self.add_module(name, layer)

    def forward(
        self, x: Tensor, size: tuple[int, int], aspect: float = 1.0, map_precision: torch.dtype | None = None
    ) -> Tensor:
        first, last = self.get_submodule("0"), self.get_submodule("2")
        x = x.contiguous(memory_format=torch.channels_last)
        out = x.new_empty(len(x), *size, self.out, dtype=torch.float32).permute(0, 3, 1, 2)
        places = None if map_precision is None else _of_sine_map(first, size, aspect, map_precision)
        per_row = len(x) * x.shape[1] * size[1] * x.element_size()
        for rows, wider in _bands(size[0], max(1, BAND_BYTES.get(x.device.type, BAND_BYTES["cuda"]) // per_row)):
            y = first(_resized_rows(x, size, wider))[:, :, rows.start - wider.start :][:, :, : rows.stop - rows.start]
            if places is not None:
                across, down = places
                y += across[:, :, _outer(size[0], x.device)[rows]] + down[:, :, rows][..., _outer(size[1], x.device)]
            out[:, :, rows] = last(y.relu_())
        return out


def _bands(rows: int, step: int) -> Iterator[tuple[slice, slice]]:
    """Bands of `step` rows, each with the rows a 3x3 kernel reaches."""
    for start in range(0, rows, step):
        stop = min(start + step, rows)
        yield slice(start, stop), slice(max(start - 1, 0), min(stop + 1, rows))


def _resized_rows(x: Tensor, size: tuple[int, int], rows: slice) -> Tensor:
    """`rows` of resized(x, size), for x channels last."""
    height = x.shape[-2]
    at = torch.arange(rows.start, rows.stop, dtype=torch.float32, device=x.device)
    at *= (height - 1) / max(size[0] - 1, 1)
    low = at.long().clamp(max=height - 1)
    nhwc = x.permute(0, 2, 3, 1)
    upper = nhwc.index_select(1, low)
    part = (at - low)[:, None, None].to(x.dtype)
    upper.lerp_(nhwc.index_select(1, (low + 1).clamp(max=height - 1)), part.expand_as(upper))
    return resized(upper.permute(0, 3, 1, 2), (rows.stop - rows.start, size[1]))


def _of_sine_map(
    first: nn.Module, size: tuple[int, int], aspect: float, precision: torch.dtype
) -> tuple[Tensor, Tensor]:
    """What the weighted sine map adds behind a padded 3x3 convolution, in two terms.

    [1, out, 3, W] of the half that depends on the column, for the top, an inner and the bottom row, and
    [1, out, H, 3] of the half that depends on the row, for the left, an inner and the right column. H, W >= 2.
    """
    weight = first.weight
    assert isinstance(weight, Tensor)
    channels, half = weight.shape[1], weight.shape[1] // 2

    def term(rows: int, columns: int, part: slice) -> Tensor:
        waves = sine.WEIGHT * sine.sine_map(rows, columns, channels, aspect, precision, weight.device)[None, part]
        return F.conv2d(waves.to(weight.dtype), weight[:, part], padding=1)

    return term(3, size[1], slice(0, half)), term(size[0], 3, slice(half, channels))


def _outer(cells: int, device: torch.device) -> Tensor:
    """0 for the first, 2 for the last, 1 for all cells between."""
    kind = torch.ones(cells, dtype=torch.long, device=device)
    kind[0], kind[-1] = 0, 2
    return kind
