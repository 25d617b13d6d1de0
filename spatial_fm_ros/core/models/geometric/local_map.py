"""What the model remembers between windows: features, verified pairs and solved poses of recent keyframes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spatial_fm_ros.core.config import GeometricConfig
from spatial_fm_ros.core.models.geometric.dense import Swept
from spatial_fm_ros.core.models.geometric.features import Extractor, Features
from spatial_fm_ros.core.models.geometric.matching import NO_MATCHES, PairGeometry, mutual_matches, verify
from spatial_fm_ros.core.models.geometric.parallel import Tasks
from spatial_fm_ros.core.types import Array, Keyframe, Window

MIN_MATCHES = 30
MIN_SHARE = 0.2  # of putative matches: wrong pairs reach 0.15 by chance


@dataclass(eq=False)
class View:
    """A keyframe the model has seen. `camera_from_world` in the model's running gauge, None = not posed;
    `swept` its own depth in that gauge, None = not swept or forgotten."""

    keyframe: Keyframe
    features: Features
    camera_from_world: Array | None = None
    swept: Swept | None = None


class LocalMap:
    """Bounded memory by keyframe id; all its poses share one gauge: odometry's where `in_odometry`."""

    def __init__(self, config: GeometricConfig, tasks: Tasks | None = None) -> None:
        self.config = config
        self.tasks = tasks or Tasks()
        self.in_odometry = False
        self.views: dict[int, View] = {}
        self.pairs: dict[tuple[int, int], PairGeometry] = {}
        self.wide: set[tuple[int, int]] = set()  # pairs the wide-baseline matcher has tried

    def look(self, keyframes: Sequence[Keyframe], extractor: Extractor) -> list[View]:
        """The keyframes with their features, computed once."""
        unseen = [keyframe for keyframe in keyframes if keyframe.id not in self.views]
        found = self.tasks.map(extractor, [keyframe.image for keyframe in unseen])
        for keyframe, features in zip(unseen, found, strict=True):
            self.views[keyframe.id] = View(keyframe, features)
        return [self.views[keyframe.id] for keyframe in keyframes]

    def support(self, window: Window) -> list[View]:
        """The newest posed keyframes older than the window, oldest first."""
        inside = {keyframe.id for keyframe in window.keyframes}
        old = [view for i, view in sorted(self.views.items()) if i not in inside]
        posed = [view for view in old if view.camera_from_world is not None]
        return posed[max(0, len(posed) - self.config.support) :]

    def neighbours(self, view: View, count: int) -> list[View]:
        """The posed keyframes with the most verified matches with `view`."""
        me = view.keyframe.id
        strength: dict[int, int] = {}
        for (a, b), pair in self.pairs.items():
            if me in (a, b) and len(pair):
                strength[b if a == me else a] = len(pair)
        ranked = sorted(strength, key=lambda i: (-strength[i], i))
        posed = [self.views[i] for i in ranked if self.views[i].camera_from_world is not None]
        return posed[:count]

    def match(
        self, views: Sequence[View], first: int, K: Callable[[View], Array]
    ) -> dict[tuple[int, int], PairGeometry]:
        """Verified pairs {(a, b): geometry} with a < b by place in `views`; those before `first` are memory."""
        wanted = [(a, b) for b in range(first, len(views)) for a in range(b)]
        self._verify([(views[a], views[b]) for a, b in wanted], K)
        wanted += [(a, b) for b in range(first) for a in range(b)]
        pairs = {(a, b): self.pairs.get((views[a].keyframe.id, views[b].keyframe.id), NO_MATCHES) for a, b in wanted}
        return {key: pair for key, pair in pairs.items() if len(pair)}

    def _verify(self, wanted: Sequence[tuple[View, View]], K: Callable[[View], Array]) -> None:
        """Fills `pairs` with those wanted that have not been looked at before."""
        new = [(a, b) for a, b in wanted if (a.keyframe.id, b.keyframe.id) not in self.pairs]

        def geometry(pair: tuple[View, View]) -> PairGeometry:
            a, b = pair
            putative = mutual_matches(a.features, b.features, self.config.min_similarity)
            found = verify(a.features, b.features, K(a), K(b), putative, self.config.max_epipolar_px, MIN_MATCHES)
            return found if len(found) >= MIN_SHARE * len(putative) else NO_MATCHES

        for (a, b), found in zip(new, self.tasks.map(geometry, new), strict=True):
            self.pairs[a.keyframe.id, b.keyframe.id] = found

    def poses(self, views: Sequence[View]) -> tuple[Array, NDArray[np.bool_]]:
        """camera_from_world [n, 4, 4] (identity where unknown) and which are known [n]."""
        known = np.array([v.camera_from_world is not None for v in views], dtype=bool)
        poses = np.tile(np.eye(4), (len(views), 1, 1))
        for i, view in enumerate(views):
            if view.camera_from_world is not None:
                poses[i] = view.camera_from_world
        return poses, known

    def remember(self, views: Sequence[View], camera_from_world: Array, posed: NDArray[np.bool_]) -> None:
        """Takes over solved poses [n, 4, 4]; they replace what was known of these views."""
        for view, pose, known in zip(views, camera_from_world, posed, strict=True):
            view.camera_from_world = pose if known else None

    def forget_poses(self) -> None:
        """The running gauge is lost: keep features and matches, drop every pose."""
        self.in_odometry = False
        for view in self.views.values():
            view.camera_from_world = view.swept = None

    def prune(self, window: Window) -> None:
        """Keeps this window and a bounded memory of older posed keyframes, thinned evenly over time."""
        inside = {keyframe.id for keyframe in window.keyframes}
        old = [i for i, v in sorted(self.views.items()) if i not in inside and v.camera_from_world is not None]
        while len(old) > self.config.memory:
            # The newest are needed as support; of the others goes the one whose neighbours are closest.
            span = np.array(old[2:]) - np.array(old[:-2])
            free = max(1, len(span) - self.config.support)
            del old[1 + int(span[:free].argmin()) if len(span) else 0]
        for i in old[: max(0, len(old) - self.config.support)]:
            self.views[i].swept = None  # depth images are large, and only the newest are asked for again
        kept = inside | set(old)
        self.views = {i: v for i, v in self.views.items() if i in kept}
        self.pairs = {key: p for key, p in self.pairs.items() if key[0] in kept and key[1] in kept}
        self.wide = {key for key in self.wide if key[0] in kept and key[1] in kept}
