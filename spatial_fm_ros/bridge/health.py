"""Health of the inputs and of the node: rates, silence, bad messages, QoS, and /diagnostics.

diagnostic_updater is used for its format; it is driven by a steady timer, because its own timer
stands still under simulated time until somebody publishes /clock, when help is needed most.
"""

from __future__ import annotations

import re
import threading
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from diagnostic_updater import DiagnosticStatusWrapper, Updater
from rclpy.node import Node

from spatial_fm_ros.bridge import qos
from spatial_fm_ros.core.errors import SpatialFMError
from spatial_fm_ros.core.io.names import shown

#: So many reasons are told apart of each input: names that change with every message hide no other input's fault.
MOST_REASONS = 20
#: No sentence or value in /diagnostics is longer.
MOST_TEXT = 4000

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR


@dataclass
class _Input:
    topic: str
    since: float
    count: int = 0
    arrivals: deque[float] = field(default_factory=lambda: deque(maxlen=50))
    lost: int = 0


class InputHealth:
    """Counts what every input brings. Thread-safe; times are steady seconds."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._inputs: dict[str, _Input] = {}
        self.bad: Counter[str] = Counter()

    def expect(self, role: str, topic: str) -> None:
        with self._lock:
            self._inputs[role] = _Input(topic, self._now())

    def forget(self) -> None:
        """No inputs are expected any more; counts of bad messages stay."""
        with self._lock:
            self._inputs.clear()

    def arrived(self, role: str) -> None:
        with self._lock:
            entry = self._inputs.get(role)
            if entry is not None:
                entry.count += 1
                entry.arrivals.append(self._now())

    def lost(self, role: str, count: int) -> None:
        """Messages the middleware says it lost."""
        with self._lock:
            if role in self._inputs:
                self._inputs[role].lost += count

    def count_bad(self, role: str, reason: str) -> int:
        """Count a message that could not be used, by role and reason; returns how often it was seen now.

        Numbers are taken out of the reason, so that one fault is one entry however the sizes vary.
        """
        key = f"{role}: {shown(re.sub(r'[-+]?[0-9][0-9.e+-]*', '#', reason)[:100])}"
        with self._lock:
            if key not in self.bad and sum(other.startswith(f"{role}: ") for other in self.bad) >= MOST_REASONS:
                key = f"{role}: other reasons"
            self.bad[key] += 1
            return self.bad[key]

    def tell_bad(self, node: Node, role: str, error: Exception) -> None:
        """Count a message that could not be used; log the 1st, 10th, 100th … of a kind. In the `except` that caught
        the error."""
        expected = isinstance(error, SpatialFMError)
        count = self.count_bad(role, str(error) if expected else f"internal error: {error!r}")
        if str(count).strip("0") == "1":
            times = "" if count == 1 else f" ({count} times by now)"
            lines = [str(error)] if expected else ["internal error", *traceback.format_exc().splitlines()]
            text = "\n".join(shown(line, 1000) for line in lines)
            node.get_logger().warning(f"Input '{role}' skipped{times}: {text}")

    def missing(self, after_s: float) -> list[str]:
        """'role (topic)' of every expected input that has been silent for `after_s` seconds."""
        now = self._now()
        with self._lock:
            return [
                f"{role} ({entry.topic})"
                for role, entry in self._inputs.items()
                if now - (entry.arrivals[-1] if entry.arrivals else entry.since) > after_s
            ]

    def rows(self) -> list[tuple[str, str]]:
        """For people: role -> topic, count, rate, age, losses."""
        now = self._now()
        with self._lock:
            return [(role, _row(entry, now)) for role, entry in self._inputs.items()]


def _row(entry: _Input, now: float) -> str:
    if not entry.arrivals:
        return f"{entry.topic}: nothing yet"
    span = entry.arrivals[-1] - entry.arrivals[0]
    rate = (len(entry.arrivals) - 1) / span if span > 0 else 0.0
    lost = f", {entry.lost} lost by the middleware" if entry.lost else ""
    age = now - entry.arrivals[-1]
    return f"{entry.topic}: {entry.count} messages, {rate:.1f} Hz, last {age:.1f} s ago{lost}"


@dataclass(frozen=True)
class Finding:
    """One diagnostic status: level (OK, WARN, ERROR), a sentence, and values."""

    level: bytes
    message: str
    values: Sequence[tuple[str, str]] = ()


class Diagnostics:
    """Publishes /diagnostics through diagnostic_updater; each task gives a Finding."""

    def __init__(self, node: Node, tasks: Mapping[str, Callable[[], Finding]]) -> None:
        self._updater = Updater(node)
        self._updater.setHardwareID("none")
        node.destroy_timer(self._updater.timer)
        node.destroy_publisher(self._updater.publisher)
        profile = qos.overridden(node, qos.PUBLISHER, "/diagnostics", qos.result_output(1))
        self._updater.publisher = node.create_publisher(DiagnosticArray, "/diagnostics", profile)
        for name, task in tasks.items():
            self._updater.add(name, _runner(task))

    def publish(self) -> None:
        self._updater.force_update()


def _runner(task: Callable[[], Finding]) -> Callable[[DiagnosticStatusWrapper], DiagnosticStatusWrapper]:
    def run(status: DiagnosticStatusWrapper) -> DiagnosticStatusWrapper:
        finding = task()
        # Names of frames and formats come from anywhere.
        status.summary(finding.level, shown(finding.message, MOST_TEXT))
        for key, value in finding.values:
            status.add(shown(key, MOST_TEXT), shown(value, MOST_TEXT))
        return status

    return run


def device_memory() -> list[tuple[str, str]]:
    """Memory of the GPU in use, empty without one. torch is looked at only when it is loaded already."""
    import sys

    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return []
    free, total = torch.cuda.mem_get_info()
    return [
        ("GPU memory used", f"{(total - free) / 2**20:.0f} of {total / 2**20:.0f} MiB"),
        ("GPU memory of this process", f"{torch.cuda.memory_reserved() / 2**20:.0f} MiB"),
    ]
