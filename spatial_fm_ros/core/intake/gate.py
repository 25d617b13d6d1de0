"""Which frames become keyframes: enough motion or time since the last one, sharp and well exposed.

Motion is the median flow of Shi-Tomasi corners of the last keyframe, tracked from frame to frame by
pyramidal Lucas-Kanade on a small grey copy and checked backwards. A corner that was lost counts as one
that moved far: driving forward, those with the largest flow leave the view first.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from spatial_fm_ros.core.config import IntakeConfig
from spatial_fm_ros.core.types import Image

#: Long side of the grey copy that is tracked, and of the image disparity is stated for.
TRACK_SIDE = 320
REFERENCE_SIDE = 640
MAX_CORNERS = 160
NO_CORNERS = np.empty((0, 1, 2), np.float32)
#: Fewer corners than this say nothing about motion.
MIN_CORNERS = 12
#: Smaller eigenvalue of the gradient matrix (OpenCV's scaling) that separates texture from sensor noise.
MIN_CORNER_STRENGTH = 6e-4
FLOW_WINDOW_PX = 15
FLOW_LEVELS = 3
#: Forward-backward disagreement of a good track, in pixels of the grey copy.
MAX_ROUND_TRIP_PX = 1.0
#: Disparity stated for a view that was left: a quarter of the reference image, or twice the threshold.
LEFT_VIEW_PX = 160.0
#: Flow of the fastest tenth that counts as much as the median. Sideways, median and fastest are close together.
FAST_SHARE = 0.6
#: Frames whose sharpness forms the recent median, and how many are needed before it counts.
SHARPNESS_HISTORY = 15
MIN_HISTORY = 3
#: After so many frames in a row rejected for blur the next is taken: overlap matters more than sharpness.
BLUR_PATIENCE = 5


@dataclass(frozen=True)
class GateDecision:
    """`reason`: "first", "disparity" or "time" when kept; else "blur", "dark", "bright", "still",
    "interval" or "stale". `disparity_px`: median flow since the last keyframe in pixels of a 640-wide
    image; 0 where it was not measured."""

    kept: bool
    reason: str
    disparity_px: float = 0.0


class KeyframeGate:
    """Decides frame by frame. Not thread-safe: one thread offers frames."""

    def __init__(self, config: IntakeConfig) -> None:
        self.config = config
        self.reset()

    def reset(self) -> None:
        """Forget the last keyframe and the sharpness history."""
        self._last_stamp_ns: int | None = None
        self._keyframe_stamp_ns: int | None = None
        self._reference: Image | None = None  # grey copy of the last sharp frame
        self._corners: NDArray[np.float32] = NO_CORNERS  # [n, 1, 2] in the keyframe, those still tracked
        self._tracks: NDArray[np.float32] = NO_CORNERS  # the same corners in the reference
        self._corner_count = 0  # in the keyframe at first
        self._sharpness: deque[float] = deque(maxlen=SHARPNESS_HISTORY)
        self._blurred_in_a_row = 0

    def consider(self, stamp_ns: int, image: Image) -> GateDecision:
        """Decide on one frame: RGB uint8 [h, w, 3] of working size, stamp of its exposure.

        Stamps must increase; a frame not newer than the one before is "stale" and changes nothing.
        """
        if self._last_stamp_ns is not None and stamp_ns <= self._last_stamp_ns:
            return GateDecision(False, "stale")
        self._last_stamp_ns = stamp_ns
        grey = _grey(image)
        level = float(grey.mean())
        if level < self.config.dark_level:
            return GateDecision(False, "dark")
        if level > self.config.bright_level:
            return GateDecision(False, "bright")
        blurred = self._is_blurred(grey)
        if self._reference is not None and self._reference.shape != grey.shape:
            self._reference = None  # the camera changed its mode: nothing to compare with
        if self._reference is None or self._keyframe_stamp_ns is None:
            return self._judge(stamp_ns, grey, "first", 0.0, blurred)
        age_s = (stamp_ns - self._keyframe_stamp_ns) * 1e-9
        disparity = self._track(self._reference, grey, keep=not blurred)
        if age_s < self.config.min_interval_s:
            return GateDecision(False, "interval", disparity)
        if disparity >= self.config.disparity_px:
            return self._judge(stamp_ns, grey, "disparity", disparity, blurred)
        if age_s >= self.config.max_interval_s:
            return self._judge(stamp_ns, grey, "time", disparity, blurred)
        return GateDecision(False, "blur" if blurred else "still", disparity)

    def _judge(self, stamp_ns: int, grey: Image, reason: str, disparity: float, blurred: bool) -> GateDecision:
        """A frame that should become a keyframe does, unless it is blurred and a sharper one may follow."""
        if blurred and self._blurred_in_a_row < BLUR_PATIENCE:
            self._blurred_in_a_row += 1
            return GateDecision(False, "blur", disparity)
        self._blurred_in_a_row = 0
        self._keyframe_stamp_ns = stamp_ns
        self._reference = grey
        self._corners = self._tracks = _corners(grey)
        self._corner_count = len(self._corners)
        return GateDecision(True, reason, disparity)

    def _is_blurred(self, grey: Image) -> bool:
        """Against the recent median; every frame enters it, so it follows the scene within some frames."""
        sharpness = float(cv2.meanStdDev(cv2.Laplacian(grey, cv2.CV_16S))[1][0, 0]) ** 2
        recent = float(np.median(self._sharpness)) if len(self._sharpness) >= MIN_HISTORY else 0.0
        self._sharpness.append(sharpness)
        return sharpness < self.config.blur_ratio * recent

    def _track(self, reference: Image, grey: Image, keep: bool) -> float:
        """Flow since the keyframe, in pixels of a 640-wide image; `keep`: track on from `grey`.

        The median, or a share of what the fastest tenth moves where that is more: driving forward, most of the
        image stays where it is while its rim flies past.
        """
        left_view = max(LEFT_VIEW_PX, 2.0 * self.config.disparity_px)
        if keep:
            self._reference = grey
        if self._corner_count < MIN_CORNERS:
            # A blank keyframe cannot be tracked; a view with corners is certainly another one.
            return left_view if len(_corners(grey)) >= 2 * MIN_CORNERS else 0.0
        if 2 * len(self._tracks) <= self._corner_count:
            return left_view
        found, forward = _follow(reference, grey, self._tracks)
        back, backward = _follow(grey, reference, found)
        height, width = grey.shape
        inside = ((found[:, 0] >= 0) & (found[:, 0] <= (width - 1, height - 1))).all(axis=1)
        returned = np.linalg.norm((back - self._tracks)[:, 0], axis=1) < MAX_ROUND_TRIP_PX
        good = forward & backward & returned & inside
        flow = np.full(self._corner_count, np.inf)
        flow[: int(good.sum())] = np.linalg.norm((found - self._corners)[good, 0], axis=1)
        if keep:
            self._corners, self._tracks = self._corners[good], found[good]
        # The lower of the two middle values, for the upper may be infinite.
        median = float(np.sort(flow)[(len(flow) - 1) // 2])
        fastest = FAST_SHARE * float(np.quantile(flow[: int(good.sum())], 0.9)) if good.any() else 0.0
        return min(max(median, fastest) * REFERENCE_SIDE / max(height, width), left_view)


def _follow(before: Image, after: Image, points: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Where points [n, 1, 2] of one image are in the next, and which of them were found [n]."""
    window = FLOW_WINDOW_PX, FLOW_WINDOW_PX
    found, status, _ = cv2.calcOpticalFlowPyrLK(before, after, points, None, winSize=window, maxLevel=FLOW_LEVELS)
    return found, status[:, 0] == 1


def _grey(image: Image) -> Image:
    """Grey copy [h, w] with a long side of TRACK_SIDE (smaller images keep their size)."""
    height, width = image.shape[:2]
    scale = min(1.0, TRACK_SIDE / max(height, width))
    if scale < 1.0:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    grey: Image = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return grey


def _corners(grey: Image) -> NDArray[np.float32]:
    """Shi-Tomasi corners [n, 1, 2] (u, v), clear of the noise of a blank wall."""
    found: NDArray[np.float32] | None = cv2.goodFeaturesToTrack(grey, MAX_CORNERS, 0.01, 7, blockSize=5)
    if found is None:
        return NO_CORNERS
    strength = cv2.cornerMinEigenVal(grey, 5)
    column, row = found[:, 0].astype(int).T
    strong: NDArray[np.bool_] = strength[row, column] > MIN_CORNER_STRENGTH
    return found[strong]
