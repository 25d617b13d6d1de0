"""Scale from the distances between the cameras of a rig: a stereo camera's baseline, as TF has it."""

from __future__ import annotations

import numpy as np

from spatial_fm_ros.core.config import ScaleConfig
from spatial_fm_ros.core.geometry.rotations import interpolate_pose, invert_pose, rotation_angle
from spatial_fm_ros.core.intake.companions import mount_problem
from spatial_fm_ros.core.intake.sensors import Sensors
from spatial_fm_ros.core.metric.observers import PlacedWindow, ScaleObservation, unusable
from spatial_fm_ros.core.metric.rig_fit import BaselineFit, RigPair, fit_baseline, tilt
from spatial_fm_ros.core.types import Array, PosedKeyframe

#: TF and images may differ by so much about a camera's orientation and about the direction in which it lies.
LARGEST_TURN_DEG, LARGEST_SWING_DEG = 6.0, 15.0
#: A scale this uncertain says only that the baseline is lost in the noise.
LARGEST_SIGMA = 0.35
#: Errors that all views of a window share: no number of them makes the distance better than this.
LEAST_SIGMA = 0.005
#: A rig that has not gone so far (in baselines) or turned so far sees the same again, errors included.
SAME_PLACE, SAME_DIRECTION_DEG = 0.5, 5.0
#: What is seen again counts less each time, down to this share: enough to hold a scale that drifts.
LEAST_NEW = 1.0 / 8.0


class BaselineObserver:
    """Baseline in TF over the distance of both cameras' centres in the world. Needs no motion: a rig that stands
    still has parallax between its cameras."""

    name = "baseline"

    def __init__(self, config: ScaleConfig, sensors: Sensors) -> None:
        self.config = config
        self.sensors = sensors
        self.reset()

    def observe(self, window: PlacedWindow) -> ScaleObservation | None:
        """See ScaleObserver; None without a second camera."""
        if not window.companions:
            problem = self._problem()
            return unusable(self.name, problem) if problem else None
        pairs = self._pairs(window)
        if not pairs:
            words = "no keyframe is posed together with what the rig's other cameras saw at its instant"
            return unusable(self.name, words)
        for frame_id in sorted({pair.frame_id for pair in pairs}):
            of_camera = fit_baseline([pair for pair in pairs if pair.frame_id == frame_id])
            if problem := _disagreement(frame_id, of_camera):
                return unusable(self.name, problem)
        fit = fit_baseline(pairs)
        told_m = float(np.median([np.linalg.norm(pair.told[:3, 3]) for pair in pairs]))
        if not (fit.units > 0 and fit.sigma <= LARGEST_SIGMA):
            share = f"{100 * fit.sigma:.0f} % of {told_m:.2f} m"
            return unusable(self.name, f"the baseline is lost in the noise of the cameras' places ({share})")
        told_sigma = float(np.radians(self.config.baseline_turn_sigma_deg))
        shift, tilt_sigma = tilt(pairs, _depth(window), _extent(window), fit.units, told_sigma)
        sigma = float(np.sqrt(LEAST_SIGMA**2 + fit.sigma**2 + tilt_sigma**2))
        return ScaleObservation(
            name=self.name,
            log_scale=shift - float(np.log(fit.units)),
            sigma=sigma / self._news(window, fit.units * told_m),
            usable=True,
            systematic=self.config.baseline_sigma,
            figures={
                "companions": float(len(pairs)),
                "baseline_m": told_m,
                "turned_deg": fit.turned_deg,
                "swing_deg": fit.swing_deg,
            },
        )

    def rescaled(self, factor: float) -> None:
        if self._seen_from is not None:
            self._seen_from[:3, 3] *= factor

    def reset(self) -> None:
        self._seen_from: Array | None = None  # world_from_camera of the newest view that counted in full
        self._again = 0  # windows since

    def _problem(self) -> str:
        """Why cameras that send images give no companions, empty where there are none or all is well."""
        buffer = self.sensors.companions
        problems = [mount_problem(self.sensors.told_rig, frame_id) for frame_id in buffer.cameras]
        return next((problem for problem in [buffer.problem, *problems] if problem), "")

    def _pairs(self, window: PlacedWindow) -> list[RigPair]:
        """What can be compared."""
        keyframes = [k for k in window.keyframes if np.isfinite(k.world_from_camera).all()]
        place = {keyframe.id: i for i, keyframe in enumerate(keyframes)}
        pairs = []
        for companion in window.companions:
            told = self.sensors.told_rig.companions.get(companion.frame_id)
            if told is not None and companion.of in place:
                camera = _at(companion.stamp_ns, keyframes, place[companion.of])
                pairs.append(RigPair(companion.frame_id, invert_pose(camera) @ companion.world_from_camera, told))
        return pairs

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


def _disagreement(frame_id: str, fit: BaselineFit) -> str:
    """Why TF and images cannot mean the same camera, empty when they can."""
    if fit.turned_deg > LARGEST_TURN_DEG:
        turned = f"the images see '{frame_id}' turned by {fit.turned_deg:.0f} deg from how TF has it"
        return f"{turned}: is it the optical frame, and of this camera?"
    allowed = LARGEST_SWING_DEG + 4.0 * fit.swing_sigma_deg
    if fit.swing_deg > 180.0 - allowed and allowed < 90.0:
        return f"the images see '{frame_id}' on the other side of where TF has it: are the cameras swapped?"
    if fit.swing_deg > allowed:
        return f"the images see '{frame_id}' {fit.swing_deg:.0f} deg off the direction in which TF has it"
    return ""


def _extent(window: PlacedWindow) -> float:
    """The largest distance between two cameras of the window, the companions included."""
    poses = [k.world_from_camera for k in window.keyframes] + [each.world_from_camera for each in window.companions]
    centres = np.stack(poses)[:, :3, 3]
    centres = centres[np.isfinite(centres).all(1)]
    return float(np.linalg.norm(centres[:, None] - centres[None], axis=2).max())


def _depth(window: PlacedWindow) -> float:
    """Median depth of the window; without any it cannot say how uncertain its shape is."""
    depths = [float(np.nanmedian(k.depth)) for k in window.keyframes if np.isfinite(k.depth).any()]
    return float(np.median(depths)) if depths else float("inf")


def _at(stamp_ns: int, keyframes: list[PosedKeyframe], i: int) -> Array:
    """world_from_camera of keyframe `i` carried on to a stamp near its own, as the keyframe beside it says."""
    here = keyframes[i]
    beside = [k for k in keyframes[max(0, i - 1) : i + 2] if k is not here]
    if stamp_ns == here.stamp_ns or not beside:
        return here.world_from_camera
    other = min(beside, key=lambda k: abs(k.stamp_ns - stamp_ns))
    share = (stamp_ns - here.stamp_ns) / (other.stamp_ns - here.stamp_ns)
    return interpolate_pose(here.world_from_camera, other.world_from_camera, share)
