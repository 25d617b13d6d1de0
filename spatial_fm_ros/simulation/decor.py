"""Materials with things on them: posters, books, cabinets, doors, cartons, facades, cars, sky.

Same signature as in materials.py: (rng, height, width, texels per metre) -> sRGB float32 [h, w, 3].
"""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np

from spatial_fm_ros.simulation.materials import Color, Material, brick, concrete, planks, plaster
from spatial_fm_ros.simulation.noise import RNG, Field, dead_leaves, fractal, random_color, rgb, script, tint


def _rect(image: Field, x0: float, y0: float, x1: float, y1: float, color: Iterable[float], width: int = -1) -> None:
    paint = tuple(float(c) for c in color)
    cv2.rectangle(image, (round(x0), round(y0)), (round(x1), round(y1)), paint, width)


def poster(rng: RNG, h: int, w: int, tpm: float) -> Field:
    """A print: picture of many scales, a title, text, a border."""
    if rng.uniform() < 0.5:
        image = dead_leaves(rng, h, w, 0.006 * tpm, 0.25 * tpm, 0.75)
    else:
        mix = np.clip(0.5 + 0.3 * fractal(rng, h, w, 0.8), 0, 1)[..., None]
        image = (mix * random_color(rng, 0.7) + (1 - mix) * random_color(rng, 0.7)).astype(np.float32)
        image *= 1 + 0.12 * fractal(rng, h, w, 1.05)[..., None]
    ink = random_color(rng, 0.3, 0.0, 0.15) if image.mean() > 0.45 else random_color(rng, 0.3, 0.85, 1.0)
    if rng.uniform() < 0.8:
        top = rng.uniform(0.05, 0.55) * h
        script(rng, image, (int(0.1 * w), int(top), int(0.9 * w), int(top + 0.16 * h)), 0.08 * h, ink)
        _rect(image, 0.08 * w, 0.72 * h, rng.uniform(0.5, 0.92) * w, 0.95 * h, random_color(rng, 0.2, 0.8, 1.0))
        script(
            rng, image, (int(0.1 * w), int(0.73 * h), int(0.5 * w), int(0.94 * h)), 0.025 * h, np.zeros(3, np.float32)
        )
    border = max(1, int(0.02 * tpm))
    _rect(image, 0, 0, w - 1, h - 1, random_color(rng, 0.3, 0.05, 0.95), 2 * border)
    return image


def painting(rng: RNG, h: int, w: int, tpm: float) -> Field:
    """A framed picture."""
    image = dead_leaves(rng, h, w, 0.005 * tpm, 0.3 * tpm, 0.55)
    _rect(image, 0, 0, w - 1, h - 1, random_color(rng, 0.5, 0.1, 0.4), max(2, int(0.07 * tpm)))
    return image


