"""Procedural textures with the statistics of natural images: power-law noise, dead leaves, and what people build.

Natural images have amplitude spectra that fall with frequency to the power of about -1 (Field, 1987) and edges between
occluding things whose radii follow r^-3 (the dead leaves model; Lee, Mumford and Huang, 2001). All textures tile.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from spatial_fm_ros.training.worlds.random import Draw

#: Shares of a bank's textures, in this order. `plain` walls are what makes rooms hard.
SHARES = {"noise": 0.22, "leaves": 0.2, "rectangles": 0.16, "tiles": 0.16, "planks": 0.12, "plain": 0.14}
LEAVES = 160


@dataclass(frozen=True, eq=False)
class Bank:
    """count textures of size x size with all their mip levels in one table [texels, 3], linear RGB in [0, 1]."""

    texels: Tensor
    count: int
    size: int

    @property
    def levels(self) -> int:
        return int(math.log2(self.size)) + 1

    def sample(self, texture: Tensor, uv: Tensor, lod: Tensor) -> Tensor:
        """Colours [N, 3] of textures int64 [N] at uv [N, 2] (1 = one tile, repeated), trilinear at level lod [N]."""
        lod = lod.clamp(0, self.levels - 1)
        lower = lod.floor().clamp(max=self.levels - 2)
        fine, coarse = (self._bilinear(texture, uv, lower.long() + up) for up in (0, 1))
        return torch.lerp(fine, coarse, (lod - lower)[:, None])

    def _bilinear(self, texture: Tensor, uv: Tensor, level: Tensor) -> Tensor:
        side = torch.bitwise_right_shift(torch.full_like(level, self.size), level)
        # Texels of the levels before: count * (size^2 + ... ) is a geometric series of factor 1/4.
        before = self.count * (4 * self.size**2 - 4 * side * side) // 3
        base = before + texture * side * side
        at = (uv - uv.floor()) * side[:, None] - 0.5
        corner = at.floor()
        weight = at - corner
        x0, y0 = (corner.long() % side[:, None]).unbind(-1)
        x1, y1 = (x0 + 1) % side, (y0 + 1) % side
        wx, wy = weight[:, :1], weight[:, 1:]
        above = torch.lerp(self._at(base + y0 * side + x0), self._at(base + y0 * side + x1), wx)
        below = torch.lerp(self._at(base + y1 * side + x0), self._at(base + y1 * side + x1), wx)
        return torch.lerp(above, below, wy)

    def _at(self, index: Tensor) -> Tensor:
        return self.texels.index_select(0, index).float()


def make_bank(draw: Draw, count: int, size: int) -> Bank:
    """A fresh bank; half precision on a GPU."""
    makers = {
        "noise": _noise,
        "leaves": _leaves,
        "rectangles": _rectangles,
        "tiles": _tiles,
        "planks": _planks,
        "plain": _plain,
    }
    ends = torch.tensor([0.0, *SHARES.values()]).cumsum(0) * count
    parts = []
    for i, name in enumerate(SHARES):
        share = int(ends[i + 1].round()) - int(ends[i].round())
        if share > 0:
            parts.append(makers[name](draw, share, size))
    image = torch.cat(parts).clamp(0, 1)
    # Fine grain on everything: real surfaces have some.
    grain = power_noise(draw, count, size, 0.6)[:, None] * draw.uniform(0.0, 0.05, count, 1, 1, 1)
    image = (image + grain).clamp(0, 1)
    levels = [image]
    while levels[-1].shape[-1] > 1:
        levels.append(F.avg_pool2d(levels[-1], 2))
    texels = torch.cat([level.permute(0, 2, 3, 1).reshape(-1, 3) for level in levels])
    return Bank(texels.half() if draw.device.type == "cuda" else texels, count, size)


def power_noise(draw: Draw, count: int, size: int, exponent: float | Tensor) -> Tensor:
    """Noise [count, size, size] of mean 0 and deviation 1, amplitude falling as frequency^-exponent; it tiles."""
    frequency_y = torch.fft.fftfreq(size, device=draw.device)[:, None]
    frequency_x = torch.fft.rfftfreq(size, device=draw.device)
    radius = torch.hypot(frequency_y, frequency_x).clamp(min=1.0 / size)
    power = torch.as_tensor(exponent, dtype=torch.float32, device=draw.device).expand(count)
    white = draw.normal(count, size, size)
    shaped = torch.fft.irfft2(torch.fft.rfft2(white) * radius ** -power[:, None, None], s=(size, size))
    shaped = shaped - shaped.mean((1, 2), keepdim=True)
    return shaped / shaped.std((1, 2), keepdim=True).clamp(min=1e-6)


def palette(draw: Draw, *shape: int) -> Tensor:
    """Colours [*shape, 3] in linear light: log-normal lightness and little saturation, as most surfaces have."""
    lightness = (0.28 * (0.6 * draw.normal(*shape, 1)).exp()).clamp(0.02, 0.9)
    hue = draw.normal(*shape, 3) * draw.uniform(0.02, 0.3, *shape, 1)
    return (lightness * hue.exp()).clamp(0.01, 0.95)


def _between(mask: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Colours [n, 3, s, s] of mask [n, s, s] in [0, 1] between colours [n, 3]."""
    return torch.lerp(low[..., None, None], high[..., None, None], mask[:, None])


