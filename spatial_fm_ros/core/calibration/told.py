"""What refinement corrected or refused, in sentences that say what to mend, and as data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from spatial_fm_ros.core.calibration.estimate import Estimate, SensorCorrection
from spatial_fm_ros.core.calibration.report import AXES, NAMES
from spatial_fm_ros.core.config import CalibrationConfig, IntakeConfig
from spatial_fm_ros.core.intake.clocks import PARAMETERS
from spatial_fm_ros.core.types import Array

#: Turns are told about axes whose angle is known better than this, rad.
KNOWN_SIGMA = np.radians(1.0)


def sentences(states: Sequence[SensorCorrection], config: CalibrationConfig, intake: IntakeConfig) -> list[str]:
    """One for each quantity that is corrected or outside of the bounds; empty where all is as it should be."""
    configured = {
        "odometry": intake.pose_time_offset_s,
        "lidar": intake.lidar_time_offset_s,
        "imu": intake.imu_time_offset_s,
    }
    said = []
    for state in states:
        name, found = NAMES[state.sensor], state.estimate
        if found is None:
            continue
        if state.offset_beyond or state.applied_offset_s:
            better = f"set {PARAMETERS[state.sensor]}: {configured[state.sensor] - found.offset_s:.3f}"
            limit = f"calibration.max_time_offset_s ({config.max_time_offset_s:g})"
            said.append(_clock(name, found, state, limit, better))
        if state.rotation_beyond or state.applied_rotation.any():
            said.append(_mounting(name, found, state, f"calibration.max_rotation_deg ({config.max_rotation_deg:g})"))
    return said


def as_data(state: SensorCorrection) -> dict[str, Any]:
    """For report.json: seconds and degrees, None where unknown."""
    found = state.estimate
    return {
        "sensor": state.sensor,
        "windows": state.windows,
        "offset_s": found.offset_s if found is not None and np.isfinite(found.offset_sigma_s) else None,
        "offset_sigma_s": found.offset_sigma_s if found is not None and np.isfinite(found.offset_sigma_s) else None,
        "rotation_deg": np.degrees(found.rotation).tolist() if found is not None else None,
        "rotation_sigma_deg": np.degrees(found.sigma).tolist() if found is not None else None,
        "applied_offset_s": state.applied_offset_s,
        "applied_rotation_deg": np.degrees(state.applied_rotation).tolist(),
        "beyond_bounds": state.offset_beyond or state.rotation_beyond,
    }


def in_words(state: SensorCorrection) -> list[tuple[str, str]]:
    """For /diagnostics: what was found and corrected, by name."""
    found, applied = state.estimate, np.degrees(state.applied_rotation)
    words = [("windows", str(state.windows))]
    if found is not None and np.isfinite(found.offset_sigma_s):
        words.append(("stamps later", f"{1e3 * found.offset_s:.1f} +- {1e3 * found.offset_sigma_s:.1f} ms"))
        words.append(("stamps corrected", f"{1e3 * state.applied_offset_s:.1f} ms"))
    if found is not None:
        words.append(("camera turned", f"{_by_axis(found)}"))
        words.append(("camera turn corrected", ", ".join(f"{angle:+.2f}" for angle in applied) + " deg"))
    return words


def _clock(name: str, found: Estimate, state: SensorCorrection, limit: str, better: str) -> str:
    way = "later" if found.offset_s > 0 else "earlier"
    size, sigma = 1e3 * abs(found.offset_s), 1e3 * found.offset_sigma_s
    seen = f"{name}: its stamps are {size:.0f} +- {sigma:.0f} ms {way} than the camera's"
    if state.offset_beyond:
        return f"{seen}: beyond {limit}, not corrected; {better}, or check its clock."
    return f"{seen}; corrected by {1e3 * abs(state.applied_offset_s):.0f} ms. To mend it {better}."


def _mounting(name: str, found: Estimate, state: SensorCorrection, limit: str) -> str:
    if state.rotation_beyond:
        size = np.degrees(np.linalg.norm(_known(found)))
        return (
            f"{name}: camera and {name} appear to be turned by {size:.1f} deg against what TF says: beyond {limit}, "
            f"not corrected; check TF. Found: {_by_axis(found)} of the camera."
        )
    applied = np.degrees(np.linalg.norm(state.applied_rotation))
    return (
        f"{name}: the rotation between camera and {name} in TF is wrong; corrected by {applied:.1f} deg. To mend it "
        f"turn the camera's frame by {_by_axis(found)} of its own axes, or the {name}'s frame the other way."
    )


def _known(found: Estimate) -> Array:
    return np.where(found.sigma < KNOWN_SIGMA, found.rotation, 0.0)


def _by_axis(found: Estimate) -> str:
    turn, sigma = np.degrees(found.rotation), np.degrees(found.sigma)
    known = found.sigma < KNOWN_SIGMA
    if not known.any():  # seen about an axis between the camera's
        known = np.ones(3, dtype=bool)
    return ", ".join(f"{turn[i]:+.1f} +- {sigma[i]:.1f} deg about {AXES[i]}" for i in np.flatnonzero(known))
