"""Intrinsics of keyframes; one shared focal length is estimated where they bring none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spatial_fm_ros.core.models.geometric.local_map import View
from spatial_fm_ros.core.models.geometric.structure import Structure
from spatial_fm_ros.core.models.geometric.triangulation import parallax_angles
from spatial_fm_ros.core.types import Array

PRIOR_FOCAL = 0.85  # of the long side: 61 degrees, the middle of phone and robot cameras
PLAUSIBLE = (0.35, 3.0)  # of the long side; estimates outside are not believed
SETTLED = 12.0  # information after which the estimate is kept: about twelve windows of good parallax
FULL_PARALLAX_DEG = 5.0  # a window with this median parallax counts as one


@dataclass
class FocalEstimate:
    """Focal length as a share of the image's long side: the mean over windows, weighted by what each can see.

    The error of a window's focal length falls with its parallax, so information grows with its square.
    """

    share: float = PRIOR_FOCAL
    information: float = 0.0

    def K(self, view: View) -> Array:
        """Pinhole matrix [3, 3] of the view's image: its camera, or the estimate with a centred principal point."""
        if view.keyframe.camera is not None:
            return view.keyframe.camera.K
        width, height = view.features.size
        focal = self.share * max(width, height)
        return np.array([[focal, 0.0, 0.5 * (width - 1)], [0.0, focal, 0.5 * (height - 1)], [0.0, 0.0, 1.0]])

    def uncertain(self, views: Sequence[View]) -> bool:
        """Whether the focal length of these views is unknown and still to be refined."""
        return self.information < SETTLED and all(view.keyframe.camera is None for view in views)

    def update(self, views: Sequence[View], structure: Structure) -> None:
        """Takes in the focal length that a window's own adjustment found."""
        share = float(structure.K[0, 0, 0]) / max(views[0].features.size)
        if not PLAUSIBLE[0] < share < PLAUSIBLE[1]:
            return
        angles = parallax_angles(
            structure.tracks, structure.camera_from_world, structure.points, np.ones(len(structure.tracks.view), bool)
        )
        weight = min(1.0, float(np.median(angles)) / FULL_PARALLAX_DEG) ** 2
        total = self.information + weight
        if total > 0:
            self.share = (self.share * self.information + share * weight) / total
            self.information = total