def _noise(draw: Draw, count: int, size: int) -> Tensor:
    """Stone, cloth, grass, clouds: three colours mixed by power-law noise."""
    exponent = draw.uniform(0.7, 1.7, count)
    mask = torch.sigmoid(power_noise(draw, count, size, exponent) * draw.uniform(0.7, 4.0, count, 1, 1))
    image = _between(mask, palette(draw, count), palette(draw, count))
    second = torch.sigmoid(6.0 * (power_noise(draw, count, size, exponent) - draw.uniform(0.5, 2.0, count, 1, 1)))
    return torch.lerp(image, palette(draw, count)[..., None, None].expand_as(image), second[:, None])


def _scatter(draw: Draw, count: int, size: int, square: bool) -> Tensor:
    """Opaque shapes on each other, radii by r^-3; each has a shade across it."""
    at = (torch.arange(size, device=draw.device) + 0.5) / size
    low, high = 1.5 / size, 0.3
    unit = draw.uniform(0.0, 1.0, count, LEAVES)
    radius = (low**-2 + unit * (high**-2 - low**-2)) ** -0.5
    # Painted from the largest down, or the large would hide the rest: order within a bank is by chance otherwise.
    radius = torch.where(draw.chance(0.5, count, 1), radius.sort(dim=1, descending=True).values, radius)
    center = draw.uniform(0.0, 1.0, count, LEAVES, 2)
    stretch = draw.log_uniform(0.4, 2.5, count, LEAVES)
    turn = draw.uniform(0, math.pi, count, LEAVES) * (0.0 if square else 1.0)
    color, shade = palette(draw, count, LEAVES), draw.uniform(-0.6, 0.6, count, LEAVES)
    image = palette(draw, count)[..., None, None].expand(-1, -1, size, size).clone()
    for i in range(LEAVES):
        across = (at - center[:, i, 0, None] + 0.5) % 1.0 - 0.5
        down = (at - center[:, i, 1, None] + 0.5) % 1.0 - 0.5
        x, y = across[:, None, :], down[:, :, None]
        cosine, sine = turn[:, i].cos()[:, None, None], turn[:, i].sin()[:, None, None]
        a = (cosine * x + sine * y) / (radius[:, i] * stretch[:, i])[:, None, None]
        b = (cosine * y - sine * x) / (radius[:, i] / stretch[:, i])[:, None, None]
        inside = (torch.maximum(a.abs(), b.abs()) if square else a * a + b * b) < 1.0
        shaded = color[:, i, :, None, None] * (1.0 + shade[:, i, None, None, None] * a[:, None].clamp(-1, 1))
        image = torch.where(inside[:, None], shaded, image)
    return image.clamp(0.01, 0.95)


