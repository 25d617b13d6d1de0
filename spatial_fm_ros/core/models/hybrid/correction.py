"""A prior's depth brought to depths that are known at some pixels: how it is bent, and how far it can be trusted.

The error of a network's depth is mostly smooth. Its logarithm is a sum of low cosine waves over the
image whose weights are a Gaussian process's: estimated where the images measured depth, held near
zero elsewhere, with a variance that says how far away the nearest measurement is (Bayesian linear
regression; Bishop, Pattern Recognition and Machine Learning, 2006, section 3.3). Amplitude and noise
are learnt from the residuals; evidence is gathered in cells, since neighbouring pixels err together.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

from spatial_fm_ros.core.geometry.robust import MAD_TO_SIGMA, tukey_weights
from spatial_fm_ros.core.types import Array, Depth

#: Waves down and across the image; cells that evidence is gathered in.
WAVES = (5, 6)
COARSE = 4  # pixels to a side of the grid on which the waves are summed
CELLS = (12, 16)
#: Fewer cells with evidence say nothing of a view.
FEWEST_CELLS = 6
#: The least deviation, as log depth; the amplitude of a bend over the deviation before at most; evidence that makes a
#: prior this many times worse than it usually is, is wrong itself.
LEAST_SIGMA, MOST_BENT, FAR_WORSE = 0.01, 1.5, 2.5
ROUNDS = 4


@dataclass(frozen=True, eq=False)
class Correction:
    """log_factor float32 [h, w]: added to the prior's log depth; sigma float32 [h, w]: standard deviation of
    what remains, fit and prior together; raw: that of the prior before, its scale alone taken away."""

    log_factor: Depth
    sigma: Depth
    raw: float

    @property
    def scale(self) -> float:
        """The factor on depth in the middle of the image's bend."""
        return float(np.exp(np.median(self.log_factor)))


def fit_correction(
    pixels: Array, log_ratio: Array, size: tuple[int, int], usual: float | None = None
) -> Correction | None:
    """The bend of a prior's depth image of `size` (height, width) from log(true / prior depth) [M] at
    pixels [M, 2] of it. None where too few cells of the image hold evidence, or where it is not one of the
    prior's: `usual`, its error before it is bent where that is known, bounds how far it may be off."""
    cells = _gather(pixels, log_ratio, size)
    if cells is None:
        return None
    places, values, own = cells
    middle = float(np.median(values))
    raw = max(LEAST_SIGMA, MAD_TO_SIGMA * float(np.median(np.abs(values - middle))))
    before = float(np.hypot(raw, own))
    if usual is not None and before > FAR_WORSE * usual:
        return None
    most = MOST_BENT * (raw if usual is None else min(raw, usual))
    waves, stiffness = _waves_at(places, size), _stiffness()
    amplitude = noise = raw
    # Redescending from the start: a patch of wrong evidence is far from the prior, whatever its size.
    weight = tukey_weights(np.abs(values - middle))
    for _ in range(ROUNDS):
        informed = (waves * weight[:, None]).T @ waves / noise**2
        covariance = np.linalg.inv(informed + np.diag(stiffness / amplitude**2))
        mean = covariance @ ((waves * weight[:, None]).T @ (values - middle)) / noise**2
        left = values - middle - waves @ mean
        # A cell's own pull on the fit is taken out of its residual, as if it had been left out.
        leverage = weight * np.einsum("ij,jk,ik->i", waves, covariance, waves) / noise**2
        left /= np.maximum(1.0 - leverage, 0.2)
        weight = tukey_weights(np.abs(left))
        noise = max(LEAST_SIGMA, MAD_TO_SIGMA * float(np.median(np.abs(left[weight > 0]))))
        # Expected squares of the weights of the waves, mean and variance together (MacKay, 1992).
        expected = (mean**2 + np.diag(covariance))[1:] * stiffness[1:]
        amplitude = float(np.clip(np.sqrt(np.mean(expected)), LEAST_SIGMA, max(most, LEAST_SIGMA)))
    waves = _waves_of(size)
    spread = np.sqrt(np.einsum("hwi,hwi->hw", waves @ covariance, waves) + noise**2 + own**2)
    return Correction(_enlarged(middle + waves @ mean, size), _enlarged(spread, size), before)


def _gather(pixels: Array, values: Array, size: tuple[int, int]) -> tuple[Array, Array, float] | None:
    """Centres of the evidence [C, 2] and medians [C] of the cells that hold any, and the spread within them."""
    height, width = size
    row = (pixels[:, 1] * (CELLS[0] / height)).astype(int).clip(0, CELLS[0] - 1)
    column = (pixels[:, 0] * (CELLS[1] / width)).astype(int).clip(0, CELLS[1] - 1)
    cell = row * CELLS[1] + column
    order = np.lexsort((values, cell))
    pixels, values, cell = pixels[order], values[order], cell[order]
    _, start, index, count = np.unique(cell, return_index=True, return_inverse=True, return_counts=True)
    if len(start) < FEWEST_CELLS:
        return None
    medians = 0.5 * (values[start + (count - 1) // 2] + values[start + count // 2])
    centres = np.stack([np.bincount(index, pixels[:, k]) for k in (0, 1)], axis=1) / count[:, None]
    shared = count[index] > 2
    within = np.abs(values - medians[index])[shared]
    return centres, medians, MAD_TO_SIGMA * float(np.median(within)) if shared.any() else 0.0


def _waves_at(pixels: Array, size: tuple[int, int]) -> Array:
    """Cosine waves [M, W] at pixels [M, 2]; the constant one first."""
    down = np.cos(np.pi * np.arange(WAVES[0]) * ((pixels[:, 1:] + 0.5) / size[0]))
    across = np.cos(np.pi * np.arange(WAVES[1]) * ((pixels[:, :1] + 0.5) / size[1]))
    waves: Array = (down[:, :, None] * across[:, None, :]).reshape(len(pixels), -1)
    return waves


@lru_cache(maxsize=4)
def _waves_of(size: tuple[int, int]) -> Array:
    """The same in the middle of every COARSE x COARSE pixels, [h', w', W]: they are smooth."""
    coarse = (-(-size[0] // COARSE), -(-size[1] // COARSE))
    v, u = np.mgrid[: coarse[0], : coarse[1]]
    pixels = [(u.ravel() + 0.5) * size[1] / coarse[1] - 0.5, (v.ravel() + 0.5) * size[0] / coarse[0] - 0.5]
    return _waves_at(np.stack(pixels, axis=1), size).reshape(*coarse, -1)


def _enlarged(coarse: Array, size: tuple[int, int]) -> Depth:
    """Values of the coarse grid at every pixel, float32 [h, w]."""
    values: Depth = cv2.resize(coarse.astype(np.float32), size[::-1], interpolation=cv2.INTER_LINEAR)
    return values


@lru_cache(maxsize=1)
def _stiffness() -> Array:
    """Inverse prior variances [W] of the waves, for an amplitude of 1 in all: shorter waves are smaller; the scale
    is nearly free."""
    down, across = np.mgrid[: WAVES[0], : WAVES[1]]
    stiffness: Array = (1.0 + down**2 + across**2).astype(np.float64).ravel()
    stiffness *= (1.0 / stiffness[1:]).sum() * 0.5
    stiffness[0] = 1e-2
    return stiffness


def chance_within(share: float, sigma: NDArray[np.float32]) -> Depth:
    """Chance that a normal error of log depth of standard deviation `sigma` is below `share`."""
    chance: Depth = erf(np.log1p(share) / (np.sqrt(2.0) * sigma)).astype(np.float32)
    return chance
