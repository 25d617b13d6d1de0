"""3x3 convolutions by Winograd's minimal filtering: a quarter of the products, as large ones of matrices.

F(4x4, 3x3) of Lavin and Gray, 'Fast algorithms for convolutional neural networks', CVPR 2016: a tile of 6x6 pixels
gives 4x4 of the result through 36 products instead of 144. Matrices from Toom and Cook's interpolation at points of
alternating sign and unlike size, which keep nearly the rounding error of the direct sum where the usual 0, 1, -1, 2,
-2 have five times as much (Barabasz et al., 'Error analysis and improving the accuracy of Winograd convolution for
deep neural networks', ACM TOMS 2020).
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

#: Pixels a side of the result and of the input of a tile.
OUT, IN = 4, 6
POINTS = (0.0, 0.625, -0.625, 1.5, -1.5)  # and infinity
#: With fewer channels the transforms cost what the products save.
CHANNELS = 96
#: Pixels for each channel of the input, below which transforming the kernels costs what the products save.
PIXELS = 4
#: Tiles worked on at a time: their 36 matrices stay in the shared cache.
TILES = 160


def pays(x: Tensor, weight: Tensor) -> bool:
    """`convolved` is faster than the direct sum for x [N, in, H, W] and weight [out, in, 3, 3].

    In bfloat16 the direct sum is as fast; the transforms would need float32, and more memory.
    """
    out, wide = weight.shape[:2]
    large = x.shape[-2] * x.shape[-1] >= PIXELS * wide and min(out, wide) >= CHANNELS
    return large and x.device.type == "cpu" and weight.dtype == torch.float32


@lru_cache(maxsize=1)
def matrices() -> tuple[Tensor, Tensor, Tensor]:
    """float64 (into [6, 6], kernel [6, 3], back [4, 6]): back ((kernel g) * (into d)) = g correlated with d."""
    points = torch.tensor(POINTS, dtype=torch.float64)
    into, kernel, back = (torch.zeros(n, m, dtype=torch.float64) for n, m in ((IN, IN), (IN, 3), (OUT, IN)))
    for i, point in enumerate(points):
        others = torch.cat([points[:i], points[i + 1 :]])
        into[i, :-1] = _coefficients(others)
        kernel[i] = point ** torch.arange(3) / (point - others).prod()
        back[:, i] = point ** torch.arange(OUT)
    into[-1] = _coefficients(points)
    kernel[-1, -1] = back[-1, -1] = 1.0
    return into, kernel, back


def _coefficients(roots: Tensor) -> Tensor:
    """Of the monic polynomial with these roots, from the constant up."""
    found = roots.new_ones(1)
    for root in roots:
        found = F.pad(found, (1, 0)) - root * F.pad(found, (0, 1))
    return found


def convolved(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """conv2d(x, weight, bias, padding=1), 3x3, all in float32, channels last.

    x [N, in, H, W] to [N, out, H, W]. Differs from the direct sum by rounding: at most 3e-6 of the largest value.
    """
    into, kernel, back = (m.to(torch.float32) for m in matrices())
    count, wide, height, width = x.shape
    out = len(weight)
    down, across = -(-height // OUT), -(-width // OUT)
    nhwc = x.permute(0, 2, 3, 1)
    taps = weight.permute(3, 2, 1, 0).reshape(9, -1)
    kernels = (torch.kron(kernel, kernel) @ taps).view(IN * IN, wide, out)  # column, then row of the transform
    result = nhwc.new_empty(count, height, width, out)
    step = max(1, min(down, TILES // across))
    one, other = nhwc.new_empty(2, IN * IN * step * across * max(wide, out))
    for image, found in zip(nhwc, result, strict=True):
        for first in range(0, down, step):
            rows = min(step, down - first)
            tiles = rows * across
            padded = _padded(image, first * OUT, rows * OUT, across * OUT)
            line = padded.shape[1] * wide
            lines = torch.matmul(into, padded.as_strided((rows, IN, line), (OUT * line, line, 1)))
            strides = (wide, line, IN * line, OUT * wide, 1)  # column and row in the tile, tile's row and column
            spread = one[: IN * IN * tiles * wide].view(IN, IN, rows, across, wide)
            spread.copy_(lines.as_strided((IN, IN, rows, across, wide), strides))
            tile = torch.mm(into, spread.view(IN, -1), out=other[: spread.numel()].view(IN, -1))
            product = one[: IN * IN * tiles * out].view(IN * IN, tiles, out)
            torch.bmm(tile.view(IN * IN, tiles, wide), kernels, out=product)
            half = torch.mm(back, product.view(IN, -1), out=other[: OUT * IN * tiles * out].view(OUT, -1))
            whole = torch.matmul(back, half.view(OUT, IN, -1)).view(OUT, OUT, rows, across, out)
            _placed(whole.permute(2, 1, 3, 0, 4), bias, found[first * OUT : (first + rows) * OUT])
    return result.permute(0, 3, 1, 2)


def _padded(image: Tensor, first: int, rows: int, columns: int) -> Tensor:
    """[rows + 2, columns + 2, C] of image [H, W, C] from the row before `first` on, zeros around it."""
    height, width = image.shape[:2]
    padded = image.new_zeros(rows + 2, columns + 2, image.shape[2])
    start, stop = max(first - 1, 0), min(first + rows + 1, height)
    padded[start - first + 1 : stop - first + 1, 1 : width + 1] = image[start:stop]
    return padded


def _placed(tiles: Tensor, bias: Tensor | None, rows: Tensor) -> None:
    """Tiles [down, 4, across, 4, C] plus bias into rows [h, W, C], which may end inside the last tiles."""
    height, width, channels = rows.shape
    if tiles.shape[0] * OUT != height or tiles.shape[2] * OUT != width:
        tiles = tiles.reshape(tiles.shape[0] * OUT, tiles.shape[2] * OUT, channels)[:height, :width]
    else:
        rows = rows.view(tiles.shape)
    if bias is None:
        rows.copy_(tiles)
    else:
        torch.add(tiles, bias, out=rows)
