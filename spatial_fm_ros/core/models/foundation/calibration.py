"""A camera for keyframes that bring none: the focal length a network saw in all of them so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from spatial_fm_ros.core.models.foundation.images import Placement
from spatial_fm_ros.core.types import Array, Camera, Keyframe

#: Keyframes remembered of one image size.
REMEMBERED = 200
#: Median deviation of log focal length beyond which they are not of one camera (photos taken with a zoom lens).
ONE_CAMERA = 0.08


class FocalMemory:
    """One focal length for each image size, the median over keyframes, with square pixels and a centred view.

    A network sees a slightly different focal length in every image of one camera, and windows that disagree about
    it do not fit each other.
    """

    def __init__(self) -> None:
        self._logs: dict[tuple[int, int], dict[int, float]] = {}

    def clear(self) -> None:
        self._logs.clear()

    def calibrated(
        self, keyframes: Sequence[Keyframe], placements: Sequence[Placement], K_canvas: Array
    ) -> list[Keyframe]:
        """The keyframes, those without a camera with the one that fits all seen; still without where none does.

        K_canvas [N, 3, 3]: the network's own intrinsics, learnt from where they are a camera's.
        """
        for keyframe, at, K in zip(keyframes, placements, K_canvas, strict=True):
            if keyframe.camera is None and np.isfinite(K).all() and K[0, 0] > 0 and K[1, 1] > 0:
                scale = at.source_width / at.width * at.source_height / at.height
                known = self._logs.setdefault((at.source_width, at.source_height), {})
                known[keyframe.id] = 0.5 * float(np.log(K[0, 0] * K[1, 1] * scale))
                while len(known) > REMEMBERED:
                    known.pop(next(iter(known)))
        return [
            keyframe if keyframe.camera is not None else replace(keyframe, camera=self._camera(at))
            for keyframe, at in zip(keyframes, placements, strict=True)
        ]

    def _camera(self, at: Placement) -> Camera | None:
        width, height = at.source_width, at.source_height
        logs = np.array(list(self._logs.get((width, height), {}).values()))
        if not len(logs) or np.median(np.abs(logs - np.median(logs))) > ONE_CAMERA:
            return None
        focal = float(np.exp(np.median(logs)))
        return Camera(width, height, np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1.0]]))
