"""Keyframe images to the network's canvas and depth back to the pipeline's grid, with the intrinsics of both.

Every pixel of the robot's camera is kept: an image is resized so that its long side is the network's, the other
side to the nearest multiple of the patch (at most half a patch of stretch, which the intrinsics follow), and
images of another aspect are centred on the common canvas. Sizes are (width, height), pixel centres at integers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from spatial_fm_ros.core.errors import ModelError
from spatial_fm_ros.core.types import Array, Camera

PATCH = 14


@dataclass(frozen=True)
class Placement:
    """Where a keyframe's image, `source_width` x `source_height`, lies on the canvas after resizing."""

    left: int
    top: int
    width: int
    height: int
    source_width: int
    source_height: int

    @property
    def rows(self) -> slice:
        return slice(self.top, self.top + self.height)

    @property
    def columns(self) -> slice:
        return slice(self.left, self.left + self.width)

    def K_on_canvas(self, camera: Camera) -> Array:
        """Intrinsics [3, 3] on the canvas of the keyframe's own camera."""
        K = camera.resized(self.width, self.height).K
        K[:2, 2] += (self.left, self.top)
        return K

    def K_on_grid(self, K: Array, grid: tuple[int, int]) -> Array:
        """Intrinsics [3, 3] of the canvas to those of `grid`, which shows just this image."""
        cut = K.copy()
        cut[:2, 2] -= (self.left, self.top)
        return Camera(self.width, self.height, cut).resized(*grid).K


@dataclass(frozen=True, eq=False)
class Canvas:
    """images float32 [N, 3, height, width] in [0, 1] on the device, and where each came from."""

    images: Tensor
    placements: tuple[Placement, ...]

    @property
    def size(self) -> tuple[int, int]:
        return self.images.shape[-1], self.images.shape[-2]


def grid_size(width: int, height: int, long_side: int) -> tuple[int, int]:
    """Size of an image for the network: long side `long_side`, both sides multiples of the patch, one at least."""
    scale = long_side / max(width, height)
    w, h = (max(PATCH, PATCH * round(side * scale / PATCH)) for side in (width, height))
    return w, h


def place(sizes: Sequence[tuple[int, int]], long_side: int) -> tuple[tuple[int, int], tuple[Placement, ...]]:
    """The smallest canvas that holds images of these sizes, and each one's place, centred on it."""
    resized = [grid_size(w, h, long_side) for w, h in sizes]
    width, height = max(w for w, _ in resized), max(h for _, h in resized)
    places = tuple(
        Placement((width - w) // 2, (height - h) // 2, w, h, *source)
        for (w, h), source in zip(resized, sizes, strict=True)
    )
    return (width, height), places


def draw(images: Sequence[NDArray[np.generic]], long_side: int, device: torch.device, margin: float) -> Canvas:
    """The network's input for RGB images [h, w, 3], uint8 or floats in [0, 1], of any sizes and memory layout.

    Resized on the device, bicubic with antialiasing; around images of another aspect the canvas has the grey
    value `margin`. NaN pixels stay NaN. Raises ModelError for arrays that are no such images.
    """
    if not images:
        raise ModelError("A window without keyframes was given to the model; at least one is needed.")
    for image in images:
        if image.ndim != 3 or image.shape[2] != 3 or not min(image.shape) or image.dtype.kind not in "uf":
            raise ModelError(
                "The model needs RGB images [height, width, 3] of uint8 or of floats in [0, 1], got "
                f"{image.dtype} {list(image.shape)}."
            )
    (width, height), places = place([(image.shape[1], image.shape[0]) for image in images], long_side)
    canvas = torch.full((len(images), 3, height, width), margin, dtype=torch.float32, device=device)
    for target, image, at in zip(canvas, images, places, strict=True):
        target[:, at.rows, at.columns] = _resized(image, (at.height, at.width), device)
    return Canvas(canvas, places)


def to_grid(values: NDArray[np.generic], at: Placement, grid: tuple[int, int]) -> NDArray[np.generic]:
    """A map [height, width] of the canvas as `grid` sees it: the image's part, nearest pixels where resized."""
    part = values[at.rows, at.columns]
    width, height = grid
    if (at.width, at.height) == grid:
        return part
    rows = np.clip(np.rint((np.arange(height) + 0.5) * at.height / height - 0.5), 0, at.height - 1).astype(np.int64)
    columns = np.clip(np.rint((np.arange(width) + 0.5) * at.width / width - 0.5), 0, at.width - 1).astype(np.int64)
    return part[np.ix_(rows, columns)]


def _resized(image: NDArray[np.generic], size: tuple[int, int], device: torch.device) -> Tensor:
    """[3, *size] in [0, 1]; uint8 images keep to whole grey levels, as image files resized by others do."""
    pixels = torch.as_tensor(np.ascontiguousarray(image)).to(device).permute(2, 0, 1)[None]
    levels = pixels.float() if pixels.dtype == torch.uint8 else pixels.float() * 255.0
    if levels.shape[-2:] != size:
        levels = F.interpolate(levels, size=size, mode="bicubic", align_corners=False, antialias=True).clamp(0, 255)
    if pixels.dtype == torch.uint8:
        levels = levels.round()
    return levels[0] / 255.0
