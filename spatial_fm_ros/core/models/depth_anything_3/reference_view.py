"""Which view's camera becomes the world frame, and bringing it to the front.

A window of three or more views without given poses is described in the frame of one of them. The
network puts that view first before its views attend to each other.
"""

from __future__ import annotations

import torch
from torch import Tensor

from spatial_fm_ros.core.errors import ConfigError

STRATEGIES = ("saddle_balanced", "saddle_sim_range", "first", "middle")


def check_strategy(strategy: str) -> None:
    """Raises ConfigError unless `strategy` is one of STRATEGIES."""
    if strategy not in STRATEGIES:
        raise ConfigError(f"Unknown reference view strategy '{strategy}'; expected one of {', '.join(STRATEGIES)}.")


def reference_view(tokens: Tensor, strategy: str) -> Tensor:
    """Index int64 [B] of the reference among the views described by class tokens [B, S, C], in float32.

    saddle_balanced: the view nearest to the middle of the window's range in mean cosine similarity to
    the others, in the length of its token and in the variance of its direction. saddle_sim_range: the
    view whose similarities spread most. first, middle: by position. The first wins on ties.
    Raises ConfigError for another strategy.
    """
    check_strategy(strategy)
    batch, views, _ = tokens.shape
    if strategy in ("first", "middle"):
        index = 0 if strategy == "first" else views // 2
        return torch.full((batch,), index, dtype=torch.int64, device=tokens.device)
    tokens = tokens.float()
    length: Tensor = tokens.norm(dim=-1)
    direction = tokens / length[..., None]
    with torch.autocast(tokens.device.type, enabled=False):  # low precision would often choose another view
        similarity = direction @ direction.mT - torch.eye(views, device=tokens.device)
    if strategy == "saddle_sim_range":
        spread: Tensor = similarity.amax(-1) - similarity.amin(-1)
        return spread.argmax(-1)
    measures = torch.stack([similarity.sum(-1) / (views - 1), length, direction.var(-1, unbiased=True)])
    low, high = measures.amin(-1, keepdim=True), measures.amax(-1, keepdim=True)
    distance: Tensor = ((measures - low) / (high - low + 1e-8) - 0.5).abs()
    return distance.sum(0).argmin(-1)


def reference_first(reference: Tensor, views: int) -> Tensor:
    """Order int64 [B, views] that puts the reference [B] first and keeps the others in theirs."""
    index = torch.arange(views, device=reference.device).expand(len(reference), -1)
    others = index[:, 1:] - (index[:, 1:] <= reference[:, None]).long()
    return torch.cat([reference[:, None], others], dim=1)


def reordered(x: Tensor, order: Tensor) -> Tensor:
    """Views of x [B, S, ...] taken in `order` [B, S]."""
    return x[torch.arange(len(x), device=x.device)[:, None], order]


def restored(x: Tensor, order: Tensor) -> Tensor:
    """Undoes `reordered`."""
    return reordered(x, order.argsort(dim=1))
