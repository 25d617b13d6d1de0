"""All textures of a world in one image, with their mipmaps, so that one remap looks up every pixel."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Field = NDArray[np.float32]

LEVELS = 9
_PAD = 1


class Atlas:
    """Packed textures. `regions` float32 [textures, LEVELS, 4]: width, height, left, top of each
    level in pixels of the atlas image (levels beyond a texture's last repeat it)."""

    def __init__(self, textures: list[Image]) -> None:
        pyramids = [self._pyramid(texture) for texture in textures]
        tiles = [(i, level, image) for i, levels in enumerate(pyramids) for level, image in enumerate(levels)]
        tiles.sort(key=lambda tile: -tile[2].shape[0])
        area = sum((t[2].shape[0] + 2 * _PAD) * (t[2].shape[1] + 2 * _PAD) for t in tiles)
        widest = max(t[2].shape[1] for t in tiles) + 2 * _PAD
        width = int(np.clip(np.ceil(np.sqrt(area) * 1.05), widest, 30000))
        places, x, y, row = [], 0, 0, 0
        for i, level, image in tiles:
            h, w = image.shape[0] + 2 * _PAD, image.shape[1] + 2 * _PAD
            if x + w > width:
                x, y, row = 0, y + row, 0
            places.append((i, level, image, x, y))
            x, row = x + w, max(row, h)
        # cv2.remap addresses at most 32767 rows; worlds keep well below (see World's texel budget).
        self.image: Image = np.zeros((y + row, width, 3), np.uint8)
        self.regions: Field = np.zeros((len(textures), LEVELS, 4), np.float32)
        for i, level, image, x, y in places:
            h, w = image.shape[:2]
            padded = cv2.copyMakeBorder(image, _PAD, _PAD, _PAD, _PAD, cv2.BORDER_REPLICATE)
            self.image[y : y + h + 2 * _PAD, x : x + w + 2 * _PAD] = padded
            # Texel centres are at half-integers of the texture and at integers of the image.
            self.regions[i, level:] = (w, h, x + _PAD - 0.5, y + _PAD - 0.5)

    @staticmethod
    def _pyramid(texture: Image) -> list[Image]:
        levels = [texture]
        while len(levels) < LEVELS and min(levels[-1].shape[:2]) >= 2 and max(levels[-1].shape[:2]) > 4:
            h, w = levels[-1].shape[:2]
            levels.append(cv2.resize(levels[-1], (max(1, w // 2), max(1, h // 2)), interpolation=cv2.INTER_AREA))
        return levels

    def _level(self, texture: NDArray[np.int64], uv: Field, level: NDArray[np.int64]) -> Image:
        region = np.take(self.regions.reshape(-1, 4), texture * LEVELS + level, axis=0)
        at = uv * region[:, :2]
        at += region[:, 2:]
        # remap wants a picture-like map: fold the list into rows.
        width = min(len(at), 1024)
        rows = -(-len(at) // width)
        padded = np.zeros((rows * width, 2), np.float32)
        padded[: len(at)] = at
        found: Image = cv2.remap(self.image, padded.reshape(rows, width, 2), None, cv2.INTER_LINEAR)
        return found.reshape(-1, 3)[: len(at)]

    def sample(self, texture: NDArray[np.int64], uv: Field, lod: Field) -> Image:
        """Trilinear look-up: texture index [N], uv float32 [N, 2] in 0..1, lod float32 [N] = log2 of
        the pixel's footprint in texels. Gives uint8 [N, 3]."""
        lod = np.clip(lod, 0, LEVELS - 1.001)
        base = lod.astype(np.int64)
        uv = np.clip(uv, 0.0, 1.0)
        share = ((lod - base) * 256).astype(np.uint16)[:, None]
        fine = self._level(texture, uv, base).astype(np.uint16)
        coarse = self._level(texture, uv, base + 1).astype(np.uint16)
        return ((fine * (256 - share) + coarse * share + 128) >> 8).astype(np.uint8)
