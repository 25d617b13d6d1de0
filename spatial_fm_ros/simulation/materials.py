"""Procedural surface materials: plaster, brick, wood, tiles, concrete, asphalt, grass, fabric.

A material is a function (rng, height, width, texels per metre) -> sRGB albedo float32
[height, width, 3] in [0, 1]. Each patch of a world calls it once with a generator of its own, so no
two surfaces carry the same texture and nothing repeats within one.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from spatial_fm_ros.simulation.noise import RNG, Field, dead_leaves, fractal, lines, tint

Material = Callable[[RNG, int, int, float], Field]
Color = tuple[float, float, float]


def plaster(color: Color = (0.82, 0.79, 0.73), strength: float = 1.0) -> Material:
    """Painted wall: faint mottling, stains, scratches. `strength` 0.15 is a low-texture wall."""

    def make(rng: RNG, h: int, w: int, tpm: float) -> Field:
        mottle = fractal(rng, h, w, 0.92)
        grain = fractal(rng, h, w, 1.25)
        warm = fractal(rng, h, w, 0.7)
        image = tint(color, 0.6 * mottle + 0.5 * grain, 0.05 * strength)
        image += strength * 0.012 * warm[..., None] * np.array([1, 0, -1], np.float32)
        marks = lines(rng, h, w, int(h * w / tpm**2 * 0.8) + 1, 0.05 * tpm)
        return image * (1 - 0.25 * min(strength, 1.0) * marks[..., None])

    return make


def _cells(rng: RNG, h: int, w: int, cell_h: float, cell_w: float, shift: float, gap: float) -> tuple[Field, Field]:
    """Bricks or tiles of about cell_h x cell_w pixels: a random tone for each cell and the joint mask."""
    warp = np.clip(fractal(rng, h, w, 0.6), -2, 2) * 0.15 * gap
    y = np.arange(h, dtype=np.float32)[:, None] + warp
    row = np.floor(y / cell_h).astype(np.int32)
    offsets = rng.uniform(0, 1, row.max() + 3).astype(np.float32) * 0.15 + shift * (np.arange(row.max() + 3) % 2)
    x = np.arange(w, dtype=np.float32)[None, :] + warp + offsets[row].astype(np.float32) * cell_w
    col = np.floor(x / cell_w).astype(np.int32)
    tones = rng.standard_normal((row.max() + 3, col.max() + 3), dtype=np.float32)
    edge = np.minimum(np.minimum(y % cell_h, cell_h - y % cell_h), np.minimum(x % cell_w, cell_w - x % cell_w))
    joint = np.clip((gap - edge) / max(0.4 * gap, 0.5), 0, 1)
    return tones[row, col], joint.astype(np.float32)


def brick(color: Color = (0.55, 0.27, 0.2), mortar: Color = (0.66, 0.63, 0.58), size: float = 1.0) -> Material:
    """Running-bond brickwork; `size` scales the 24 x 7.5 cm bricks."""

    def make(rng: RNG, h: int, w: int, tpm: float) -> Field:
        tone, joint = _cells(rng, h, w, 0.075 * size * tpm, 0.24 * size * tpm, 0.5, max(0.007 * size * tpm, 0.7))
        surface = 0.16 * tone + 0.09 * fractal(rng, h, w, 1.1) + 0.1 * fractal(rng, h, w, 0.75)
        stones = tint(color, surface, 1.0)
        stones += 0.05 * tone[..., None] * np.array([0.2, 0.8, 0.6], np.float32)
        filler = tint(mortar, fractal(rng, h, w, 1.1), 0.07)
        return stones + joint[..., None] * (filler - stones)

    return make


def tiles(color: Color = (0.62, 0.6, 0.56), size: float = 0.4, contrast: float = 1.0) -> Material:
    """Stone tiles of `size` metres, each with a tone of its own and veins across."""

    def make(rng: RNG, h: int, w: int, tpm: float) -> Field:
        tone, joint = _cells(rng, h, w, size * tpm, size * tpm, 0.0, max(0.006 * tpm, 0.7))
        vein: Field = np.exp(-((fractal(rng, h, w, 0.9) * 4) ** 2))
        surface: Field = 0.09 * tone + 0.09 * fractal(rng, h, w, 0.95) - 0.12 * vein
        stone = tint(color, surface, contrast)
        stone += 0.03 * fractal(rng, h, w, 0.8)[..., None] * np.array([1, 0.3, -0.8], np.float32)
        return stone * (1 - 0.45 * joint[..., None])

    return make


def planks(color: Color = (0.58, 0.4, 0.25), width: float = 0.14) -> Material:
    """Wooden boards along the texture's rows, `width` metres each, with grain and knots."""

    def make(rng: RNG, h: int, w: int, tpm: float) -> Field:
        tone, joint = _cells(rng, h, w, width * tpm, 1.3 * tpm, 0.4, max(0.003 * tpm, 0.6))
        grain = fractal(rng, h, w, 1.0, stretch=(1.0, 14.0))
        rings = np.sin(7 * fractal(rng, h, w, 0.75, stretch=(1.0, 9.0)) + 5 * tone)
        image = tint(color, 0.14 * tone + 0.08 * grain + 0.07 * rings + 0.05 * fractal(rng, h, w, 1.0), 1.0)
        for _ in range(int(0.9 * h * w / tpm**2)):
            at = (int(rng.uniform(0, w)), int(rng.uniform(0, h)))
            axes = (max(1, int(rng.uniform(0.012, 0.04) * tpm)), max(1, int(rng.uniform(0.006, 0.014) * tpm)))
            shade = tuple(float(c) * float(rng.uniform(0.4, 0.65)) for c in color)
            cv2.ellipse(image, at, axes, 0, 0, 360, shade, -1, cv2.LINE_AA)
        return image * (1 - 0.6 * joint[..., None])

    return make


