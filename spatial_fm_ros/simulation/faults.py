"""Faults put into a stream on purpose: lost, late, doubled, swapped and damaged samples, wrong calibration.

What is wrong is decided by a seed and counted, so that a test can compare what went in with what the
node reports.
"""

from __future__ import annotations

import dataclasses
import heapq
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.types import (
    Array,
    Camera,
    CompanionFrame,
    Frame,
    ImuSample,
    LidarScan,
    PoseSample,
    Rig,
)
from spatial_fm_ros.simulation.simulator import Event
from spatial_fm_ros.simulation.trajectory import rotation

STREAMS = {"image": Frame, "points": LidarScan, "odometry": PoseSample, "imu": ImuSample}

#: What faults hit: the rig's other cameras are left alone.
Struck = Frame | LidarScan | PoseSample | ImuSample

#: Ways to damage a sample. Those of the second line exist only in messages: the sample stays whole
#: and `Event.fault` tells the one who builds the message.
DAMAGE = {
    "image": ("black", "white", "truncated", "empty", "encoding", "step"),
    "points": ("nan", "truncated", "no_xyz"),
    "odometry": ("nan", "jump"),
    "imu": ("nan",),
}
MESSAGE_ONLY = {"encoding", "step", "no_xyz"}

CAMERA_INFO_FAULTS = ("", "focal", "size", "zero", "nan", "model")


@dataclass(frozen=True)
class FaultPlan:
    """Shares (0..1) of samples of the streams in `streams` that suffer each fault; offsets in seconds
    added to stamps; errors of the reported calibration. `corrupt_as` picks one way of DAMAGE for all.
    `odometry_until_s`: odometry falls silent so long after the first sample; 0 = never."""

    streams: tuple[str, ...] = ("image", "points", "odometry", "imu")
    drop: float = 0.0
    late: float = 0.0
    late_s: float = 0.5
    duplicate: float = 0.0
    reorder: float = 0.0
    reorder_s: float = 0.15
    corrupt: float = 0.0
    corrupt_as: str = ""
    image_offset_s: float = 0.0
    points_offset_s: float = 0.0
    odometry_offset_s: float = 0.0
    imu_offset_s: float = 0.0
    odometry_until_s: float = 0.0
    camera_info: str = ""
    focal_error: float = 0.1
    extrinsic_error_m: float = 0.0
    extrinsic_error_deg: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        unknown = sorted(set(self.streams) - set(STREAMS))
        if unknown:
            raise InputError(f"Unknown stream {', '.join(unknown)}; expected some of {', '.join(STREAMS)}.")
        for name in ("drop", "late", "duplicate", "reorder", "corrupt"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"The share of '{name}' must be in 0..1, got {getattr(self, name)}.")
        if self.camera_info not in CAMERA_INFO_FAULTS:
            choices = ", ".join(c for c in CAMERA_INFO_FAULTS if c)
            raise InputError(f"Unknown camera_info fault '{self.camera_info}'; expected one of {choices} or none.")
        if self.corrupt_as and not any(self.corrupt_as in ways for ways in DAMAGE.values()):
            choices = ", ".join(sorted({way for ways in DAMAGE.values() for way in ways}))
            raise InputError(f"Unknown damage '{self.corrupt_as}'; expected one of {choices}.")


