"""Scale from the distances between the cameras of a rig: a stereo camera's baseline, as TF has it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spatial_fm_ros.core.config import ScaleConfig
from spatial_fm_ros.core.geometry.robust import huber_weights, tukey_weights
from spatial_fm_ros.core.geometry.rotations import interpolate_pose, invert_pose, is_pose, rotation_angle
from spatial_fm_ros.core.intake.sensors import Sensors
from spatial_fm_ros.core.metric.observers import PlacedWindow, ScaleObservation, unusable
from spatial_fm_ros.core.types import Array, PosedKeyframe

#: Cameras nearer to each other than this are one camera, or share a frame by mistake.
LEAST_BASELINE_M = 1e-3
#: TF and images may differ by so much about a camera's orientation and about the direction in which it lies.
LARGEST_TURN_DEG, LARGEST_SWING_DEG = 6.0, 15.0
#: A scale this uncertain says only that the baseline is lost in the noise.
LARGEST_SIGMA = 0.35
#: Errors that all views of a window share: no number of them makes the distance better than this.
LEAST_SIGMA = 0.005
#: How well images tell the turn between two cameras, rad. An error of it tilts one view against the other, which looks
#: like a change of depth z by error * z / B, B being the window's extent: for a rig that stands, its baseline.
TURN_SIGMA = float(np.radians(0.05))
#: A rig that has not gone so far (in baselines) or turned so far sees the same again, errors included.
SAME_PLACE, SAME_DIRECTION_DEG = 0.5, 5.0
#: What is seen again counts less each time, down to this share: enough to hold a scale that drifts.
LEAST_NEW = 1.0 / 8.0
ITERATIONS = 8


@dataclass(frozen=True, eq=False)
class _Pair:
    """A keyframe and another camera at its instant: camera_from_companion by the images and by TF (metres)."""

    frame_id: str
    seen: Array
    told: Array


class BaselineObserver:
    """Baseline in TF over the distance of both cameras' centres in the world. Needs no motion: a rig that stands
    still has parallax between its cameras."""

    name = "baseline"

    def __init__(self, config: ScaleConfig, sensors: Sensors) -> None:
        self.config = config
        self.sensors = sensors
        self.reset()

    def observe(self, window: PlacedWindow) -> ScaleObservation | None:
        """See ScaleObserver; None without a second camera.

        All seen places x [n, 3] of the companions in their keyframes' cameras are fitted to those told, m, by
        x = u m, a robust linear least squares: unlike a mean of lengths, noise does not lengthen it.
        """
        if not window.companions:
            problem = self.sensors.companions.problem
            return unusable(self.name, problem) if problem else None
        pairs, problem = self._pairs(window)
        if not pairs:
            return unusable(self.name, problem)
        for frame_id in sorted({pair.frame_id for pair in pairs}):
            if turned := _turned([pair for pair in pairs if pair.frame_id == frame_id]):
                return unusable(self.name, turned)
        seen = np.stack([pair.seen[:3, 3] for pair in pairs])
        told = np.stack([pair.told[:3, 3] for pair in pairs])
        units, sigma, weights = _fit(seen, told)
        if not units > 0:
            side = f"the images see '{pairs[0].frame_id}' on the other side of where TF has it"
            return unusable(self.name, f"{side}: are the cameras swapped?")
        swing, told_length = _swing_deg(seen, told, weights), float(np.median(np.linalg.norm(told, axis=1)))
        if sigma > LARGEST_SIGMA:
            return unusable(
                self.name,
                f"the baseline is lost in the noise of the cameras' places ({100 * sigma:.0f} % of "
                f"{np.linalg.norm(told, axis=1).max():.2f} m): what is seen is too far away for it",
            )
        if swing > LARGEST_SWING_DEG + np.degrees(3 * sigma):
            return unusable(
                self.name, f"the images see the other camera {swing:.0f} deg off the direction in which TF has it"
            )
        tilt = TURN_SIGMA * _depth_over_extent(window)
        return ScaleObservation(
            name=self.name,
            log_scale=-float(np.log(units)),
            sigma=float(np.hypot(np.hypot(LEAST_SIGMA, sigma), tilt)) / self._news(window, float(units * told_length)),
            usable=True,
            systematic=self.config.baseline_sigma,
            figures={
                "companions": float(len(pairs)),
                "baseline_m": told_length,
                "swing_deg": swing,
            },
        )

    def rescaled(self, factor: float) -> None:
        if self._seen_from is not None:
            self._seen_from[:3, 3] *= factor

    def reset(self) -> None:
        self._seen_from: Array | None = None  # world_from_camera of the newest view that counted in full
        self._again = 0  # windows since

    def _news(self, window: PlacedWindow, baseline: float) -> float:
        """1 for a view not seen before, less the more often the rig has seen the same; `baseline` in world units."""
        newest = next(k for k in reversed(window.keyframes) if k.id in {each.of for each in window.companions})
        here, before = newest.world_from_camera, self._seen_from
        if before is not None:
            moved = float(np.linalg.norm(here[:3, 3] - before[:3, 3]))
            turned = float(np.degrees(rotation_angle(before[:3, :3].T @ here[:3, :3])))
            if moved < SAME_PLACE * baseline and turned < SAME_DIRECTION_DEG:
                self._again += 1
                return float(max(LEAST_NEW, 2.0 ** (-0.5 * self._again)))
        self._seen_from, self._again = here.copy(), 0
        return 1.0

    def _pairs(self, window: PlacedWindow) -> tuple[list[_Pair], str]:
        """What can be compared, or why nothing can."""
        keyframes = [k for k in window.keyframes if np.isfinite(k.world_from_camera).all()]
        place = {keyframe.id: i for i, keyframe in enumerate(keyframes)}
        pairs = []
        problem = "no keyframe is posed together with what the rig's other cameras saw at its instant"
        for companion in window.companions:
            told = self.sensors.told_rig.companions.get(companion.frame_id)
            if told is None:
                problem = f"TF has no transform from the camera to the rig's camera '{companion.frame_id}'"
            elif not is_pose(told):
                problem = f"the mount of '{companion.frame_id}' is not a rigid transform (mirrored, scaled or NaN)"
            elif np.linalg.norm(told[:3, 3]) < LEAST_BASELINE_M:
                problem = f"TF has '{companion.frame_id}' in the same place as the camera: give each a frame of its own"
            elif companion.of in place:
                camera = _at(companion.stamp_ns, keyframes, place[companion.of])
                pairs.append(_Pair(companion.frame_id, invert_pose(camera) @ companion.world_from_camera, told))
        return pairs, problem


def _depth_over_extent(window: PlacedWindow) -> float:
    """Median depth of the window over the largest distance between two of its cameras, the companions included."""
    poses = [k.world_from_camera for k in window.keyframes] + [each.world_from_camera for each in window.companions]
    centres = np.stack(poses)[:, :3, 3]
    centres = centres[np.isfinite(centres).all(1)]
    extent = float(np.linalg.norm(centres[:, None] - centres[None], axis=2).max())
    depths = [float(np.nanmedian(k.depth)) for k in window.keyframes if np.isfinite(k.depth).any()]
    return float(np.median(depths)) / max(extent, 1e-12) if depths else float("inf")


def _at(stamp_ns: int, keyframes: list[PosedKeyframe], i: int) -> Array:
    """world_from_camera of keyframe `i` carried on to a stamp near its own, as the keyframe beside it says."""
    here = keyframes[i]
    beside = [k for k in keyframes[max(0, i - 1) : i + 2] if k is not here]
    if stamp_ns == here.stamp_ns or not beside:
        return here.world_from_camera
    other = min(beside, key=lambda k: abs(k.stamp_ns - stamp_ns))
    share = (stamp_ns - here.stamp_ns) / (other.stamp_ns - here.stamp_ns)
    return interpolate_pose(here.world_from_camera, other.world_from_camera, share)


def _fit(seen: Array, told: Array) -> tuple[float, float, Array]:
    """World units per metre of seen = units * told [n, 3], the deviation of its logarithm, and the weights [n]."""
    size = np.square(told).sum(1)
    weights: Array = np.ones(len(seen))
    units = float(np.sum(seen * told) / size.sum())
    for weigh in (huber_weights, tukey_weights):
        for _ in range(ITERATIONS if len(seen) > 2 else 0):
            weights = weigh(np.linalg.norm(seen - units * told, axis=1))
            if not np.sum(weights) > 0:
                return units, float("inf"), np.ones(len(seen))
            units = float(np.sum(weights[:, None] * seen * told) / np.sum(weights * size))
    variance = np.sum(weights[:, None] * np.square(seen - units * told)) / max(3.0 * weights.sum() - 1.0, 1.0)
    spread = np.sqrt(variance / np.sum(weights * size))
    return units, float(spread / abs(units)) if units else float("inf"), weights


def _turned(pairs: list[_Pair]) -> str:
    """What is wrong with the orientation of one camera, empty when TF and images agree."""
    turns = np.degrees([float(rotation_angle(pair.told[:3, :3].T @ pair.seen[:3, :3])) for pair in pairs])
    if np.median(turns) <= LARGEST_TURN_DEG:
        return ""
    return (
        f"the images see '{pairs[0].frame_id}' turned by {np.median(turns):.0f} deg from how TF has it: is it the "
        "optical frame, and of this camera?"
    )


def _swing_deg(seen: Array, told: Array, weights: Array) -> float:
    """Angle between where the companions are seen and where they are told, over all of them."""
    along = float(np.sum(weights[:, None] * seen * told))
    across = np.linalg.norm(np.sum(weights[:, None] * np.cross(told, seen), axis=0))
    return float(np.degrees(np.arctan2(across, along)))