def concrete(color: Color = (0.56, 0.55, 0.53), strength: float = 1.0, streaks: bool = False) -> Material:
    """Cast concrete: strong 1/f mottling, pores, cracks, and water streaks on walls."""

    def make(rng: RNG, h: int, w: int, tpm: float) -> Field:
        surface = 0.11 * fractal(rng, h, w, 0.9) + 0.06 * fractal(rng, h, w, 1.2)
        if streaks:
            surface = surface + 0.1 * fractal(rng, h, w, 0.9, stretch=(18.0, 1.0))
        image = tint(color, surface, strength)
        image += 0.025 * strength * fractal(rng, h, w, 0.75)[..., None] * np.array([1, 0.4, -0.7], np.float32)
        area = h * w / tpm**2
        cracks = lines(rng, h, w, int(0.5 * area) + 1, 0.06 * tpm)
        holes = (rng.uniform(size=(h, w)) > 1 - 0.004).astype(np.float32)
        pores: Field = cv2.GaussianBlur(holes, (0, 0), max(0.6, 0.004 * tpm))
        return np.asarray(image * (1 - strength * np.clip(0.45 * cracks + 1.3 * pores, 0, 0.8)[..., None]), np.float32)

    return make


def asphalt(rng: RNG, h: int, w: int, tpm: float) -> Field:
    """Road surface: speckle, repaired patches, cracks and oil."""
    image = tint((0.3, 0.3, 0.31), 0.16 * fractal(rng, h, w, 1.25) + 0.12 * fractal(rng, h, w, 0.85), 1.0)
    for _ in range(int(h * w / tpm**2 / 25) + 1):
        x, y = rng.uniform(0, w), rng.uniform(0, h)
        half = rng.uniform(0.3, 1.6, 2) * tpm
        turn = rng.uniform(-0.1, 0.1)
        corners = cv2.boxPoints(((x, y), (2 * half[0], 2 * half[1]), float(np.degrees(turn))))
        mask = np.zeros((h, w), np.float32)
        cv2.fillPoly(mask, [np.round(corners).astype(np.int32)], 1.0, cv2.LINE_AA)
        rim = np.abs(cv2.Laplacian(mask, cv2.CV_32F))
        image *= (1 + mask * rng.uniform(-0.3, 0.22))[..., None] * (1 - np.clip(0.4 * rim, 0, 0.5))[..., None]
    cracks = lines(rng, h, w, int(h * w / tpm**2 * 0.5) + 1, 0.15 * tpm)
    return image * (1 - 0.55 * cracks[..., None])


