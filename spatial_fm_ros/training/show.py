"""Some scenes of the generator as one picture, for people to judge them. Needs OpenCV."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from spatial_fm_ros.core.errors import InputError, OutputError
from spatial_fm_ros.training.settings import Settings
from spatial_fm_ros.training.worlds.generator import Generator

#: Views of a scene that are shown, and those of them whose inverse depth is shown too.
VIEWS, WITH_DEPTH = 5, 2


def show(settings: Settings, device: str, scenes: int, picture: Path) -> None:
    """Writes a picture: a scene a row, its views, then inverse depth. Raises InputError without OpenCV, OutputError."""
    try:
        import cv2
    except ImportError as error:
        raise InputError("Pictures of scenes need OpenCV, which training does not; install it.") from error
    generator = Generator(settings.seed, device, settings.textures, settings.texture_size)
    batch = generator.batch(0, scenes, VIEWS, settings.sizes[0][0])
    images = (batch.images * 255).to(torch.uint8).permute(0, 1, 3, 4, 2).cpu().numpy()
    rows = []
    for colors, depth in zip(images, batch.depth.cpu().numpy(), strict=True):
        inverse = np.where(depth > 0, 1 / np.maximum(depth, 1e-3), 0)
        level = np.clip(inverse / max(np.percentile(inverse, 99), 1e-6), 0, 1)
        painted = [cv2.applyColorMap((255 * x).astype(np.uint8), cv2.COLORMAP_TURBO) for x in level[:WITH_DEPTH]]
        rows.append(np.concatenate([*(colors[..., ::-1]), *painted], axis=1))
    if not cv2.imwrite(str(picture), np.concatenate(rows)):
        raise OutputError(f"The picture {picture} cannot be written; is it a .png in a folder that exists?")
