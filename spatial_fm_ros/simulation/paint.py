"""The look of a world: every patch's material, lit once, in one atlas with a sky."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import open3d as o3d
from numpy.typing import NDArray

from spatial_fm_ros.simulation.atlas import Atlas
from spatial_fm_ros.simulation.decor import sky
from spatial_fm_ros.simulation.lighting import Lighting, bake
from spatial_fm_ros.simulation.mesh import Patch

Field = NDArray[np.float32]
Image = NDArray[np.uint8]

#: Most texels of a world's finest levels; more detail than this is reduced.
TEXEL_BUDGET = 40e6
SKY_HEIGHT, SKY_WIDTH = 600, 2400


class Paint:
    """`atlas` holds a texture for each patch and the sky as its last; `lod_bias` float32 [patches + 1]
    is log2 of their texels per metre (per radian for the sky)."""

    def __init__(
        self,
        patches: list[Patch],
        scene: o3d.t.geometry.RaycastingScene,
        lighting: Lighting,
        seed: int,
        detail: float,
    ) -> None:
        sizes = np.array([patch.size_m for patch in patches])
        density = np.array([patch.texels_per_m for patch in patches]) * detail
        density *= min(1.0, np.sqrt(TEXEL_BUDGET / (sizes.prod(1) * density**2).sum()))
        lights = bake(patches, scene, lighting, np.random.default_rng([seed, 1]))

        def texture(i: int) -> Image:
            h, w = (int(np.clip(round(s * density[i]), 4, 8000)) for s in sizes[i])
            rng = np.random.default_rng([seed, 2, i])
            albedo = np.clip(patches[i].material(rng, h, w, float(density[i])), 0.004, 0.97)
            if patches[i].glow > 0:
                return _tone(patches[i].glow * albedo**2.2)
            return _tone(albedo**2.2 * cv2.resize(lights[i], (w, h), interpolation=cv2.INTER_LINEAR))

        # Each patch draws from a generator of its own: threads do not change the world.
        with ThreadPoolExecutor(2) as pool:
            textures = list(pool.map(texture, range(len(patches))))
        textures.append(_tone(1.1 * _sky_all_around(np.random.default_rng([seed, 3])) ** 2.2))
        self.atlas = Atlas(textures)
        self.lod_bias: Field = np.log2(np.append(density, SKY_WIDTH / (2 * np.pi))).astype(np.float32)


def _sky_all_around(rng: np.random.Generator) -> Field:
    """A sky whose right edge goes over into its left one."""
    clouds = sky(rng, SKY_HEIGHT, SKY_WIDTH, 100.0)
    fade = np.linspace(1, 0, 200, dtype=np.float32)[None, :, None]
    clouds[:, -200:] = fade * clouds[:, -200:] + (1 - fade) * clouds[:, :200][:, ::-1]
    return clouds


def _tone(linear: Field) -> Image:
    """Linear light to 8-bit sRGB, with highlights rolled off instead of clipped."""
    bright = np.where(linear > 0.6, 0.6 + 0.4 * (1 - np.exp(-(linear - 0.6) / 0.4)), linear)
    return np.clip(255.0 * bright ** (1 / 2.2) + 0.5, 0, 255).astype(np.uint8)