def road(rng: RNG, h: int, w: int, tpm: float) -> Field:
    """Asphalt with a worn, dashed centre line along the texture's rows and a few manholes."""
    image = asphalt(rng, h, w, tpm)
    worn = np.clip(0.75 + 0.3 * fractal(rng, h, w, 1.0), 0, 1)[..., None]
    paint = np.zeros((h, w, 1), np.float32)
    x = rng.uniform(0, 2)
    while x < w / tpm:
        y = h / 2 + rng.normal(0, 0.02) * tpm
        x1 = x + rng.uniform(1.7, 2.4)
        cv2.rectangle(paint, (int(x * tpm), int(y - 0.07 * tpm)), (int(x1 * tpm), int(y + 0.07 * tpm)), 1.0, -1)
        x = x1 + rng.uniform(1.8, 3.2)
    image = image + paint * worn * (0.78 - image)
    for _ in range(max(1, int(w / tpm / 14))):
        at = (int(rng.uniform(0, w)), int(rng.uniform(0.2, 0.8) * h))
        radius = max(2, int(0.32 * tpm))
        cv2.circle(image, at, radius, (0.2, 0.19, 0.18), -1, cv2.LINE_AA)
        for ring in (0.95, 0.7, 0.45):
            cv2.circle(image, at, int(radius * ring), (0.4, 0.38, 0.35), 1, cv2.LINE_AA)
    return image


def grass(rng: RNG, h: int, w: int, tpm: float) -> Field:
    """Foliage and lawn: green 1/f noise with strong fine grain."""
    fine, coarse, hue = fractal(rng, h, w, 1.15), fractal(rng, h, w, 0.85), fractal(rng, h, w, 0.9)
    image = tint((0.27, 0.4, 0.16), 0.3 * fine + 0.16 * coarse, 1.0)
    return image + 0.05 * hue[..., None] * np.array([1.0, 0.5, -0.4], np.float32)


def rug(rng: RNG, h: int, w: int, tpm: float) -> Field:
    """Woven rug: coloured shapes in a border, threads on top."""
    image = 0.75 * dead_leaves(rng, h, w, 0.015 * tpm, 0.3 * tpm, 0.5)
    image += 0.25 * np.array([0.55, 0.2, 0.14], np.float32)
    inset = int(0.08 * tpm)
    if 2 * inset < min(h, w):
        cv2.rectangle(image, (inset, inset), (w - inset, h - inset), (0.75, 0.68, 0.5), max(1, int(0.02 * tpm)))
    return image * (0.9 + 0.06 * fractal(rng, h, w, 1.3)[..., None])


def fabric(color: Color) -> Material:
    """Upholstery: folds and threads."""

    def make(rng: RNG, h: int, w: int, tpm: float) -> Field:
        folds = fractal(rng, h, w, 0.8, stretch=(3.0, 1.0))
        return tint(color, 0.13 * folds + 0.09 * fractal(rng, h, w, 1.25), 1.0)

    return make


def metal(color: Color = (0.45, 0.48, 0.52)) -> Material:
    """Painted sheet metal: brushed, scratched, rust spots."""

    def make(rng: RNG, h: int, w: int, tpm: float) -> Field:
        image = tint(color, 0.06 * fractal(rng, h, w, 1.0, stretch=(6.0, 1.0)) + 0.05 * fractal(rng, h, w, 0.9), 1.0)
        rust = np.clip(fractal(rng, h, w, 0.95) - 1.3, 0, 1)[..., None]
        image += rust * (np.array([0.42, 0.24, 0.13], np.float32) - image)
        scratches = lines(rng, h, w, int(h * w / tpm**2 * 4) + 2, 0.04 * tpm)
        return image * (1 + 0.35 * scratches[..., None])

    return make