def _leaves(draw: Draw, count: int, size: int) -> Tensor:
    """Dead leaves: clutter, foliage, gravel."""
    return _scatter(draw, count, size, square=False)


def _rectangles(draw: Draw, count: int, size: int) -> Tensor:
    """Upright rectangles on each other: posters, shelves, signs, print."""
    return _scatter(draw, count, size, square=True)


def _cells(draw: Draw, count: int, size: int, rows: Tensor, columns: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """A number in [0, 1) for the cell of every pixel and its distance to the cell's border as a share of the tile.

    rows, columns [count] whole; shift [count]: how far every other row is moved, as a share of a cell.
    """
    at = (torch.arange(size, device=draw.device) + 0.5) / size
    y = at[None, :, None] * rows[:, None, None]
    row = y.floor()
    x = at[None, None, :] * columns[:, None, None] + shift[:, None, None] * (row % 2)
    column = x.floor() % columns[:, None, None]
    number = torch.frac((torch.sin(row * 12.9898 + column * 78.233 + draw.uniform(0, 9, count, 1, 1)) * 43758.5).abs())
    fx, fy = torch.frac(x), torch.frac(y)
    gap_x = torch.minimum(fx, 1 - fx) / columns[:, None, None]
    gap_y = torch.minimum(fy, 1 - fy) / rows[:, None, None]
    return number, torch.minimum(gap_x, gap_y)


def _built(draw: Draw, count: int, size: int, rows: Tensor, columns: Tensor, shift: Tensor) -> Tensor:
    """Cells of one material with joints: cells differ a little or much, and have wear."""
    number, gap = _cells(draw, count, size, rows, columns, shift)
    joint = torch.sigmoid((draw.uniform(0.002, 0.02, count, 1, 1) - gap) * size)
    image = _between(number * draw.uniform(0.1, 1.0, count, 1, 1), palette(draw, count), palette(draw, count))
    wear = 0.15 * draw.uniform(0.0, 1.0, count, 1, 1) * power_noise(draw, count, size, 1.0)
    image = image * (1 + wear[:, None])
    return torch.lerp(image, palette(draw, count)[..., None, None].expand_as(image), joint[:, None])


def _tiles(draw: Draw, count: int, size: int) -> Tensor:
    """Tiles, bricks, panes, fronts of houses."""
    rows = 2.0 * draw.index(6, count) + 2.0
    columns = draw.index(8, count) + 1.0
    return _built(draw, count, size, rows, columns, 0.5 * draw.chance(0.5, count).float())


def _planks(draw: Draw, count: int, size: int) -> Tensor:
    """Boards with grain along them, either way."""
    rows, columns = 2.0 * draw.index(8, count) + 4.0, draw.index(2, count) + 1.0
    image = _built(draw, count, size, rows, columns, draw.uniform(0, 1, count))
    grain = power_noise(draw, count, size, 0.9)
    smeared = torch.stack([grain.roll(k, dims=2) for k in range(0, 24, 3)]).mean(0)
    image = image * (1 + 0.25 * smeared[:, None])
    upright = draw.chance(0.5, count)[:, None, None, None]
    return torch.where(upright, image.transpose(2, 3), image)


def _plain(draw: Draw, count: int, size: int) -> Tensor:
    """Painted walls: one colour with stains that are hard to see."""
    stains = power_noise(draw, count, size, 1.4)
    strength = draw.log_uniform(0.002, 0.08, count, 1, 1, 1)
    light = palette(draw, count).clamp(min=0.15)
    return light[..., None, None] * (1 + strength * stains[:, None])
