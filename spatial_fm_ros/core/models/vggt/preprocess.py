"""Images to VGGT's input as its published loaders make them, and where every pixel went.

The loaders are what published results were made with; the pipeline keeps all pixels of a robot's camera instead
(foundation/images.py). Arrays are resized by Pillow, like there, to the same grey levels. Tensors are
resized on their device by torch, whose bicubic has the same kernel but rounds once instead of twice: mostly equal,
some pixels one level apart, more where a sharp edge is enlarged.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as Picture
from torch import Tensor
from torch.nn import functional as F

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.models.foundation.images import Canvas, Placement

PATCH = 14
#: By the name that all versions of Pillow know.
BICUBIC = Picture.BICUBIC  # type: ignore[attr-defined]
TARGET = 518
SQUARE_TARGET = 1024
WHITE = 1.0


def crop_size(width: int, height: int, target: int = TARGET) -> tuple[int, int]:
    """(width, height) after resizing an image to `target` columns; rows beyond `target` are cropped afterwards.

    Raises InputError for a panorama so flat that less than half a patch of rows would be left.
    """
    return target, _patches(height * (target / width), (width, height), target)


def pad_size(width: int, height: int, target: int = TARGET) -> tuple[int, int]:
    """(width, height) after resizing an image so that its larger side is `target`. Raises as crop_size does."""
    if width >= height:
        return crop_size(width, height, target)
    return _patches(width * (target / height), (width, height), target), target


def load(images: Sequence[NDArray[np.uint8] | Tensor], mode: str = "crop", target: int = TARGET) -> Canvas:
    """The network's input, values k/255, for images of any sizes; images of the smaller ones lie on white.

    images: RGB, RGBA (laid on white) or grey uint8 arrays [h, w(, c)], or tensors [3, h, w] of uint8 or floats in
    [0, 1], all of which stay on the device of the first. mode: 'crop' fills `target` columns and
    cuts what is higher than that at top and bottom; 'pad' keeps everything on a white square. Placements count the
    source's full size: a crop has a negative `top`. Raises InputError for anything else.
    """
    if mode not in ("crop", "pad"):
        raise InputError(f"VGGT's loader knows the modes crop and pad, got '{mode}'.")
    if not len(images):
        raise InputError("VGGT's loader needs at least one image, got none.")
    resized_size = crop_size if mode == "crop" else pad_size
    opened = [_opened(image) for image in images]
    sizes = [resized_size(*_size(image), target) for image in opened]
    cuts = [max(0, height - target) // 2 if mode == "crop" else 0 for _, height in sizes]
    pixels = [
        _resized(image, *size)[:, cut : cut + target] for image, size, cut in zip(opened, sizes, cuts, strict=True)
    ]
    columns = target if mode == "pad" else max(view.shape[-1] for view in pixels)
    rows = target if mode == "pad" else max(view.shape[-2] for view in pixels)
    canvas = pixels[0].new_full((len(pixels), 3, rows, columns), WHITE)
    placements = []
    for number, view in enumerate(pixels):
        left, top = (columns - view.shape[-1]) // 2, (rows - view.shape[-2]) // 2
        canvas[number, :, top : top + view.shape[-2], left : left + view.shape[-1]] = view
        placements.append(Placement(left, top - cuts[number], *sizes[number], *_size(opened[number])))
    return Canvas(canvas, tuple(placements))


def load_square(images: Sequence[NDArray[np.uint8]], target: int = SQUARE_TARGET) -> tuple[Tensor, NDArray[np.float32]]:
    """Arrays as `load` takes them, centred on black squares, float32 [N, 3, target, target], and float32 [N, 6]:
    where the image lies on it, x1, y1, x2, y2, and its own width and height."""
    if not len(images):
        raise InputError("VGGT's loader needs at least one image, got none.")
    squares, boxes = [], []
    for image in images:
        array = _opened(image)
        if isinstance(array, Tensor):
            raise InputError("VGGT's square loader takes arrays, got a tensor; pass image.numpy() or use load().")
        width, height = _size(array)
        side = max(width, height)
        left, top = (side - width) // 2, (side - height) // 2
        square = np.zeros((side, side, 3), dtype=np.uint8)
        square[top : top + height, left : left + width] = array
        squares.append(_resized(square, target, target))
        scale = target / side
        boxes.append([left * scale, top * scale, (left + width) * scale, (top + height) * scale, width, height])
    return torch.stack(squares), np.array(boxes, dtype=np.float32)


def _patches(length: float, source: tuple[int, int], target: int) -> int:
    rounded = round(length / PATCH) * PATCH
    if not rounded:
        raise InputError(
            f"An image of {source[0]}x{source[1]} would be less than half a patch of {PATCH} pixels wide or high at "
            f"{target} pixels; cut it into parts or crop it to a milder aspect."
        )
    return rounded


def _opened(image: NDArray[np.uint8] | Tensor) -> NDArray[np.uint8] | Tensor:
    """An RGB array [h, w, 3], or the tensor [3, h, w] as it is."""
    if isinstance(image, Tensor):
        if image.ndim != 3 or image.shape[0] != 3 or 0 in image.shape:
            raise InputError(f"VGGT's loader needs tensors [3, h, w], got {list(image.shape)}.")
        if image.dtype != torch.uint8 and not image.dtype.is_floating_point:
            raise InputError(f"VGGT's loader needs tensors of uint8 or of floats in [0, 1], got {image.dtype}.")
        return image
    array = np.ascontiguousarray(image)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or 0 in array.shape or array.dtype != np.uint8:
        raise InputError(
            f"VGGT's loader needs uint8 arrays [h, w], [h, w, 3] or [h, w, 4], got {array.dtype} {list(array.shape)}."
        )
    if array.shape[2] == 1:
        return np.repeat(array, 3, axis=2)
    if array.shape[2] == 4:
        picture = Picture.fromarray(array)
        white = Picture.new("RGBA", picture.size, (255, 255, 255, 255))
        return np.asarray(Picture.alpha_composite(white, picture).convert("RGB"))
    return array


def _size(image: NDArray[np.uint8] | Tensor) -> tuple[int, int]:
    height, width = image.shape[-2:] if isinstance(image, Tensor) else image.shape[:2]
    return int(width), int(height)


def _resized(image: NDArray[np.uint8] | Tensor, width: int, height: int) -> Tensor:
    """float32 [3, height, width] in [0, 1] by an antialiased bicubic."""
    if isinstance(image, Tensor):
        levels = image.float() * (1.0 if image.dtype == torch.uint8 else 255.0)
        levels = F.interpolate(levels[None], size=(height, width), mode="bicubic", antialias=True)[0]
        return levels.round().clamp(0, 255) / 255
    picture = Picture.fromarray(image).resize((width, height), BICUBIC)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255
