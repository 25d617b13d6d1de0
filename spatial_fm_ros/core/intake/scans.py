"""Time-stamped LiDAR scans and IMU samples: found again by time, bounded in time and memory."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from threading import Lock
from typing import Generic, Protocol, TypeVar

from spatial_fm_ros.core.intake.stamps import Admitted, TimeLine
from spatial_fm_ros.core.types import ImuSample, LidarScan

#: Memory of all kept scans together; 60 s of a dense LiDAR would take a gigabyte.
SCAN_BYTES = 256 * 2**20
IMU_BYTES = 32 * 2**20
#: Samples of a new line of time that wait for it to last.
WAITING_SCANS, WAITING_IMU = 20, 1000


class Stamped(Protocol):
    @property
    def stamp_ns(self) -> int: ...

    @property
    def arrived_ns(self) -> int | None: ...


Sample = TypeVar("Sample", bound=Stamped)


class TimeBuffer(Generic[Sample]):
    """Samples sorted by stamp: the last `keep_s` seconds, and no more than `max_bytes`. Thread-safe.

    `dropped` counts samples left out for a stamp that is not of this time (see TimeLine), and those that left
    early for lack of memory. `other_clock`: nothing is given out, for the stamps are of another clock than the
    camera's.
    """

    def __init__(self, what: str, keep_s: float, max_bytes: int, size_of: Callable[[Sample], int], hold: int) -> None:
        """`what`: a sample in words; `size_of` tells the bytes of one; `hold`: see TimeLine."""
        self._what, self._hold = what, hold
        self._keep_ns = round(keep_s * 1e9)
        self._max_bytes = max_bytes
        self._size_of = size_of
        self._lock = Lock()
        self.clear()

    def clear(self) -> None:
        """Forget all samples and the count."""
        with self._lock:
            self._stamps: list[int] = []
            self._samples: list[Sample] = []
            self._bytes = 0
            self.dropped = 0
            self.other_clock = False
            self._line: TimeLine[Sample] = TimeLine(self._what, self._hold, self._keep_ns)

    def __len__(self) -> int:
        return len(self._stamps)

    @property
    def latest_ns(self) -> int | None:
        """Stamp of the newest sample, None while empty."""
        with self._lock:
            return self._stamps[-1] if self._stamps else None

    def add(self, sample: Sample) -> Admitted[Sample]:
        """Keep a sample; one of the same stamp is replaced. One whose stamp is not of this time is dropped for now:
        it waits, and is used if that time lasts (see TimeLine)."""
        with self._lock:
            admitted = self._line.admit(sample.stamp_ns, sample.arrived_ns, sample)
            self.dropped += bool(admitted.refused)
            if admitted.moved and self._stamps and min(each.stamp_ns for each in admitted.items) <= self._stamps[-1]:
                self._stamps, self._samples, self._bytes = [], [], 0
            for each in admitted.items:
                self._insert(each)
            return admitted

    def _insert(self, sample: Sample) -> None:
        stamp_ns = sample.stamp_ns
        i = bisect_left(self._stamps, stamp_ns)
        if i < len(self._stamps) and self._stamps[i] == stamp_ns:
            self._bytes -= self._size_of(self._samples[i])
            self._samples[i] = sample
        else:
            self._stamps.insert(i, stamp_ns)
            self._samples.insert(i, sample)
        self._bytes += self._size_of(sample)
        self._drop_old()

    def shift(self, later_ns: int, moved: Callable[[Sample, int], Sample]) -> None:
        """Move all stamps: the sensor's clock has turned out to be another. `moved`: a sample with a later stamp."""
        if later_ns:
            with self._lock:
                self._samples = [moved(sample, later_ns) for sample in self._samples]
                self._stamps = [stamp + later_ns for stamp in self._stamps]

    def nearest(self, stamp_ns: int, tolerance_ns: int) -> Sample | None:
        """The sample closest in time, the earlier of two; None when none is within the tolerance."""
        with self._lock:
            i = bisect_left(self._stamps, stamp_ns)
            around = [j for j in (i - 1, i) if 0 <= j < len(self._stamps)]
            best = min(around, key=lambda j: abs(self._stamps[j] - stamp_ns), default=None)
            if self.other_clock or best is None or abs(self._stamps[best] - stamp_ns) > tolerance_ns:
                return None
            return self._samples[best]

    def between(self, first_ns: int, last_ns: int) -> list[Sample]:
        """Samples with first_ns <= stamp <= last_ns, in order of time."""
        with self._lock:
            if self.other_clock:
                return []
            return self._samples[bisect_left(self._stamps, first_ns) : bisect_right(self._stamps, last_ns)]

    def _drop_old(self) -> None:
        k = 0
        if self._stamps[-1] - self._stamps[0] > self._keep_ns * 1.1:  # in batches of a tenth
            k = bisect_left(self._stamps, self._stamps[-1] - self._keep_ns)
            self._bytes -= sum(map(self._size_of, self._samples[:k]))
        while self._bytes > self._max_bytes and k < len(self._samples) - 1:
            self._bytes -= self._size_of(self._samples[k])
            self.dropped += 1
            k += 1
        del self._stamps[:k], self._samples[:k]


class ScanBuffer(TimeBuffer[LidarScan]):
    """LiDAR scans by time."""

    def __init__(self, keep_s: float, max_bytes: int = SCAN_BYTES) -> None:
        super().__init__("A LiDAR scan", keep_s, max_bytes, _scan_bytes, WAITING_SCANS)


class ImuBuffer(TimeBuffer[ImuSample]):
    """IMU samples by time."""

    def __init__(self, keep_s: float, max_bytes: int = IMU_BYTES) -> None:
        super().__init__("An IMU sample", keep_s, max_bytes, _imu_bytes, WAITING_IMU)


def _scan_bytes(scan: LidarScan) -> int:
    arrays = (scan.points, scan.intensity, scan.ring, scan.point_times_ns)
    return 500 + sum(a.nbytes for a in arrays if a is not None)


def _imu_bytes(_: ImuSample) -> int:
    return 500
