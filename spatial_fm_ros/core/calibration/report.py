"""What a comparison of camera and sensor means for the one who set them up, in sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from spatial_fm_ros.core.calibration.check import LIKE_THAT, Comparison
from spatial_fm_ros.core.calibration.hand_eye import HandEye
from spatial_fm_ros.core.geometry.optical import MEND
from spatial_fm_ros.core.intake.clocks import PARAMETERS

NAMES = {"imu": "IMU", "odometry": "odometry", "lidar": "LiDAR"}
AXES = ("x (right)", "y (down)", "z (forward)")
#: Worth a correction: this many sigma, and more than this.
SIGNIFICANT, WORTH_S, WORTH_RAD, WORTH_RATIO = 3.0, 0.005, np.radians(0.3), 0.02


@dataclass(frozen=True)
class Finding:
    """A sentence; `wrong` where something should be changed, `open` where nothing could be compared."""

    sentence: str
    wrong: bool
    open: bool = False


def findings(comparison: Comparison, offsets_s: Mapping[str, float]) -> list[Finding]:
    """Sentences on one sensor. offsets_s: the parameters of PARAMETERS that the samples were moved by already."""
    name = NAMES[comparison.sensor]
    if comparison.later_s is not None:
        already, later = offsets_s.get(comparison.sensor, 0.0), comparison.later_s
        return [
            Finding(
                f"{name}: its stamps are about {abs(later):.1f} s {'later' if later > 0 else 'earlier'} than the "
                f"camera's, by when both came; set {PARAMETERS[comparison.sensor]}: {already - later:.1f} (or put both "
                "on one clock), then compare again.",
                True,
            )
        ]
    if comparison.found is None:
        return [
            Finding(
                f"{name}: its clock and mounting could not be compared with the camera's: {comparison.reason}.",
                wrong=False,
                open=True,
            )
        ]
    found = comparison.found
    said = [_clock(comparison.sensor, found, offsets_s.get(comparison.sensor, 0.0))]
    if comparison.not_optical:
        said.append(_not_optical(name))
    else:
        said.append(_mounting(name, found) if comparison.mounted else _unknown_mounting(name, found))
    if comparison.sensor == "imu" and abs(found.ratio - 1) > max(WORTH_RATIO, SIGNIFICANT * found.ratio_sigma):
        sentence = (
            f"{name}: by the images the camera turns {found.ratio:.3f} +- {found.ratio_sigma:.3f} times as far as by "
            f"the gyro; the focal length in CameraInfo seems to be {1 / found.ratio:.3f} times the true one, calibrate "
            "the camera."
        )
        said.append(Finding(sentence, True))
    unseen = [axis for axis, seen in zip(AXES, found.seen, strict=True) if not seen]
    if unseen and found.seen.any():
        sentence = (
            f"{name}: nothing can be said of its mounting about {' and '.join(unseen)} of the camera; "
            "turn the robot about other axes too."
        )
        said.append(Finding(sentence, False, True))
    return said


def _clock(sensor: str, found: HandEye, already_s: float) -> Finding:
    name, milliseconds, sigma = NAMES[sensor], 1e3 * found.offset_s, 1e3 * found.offset_sigma_s
    if abs(found.offset_s) > max(WORTH_S, SIGNIFICANT * found.offset_sigma_s):
        way = "later" if found.offset_s > 0 else "earlier"
        return Finding(
            f"{name}: its stamps are {abs(milliseconds):.0f} +- {sigma:.0f} ms {way} than the camera's; "
            f"set {PARAMETERS[sensor]}: {already_s - found.offset_s:.3f}",
            True,
        )
    return Finding(f"{name}: its stamps agree with the camera's ({milliseconds:+.0f} +- {sigma:.0f} ms).", False)


def of_image_frame(doubt: str, compared: Sequence[Comparison]) -> list[Finding]:
    """What TF lets suspect of the frame of the images (`frame_doubt`), where the motion has not shown how it is."""
    shown = any(each.not_optical or _is_right(each) for each in compared)
    return [Finding(doubt, True)] if doubt and not shown else []


def _is_right(comparison: Comparison) -> bool:
    """The motion has shown that camera and sensor are mounted about as TF says."""
    found = comparison.found
    return found is not None and comparison.mounted and bool(found.seen.any()) and _angle(found) < LIKE_THAT


def _angle(found: HandEye) -> float:
    return float(np.linalg.norm(found.rotation))


def _not_optical(name: str) -> Finding:
    return Finding(
        f"{name}: the camera's frame in TF has x forward where images need an optical frame with z forward (REP-103). "
        f"{MEND}",
        True,
    )


def _mounting(name: str, found: HandEye) -> Finding:
    turn = np.where(found.seen, found.rotation, 0.0)
    wrong = found.seen & (np.abs(turn) > np.maximum(WORTH_RAD, SIGNIFICANT * found.rotation_sigma))
    if wrong.any():
        parts = [
            f"{np.degrees(turn[i]):+.1f} +- {np.degrees(found.rotation_sigma[i]):.1f} deg about {AXES[i]}"
            for i in np.flatnonzero(wrong)
        ]
        return Finding(
            f"{name}: the rotation between camera and {name} in TF is wrong: turn the camera's frame by "
            f"{', '.join(parts)} of its own axes, or the {name}'s frame the other way.",
            True,
        )
    if not found.seen.any():
        sentence = f"{name}: the robot turned too little to judge the rotation between camera and {name}."
        return Finding(sentence, False, True)
    within = np.degrees(np.max(np.abs(turn) + 2 * found.rotation_sigma * found.seen))
    return Finding(f"{name}: the rotation between camera and {name} in TF is right within {within:.1f} deg.", False)


def _unknown_mounting(name: str, found: HandEye) -> Finding:
    if not found.seen.all():
        return Finding(
            f"{name}: TF does not say how camera and {name} are mounted; turn the robot about more than one axis "
            "to find out.",
            True,
        )
    x, y, z, w = Rotation.from_rotvec(found.rotation).as_quat()
    sigma = np.degrees(found.rotation_sigma.max())
    return Finding(
        f"{name}: TF does not say how camera and {name} are mounted; by their turns the rotation that takes the "
        f"camera's axes to those of the {name} is the quaternion "
        f"x {x:.4f} y {y:.4f} z {z:.4f} w {w:.4f} (+- {sigma:.1f} deg).",
        True,
    )
