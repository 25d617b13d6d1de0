"""How likely a depth is within 5 % of the truth: a logistic model of what the sweep saw.

`scripts/reliability` fits the weights and draws docs/images/reliability.png, which shows how far they
can be trusted.
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


#: One weight for each regressor of `design`: logistic regression by `scripts/reliability --fit` on windows
#: of six simulated drives and three stretches of a recorded kitchen (against its depth camera), cameras
#: by this model, other windows than those its plot shows. Both kinds weigh the same.
WEIGHTS = (
    3.903, -2.527, 0.895, -0.740, 1.259, -0.943, 0.469, 0.015,
    0.957, 1.028, 0.187, 0.702, -0.855, 0.357, 1.273, -2.410,
)  # fmt: skip
#: Correlations from nothing to match (below) to something (above). Blank walls make all views agree on
#: the same arbitrary depth, which the fit has not seen.
BLANK_SCORE = (0.01, 0.05)


def calibrated(features: Tensor) -> Tensor:
    """Chance [N, h, w] that a depth is within 5 % of the truth; features [N, F, h, w] as FEATURES."""
    weights = torch.tensor(WEIGHTS, dtype=features.dtype, device=features.device)
    chance = torch.sigmoid(torch.einsum("nphw,p->nhw", design(features), weights))
    low, high = BLANK_SCORE
    chance = chance * ((features[:, FEATURES.index("score")] - low) / (high - low)).clamp(0.0, 1.0)
    # no other view covers the point: nothing confirms it
    return torch.where(features[:, FEATURES.index("seen")] > 0, chance, torch.zeros_like(chance))
