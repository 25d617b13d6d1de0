"""Whether a sensor's stamps are of the camera's clock, and which offset would bring them there."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np

NS = 1_000_000_000

#: The parameter that takes each sensor's time offset, and its name for people.
PARAMETERS = {
    "odometry": "intake.pose_time_offset_s",
    "lidar": "intake.lidar_time_offset_s",
    "imu": "intake.imu_time_offset_s",
}
SAMPLES = {"odometry": "pose", "lidar": "scan", "imu": "IMU sample"}
#: By arrival, clocks are not told apart better than this: messages of cameras and others take their time.
TOLD_S = 1.0
#: No message takes so long: it is the clock, and what it says is not used.
OTHER_CLOCK_S = 10.0
#: Comparisons that count, the fewest that say something, and how many of them make a new estimate.
KEPT, LEAST, EVERY = 200, 5, 8
#: A comparison with an image that arrived longer ago says nothing; the camera had stopped.
FRESH_NS = 5 * NS
#: Without times of arrival: beginnings and ends of two recordings must say the same within this.
SAME_S = 2.0


@dataclass
class _Heard:
    """Of one sensor: the range of its stamps, the newest, and how much later they are than the camera's."""

    first_ns: int
    last_ns: int
    newest_ns: int
    arrived_ns: int | None
    later_s: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT))
    count: int = 0
    estimate_s: float | None = None


class SensorClocks:
    """Compares what is heard at the same moment. Not thread-safe for one sensor; small and quick.

    Where nobody says when samples arrived, the beginnings and ends of what came are compared, if nothing overlaps.
    """

    def __init__(self) -> None:
        self._images: _Heard | None = None
        self._sensors: dict[str, _Heard] = {}
        self._began: tuple[int, int] | None = None  # arrival and stamp of the first image

    def image(self, stamp_ns: int, arrived_ns: int | None) -> None:
        """An image of the camera."""
        self._images = _grown(self._images, stamp_ns, arrived_ns)
        if arrived_ns is not None and self._began is None:
            self._began = (arrived_ns, stamp_ns)

    def sample(self, sensor: str, stamp_ns: int, arrived_ns: int | None) -> None:
        """A sample of 'odometry', 'lidar' or 'imu', its stamp as it is used (configured offsets are in it)."""
        heard = self._sensors[sensor] = _grown(self._sensors.get(sensor), stamp_ns, arrived_ns)
        image = self._images
        if arrived_ns is None or image is None or image.arrived_ns is None:
            return
        since = arrived_ns - image.arrived_ns
        if abs(since) <= FRESH_NS:
            heard.later_s.append((stamp_ns - image.newest_ns - self._rate(image) * since) / NS)
            heard.count += 1
            if len(heard.later_s) >= LEAST and (heard.count <= KEPT or heard.count % EVERY == 0):
                heard.estimate_s = float(np.median(list(heard.later_s)))

    def later_s(self, sensor: str) -> float | None:
        """How much later its stamps are than the camera's, about; None where that cannot be known."""
        heard, image = self._sensors.get(sensor), self._images
        if heard is None or image is None:
            return None
        if heard.estimate_s is not None:
            return heard.estimate_s
        if heard.arrived_ns is not None and image.arrived_ns is not None:
            return None
        if heard.first_ns <= image.last_ns and image.first_ns <= heard.last_ns:
            return None  # what overlaps tells nothing
        begins, ends = (heard.first_ns - image.first_ns) / NS, (heard.last_ns - image.last_ns) / NS
        return 0.5 * (begins + ends) if abs(begins - ends) <= SAME_S else None

    def is_other(self, sensor: str) -> bool:
        """Its clock is another one than the camera's: by what it says now, nothing of it belongs to any image."""
        later = self.later_s(sensor)
        return later is not None and abs(later) >= OTHER_CLOCK_S

    @property
    def told_s(self) -> float:
        """What delays may explain: more where a recording is played faster."""
        return TOLD_S * max(1.0, self._rate(self._images) if self._images is not None else 1.0)

    def compares(self, sensor: str) -> bool:
        """Both were heard."""
        return sensor in self._sensors and self._images is not None

    def _rate(self, image: _Heard) -> float:
        """How fast stamps pass, per time of arrival (a bag may be played faster)."""
        if self._began is None or image.arrived_ns is None:
            return 1.0
        arrivals, stamps = image.arrived_ns - self._began[0], image.newest_ns - self._began[1]
        return float(np.clip(stamps / arrivals, 0.0, 1000.0)) if arrivals > 0 and stamps > NS else 1.0


def none_near(sensor: str, within_s: float, later_s: float | None, configured_s: float) -> str:
    """That no sample of a sensor is near any image, and what would mend it. later_s: see SensorClocks; configured_s:
    the sensor's offset as it is."""
    sentence = f"no {SAMPLES[sensor]} within {within_s:g} s of an image"
    if later_s is None or abs(later_s) < TOLD_S:
        return f"{sentence}: check its rate and clock, or {PARAMETERS[sensor]}"
    return f"{sentence} ({_way(later_s)}): {_mend(sensor, later_s, configured_s)}"


def heard_apart(sensor: str, later_s: float, configured_s: float) -> str:
    """That a sensor's stamps are not those of the images that come with them, though some are near."""
    return (
        f"{SAMPLES[sensor]}s and the images that arrive with them have stamps {abs(later_s):.1f} s apart "
        f"({_way(later_s)}): messages that late are of little use; if it is the clock, "
        f"{_mend(sensor, later_s, configured_s)}"
    )


def _way(later_s: float) -> str:
    return f"they are {abs(later_s):.1f} s {'ahead' if later_s > 0 else 'behind'}"


def _mend(sensor: str, later_s: float, configured_s: float) -> str:
    return f"set {PARAMETERS[sensor]} to {configured_s - later_s:.1f} (or put both on one clock)"


def _grown(heard: _Heard | None, stamp_ns: int, arrived_ns: int | None) -> _Heard:
    if heard is None:
        return _Heard(stamp_ns, stamp_ns, stamp_ns, arrived_ns)
    heard.first_ns, heard.last_ns = min(heard.first_ns, stamp_ns), max(heard.last_ns, stamp_ns)
    heard.newest_ns, heard.arrived_ns = stamp_ns, arrived_ns
    return heard
