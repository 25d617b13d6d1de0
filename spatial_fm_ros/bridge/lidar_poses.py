"""LiDAR odometry beside the subscriptions: scans in from one thread, poses out of another."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from spatial_fm_ros.core.lidar.odometry import LidarOdometry
from spatial_fm_ros.core.pipeline import Pipeline
from spatial_fm_ros.core.types import LidarScan, PoseSample

#: Scans that may wait. A longer queue would only make poses late, and odometry bridges missing scans.
WAITING = 3


class LidarPoses:
    """A thread that registers scans, between `start` and `stop`. Where it falls behind, the oldest waiting scans
    are left out and counted in `dropped`."""

    def __init__(
        self, pipeline: Pipeline, on_pose: Callable[[PoseSample], None], on_bad: Callable[[Exception], None]
    ) -> None:
        """`on_pose` and `on_bad` are called in the thread."""
        self._odometry = LidarOdometry(pipeline.config.lidar)
        self._pipeline = pipeline
        self._on_pose = on_pose
        self._on_bad = on_bad
        self._changed = threading.Condition()
        self._waiting: deque[LidarScan] = deque()
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._epoch = 0
        self.dropped = 0

    @property
    def problem(self) -> str:
        """Why no poses come, empty when they can."""
        return self._odometry.problem

    @property
    def restarts(self) -> int:
        """How often it has lost its way."""
        return self._odometry.restarts

    def start(self) -> None:
        if self._thread is None:
            self._stopping = False
            self._thread = threading.Thread(target=self._run, name="lidar_odometry", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Returns when the scan in work is done; those that wait are forgotten."""
        if self._thread is not None:
            with self._changed:
                self._stopping = True
                self._waiting.clear()
                self._changed.notify()
            self._thread.join()
            self._thread = None

    def offer(self, scan: LidarScan) -> None:
        """Returns at once."""
        with self._changed:
            if len(self._waiting) == WAITING:
                self._waiting.popleft()
                self.dropped += 1
            self._waiting.append(scan)
            self._changed.notify()

    def reset(self) -> None:
        """Forget the map before the next scan; the scan in work gives no pose any more."""
        with self._changed:
            self._waiting.clear()
            self._epoch += 1

    def _run(self) -> None:
        epoch = self._epoch
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._stopping)
                if self._stopping:
                    return
                scan, fresh = self._waiting.popleft(), self._epoch != epoch
                epoch = self._epoch
            try:
                if fresh:
                    self._odometry.reset()
                sample = self._odometry.add(scan, self._pipeline.sensors.told_rig)
                with self._changed:
                    if sample is not None and epoch == self._epoch:
                        self._on_pose(replace(sample, arrived_ns=scan.arrived_ns))
            except Exception as error:  # a scan that cannot be used, or a defect: the thread lives on
                self._on_bad(error)
