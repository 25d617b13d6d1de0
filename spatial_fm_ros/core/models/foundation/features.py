"""What a network has seen in single keyframes, kept for the next window: windows share keyframes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from spatial_fm_ros.core.models.foundation.images import Canvas
from spatial_fm_ros.core.types import Keyframe

#: Everything a network keeps of one view, each [1, ...].
Features = tuple[Tensor, ...]


class FeatureCache:
    """Features of the last window's keyframes by id, for a network whose first part sees every image alone."""

    def __init__(self) -> None:
        self._kept: dict[tuple[object, ...], Features] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def clear(self) -> None:
        self._kept.clear()

    def look(
        self, keyframes: Sequence[Keyframe], canvas: Canvas, embed: Callable[[Tensor], Features]
    ) -> tuple[Tensor, ...]:
        """Features of all views, each [N, ...]: `embed` sees only the images [M, 3, h, w] not seen before.

        Keyframes that are not in this window are forgotten. A keyframe whose image lies elsewhere on the
        canvas than before is seen anew.
        """
        keys = [(keyframe.id, canvas.size, at) for keyframe, at in zip(keyframes, canvas.placements, strict=True)]
        fresh = [i for i, key in enumerate(keys) if key not in self._kept]
        if fresh:
            images = canvas.images if len(fresh) == len(keys) else canvas.images[fresh]
            seen = embed(images)
            for place, i in enumerate(fresh):
                # A copy: a view of the whole batch would keep all of it.
                self._kept[keys[i]] = tuple(part[place : place + 1].clone() for part in seen)
        self._kept = {key: self._kept[key] for key in keys}
        return tuple(torch.cat(parts) for parts in zip(*(self._kept[key] for key in keys), strict=True))
