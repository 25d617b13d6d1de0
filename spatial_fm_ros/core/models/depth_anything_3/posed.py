"""Known poses around the network: brought to the form it was trained on, and the result back to their scale.

The network takes known poses relative to the first view and at unit size, and answers in a frame and scale of its
own. The similarity between given and predicted camera centres says how much its depth has to shrink.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.geometry.rotations import invert_pose, pose_from
from spatial_fm_ros.core.geometry.similarity import Sim3, umeyama
from spatial_fm_ros.core.types import Array

#: Poses that spread less than this (median distance from the first) are not blown up further.
MIN_SPREAD = 0.1
#: From this many views on outliers are looked for.
RANSAC_VIEWS = 10
RANSAC_DRAWS = 10
RANSAC_SEED = 42


def normalised_extrinsics(camera_from_world: ArrayLike) -> Array:
    """camera_from_world [..., S, 4, 4] with the first camera as world and unit median distance from it.

    The median is the lower of the two middle ones and counts the first view as well.
    """
    given = np.asarray(camera_from_world, dtype=np.float64)
    relative = given @ invert_pose(given[..., :1, :, :])
    distance = np.sort(np.linalg.norm(centres(relative), axis=-1), axis=-1)
    spread = distance[..., (distance.shape[-1] - 1) // 2]
    relative[..., :3, 3] /= np.maximum(spread, MIN_SPREAD)[..., None, None]
    return relative


def centres(camera_from_world: ArrayLike) -> Array:
    """Camera centres [..., 3] in the world, of extrinsics [..., 3 or 4, 4]."""
    E = np.asarray(camera_from_world, dtype=np.float64)
    return invert_pose(pose_from(E[..., :3, :3], E[..., :3, 3]))[..., :3, 3]


def predicted_from_given(predicted: ArrayLike, given: ArrayLike) -> Sim3:
    """Similarity from the given to the predicted world by camera centres, of extrinsics [S, 3 or 4, 4] each.

    Depth divided by its scale is in the units of the given poses. From ten views on robust to
    outliers: the best of ten random halves by inliers, then by mean error. Raises InputError where it is not
    determined: fewer than three views, or centres in one place or on one line.
    """
    target, source = centres(predicted), centres(given)
    similarity = umeyama(target, source)
    if len(source) < RANSAC_VIEWS:
        return similarity
    nearest = np.linalg.norm(similarity.apply(source)[:, None] - target[None], axis=-1).min(axis=1)
    inliers = _most_inliers(target, source, float(np.median(nearest)))
    return similarity if inliers is None else umeyama(target[inliers], source[inliers])


def _most_inliers(target: Array, source: Array, threshold: float) -> Array | None:
    """bool [S] of the best draw, None when no draw determines a similarity."""
    random = np.random.default_rng(RANSAC_SEED)
    best: tuple[int, float] | None = None
    chosen: Array | None = None
    for _ in range(RANSAC_DRAWS):
        drawn = random.choice(len(source), size=max(3, (len(source) + 1) // 2), replace=False)
        try:
            tried = umeyama(target[drawn], source[drawn])
        except InputError:
            continue
        errors = np.linalg.norm(tried.apply(source) - target, axis=1)
        inliers = errors <= threshold
        score = int(inliers.sum()), -float(errors[inliers].mean()) if inliers.any() else -np.inf
        if best is None or score > best:
            best, chosen = score, inliers
    return chosen
