"""Images to the network's input as published results were made, and intrinsics to and from it.

The pipeline keeps all pixels of a robot's camera instead (foundation/images.py) and takes `normalised` from here.
Intrinsics here count pixels from the image's corner: pixel (0, 0) covers [0, 1) x [0, 1), so a resize multiplies
rows of K and nothing else. K with pixel centres at integers, as everywhere else in this package, has a principal
point that is half a pixel smaller on both sides of the conversion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from spatial_fm_ros.core.errors import ConfigError, InputError
from spatial_fm_ros.core.models.depth_anything_3.presets import PATCH
from spatial_fm_ros.core.types import Array

METHODS = ("upper_bound_resize", "upper_bound_crop", "lower_bound_resize", "lower_bound_crop")
RESOLUTION = 504
#: Of ImageNet's RGB in [0, 1].
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Processing:
    """What is done to an image, sizes as (width, height): resized to `bounded`, then to `fitted`, of which the
    rectangle `size` from (left, top) is kept."""

    source: tuple[int, int]
    bounded: tuple[int, int]
    fitted: tuple[int, int]
    size: tuple[int, int]
    left: int = 0
    top: int = 0

    def cropped(self, size: tuple[int, int]) -> Processing:
        """The same with the middle `size` of it kept."""
        left, top = self.left + (self.size[0] - size[0]) // 2, self.top + (self.size[1] - size[1]) // 2
        return Processing(self.source, self.bounded, self.fitted, size, left, top)

    def apply(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """uint8 [h, w, 3] of the source size to the kept rectangle."""
        image = _resized(_resized(image, self.bounded), self.fitted)
        return image[self.top : self.top + self.size[1], self.left : self.left + self.size[0]]

    def intrinsics(self, K: ArrayLike) -> Array:
        """K [..., 3, 3] of the source as that of the result; both count from the corner."""
        moved = np.array(K, dtype=np.float64)
        moved[..., 0, :] *= self.fitted[0] / self.source[0]
        moved[..., 1, :] *= self.fitted[1] / self.source[1]
        moved[..., :2, 2] -= (self.left, self.top)
        return moved

    def source_intrinsics(self, K: ArrayLike) -> Array:
        """Undoes `intrinsics`: K [..., 3, 3] of the result as that of the source."""
        moved = np.array(K, dtype=np.float64)
        moved[..., :2, 2] += (self.left, self.top)
        moved[..., 0, :] *= self.source[0] / self.fitted[0]
        moved[..., 1, :] *= self.source[1] / self.fitted[1]
        return moved


@dataclass(frozen=True, eq=False)
class Processed:
    """images float32 [N, 3, H, W], normalised; steps: how each was made; intrinsics float32 [N, 3, 3] or None."""

    images: Tensor
    steps: tuple[Processing, ...]
    intrinsics: Tensor | None


def processing(width: int, height: int, resolution: int = RESOLUTION, method: str = "upper_bound_resize") -> Processing:
    """How an image of this size is brought to sides that are multiples of 14.

    upper_bound: the long side becomes `resolution`, lower_bound: the short one. resize: both sides go to the
    nearest multiple (up when in the middle), crop: to the next lower one, around the centre.
    Raises ConfigError for an unknown method, InputError where a side would vanish.
    """
    if method not in METHODS:
        raise ConfigError(f"Unknown processing method '{method}'; expected one of {', '.join(METHODS)}.")
    side = max(width, height) if method.startswith("upper") else min(width, height)
    bounded = width, height
    if side != resolution:
        scale = resolution / side
        bounded = max(1, round(width * scale)), max(1, round(height * scale))
    if method.endswith("crop"):
        size = bounded[0] // PATCH * PATCH, bounded[1] // PATCH * PATCH
        whole = Processing((width, height), bounded, bounded, bounded)
        steps = whole.cropped(size)
    else:
        size = _nearest_multiple(bounded[0]), _nearest_multiple(bounded[1])
        steps = Processing((width, height), bounded, size, size)
    if 0 in size:
        raise InputError(
            f"An image of {width}x{height} is {bounded[0]}x{bounded[1]} at {resolution} pixels, which leaves a side "
            f"without a patch of {PATCH} pixels; cut it into parts or crop it to a milder aspect."
        )
    return steps


def preprocess(
    images: Sequence[NDArray[np.uint8]],
    intrinsics: ArrayLike | None = None,
    resolution: int = RESOLUTION,
    method: str = "upper_bound_resize",
) -> Processed:
    """RGB images uint8 [h, w, 3] (grey is replicated, alpha dropped) of any sizes to one tensor.

    Images that come out different are cut to the smallest width and height around their centres.
    intrinsics [N, 3, 3] of the images, counted from the corner. Raises InputError, ConfigError.
    """
    if not len(images):
        raise InputError("Depth Anything 3 needs at least one image, got none.")
    opened = [_rgb(image) for image in images]
    steps = [processing(image.shape[1], image.shape[0], resolution, method) for image in opened]
    common = min(step.size[0] for step in steps), min(step.size[1] for step in steps)
    steps = [step.cropped(common) for step in steps]
    pixels = np.stack([step.apply(image) for step, image in zip(steps, opened)])
    moved: Tensor | None = None
    if intrinsics is not None:
        K = np.asarray(intrinsics, dtype=np.float64)
        if K.shape != (len(images), 3, 3):
            raise InputError(f"{len(images)} images need intrinsics [{len(images)}, 3, 3], got {list(K.shape)}.")
        moved = torch.from_numpy(np.stack([s.intrinsics(k) for s, k in zip(steps, K)]).astype(np.float32))
    levels = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    return Processed(normalised(levels.float() / 255), tuple(steps), moved)


def normalised(images: Tensor) -> Tensor:
    """RGB [..., 3, H, W] in [0, 1] as the network takes it, on the same device."""
    mean, deviation = (images.new_tensor(values)[:, None, None] for values in (MEAN, DEVIATION))
    return (images - mean) / deviation


def _nearest_multiple(side: int) -> int:
    return (side + PATCH // 2) // PATCH * PATCH


def _resized(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Bicubic where a side grows, otherwise by area."""
    height, width = image.shape[:2]
    if size == (width, height):
        return image
    grows = size[0] > width or size[1] > height
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_CUBIC if grows else cv2.INTER_AREA))


def _rgb(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    array = np.asarray(image)
    if array.ndim == 2:
        array = array[..., None]
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] not in (1, 3, 4) or 0 in array.shape:
        raise InputError(
            "Depth Anything 3 needs images uint8 [h, w], [h, w, 3] RGB or [h, w, 4] RGBA, got "
            f"{array.dtype} {list(array.shape)}."
        )
    if array.shape[2] == 1:
        array = np.repeat(array, 3, axis=2)
    return np.ascontiguousarray(array[..., :3])