def books(rng: RNG, h: int, w: int, tpm: float) -> Field:
    """Shelves full of books and a few other things, in a wooden case."""
    wood = planks((0.5, 0.36, 0.24), 0.4)(rng, h, w, tpm)
    image = wood.copy()
    board = max(1, int(0.022 * tpm))
    shelves = max(1, round(h / tpm / 0.34))
    tops = np.linspace(0, h, shelves + 1).astype(int)
    for top, bottom in zip(tops[:-1], tops[1:], strict=True):
        _rect(image, board, top + board, w - board, bottom, (0.09, 0.08, 0.07))
        x = float(board)
        while x < w - board:
            wide = float(rng.uniform(0.018, 0.055) * tpm)
            tall = rng.uniform(0.62, 0.96) * (bottom - top - board)
            if rng.uniform() < 0.07:
                x += 2.2 * wide
                continue
            x1 = min(x + wide, w - board)
            _rect(image, x, bottom - tall, x1, bottom, random_color(rng, 0.8, 0.12, 0.85))
            for _ in range(int(rng.integers(1, 4))):
                y = bottom - tall * rng.uniform(0.08, 0.92)
                _rect(image, x + 1, y, x1 - 1, y + rng.uniform(0.01, 0.09) * tall, random_color(rng, 0.5))
            cv2.line(image, (round(x1), round(bottom - tall)), (round(x1), bottom), (0.04, 0.04, 0.04), 1)
            x = x1 + 1
        _rect(image, 0, bottom - board // 2, w, bottom + board // 2, (0.47, 0.33, 0.21))
    return image * (1 + 0.06 * fractal(rng, h, w, 1.15)[..., None])


def cabinet(color: Color = (0.72, 0.66, 0.55)) -> Material:
    """Doors and drawers with handles in a wooden front."""

    def make(rng: RNG, h: int, w: int, tpm: float) -> Field:
        image = planks(color, 0.5)(rng, h, w, tpm)
        x = 0.0
        while x < w:
            x1 = min(x + rng.uniform(0.35, 0.6) * tpm, w)
            rows = int(rng.integers(1, 5))
            cuts = np.linspace(0, h, rows + 1) + np.r_[0, rng.normal(0, 0.03 * h, rows - 1), 0]
            for top, bottom in zip(cuts[:-1], cuts[1:], strict=True):
                panel = image[int(top) : int(bottom), int(x) : int(x1)]
                panel *= rng.uniform(0.75, 1.12)
                _rect(image, x + 1, top + 1, x1 - 1, bottom - 1, (0.2, 0.15, 0.11), max(1, int(0.008 * tpm)))
                middle = (x + x1) / 2 + rng.normal(0, 0.02) * tpm
                y = top + 0.25 * (bottom - top)
                _rect(image, middle - 0.06 * tpm, y, middle + 0.06 * tpm, y + 0.018 * tpm, (0.22, 0.22, 0.24))
            x = x1
        return image

    return make


def door(color: Color = (0.42, 0.3, 0.22)) -> Material:
    """A door in its frame, with panels, a handle and a sign."""

    def make(rng: RNG, h: int, w: int, tpm: float) -> Field:
        image = planks(color, 0.6)(rng, h, w, tpm)
        frame = max(1, int(0.06 * tpm))
        for top, bottom in ((0.08, 0.42), (0.5, 0.93)):
            for left, right in ((0.16, 0.47), (0.53, 0.84)):
                box = (left * w, top * h, right * w, bottom * h)
                _rect(image, *box, [0.6 * c for c in color], max(1, int(0.012 * tpm)))
        _rect(image, 0, 0, w, h + frame, random_color(rng, 0.2, 0.3, 0.85), 2 * frame)
        side = 0.12 if rng.uniform() < 0.5 else 0.78
        _rect(image, side * w, 0.5 * h, (side + 0.1) * w, 0.5 * h + 0.02 * tpm, (0.75, 0.72, 0.6))
        _rect(image, 0.3 * w, 0.2 * h, 0.7 * w, 0.27 * h, random_color(rng, 0.4, 0.7, 1.0))
        script(
            rng,
            image,
            (int(0.32 * w), int(0.2 * h), int(0.68 * w), int(0.28 * h)),
            0.03 * h,
            random_color(rng, 0.3, 0, 0.2),
        )
        return image

    return make


def carton(rng: RNG, h: int, w: int, tpm: float) -> Field:
    """Cardboard with tape, a printed label and stains."""
    tone = rng.uniform(0.75, 1.15)
    color = (0.62 * tone, 0.46 * tone, 0.3 * tone)
    image = tint(color, 0.06 * fractal(rng, h, w, 0.95) + 0.05 * fractal(rng, h, w, 1.0, stretch=(1, 10)), 1.0)
    y = rng.uniform(0.3, 0.7) * h
    _rect(image, 0, y, w, y + 0.05 * tpm, (0.7 * tone, 0.6 * tone, 0.42 * tone))
    for _ in range(int(rng.integers(1, 4))):
        x, top = rng.uniform(0.02, 0.7) * w, rng.uniform(0.05, 0.75) * h
        x1, bottom = x + rng.uniform(0.12, 0.3) * tpm, top + rng.uniform(0.08, 0.18) * tpm
        _rect(image, x, top, x1, bottom, random_color(rng, 0.7, 0.4, 1.0))
        script(rng, image, (int(x) + 2, int(top), int(x1) - 2, int(bottom)), 0.03 * tpm, np.full(3, 0.08, np.float32))
    _rect(image, 0, 0, w - 1, h - 1, [0.5 * c for c in color], max(1, int(0.006 * tpm)))
    return image


def _window(rng: RNG, image: Field, x0: float, y0: float, x1: float, y1: float, tpm: float) -> None:
    """One window into a facade: glass with a reflection, a curtain, frame, bars, sill."""
    a, b, c, d = (int(v) for v in (x0, y0, x1, y1))
    if min(c - a, d - b) < 4 or a < 0 or b < 0:
        return
    h, w = image[b:d, a:c].shape[:2]
    if min(h, w) < 4:
        return
    glow = np.clip(0.2 + 0.08 * fractal(rng, h, w, 0.9) + np.linspace(0.15, -0.05, h)[:, None], 0.03, 0.9)
    image[b:d, a:c] = glow[..., None] * np.array([0.85, 0.95, 1.1], np.float32)
    if rng.uniform() < 0.6:
        reach = max(1, int(w * rng.uniform(0.15, 0.45)))
        cloth = tint(rgb(rng, 0.5, 0.4, 0.95), fractal(rng, h, w, 1.0, stretch=(12.0, 1.0)), 0.13)
        image[b:d, a : a + reach] = cloth[:, :reach]
        image[b:d, c - reach : c] = cloth[:, :reach]
    frame = random_color(rng, 0.2, 0.4, 0.95)
    bar = max(1, int(0.05 * tpm))
    _rect(image, a, b, c, d, frame, 2 * bar)
    _rect(image, (a + c - bar) / 2, b, (a + c + bar) / 2, d, frame)
    if rng.uniform() < 0.6:
        y = b + rng.uniform(0.3, 0.6) * (d - b)
        _rect(image, a, y, c, y + bar, frame)
    _rect(image, a - 2 * bar, d, c + 2 * bar, d + 2 * bar, random_color(rng, 0.15, 0.4, 0.8))


def facade(rng: RNG, h: int, w: int, tpm: float) -> Field:
    """A house front: brick, plaster or concrete, floors of irregular windows, a shop or doors below."""
    warm = rgb(rng, 0.35, 0.45, 0.85)
    walls = [brick(size=1.6), plaster(warm, 1.8), concrete(warm, 1.0, True), brick(warm, size=2.0)]
    image = walls[int(rng.integers(0, len(walls)))](rng, h, w, tpm)
    ground = 3.2 * tpm
    y = h - ground - 2.6 * tpm
    while y > -0.6 * tpm:
        x = rng.uniform(0.4, 1.2) * tpm
        while x < w - 1.2 * tpm:
            wide, tall = rng.uniform(0.9, 1.7) * tpm, rng.uniform(1.3, 1.8) * tpm
            _window(rng, image, x, y + rng.normal(0, 0.04) * tpm, min(x + wide, w - 0.2 * tpm), y + tall, tpm)
            x += wide + rng.uniform(0.6, 1.8) * tpm
        if rng.uniform() < 0.5:
            _rect(image, 0, y + 2.25 * tpm, w, y + 2.45 * tpm, random_color(rng, 0.2, 0.4, 0.85))
        y -= rng.uniform(2.8, 3.2) * tpm
    x = rng.uniform(0.3, 1.0) * tpm
    while x < w - tpm:
        kind = rng.uniform()
        if kind < 0.35:
            wide, tall = 1.1 * tpm, 2.2 * tpm
            part = image[h - int(tall) : h, int(x) : int(x + wide)]
            part[:] = door(rgb(rng, 0.6, 0.2, 0.6))(rng, part.shape[0], part.shape[1], tpm)
        elif kind < 0.7:
            wide = rng.uniform(2.2, 4.0) * tpm
            x1 = min(x + wide, w - 0.3 * tpm)
            _window(rng, image, x, h - 2.3 * tpm, x1, h - 0.5 * tpm, tpm)
            _rect(image, x, h - 3.05 * tpm, x1, h - 2.45 * tpm, random_color(rng, 0.8, 0.2, 0.8))
            box = (int(x + 0.1 * tpm), int(h - 3.05 * tpm), int(x1 - 0.1 * tpm), int(h - 2.5 * tpm))
            script(rng, image, box, 0.36 * tpm, random_color(rng, 0.3, 0.85, 1.0))
        else:
            wide, tall = rng.uniform(0.7, 1.2) * tpm, rng.uniform(1.0, 1.6) * tpm
            part = image[h - int(1.9 * tpm) : h - int(1.9 * tpm) + int(tall), int(x) : int(x + wide)]
            if min(part.shape[:2]) > 8:
                part[:] = poster(rng, part.shape[0], part.shape[1], tpm)
        x += wide + rng.uniform(0.3, 1.6) * tpm
    soot = np.linspace(0.0, 0.25, h)[:, None] * np.clip(0.5 + 0.5 * fractal(rng, h, w, 0.9), 0, 1)
    return image * (1 - soot[..., None])


def car(color: Color) -> Material:
    """The side of a parked car's box: body, wheels, lamps, dirt."""

    def make(rng: RNG, h: int, w: int, tpm: float) -> Field:
        image = tint(color, 0.1 * fractal(rng, h, w, 0.8) + 0.05 * fractal(rng, h, w, 1.2), 1.0)
        image *= np.linspace(1.1, 0.65, h, dtype=np.float32)[:, None, None]
        for share in (0.2, 0.8) if w > 2.5 * tpm else ():
            at, radius = (int(share * w), int(h - 0.02 * tpm)), max(2, int(0.3 * tpm))
            cv2.circle(image, at, radius, (0.07, 0.07, 0.07), -1, cv2.LINE_AA)
            cv2.circle(image, at, int(0.6 * radius), (0.55, 0.55, 0.57), -1, cv2.LINE_AA)
            cv2.circle(image, at, int(0.25 * radius), (0.15, 0.15, 0.15), -1, cv2.LINE_AA)
        for x in rng.uniform(0.1, 0.9, 3) * w:
            cv2.line(image, (int(x), 0), (int(x + rng.normal(0, 3)), int(0.8 * h)), (0.08, 0.08, 0.08), 1, cv2.LINE_AA)
        for share in (0.03, 0.88):
            _rect(image, share * w, 0.3 * h, (share + 0.09) * w, 0.48 * h, random_color(rng, 0.9, 0.5, 1.0))
        return image

    return make


def glass(rng: RNG, h: int, w: int, tpm: float) -> Field:
    """Car windows: dark reflections of what stands around, with pillars between."""
    image = 0.35 * dead_leaves(rng, h, w, 0.02 * tpm, 0.5 * tpm, 0.3)
    for share in (0.0, rng.uniform(0.3, 0.45), rng.uniform(0.6, 0.75), 1.0):
        _rect(image, share * w - 0.03 * tpm, 0, share * w + 0.03 * tpm, h, (0.12, 0.12, 0.13))
    return image


def outlook(rng: RNG, h: int, w: int, tpm: float) -> Field:
    """A bright view through a window: sky over trees and roofs, with the window's bars."""
    image = sky(rng, h, w, tpm)
    horizon = int(h * rng.uniform(0.45, 0.65))
    below = dead_leaves(rng, h - horizon, w, 0.015 * tpm, 0.2 * tpm, 0.5)
    ridge = horizon + 0.05 * h * fractal(rng, 1, w, 0.9)[0]
    land = np.zeros_like(image)
    land[horizon:] = below
    land[:horizon] = below[:1]
    mask = (np.arange(h)[:, None] > ridge)[..., None]
    image = np.where(mask, 0.35 + 0.5 * land, image).astype(np.float32)
    bar = max(2, int(0.06 * tpm))
    _rect(image, 0, 0, w - 1, h - 1, (0.9, 0.9, 0.88), 2 * bar)
    _rect(image, (w - bar) / 2, 0, (w + bar) / 2, h, (0.9, 0.9, 0.88))
    return image


def sky(rng: RNG, h: int, w: int, tpm: float) -> Field:
    """Sky with clouds; the texture's top is the zenith, its bottom just below the horizon."""
    clouds = np.clip(0.5 * fractal(rng, h, w, 0.75, stretch=(1.0, 2.0)) + 0.1, 0, 1)[..., None]
    down = np.linspace(0, 1, h, dtype=np.float32)[:, None, None]
    blue = np.array([0.38, 0.56, 0.86], np.float32) * (1 - down) + np.array([0.72, 0.8, 0.9], np.float32) * down
    return (blue + clouds * (np.array([0.97, 0.97, 0.98], np.float32) - blue)).astype(np.float32)
