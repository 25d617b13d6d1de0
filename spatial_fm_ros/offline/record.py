"""What one run leaves behind for its report: windows, counts, sample pictures, poses of every frame."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from spatial_fm_ros.core.types import (
    Array,
    Depth,
    Image,
    PosedKeyframe,
    PoseSample,
    ScaleEstimate,
    ScaleState,
    SeamReport,
    Update,
)

SAMPLES = 6
#: Kinds of refused samples that are told apart.
MOST_REASONS = 100


@dataclass(frozen=True, eq=False)
class DepthSample:
    """A keyframe to look at: its photo, depth and confidence on the depth grid."""

    stamp_ns: int
    keyframe: int
    submap: int
    image: Image
    depth: Depth
    confidence: Depth


@dataclass(frozen=True)
class WindowRow:
    """One window as the report lists it. Times in seconds; scale as it was after the window."""

    window: int
    submap: int
    new_keyframes: int
    first_stamp_ns: int | None
    last_stamp_ns: int | None
    state: str
    note: str
    seam: SeamReport | None
    scale: ScaleEstimate
    rescaled_by: float
    map_size: int
    timings_s: dict[str, float]
    confident_share: float

    def as_dict(self) -> dict[str, Any]:
        row = asdict(self)
        row["scale"]["state"] = self.scale.state.value
        return row


@dataclass
class RunRecord:
    """Grows with every sample and update; small beside the map (poses and stamps, a few pictures)."""

    confident: float = 0.5
    windows: list[WindowRow] = field(default_factory=list)
    frame_stamps: list[int] = field(default_factory=list)
    pose_stamps: list[int] = field(default_factory=list)
    poses: list[Array] = field(default_factory=list)
    bad_samples: Counter[str] = field(default_factory=Counter)
    bad_depth: Counter[str] = field(default_factory=Counter)
    companion_images: int = 0
    scans: int = 0
    scan_remarks: Counter[str] = field(default_factory=Counter)
    imu_samples: int = 0
    odom_from_camera: dict[int, Array] = field(default_factory=dict)
    scale_states: dict[int, ScaleState] = field(default_factory=dict)
    samples: list[DepthSample] = field(default_factory=list)
    _first_of: dict[str, str] = field(default_factory=dict)
    _every: int = 1
    _seen: int = 0

    def refuse(self, kind: str, reason: str) -> None:
        """Count a sample that could not be used. Reasons that differ by numbers alone are one, told by the first."""
        words = re.sub(r"[0-9][0-9.e+-]*", "#", f"{kind}: {reason}")
        if words not in self._first_of and len(self._first_of) >= MOST_REASONS:
            words = f"{kind}: other reasons"
            reason = "other reasons"
        self.bad_samples[self._first_of.setdefault(words, f"{kind}: {reason}")] += 1

    def add_pose(self, sample: PoseSample) -> None:
        self.pose_stamps.append(sample.stamp_ns)
        self.poses.append(sample.odom_from_body)

    def add_update(self, update: Update) -> None:
        keyframes = update.keyframes
        confident = [
            float((k.confidence[np.isfinite(k.depth)] >= self.confident).sum()) / k.depth.size for k in keyframes
        ]
        self.windows.append(
            WindowRow(
                window=update.window,
                submap=update.submap,
                new_keyframes=len(keyframes),
                first_stamp_ns=keyframes[0].stamp_ns if keyframes else None,
                last_stamp_ns=keyframes[-1].stamp_ns if keyframes else None,
                state=update.state.value,
                note=update.note,
                seam=update.seam,
                scale=update.scale,
                rescaled_by=update.rescaled_by,
                map_size=update.map_size,
                timings_s=dict(update.timings_s),
                confident_share=float(np.mean(confident)) if confident else 0.0,
            )
        )
        if update.submap >= 0:
            self.scale_states[update.submap] = update.scale.state
        if update.rescaled_by != 1.0:
            self.samples = [_rescaled(s, update.rescaled_by) if s.submap == update.submap else s for s in self.samples]
        if update.refined:
            self.samples = [_rescaled(s, update.refined.get(s.keyframe, 1.0)) for s in self.samples]
        for keyframe in keyframes:
            if keyframe.odom_from_camera is not None:
                self.odom_from_camera[keyframe.id] = keyframe.odom_from_camera
            self._maybe_keep(keyframe)

    def metric_submaps(self) -> set[int]:
        return {submap for submap, state in self.scale_states.items() if state is ScaleState.METRIC}

    def _maybe_keep(self, keyframe: PosedKeyframe) -> None:
        """An even choice of at most 2 * SAMPLES keyframes of a run whose length is not known beforehand."""
        if self._seen % self._every == 0:
            self.samples.append(
                DepthSample(
                    keyframe.stamp_ns,
                    keyframe.id,
                    keyframe.submap,
                    keyframe.image,
                    keyframe.depth,
                    keyframe.confidence,
                )
            )
            if len(self.samples) >= 2 * SAMPLES:
                self.samples = self.samples[::2]
                self._every *= 2
        self._seen += 1

    def chosen_samples(self) -> list[DepthSample]:
        index = np.unique(np.linspace(0, len(self.samples) - 1, min(SAMPLES, len(self.samples))).round().astype(int))
        return [self.samples[i] for i in index]


def _rescaled(sample: DepthSample, factor: float) -> DepthSample:
    depth = (sample.depth * np.float32(factor)).astype(np.float32)
    return DepthSample(sample.stamp_ns, sample.keyframe, sample.submap, sample.image, depth, sample.confidence)