class FaultInjector:
    """Applies a plan to events. `counts` has 'stream:fault' -> how many so far."""

    def __init__(self, plan: FaultPlan) -> None:
        self.plan = plan
        self.counts: Counter[str] = Counter()
        self._rng = np.random.default_rng([plan.seed, 20])
        self._first_ns: int | None = None

    def apply(self, events: Iterable[Event]) -> Iterator[Event]:
        """The events as they arrive with the faults, again in order of arrival."""
        held: list[tuple[int, int, Event]] = []
        order = 0
        for event in events:
            for changed in self._suffer(event):
                heapq.heappush(held, (changed.arrival_ns, order, changed))
                order += 1
            # Whatever is due before the next event can arrive is due now.
            while held and held[0][0] <= event.arrival_ns:
                yield heapq.heappop(held)[2]
        while held:
            yield heapq.heappop(held)[2]

    def _suffer(self, event: Event) -> list[Event]:
        plan = self.plan
        sample = event.sample
        if isinstance(sample, CompanionFrame):
            return [event]  # no draws: what hits the other streams stays what it was
        stream = next(name for name, kind in STREAMS.items() if isinstance(sample, kind))
        sample = self._shift(stream, sample)
        event = dataclasses.replace(event, sample=sample)
        if isinstance(event.sample, Frame) and event.sample.camera is not None:
            camera = self.camera(event.sample.camera)
            event = dataclasses.replace(event, sample=dataclasses.replace(event.sample, camera=camera))
        if self._first_ns is None:
            self._first_ns = event.arrival_ns
        silent_ns = self._first_ns + int(plan.odometry_until_s * 1e9)
        if plan.odometry_until_s > 0 and stream == "odometry" and event.arrival_ns >= silent_ns:
            self.counts["odometry:silent"] += 1
            return []
        # Always the same number of draws, so that one share does not change what another one hits.
        draws = self._rng.uniform(size=6)
        if stream not in plan.streams:
            return [event]
        if draws[0] < plan.drop:
            self.counts[f"{stream}:drop"] += 1
            return []
        if draws[1] < plan.corrupt:
            ways = [w for w in DAMAGE[stream] if plan.corrupt_as in ("", w)]
            if ways:
                way = ways[int(draws[5] * len(ways))]
                event = dataclasses.replace(event, sample=_damage(sample, way), fault=way)
                self.counts[f"{stream}:{way}"] += 1
        if draws[2] < plan.late:
            self.counts[f"{stream}:late"] += 1
            event = dataclasses.replace(event, arrival_ns=event.arrival_ns + int(plan.late_s * 1e9))
        elif draws[3] < plan.reorder:
            self.counts[f"{stream}:reorder"] += 1
            event = dataclasses.replace(event, arrival_ns=event.arrival_ns + int(plan.reorder_s * 1e9))
        if draws[4] < plan.duplicate:
            self.counts[f"{stream}:duplicate"] += 1
            return [event, event]
        return [event]

    def _shift(self, stream: str, sample: Struck) -> Struck:
        offset = int(getattr(self.plan, f"{stream}_offset_s") * 1e9)
        return dataclasses.replace(sample, stamp_ns=sample.stamp_ns + offset) if offset else sample

    def camera(self, camera: Camera) -> Camera:
        """The calibration as reported. Faults that no Camera can hold (zero, nan, model) are left to
        the one who builds CameraInfo messages."""
        if self.plan.camera_info == "focal":
            K = camera.K.copy()
            K[[0, 1], [0, 1]] *= 1 + self.plan.focal_error
            return dataclasses.replace(camera, K=K)
        if self.plan.camera_info == "size":
            return dataclasses.replace(camera, width=camera.width * 2, height=camera.height * 2)
        return camera

    def rig(self, rig: Rig) -> Rig:
        """The extrinsics as reported: sensors shifted and turned by the plan's errors, in directions
        drawn from its seed."""
        rng = np.random.default_rng([self.plan.seed, 21])

        def wrong(pose: Array | None) -> Array | None:
            shift, turn = rng.standard_normal((2, 3))
            if pose is None:
                return None
            error = np.eye(4)
            error[:3, 3] = self.plan.extrinsic_error_m * shift / np.linalg.norm(shift)
            angle = np.radians(self.plan.extrinsic_error_deg)
            axis = turn / np.linalg.norm(turn)
            skew = np.cross(np.eye(3), axis)
            error[:3, :3] = np.eye(3) - np.sin(angle) * skew + (1 - np.cos(angle)) * skew @ skew
            return pose @ error

        return Rig(wrong(rig.body_from_camera), wrong(rig.body_from_lidar), rig.body_from_imu, rig.companions)


def _damage(sample: Struck, way: str) -> Struck:
    if way in MESSAGE_ONLY:
        return sample
    if isinstance(sample, Frame):
        image = sample.image
        images = {
            "black": np.zeros_like(image),
            "white": np.full_like(image, 255),
            "truncated": image[: len(image) // 2],
            "empty": image[:0, :0],
        }
        return dataclasses.replace(sample, image=images[way])
    if isinstance(sample, LidarScan):
        points = sample.points.copy()
        points[::3] = np.nan
        if way == "nan":
            return dataclasses.replace(sample, points=points)
        keep = slice(0, len(points) // 2)
        return dataclasses.replace(
            sample,
            points=sample.points[keep],
            intensity=None if sample.intensity is None else sample.intensity[keep],
            ring=None if sample.ring is None else sample.ring[keep],
            point_times_ns=None if sample.point_times_ns is None else sample.point_times_ns[keep],
        )
    if isinstance(sample, PoseSample):
        pose = sample.odom_from_body.copy()
        if way == "nan":
            pose[:3, 3] = np.nan
        else:
            pose[:3, 3] += (5.0, -3.0, 0.0)
            pose[:3, :3] = pose[:3, :3] @ rotation(np.array([[1.0, 0.0, 0.0]]))[0]
        return dataclasses.replace(sample, odom_from_body=pose)
    return dataclasses.replace(sample, linear_acceleration=np.full(3, np.nan))
