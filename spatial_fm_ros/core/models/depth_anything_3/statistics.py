"""Order statistics of any number of values."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def quantile(values: Tensor, fraction: float) -> Tensor:
    """The quantile of values [N > 0], interpolated linearly, as a tensor without dimensions.

    torch.quantile refuses more than 2^24 values and computes the rank in the values' precision.
    """
    rank = fraction * (values.numel() - 1)
    below = values.flatten().kthvalue(math.floor(rank) + 1).values
    above = values.flatten().kthvalue(math.ceil(rank) + 1).values
    return torch.lerp(below, above, rank - math.floor(rank))
