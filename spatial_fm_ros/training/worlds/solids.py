"""Convex bodies of many scenes and where rays enter and leave them.

All kinds share one form: a unit body (cube of half edge 1, cylinder of radius 1 about z with |z| <= 1, ball of radius
1) stretched by `half`, turned and moved. In the body's stretched axes every kind is an interval of the ray.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

#: Slots of every kind in a scene, in this order. The room is a box seen from inside, around everything.
SLOTS = {"box": 32, "cylinder": 12, "ball": 8, "room": 1}
FACES = 6  # -x, x, -y, y, -z, z of the body's own axes
TINY = 1e-12


@dataclass(frozen=True, eq=False)
class Solids:
    """K slots of B scenes. center, velocity [B, K, 3] (velocity per view), rotation [B, K, 3, 3] world_from_body,
    half [B, K, 3], present bool [B, K]; texture int64 [B, K, FACES], tile [B, K] metres a texture covers, tint
    [B, K, 3], gloss [B, K]."""

    center: Tensor
    rotation: Tensor
    half: Tensor
    velocity: Tensor
    present: Tensor
    texture: Tensor
    tile: Tensor
    tint: Tensor
    gloss: Tensor

    def map(self, change: Callable[[Tensor], Tensor]) -> Solids:
        """The same change made to every field."""
        return Solids(**{f.name: change(getattr(self, f.name)) for f in fields(self)})


def kind_slices(slots: dict[str, int]) -> dict[str, slice]:
    """Where the slots of every kind lie."""
    found, start = {}, 0
    for kind, count in slots.items():
        found[kind] = slice(start, start + count)
        start += count
    return found


Axes = tuple[Tensor, Tensor, Tensor]
Interval = tuple[Tensor, Tensor]


def _slab(origin: Tensor, direction: Tensor) -> Interval:
    """Where one axis is within [-1, 1]. A ray within a face would give 0 / 0, so none has exactly no direction."""
    inverse = (direction + TINY).reciprocal()
    middle, reach = -origin * inverse, inverse.abs()
    return middle - reach, middle + reach


def _round(square: Tensor, along: Tensor, cross_square: Tensor) -> Interval:
    """Where a ray is within distance 1: |d|^2, o.d and |o x d|^2. The discriminant |d|^2 - |o x d|^2 keeps its digits
    for thin bodies far away, where (o.d)^2 - |d|^2 (|o|^2 - 1) loses them. A miss is an empty interval."""
    inverse = square.clamp(min=TINY).reciprocal()
    discriminant = square - cross_square
    root = discriminant.clamp(min=0).sqrt() * inverse
    middle = -along * inverse
    missed = discriminant < 0
    return torch.where(missed, torch.inf, middle - root), torch.where(missed, -torch.inf, middle + root)


def box(o: Axes, d: Axes) -> Interval:
    """Entry and exit of a cube of half edge 1; empty (entry > exit) for a miss."""
    (x0, x1), (y0, y1), (z0, z1) = (_slab(a, b) for a, b in zip(o, d, strict=True))
    return torch.maximum(torch.maximum(x0, y0), z0), torch.minimum(torch.minimum(x1, y1), z1)


def cylinder(o: Axes, d: Axes) -> Interval:
    """Entry and exit of a closed cylinder of radius 1 about z, |z| <= 1."""
    cross = o[0] * d[1] - o[1] * d[0]
    near, far = _round(d[0] * d[0] + d[1] * d[1], o[0] * d[0] + o[1] * d[1], cross * cross)
    z0, z1 = _slab(o[2], d[2])
    return torch.maximum(near, z0), torch.minimum(far, z1)


def ball(o: Axes, d: Axes) -> Interval:
    """Entry and exit of a ball of radius 1."""
    x, y, z = o[1] * d[2] - o[2] * d[1], o[2] * d[0] - o[0] * d[2], o[0] * d[1] - o[1] * d[0]
    square = d[0] * d[0] + d[1] * d[1] + d[2] * d[2]
    return _round(square, o[0] * d[0] + o[1] * d[1] + o[2] * d[2], x * x + y * y + z * z)


INTERVALS: dict[str, Callable[[Axes, Axes], Interval]] = {"box": box, "cylinder": cylinder, "ball": ball, "room": box}
