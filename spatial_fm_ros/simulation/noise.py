"""Random fields with the statistics of natural images: fractal (1/f) noise and dead leaves.

Natural images have amplitude spectra close to 1/f (Field 1987), and occluding objects of power-law
sizes, the "dead leaves" of Matheron, reproduce their edges and structures at all scales
(Lee, Mumford and Huang 2001). Everything is drawn from a numpy Generator, so a seed fixes it.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]
RNG = np.random.Generator


def fractal(rng: RNG, height: int, width: int, gain: float = 0.9, stretch: tuple[float, float] = (1.0, 1.0)) -> Field:
    """Noise float32 [height, width], mean 0, standard deviation 1, one layer for each octave.

    `gain` is the amplitude of an octave relative to the next coarser one: 1 gives a 1/f amplitude
    spectrum, less is smoother. `stretch` (vertical, horizontal) makes grain that is longer that way.
    """
    rows, cols = max(2, round(height / stretch[0])), max(2, round(width / stretch[1]))
    octaves = max(1, int(np.log2(max(rows, cols) / 3)))
    field: Field = np.zeros((2, 2), np.float32)
    amplitude = 1.0
    for octave in range(octaves, -1, -1):
        shape = (max(2, -(-rows >> octave)), max(2, -(-cols >> octave)))
        field = cv2.resize(field, shape[::-1], interpolation=cv2.INTER_LINEAR)
        field += amplitude * rng.standard_normal(shape, dtype=np.float32)
        amplitude *= gain
    if stretch != (1.0, 1.0):
        field = cv2.resize(field, (width, height), interpolation=cv2.INTER_CUBIC)
    field = field[:height, :width]
    normal: Field = (field - field.mean()) / max(float(field.std()), 1e-6)
    return normal


def tint(color: tuple[float, float, float], amount: Field, strength: float) -> Field:
    """`color` (sRGB, 0..1) made lighter and darker by `amount`: float32 [..., 3]."""
    return np.asarray(color, np.float32) * (1.0 + strength * amount[..., None])


def random_color(rng: RNG, saturation: float = 0.6, low: float = 0.12, high: float = 0.95) -> Field:
    """One sRGB colour float32 [3], more often warm or blue than green or violet, as painted and
    natural things are, up to `saturation`, value in [low, high]."""
    hue = float(rng.choice([rng.normal(28, 16), rng.normal(212, 18), rng.uniform(0, 360)], p=[0.5, 0.25, 0.25]))
    hue, value = hue % 360, rng.uniform(low, high)
    hsv = np.array([[[hue, rng.uniform(0, saturation), value]]], np.float32)
    color: Field = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0]
    return color


def rgb(rng: RNG, saturation: float = 0.6, low: float = 0.12, high: float = 0.95) -> tuple[float, float, float]:
    """`random_color` as three floats."""
    red, green, blue = (float(c) for c in random_color(rng, saturation, low, high))
    return red, green, blue


def _palette(rng: RNG, count: int, saturation: float) -> list[list[float]]:
    """`count` colours around three random hues: every picture has a palette of its own."""
    hues = rng.uniform(0, 360, 3)[rng.integers(0, 3, count)] + rng.normal(0, 14, count)
    hsv = np.stack([hues % 360, rng.uniform(0, saturation, count), rng.uniform(0.12, 0.95, count)], 1)
    colors: list[list[float]] = cv2.cvtColor(hsv.astype(np.float32)[None], cv2.COLOR_HSV2RGB)[0].tolist()
    return colors


def dead_leaves(rng: RNG, height: int, width: int, smallest: float, largest: float, saturation: float = 0.6) -> Field:
    """Overlapping discs, polygons and bars of sizes between `smallest` and `largest` pixels
    (density proportional to size^-3): sRGB float32 [height, width, 3]."""
    canvas = np.empty((height, width, 3), np.float32)
    smallest = max(smallest, 1.0)
    largest = max(largest, 1.5 * smallest)
    # Enough leaves to cover the area about twice, found from the mean area of a leaf.
    mean_area = 2.0 * smallest**2 * np.log(largest / smallest) * 2.0
    count = int(np.clip(2.0 * height * width / mean_area, 60, 3000))
    quantile = rng.uniform(size=count)
    sizes = 1.0 / np.sqrt(quantile / largest**2 + (1 - quantile) / smallest**2)
    # A second, smaller population of large leaves keeps coarse structure when small ones dominate.
    sizes[: count // 12] = rng.uniform(0.3, 1.0, count // 12) * largest
    centers = np.stack([rng.uniform(0, width, count), rng.uniform(0, height, count)], 1)
    colors = _palette(rng, count + 1, saturation)
    canvas[:] = colors.pop()
    for size, center, color in zip(sizes, centers, colors, strict=True):
        kind = rng.integers(0, 3)
        if kind == 0:
            axes = (max(1, int(size)), max(1, int(size * rng.uniform(0.4, 1.0))))
            at = (int(center[0]), int(center[1]))
            cv2.ellipse(canvas, at, axes, float(rng.uniform(0, 180)), 0, 360, color, -1, cv2.LINE_AA)
            continue
        corners = 4 if kind == 1 else int(rng.integers(3, 7))
        angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
        aspect = np.array([1.0, rng.uniform(0.25, 1.0)])
        shape = size * aspect * np.stack([np.cos(angles), np.sin(angles)], 1)
        turn = rng.uniform(0, np.pi)
        turned = shape @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        cv2.fillPoly(canvas, [np.round(turned + center).astype(np.int32)], color, cv2.LINE_AA)
    shade = 0.06 * fractal(rng, height, width, 1.0)
    return canvas * (1.0 + shade[..., None])


def lines(rng: RNG, height: int, width: int, count: int, step: float, thickness: int = 1) -> Field:
    """Wandering lines (cracks, scratches): mask float32 [height, width] in [0, 1]."""
    mask = np.zeros((height, width), np.uint8)
    for _ in range(count):
        heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.35, int(rng.integers(8, 60))))
        path = np.cumsum(step * np.stack([np.cos(heading), np.sin(heading)], 1), 0)
        path += [rng.uniform(0, width), rng.uniform(0, height)]
        cv2.polylines(mask, [np.round(path).astype(np.int32)], False, 255, thickness, cv2.LINE_AA)
    return mask.astype(np.float32) / 255.0


def script(rng: RNG, canvas: Field, box: tuple[int, int, int, int], line: float, color: Field) -> None:
    """Draws rows of word-like strokes into canvas[y0:y1, x0:x1] (box = x0, y0, x1, y1), in place;
    `line` is the row height in pixels."""
    x0, y0, x1, y1 = box
    paint = tuple(float(c) for c in color)
    if line < 3:
        return
    for y in np.arange(y0 + line, y1 - 0.3 * line, 1.6 * line):
        x = float(x0)
        while x < x1 - line:
            word = float(line * rng.uniform(0.8, 4.0))
            end = min(x + word, x1)
            letters = "".join(chr(int(c)) for c in rng.integers(97, 123, max(1, int((end - x) / (0.75 * line)))))
            at = (int(x), int(y))
            cv2.putText(
                canvas, letters, at, cv2.FONT_HERSHEY_SIMPLEX, line / 26, paint, max(1, int(line / 11)), cv2.LINE_AA
            )
            x = end + 0.7 * line
            if rng.uniform() < 0.06:
                break
