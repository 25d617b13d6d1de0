"""Which pixels of a dense prediction are not to be believed, whatever the network says of them."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter1d, minimum_filter1d

from spatial_fm_ros.core.types import Depth, Image

Mask = NDArray[np.bool_]

#: Grey levels: above the first a sensor is saturated; backgrounds of rendered or cut-out pictures.
SATURATED, WHITE, BLACK = 252, 240, 8
#: A saturated area is at least this wide, in pixels: single bright pixels are highlights with a border to match.
SATURATED_WIDTH = 5
#: Sky by colour: bright, not redder than blue, flat, and beyond this multiple of the median depth.
SKY_LEVEL, SKY_SLOPE, SKY_DEPTH = 110, 6.0, 1.5


def edges(depth: Depth, tolerance: float) -> Mask:
    """Pixels beside a jump of depth [..., h, w], where networks draw a slope through empty space.

    Inverse depth of any plane is linear in the image, so a slanted floor has no second difference however
    steep its depth: a pixel counts where inverse depth departs from the line through its neighbours, along a row
    or column, by more than `tolerance` of itself; and what lies between two such pixels at most four apart, the
    slope itself. NaN neighbours tell nothing.
    """
    found = np.zeros(depth.shape, bool)
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = 1.0 / depth.astype(np.float32)
        for axis in (-1, -2):
            w = np.moveaxis(inverse, axis, -1)
            bent = np.zeros(w.shape, bool)
            # The farther side of a jump has the smaller inverse depth: it is what the jump is large beside.
            least = np.minimum(np.minimum(w[..., 2:], w[..., :-2]), w[..., 1:-1])
            bent[..., 1:-1] = np.abs(w[..., 2:] + w[..., :-2] - 2.0 * w[..., 1:-1]) > tolerance * least
            near = maximum_filter1d(bent, 5, mode="constant")
            np.moveaxis(found, axis, -1)[...] |= bent | minimum_filter1d(near, 5, mode="constant")
    return found


def saturated(image: Image) -> Mask:
    """Areas [h, w] of an image without any colour left: blown out, so that nothing can be matched there."""
    blown = (image.min(axis=-1) >= SATURATED).astype(np.uint8)
    kernel = np.ones((SATURATED_WIDTH, SATURATED_WIDTH), np.uint8)
    return np.asarray(cv2.morphologyEx(blown, cv2.MORPH_OPEN, kernel), dtype=bool)


def white(image: Image) -> Mask:
    """Near white in all colours, [h, w]."""
    return np.asarray(image.min(axis=-1) >= WHITE)


def black(image: Image) -> Mask:
    """Near black in all colours, [h, w]."""
    return np.asarray(image.max(axis=-1) <= BLACK)


def sky_by_colour(image: Image, depth: Depth) -> Mask:
    """A guess at sky [h, w] for networks that do not tell: bright, not reddish, flat, and far for this view.

    It takes white far walls for sky and misses dark or red skies; a network's own sky is better.
    """
    channels = image.astype(np.int16)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    slope = np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0, scale=0.25), cv2.Sobel(grey, cv2.CV_32F, 0, 1, scale=0.25))
    known = np.isfinite(depth)
    typical = float(np.median(depth[known])) if known.any() else np.inf
    far = ~known | (depth > SKY_DEPTH * typical)
    found: Mask = (grey >= SKY_LEVEL) & (channels[..., 2] >= channels[..., 0]) & (slope < SKY_SLOPE) & far
    return found
