"""A scenario played: the robot's sensor samples in the order in which they would arrive."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from spatial_fm_ros.core.types import Array, CompanionFrame, Frame, ImuSample, LidarScan, PoseSample, Sample
from spatial_fm_ros.simulation.inertial import imu_samples, odometry_poses
from spatial_fm_ros.simulation.lidar import sweep
from spatial_fm_ros.simulation.scenario import FRAMES, Scenario, companion_frame
from spatial_fm_ros.simulation.truth import Truth


@dataclass(frozen=True, eq=False)
class Event:
    """A sample and when it arrives. `fault` names what a FaultInjector did to it."""

    arrival_ns: int
    sample: Sample
    fault: str = ""


class Simulator:
    """Plays a scenario; `truth` is what really was. Deterministic, also with several render threads."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.truth = Truth(scenario)
        self.rig = self.truth.rig

    def _times(self, rate_hz: float) -> Array:
        if rate_hz <= 0:
            return np.zeros(0)
        count = int(np.floor(self.scenario.duration_s * rate_hz + 1e-9)) + 1
        return np.arange(count) / rate_hz

    def _stamp(self, seconds: float) -> int:
        return self.scenario.start_ns + int(round(seconds * 1e9))

    @cached_property
    def frame_stamps_ns(self) -> list[int]:
        """Stamps of all images of the run."""
        return [self._stamp(t) for t in self._times(self.scenario.camera_hz)]

    def frame(self, index: int) -> Frame:
        """Image number `index`."""
        s = self.scenario
        renderer = self.truth.renderer()
        assert self.rig.body_from_camera is not None
        seconds = index / s.camera_hz
        image = renderer.image(self.truth.trajectory, self.rig.body_from_camera, seconds, index)
        return Frame(self._stamp(seconds), image, renderer.camera, FRAMES["camera"])

    def companion(self, index: int, camera: int) -> CompanionFrame:
        """Image number `index` of the rig's other camera `camera`, counted from 0."""
        s = self.scenario
        renderer = self.truth.renderer()
        seconds, frame_id = index / s.camera_hz, companion_frame(camera)
        mount = self.truth.body_from_camera(frame_id)
        # Noise of its own: two sensors do not share it.
        image = renderer.image(self.truth.trajectory, mount, seconds, index + (camera + 1) * 1_000_003)
        return CompanionFrame(Frame(self._stamp(seconds), image, renderer.camera, frame_id))

    def scan(self, index: int) -> LidarScan:
        """LiDAR sweep number `index`, stamped at its first beam."""
        s = self.scenario
        assert self.rig.body_from_lidar is not None
        start = index / s.lidar_hz
        return sweep(
            self.truth.world, s.lidar_model, self.truth.trajectory, self.rig.body_from_lidar,
            start, 1 / s.lidar_hz, self._stamp(start), (s.seed, 9, index),
        )  # fmt: skip

    @cached_property
    def imu(self) -> list[ImuSample]:
        """All IMU samples of the run."""
        assert self.rig.body_from_imu is not None
        times = self._times(self.scenario.imu_hz)
        gyro, accel = imu_samples(
            self.truth.trajectory, self.rig.body_from_imu, times, self.scenario.imu_model, self.scenario.seed
        )
        return [ImuSample(self._stamp(t), g, a, FRAMES["imu"]) for t, g, a in zip(times, gyro, accel, strict=True)]

    @cached_property
    def odometry(self) -> list[PoseSample]:
        """All odometry poses of the run."""
        times = self._times(self.scenario.odometry_hz)
        if not len(times):
            return []
        model, seed = self.scenario.odometry_model, self.scenario.seed
        poses, covariances = odometry_poses(self.truth.trajectory, times, model, seed)
        return [
            PoseSample(self._stamp(t), pose, covariance, FRAMES["odom"], FRAMES["body"])
            for t, pose, covariance in zip(times, poses, covariances, strict=True)
        ]

    def _plan(self) -> Iterator[tuple[int, int, int]]:
        """(arrival, kind, index) in order. A sweep arrives when it is complete; at equal times
        small messages come before the image."""
        period = int(round(1e9 / self.scenario.lidar_hz)) if self.scenario.lidar_hz > 0 else 0
        sweeps = self._times(self.scenario.lidar_hz)[:-1]
        return heapq.merge(
            ((sample.stamp_ns, 0, i) for i, sample in enumerate(self.imu)),
            ((sample.stamp_ns, 1, i) for i, sample in enumerate(self.odometry)),
            ((self._stamp(t) + period, 2, i) for i, t in enumerate(sweeps)),
            ((stamp, 3, i) for i, stamp in enumerate(self.frame_stamps_ns)),
            *(
                [(stamp, 4 + camera, i) for i, stamp in enumerate(self.frame_stamps_ns)]
                for camera in range(len(self.scenario.companion_mounts))
            ),
        )

    def events(self, threads: int = 1, ahead: int = 8) -> Iterator[Event]:
        """All samples in order of arrival. With `threads` > 0 images and sweeps are made ahead, up
        to `ahead` of them; with 0 everything happens in the caller's thread."""
        if threads <= 0:
            for arrival, kind, index in self._plan():
                yield Event(arrival, self._make(kind, index))
            return
        if self.scenario.camera_hz > 0:
            self.truth.renderer().prepare()
        plan = self._plan()
        waiting: deque[tuple[int, Sample | Future[Sample]]] = deque()
        slow = 0
        with ThreadPoolExecutor(threads, thread_name_prefix="render") as pool:
            try:
                while True:
                    while slow < ahead:
                        step = next(plan, None)
                        if step is None:
                            break
                        arrival, kind, index = step
                        if kind < 2:
                            waiting.append((arrival, self._make(kind, index)))
                        else:
                            waiting.append((arrival, pool.submit(self._make, kind, index)))
                            slow += 1
                    if not waiting:
                        return
                    arrival, sample = waiting.popleft()
                    if isinstance(sample, Future):
                        sample = sample.result()
                        slow -= 1
                    yield Event(arrival, sample)
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def __iter__(self) -> Iterator[Sample]:
        return (event.sample for event in self.events())

    def _make(self, kind: int, index: int) -> Sample:
        if kind == 0:
            return self.imu[index]
        if kind == 1:
            return self.odometry[index]
        if kind == 2:
            return self.scan(index)
        return self.frame(index) if kind == 3 else self.companion(index, kind - 4)
