"""Windows that the images cannot solve: the prior speaks, held to what is remembered and to how the camera turned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.geometry.cameras import pinhole_rays
from spatial_fm_ros.core.geometry.rotations import chordal_mean, rotation_angle
from spatial_fm_ros.core.models.hybrid.fusion import LEAST_CHANCE, Bent, bend, measured
from spatial_fm_ros.core.models.hybrid.prior import PriorWindow
from spatial_fm_ros.core.models.hybrid.trust import MEDIAN_LENGTH
from spatial_fm_ros.core.types import Array, Depth, Prediction

Evidence = tuple[Array, Array]
NOTHING: Evidence = (np.zeros((0, 2)), np.zeros(0))


@dataclass(frozen=True, eq=False)
class Remembered:
    """What was said of a view before, float32 [h, w]. judged: its confidence is a chance that images bore out, and not
    the prior's own words; only then its depth may bend another."""

    depth: Depth
    confidence: Depth
    judged: bool

    @property
    def evidence(self) -> Evidence:
        return measured(self.depth, self.confidence) if self.judged else NOTHING


@dataclass(frozen=True, eq=False)
class Spoken:
    """The prior's answer: cameras [N, 4, 4] and depth in the gauge of what is remembered, else in its own."""

    world_from_camera: Array
    bent: Bent
    rotation_sigma: float  # of the prior about each axis, radians, by images; NaN where these do not say


def alone(prior: PriorWindow, remembered: Sequence[Remembered | None]) -> Spoken:
    """The prior's own cameras and depth; `remembered`: what was said before, by view."""
    evidence = [known.evidence if known is not None else NOTHING for known in remembered]
    bent = bend(prior, evidence, doubted=False, scale=_scale(prior, remembered))
    poses = prior.world_from_camera.copy()
    poses[:, :3, 3] *= bent.scale
    return Spoken(poses, _keeping(bent, remembered), float("nan"))


def turned(
    prior: PriorWindow, images: Prediction, remembered: Sequence[Remembered | None], parallax_px: float
) -> Spoken:
    """Where the images say that the camera only turned: their rotations, the prior's depth, hardly any way.

    What is remembered of one view is seen from all others through the turn alone. Centres move by no more than what
    `parallax_px` would have shown. Views that the images do not pose turn as the prior says.
    """
    seen = images.posed & prior.posed
    if seen.sum() < 2:
        return alone(prior, remembered)
    rotations = prior.world_from_camera[:, :3, :3].copy()
    gauges = rotations[seen] @ np.swapaxes(images.world_from_camera[seen, :3, :3], -1, -2)
    try:
        gauge = chordal_mean(gauges)
    except InputError:
        return alone(prior, remembered)
    apart = np.asarray(rotation_angle(np.swapaxes(gauge[None], -1, -2) @ gauges))
    rotations[images.posed] = gauge @ images.world_from_camera[images.posed, :3, :3]
    evidence = _carried(rotations, images, prior, remembered)
    bent = bend(prior, evidence, doubted=False, scale=_scale(prior, remembered))
    poses = prior.world_from_camera.copy()
    poses[:, :3, :3] = rotations
    centres = poses[:, :3, 3] * bent.scale
    middle = np.nanmean(centres[prior.posed], axis=0)
    way = float(np.linalg.norm(centres[prior.posed] - middle, axis=1).max())
    known = bent.depth[np.isfinite(bent.depth)]
    if len(known) and way > 0:
        most = parallax_px / images.K[0, 0, 0] * float(np.median(known))
        centres = middle + (centres - middle) * min(1.0, most / way)
    poses[:, :3, 3] = centres
    poses[images.posed & ~prior.posed, :3, 3] = middle
    return Spoken(poses, _keeping(bent, remembered), float(np.median(apart)) / MEDIAN_LENGTH)


def _carried(
    rotations: Array, images: Prediction, prior: PriorWindow, remembered: Sequence[Remembered | None]
) -> list[Evidence]:
    """Evidence for every view from the remembered depth of all that the images pose, for a camera that only turns."""
    height, width = prior.size
    rays = [pinhole_rays(K, width, height) for K in images.K]
    parts: list[list[Evidence]] = [[] for _ in remembered]
    for source, known in enumerate(remembered):
        if known is None:
            continue
        pixels, depth = known.evidence
        parts[source].append((pixels, depth))
        u, v = pixels.astype(int).T
        points = rays[source][v, u] * depth[:, None]
        for view in np.flatnonzero(images.posed):
            if view == source or not images.posed[source]:
                continue
            there = points @ (rotations[view].T @ rotations[source]).T
            ahead = there[there[:, 2] > 0]
            parts[view].append(((ahead @ images.K[view].T)[:, :2] / ahead[:, 2:], ahead[:, 2]))
    return [
        (np.concatenate([p for p, _ in each]), np.concatenate([d for _, d in each])) if each else NOTHING
        for each in parts
    ]


def _scale(prior: PriorWindow, remembered: Sequence[Remembered | None]) -> float:
    """Of what is remembered over the prior's own depth; NaN without any."""
    known = [NOTHING if each is None else measured(each.depth, each.confidence, LEAST_CHANCE) for each in remembered]
    return prior.scale_of(known)


def _keeping(bent: Bent, remembered: Sequence[Remembered | None]) -> Bent:
    """The same with the remembered depth of each view, so that this window meets the world where it left it."""
    depth, chance = bent.depth.copy(), bent.chance.copy()
    for view, known in enumerate(remembered):
        if known is not None and bent.anchored:
            said = np.isfinite(known.depth)
            depth[view][said], chance[view][said] = known.depth[said], known.confidence[said]
    return replace(bent, depth=depth, chance=chance)
