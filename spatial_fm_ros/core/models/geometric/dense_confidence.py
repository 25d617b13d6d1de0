"""How likely a depth is within 5 % of the truth: a logistic model of what the sweep saw.

What the weights were fitted to stands at WEIGHTS.
"""

from __future__ import annotations

import torch
from torch import Tensor

#: What is known of each pixel, in this order along the feature axis.
FEATURES = (
    "score",  # correlation at the chosen depth, at the grid's resolution
    "coarse",  # the same after semi-global smoothing, at half of it
    "margin",  # how much worse the best other depth is there
    "contrast",  # log2(1 + local grey-level deviation)
    "sensitivity",  # pixels the sources' positions move for 5 % of depth, root sum of squares
    "edge",  # range of inverse depth over 3x3 pixels as a share of it
    "same",  # number of other views with the same depth (3 %)
    "close",  # number of other views with closely the same depth (1 %)
    "through",  # number of other views that see past the point
    "seen",  # number of other views that cover the point
    "around",  # share of the 5x5 pixels around it that two views or more confirm
    "sparse",  # share of the view's sparse points that its dense depth meets within 5 %
)


def design(features: Tensor) -> Tensor:
    """Regressors [N, P, h, w] of raw features [N, F, h, w], each about 0 to 1, with a constant one last."""
    score, coarse, margin, contrast, sensitivity, edge, same, close, through, seen, around, sparse = features.unbind(1)
    covered = seen.clamp_min(1.0)
    resolved = torch.log2(sensitivity.clamp(0.05, 16.0)) / 4.0
    columns = (
        score.clamp(0.0, 1.0),
        coarse.clamp(0.0, 1.0),
        (margin / 0.3).clamp(0.0, 1.0),
        contrast.clamp(0.0, 5.0) / 5.0,
        resolved,
        (edge / 0.1).clamp(0.0, 1.0),
        (same >= 1).to(score.dtype),
        (same >= 2).to(score.dtype),
        same.clamp(0.0, 6.0) / 6.0,
        close / covered,
        through / covered,
        around,
        around * resolved,
        close / covered * resolved,
        sparse,
        torch.ones_like(score),
    )
    return torch.stack(columns, 1)


#: One weight for each regressor of `design`. Fitted by logistic regression on pixels of simulated rooms
#: with exact and disturbed cameras, and of a recorded kitchen against its depth camera.
WEIGHTS = (
    1.788, -1.133, 0.933, 0.408, -0.113, -1.392, 0.677, 0.184,
    -0.508, 0.521, 0.336, 0.690, 1.180, 0.444, 1.662, -2.876,
)  # fmt: skip


def calibrated(features: Tensor) -> Tensor:
    """Chance [N, h, w] that a depth is within 5 % of the truth; features [N, F, h, w] as FEATURES."""
    weights = torch.tensor(WEIGHTS, dtype=features.dtype, device=features.device)
    chance = torch.sigmoid(torch.einsum("nphw,p->nhw", design(features), weights))
    # without any other view's word there is no parallax evidence at all
    return torch.where(features[:, FEATURES.index("seen")] > 0, chance, torch.zeros_like(chance))
