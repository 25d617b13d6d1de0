"""What check_topics says of the rig's other cameras: are they triggered together, and where does TF have them."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from spatial_fm_ros.bridge.companion_mounts import place_in_words
from spatial_fm_ros.bridge.frames import TransformTree
from spatial_fm_ros.core.calibration.report import Finding
from spatial_fm_ros.core.intake.clocks import TOLD_S

#: A smaller share of images that have a companion is worth a word.
FEW = 0.5
#: Fewer images than this say nothing of how the cameras are triggered.
LEAST_IMAGES = 5


def of_clocks(role: str, image_delay_s: float | None, delay_s: float | None) -> Finding | None:
    """Whether a camera's stamps are of the first camera's clock, by how long after them images arrive; None where they
    are, or nothing is known."""
    later_s = 0.0 if image_delay_s is None or delay_s is None else image_delay_s - delay_s
    if abs(later_s) < TOLD_S:
        return None
    return Finding(
        f"{role}: its stamps are about {abs(later_s):.1f} s {'later' if later_s > 0 else 'earlier'} than those of the "
        "images that arrive with it: put the rig's cameras on one clock.",
        wrong=True,
    )


def of_stamps(role: str, image_ns: ArrayLike, companion_ns: ArrayLike, max_gap_s: float) -> Finding | None:
    """How many of the first camera's images have one of the companion's at their instant, and how far its usual image
    is from that instant; stamps int64 [n] and [m]. None where too few were heard.

    Images before the first and after the last of the companion's do not count: one side was heard earlier.
    """
    images, others = np.sort(np.asarray(image_ns, np.int64)), np.sort(np.asarray(companion_ns, np.int64))
    if len(others) < LEAST_IMAGES:
        return None
    gap_ns = round(max_gap_s * 1e9)
    images = images[(images >= others[0] - gap_ns) & (images <= others[-1] + gap_ns)]
    if len(images) < LEAST_IMAGES:
        return None
    after = np.clip(np.searchsorted(others, images), 1, len(others) - 1)
    apart = np.stack([others[after - 1] - images, others[after] - images])  # before, after
    nearest = np.take_along_axis(apart, np.abs(apart).argmin(0)[None], 0)[0]
    share = float(np.mean(np.abs(nearest) <= gap_ns))
    usual_ms = float(np.median(nearest)) * 1e-6
    facts = (
        f"{role}: for {100 * share:.0f} % of the images it has one within {max_gap_s * 1e3:.1f} ms, the nearest is "
        f"usually {abs(usual_ms):.1f} ms {'earlier' if usual_ms < 0 else 'later'}"
    )
    if share >= FEW:
        return Finding(f"{facts}.", wrong=False)
    remedy = "trigger the rig's cameras together, on one clock (or raise intake.companion_max_gap_s)."
    return Finding(f"{facts}: {remedy}", wrong=True)


def of_frames(role: str, camera: str, companion: str, tree: TransformTree) -> Finding | None:
    """Where TF has the companion's frame beside the camera's; None where one of them has no name."""
    if not camera or not companion:
        return None
    if camera == companion:
        return Finding(f"{role}: both cameras send in frame '{camera}': give each its own.", wrong=True)
    found = tree.lookup(camera, companion)
    if found is None:
        return Finding(
            f"TF: no transform from '{camera}' to '{companion}' ({role}), whose distance gives metres; publish the "
            "robot's description or a static transform.",
            wrong=True,
        )
    place = place_in_words(found)
    if not np.linalg.norm(found[:3, 3]) > 0:
        return Finding(f"{role}: TF has '{companion}' {place} as the camera's '{camera}'.", wrong=True)
    return Finding(f"{role}: TF has '{companion}' {place} of the camera.", wrong=False)
