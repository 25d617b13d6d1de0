"""Random numbers of a batch: every draw comes from one generator, so that a seed gives the same batch again."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


class Draw:
    """Draws tensors on a device. The same seed on the same kind of device gives the same numbers."""

    def __init__(self, seed: int, device: torch.device | str) -> None:
        self.device = torch.device(device)
        self.generator = torch.Generator(self.device).manual_seed(seed)

    def uniform(self, low: float | Tensor, high: float | Tensor, *shape: int) -> Tensor:
        """float32 in [low, high); bounds may be tensors that broadcast."""
        unit = torch.rand(shape, generator=self.generator, device=self.device)
        return low + (high - low) * unit

    def log_uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """float32 in [low, high), evenly in the logarithm."""
        return self.uniform(math.log(low), math.log(high), *shape).exp()

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator, device=self.device)

    def chance(self, share: float | Tensor, *shape: int) -> Tensor:
        """bool, true with the probability `share`."""
        return torch.rand(shape, generator=self.generator, device=self.device) < share

    def sign(self, *shape: int) -> Tensor:
        """-1 or 1."""
        return 1.0 - 2.0 * self.chance(0.5, *shape).float()

    def index(self, count: int, *shape: int) -> Tensor:
        """int64 in [0, count)."""
        return torch.randint(count, shape, generator=self.generator, device=self.device)

    def weighted(self, weights: Sequence[float], count: int) -> Tensor:
        """int64 [count], places of `weights` with probabilities in proportion."""
        shares = torch.tensor(weights, dtype=torch.float32, device=self.device)
        return torch.multinomial(shares, count, replacement=True, generator=self.generator)

    def order(self, batch: int, count: int) -> Tensor:
        """int64 [batch, count], a permutation in every row."""
        return torch.rand((batch, count), generator=self.generator, device=self.device).argsort(dim=1)


def mixed(*numbers: int) -> int:
    """One seed of several numbers (splitmix64 steps), so that neighbouring runs and batches have nothing in common."""
    state = 0
    for number in numbers:
        state = (state + number + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 31
    return state & 0x7FFFFFFFFFFFFFFF
