"""Keyframes that match nothing recent are looked for among all remembered ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from spatial_fm_ros.core.models.geometric.local_map import LocalMap, View
from spatial_fm_ros.core.models.geometric.matching import verify
from spatial_fm_ros.core.models.geometric.wide_baseline import WideMatcher, likeness
from spatial_fm_ros.core.types import Array

SAME_PLACE = 0.04  # likeness above which two images may show one place; unrelated scenes stay below 0.02
ATTEMPTS = 4  # wide-baseline matchings a window may cost
NEIGHBOURS = 3  # keyframes matched well with a found one; they carry its points
WIDE_INLIERS = 40  # verified matches below this come about by chance, too
MAX_EPIPOLAR_PX = 2.0


def relocalise(
    lost: Sequence[View], memory: LocalMap, recent: Sequence[View], matcher: WideMatcher, K: Callable[[View], Array]
) -> list[View]:
    """Old posed keyframes that see what `lost` keyframes see, with neighbours; their pairs enter `memory`.

    Empty when nothing similar is remembered.
    """
    taken = {view.keyframe.id for view in (*lost, *recent)}
    old = [v for i, v in sorted(memory.views.items()) if v.camera_from_world is not None and i not in taken]
    if not old or not lost:
        return []
    score = np.stack([likeness(view.features, [v.features for v in old]) for view in lost])
    found: dict[int, View] = {}
    for flat in np.argsort(-score, axis=None, kind="stable")[:ATTEMPTS]:
        row, column = divmod(int(flat), len(old))
        if score[row, column] < SAME_PLACE:
            break
        a, b = old[column], lost[row]
        key = (a.keyframe.id, b.keyframe.id)
        if key not in memory.wide:
            matches = matcher(a.features, b.features)
            memory.wide.add(key)
            pair = verify(a.features, b.features, K(a), K(b), matches, MAX_EPIPOLAR_PX, WIDE_INLIERS)
            if len(pair):
                memory.pairs[key] = pair
        if len(memory.pairs.get(key, ())):
            for view in (a, *memory.neighbours(a, NEIGHBOURS)):
                if view.keyframe.id not in taken:
                    found[view.keyframe.id] = view
    return [found[i] for i in sorted(found)]
