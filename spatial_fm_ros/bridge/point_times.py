"""When a LiDAR measured each point of a sweep: any usual field name and unit, told by the sweep's length."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_NS = 1_000_000_000
#: A sweep does not last longer. Under a unit that is not its type's custom it must last clearly less, but last.
MAX_SWEEP_S, SWEEP_OF_OTHER_UNITS_S = 1.5, (0.005, 0.6)
#: Times further than this from the stamp belong to another clock.
MAX_FROM_STAMP_NS = 10 * _NS

#: Field names of point times without what says their unit, as letters and digits in lower case.
_NAMES = (
    "time", "t", "timestamp", "timeoffset", "offsettime", "toffset", "offset", "relativetime", "timerelative",
    "pointtime", "timepoint", "timestampoffset", "offsettimestamp", "ts", "stamp", "dt", "deltatime", "timedelta",
    "gpstime", "utctime",
)  # fmt: skip
_UNITS = {"s": _NS, "sec": _NS, "seconds": _NS, "ms": 1_000_000, "us": 1_000, "ns": 1, "nsec": 1, "nanosec": 1}


@dataclass(frozen=True)
class PointTimes:
    """after_stamp_ns int64 [N], nanoseconds after the cloud's stamp, or None with the reason in `problem`."""

    after_stamp_ns: NDArray[np.int64] | None
    problem: str = ""


def is_time_field(name: str) -> bool:
    """Whether a field of this name holds point times."""
    base, _ = _split(name)
    return base in _NAMES


def decode_times(times: NDArray[np.generic], name: str, stamp_ns: int) -> PointTimes:
    """Point times [N] of any number type, after the stamp or absolute on the stamp's clock.

    The unit is what the field's name ends with (time_us, t_ns), else the one that fits: seconds, milliseconds,
    microseconds or nanoseconds, the coarsest under which the sweep lasts no longer than a sweep does. Whether they
    count from the stamp or are absolute is what brings them nearest to the stamp.
    """
    if times.size == 0:
        return PointTimes(np.zeros(0, np.int64))
    if times.dtype.kind == "f" and not np.isfinite(times).all():
        return PointTimes(None, f"point times '{name}' are not all finite")
    if not times.any():
        return PointTimes(None, f"point times '{name}' are all zero; the driver does not fill them")
    low, high = times.min(), times.max()
    span = float(high) - float(low) if times.dtype.kind == "f" else float(int(high) - int(low))
    found = []
    for unit in _units(times.dtype.kind, name, span):
        relative, absolute = _ns_from(times, unit, 0), _ns_from(times, unit, stamp_ns)
        found += [each for each in (relative, absolute) if each is not None]
    near = [(_distance(each), i) for i, each in enumerate(found) if np.abs(each).max() <= MAX_FROM_STAMP_NS]
    if not near:
        return PointTimes(
            None,
            f"point times '{name}' ({low:.6g} to {high:.6g}) are not those of a sweep at its stamp, in no usual unit: "
            "another clock, or another meaning",
        )
    best = found[min(near)[1]]
    if times.dtype.kind == "f" and _too_coarse(times, span):
        return PointTimes(
            None, f"point times '{name}' are kept in {times.dtype.itemsize} bytes, too coarse for {high:.6g}"
        )
    return PointTimes(best)


def _split(name: str) -> tuple[str, int | None]:
    """(name in letters and digits without its unit, nanoseconds of that unit where it ends with one)."""
    words = [word for word in re.split(r"[^a-z0-9]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()) if word]
    unit = _UNITS.get(words[-1]) if len(words) > 1 else None
    return "".join(words[:-1] if unit else words), unit


def _units(kind: str, name: str, span: float) -> list[int]:
    """Nanoseconds of the units to try; more than one only where the values do not tell."""
    _, told = _split(name)
    if told is not None:
        return [told]
    custom = _NS if kind == "f" else 1
    coarsest_first = (_NS, 1_000_000, 1_000, 1) if kind == "f" else (1_000_000, 1_000, 1)
    if not span:  # one point, a flash LiDAR: then only the stamp can tell
        return list(coarsest_first)
    for unit in coarsest_first:
        seconds = span * unit / _NS
        least, most = (0.0, MAX_SWEEP_S) if unit == custom else SWEEP_OF_OTHER_UNITS_S
        if least <= seconds <= most:
            return [unit]
    return []


def _ns_from(times: NDArray[np.generic], unit: int, base_ns: int) -> NDArray[np.int64] | None:
    """times * unit - base_ns, exact to the nanosecond where the values are; None beyond 64 bits."""
    if times.dtype.kind != "f":
        # uint64 holds what int64 does not: the base is taken off before the unit is put on.
        whole = base_ns // unit
        first = int(times.flat[0])
        if abs(first - whole) > (1 << 62) // unit:
            return None
        offsets = times.astype(np.int64) - np.int64(first)
        if np.abs(offsets.astype(np.float64)).max() * unit > 1e18:
            return None
        return offsets * unit + np.int64((first - whole) * unit - base_ns % unit)
    # Whole units are taken off first: a double cannot hold ns since the epoch.
    whole = base_ns // unit
    values = (times.astype(np.float64) - whole) * unit - base_ns % unit
    if np.abs(values).max() > 4e18:
        return None
    rounded: NDArray[np.int64] = np.rint(values).astype(np.int64)
    return rounded


def _distance(after_stamp_ns: NDArray[np.int64]) -> int:
    """How far the sweep is from its stamp, ns; 0 where the stamp lies in it."""
    low, high = int(after_stamp_ns.min()), int(after_stamp_ns.max())
    return max(0, low, -high)


def _too_coarse(times: NDArray[np.generic], span: float) -> bool:
    """Whether the numbers are so large that their type rounds a sweep to a few steps."""
    largest = np.abs(times).max()
    return bool(span and np.spacing(largest) > 0.02 * span)
