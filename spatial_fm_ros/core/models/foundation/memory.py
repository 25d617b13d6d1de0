"""How many views fit the memory that is free now, from what earlier passes were measured to need."""

from __future__ import annotations

import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

_PAGE = resource.getpagesize()
#: Between two looks at this process's memory, seconds: a layer of a large network takes longer.
_LOOK_S = 0.005
#: Of the free memory, what other programs and the pass's own scatter may take: when a window's size is chosen, and
#: when a window that is there already is judged again.
RESERVE, LAST_RESERVE = 0.15, 0.05
#: Least share of a pass's memory that is taken to grow with its views.
LEAST_GROWTH = 0.6


def available_bytes(device: torch.device) -> int:
    """Memory a pass may take now: the device's free memory with what torch holds unused, or the system's.

    On the processor the smaller of the system's available memory and what the control group's limit leaves. Both
    count pages of files as available; those in use here, mapped weights above all, would have to be read again.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free + unused)
    limits = [_meminfo(), control_group_bytes()]
    return max(0, min(limit for limit in limits if limit is not None) - file_bytes_in_use())


def _meminfo() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 1 << 62


def control_group_bytes(
    root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")
) -> int | None:
    """What the memory limits of this process's control groups, version 1 or 2, leave; None without a limit."""
    left: list[int] = []
    try:
        lines = [line.split(":", 2) for line in membership.read_text().splitlines()]
    except OSError:
        return None
    for _, controllers, path in lines:
        version_1 = "memory" in controllers.split(",")
        if not version_1 and controllers:
            continue
        mount = root / "memory" if version_1 else root
        names = _GROUP_FILES[1 if version_1 else 2]
        group = Path(path.lstrip("/"))
        left += [room for parent in (group, *group.parents) if (room := _left_in(mount / parent, *names)) is not None]
    return min(left, default=None)


#: Limit and usage of a memory control group, and its statistic of file pages, by version.
_GROUP_FILES = {
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_"),
    2: ("memory.max", "memory.current", ""),
}


def _left_in(group: Path, limit_name: str, usage_name: str, prefix: str) -> int | None:
    try:
        limit = (group / limit_name).read_text().strip()
        if limit == "max":
            return None
        used = int((group / usage_name).read_text())
        statistics = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        # Pages of files are given back when memory is asked for.
        files = sum(int(statistics.get(f"{prefix}{kind}_file", 0)) for kind in ("inactive", "active"))
        return int(limit) - used + files
    except (OSError, ValueError):
        return None


@dataclass
class Peak:
    """bytes: most memory held at once since the measurement began, beyond what was held then."""

    bytes: int = 0


@contextmanager
def peak_memory(device: torch.device) -> Iterator[Peak]:
    """Measures the block: torch's allocator on a GPU, this process's resident memory on the processor."""
    peak = Peak()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        try:
            yield peak
        finally:
            peak.bytes = max(0, torch.cuda.max_memory_allocated(device) - before)
        return
    before = _resident()
    done = threading.Event()

    def watch() -> None:
        while not done.wait(_LOOK_S):
            peak.bytes = max(peak.bytes, _resident() - before)

    watcher = threading.Thread(target=watch, name="peak_memory", daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()
        peak.bytes = max(peak.bytes, _resident() - before)


def _resident() -> int:
    """Anonymous resident bytes of this process: mapped weights are shared with the page cache and do not count."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE - file_bytes_in_use()


def file_bytes_in_use() -> int:
    """Resident bytes of this process that are pages of mapped files: weights and libraries."""
    return int(Path("/proc/self/statm").read_text().split()[2]) * _PAGE


class ViewBudget:
    """Bytes a pass needs as a line over its number of views, from measured passes; the largest window that fits.

    One measurement is read as all of it growing with the views, which is too much and therefore safe; a second
    one with other views tells the fixed part. Out-of-memory lowers the limit for good.
    """

    def __init__(self) -> None:
        self._peaks: dict[int, int] = {}
        self._failed_at: int | None = None

    def measured(self, views: int, peak_bytes: int) -> None:
        """A pass of `views` views took so much at its peak."""
        self._peaks[views] = max(self._peaks.get(views, 0), peak_bytes)

    def failed(self, views: int) -> None:
        """A pass of `views` views ran out of memory: no window will have as many again."""
        self._failed_at = min(views, self._failed_at or views)

    @property
    def bytes_per_view(self) -> float:
        """Slope of the line; 0 before any measurement."""
        if not self._peaks:
            return 0.0
        few, many = min(self._peaks), max(self._peaks)
        whole = self._peaks[many] / many
        if few == many:
            return whole
        # A measurement scatters: most of the larger pass is taken to grow with the views whatever the two say.
        return max(LEAST_GROWTH * whole, (self._peaks[many] - self._peaks[few]) / (many - few))

    def limit(self, free_bytes: int, cap: int, reserve: float = RESERVE) -> int:
        """Most views of a pass within `free_bytes` less the reserve; at most `cap`, at least 0."""
        if self._failed_at is not None:
            cap = min(cap, self._failed_at - 1)
        slope = self.bytes_per_view
        if slope <= 0:
            return cap
        many = max(self._peaks)
        fixed = self._peaks[many] - slope * many
        return max(0, min(cap, int((free_bytes * (1.0 - reserve) - fixed) / slope)))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out: torch says so differently on every device."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    words = str(error).lower()
    return isinstance(error, RuntimeError) and any(
        sign in words for sign in ("out of memory", "can't allocate memory", "cannot allocate memory", "alloc failed")
    )
