"""Names of files in order, and as times. Digits are those of ASCII; what looks like them elsewhere are letters."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

NS = 1_000_000_000

# A sign belongs to a number at the beginning of a name, or behind a separator that is none itself.
_INTEGER = re.compile(r"((?:^-)?[0-9]+)")
_NUMBER = re.compile(r"(?:(?:^|(?<=[_= ]))-)?[0-9]+(?:\.[0-9]+)*(?:(?<=[0-9])e[+-][0-9]{2,3}(?![0-9]))?")
_PLAIN = re.compile(r"-?[0-9]+(\.[0-9]+)?(e[+-][0-9]{2,3})?")

#: Digits of an integer epoch stamp since 2001 and what multiplies it to nanoseconds.
_EPOCH_DIGITS = {10: NS, 13: 1_000_000, 16: 1_000, 19: 1}
#: The same for numbers with decimals, by their size: seconds, then ms, µs, ns.
_UNITS = ((Decimal("1e11"), NS), (Decimal("1e14"), 1_000_000), (Decimal("1e17"), 1_000))
_EPOCH_S = 10**9


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Sort key under which 'img2' comes before 'img10' and '-1' before '0'."""
    parts = _INTEGER.split(name)
    return [(0, int(part), "") if i % 2 else (1, 0, part.lower()) for i, part in enumerate(parts) if part]


def files_in(folder: Path, suffixes: set[str]) -> tuple[list[Path], list[Path]]:
    """The files of a folder with one of these suffixes, in natural order, and what bears one but is no regular file.

    Hidden ones are left out. Symlinks count as what they lead to.
    """
    files: list[Path] = []
    others: list[Path] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") or os.path.splitext(entry.name)[1].lower() not in suffixes:
                continue
            try:
                regular = entry.is_file()
            except OSError:  # a symlink that leads to itself
                regular = False
            (files if regular else others).append(folder / entry.name)
    return sorted(files, key=lambda file: (natural_key(file.stem), file.name)), sorted(others)


def holds_files(folder: Path, suffixes: set[str]) -> bool:
    """Whether the folder has anything that is not hidden with one of these suffixes."""
    with os.scandir(folder) as entries:
        return any(not e.name.startswith(".") and os.path.splitext(e.name)[1].lower() in suffixes for e in entries)


def stamp_of_index(index: int, rate_hz: float) -> int:
    """Nanoseconds of frame `index` at a constant rate, rounded."""
    return round(Decimal(index) * NS / Decimal(str(rate_hz)))


def stamps_from_names(names: Sequence[str]) -> list[int] | None:
    """Stamps in ns where the names say times, in the order of the names; else None. Some may be equal.

    A time is an epoch number (s, ms, µs or ns), a number with decimals (seconds, or a larger unit where it is too
    large for them; also as Python prints floats), or epoch seconds and nine digits of nanoseconds apart. Words and
    numbers around it must be the same in all names, but that a counter may stand beside an epoch time. Short whole
    numbers are counters, not stamps.
    """
    split = [_parts(name) for name in names]
    if not split or len({(tuple(texts), len(numbers)) for texts, numbers in split}) != 1:
        return None
    texts = split[0][0]
    columns = list(zip(*(numbers for _, numbers in split)))
    changing = [i for i, column in enumerate(columns) if len(set(column)) > 1]
    found: list[tuple[list[int], bool]] = []
    for i in changing:
        after = columns[i + 1] if i + 1 < len(columns) and texts[i + 1] in ("_", "-") else None
        stamps = _stamps(columns[i], after)
        if stamps is not None:
            found.append((stamps, min(stamps) >= _EPOCH_S * NS))
    # Seconds may stay the same while nanoseconds, in a column of their own, go on.
    for i in set(range(len(columns) - 1)) - set(changing):
        if i + 1 in changing and texts[i + 1] in ("_", "-") and (stamps := _apart(columns[i], columns[i + 1])):
            found.append((stamps, True))
    epochs = [stamps for stamps, is_epoch in found if is_epoch]
    if len(epochs) == 1:
        return epochs[0]
    return found[0][0] if len(found) == 1 and len(changing) == 1 else None


def _parts(name: str) -> tuple[list[str], list[str]]:
    """The texts between the numbers of a name, one more than there are, and the numbers."""
    return _NUMBER.split(name), _NUMBER.findall(name)


def _stamps(numbers: Sequence[str], after: Sequence[str] | None) -> list[int] | None:
    """Nanoseconds of numbers that are times; `after`: the numbers behind them, where nanoseconds may stand."""
    if after is not None and (apart := _apart(numbers, after)) is not None:
        return apart
    if not all(_PLAIN.fullmatch(number) for number in numbers):
        return None
    if not any("." in number or "e" in number for number in numbers):
        digits = {len(number) for number in numbers}
        factor = _EPOCH_DIGITS.get(digits.pop()) if len(digits) == 1 else None
        if factor is None or any(number[0] in "-0" for number in numbers):
            return None
        return [int(number) * factor for number in numbers]
    values = [Decimal(number) for number in numbers]
    largest = max(map(abs, values))
    factor = next((factor for below, factor in _UNITS if largest < below), 1)
    stamps = [round(value * factor) for value in values]
    if any(abs(stamp) >= 2**63 for stamp in stamps):
        return None
    # '1.1' and '1.10' count chapters and pages.
    return stamps if len(set(stamps)) == len(set(numbers)) else None


def _apart(seconds: Sequence[str], nanoseconds: Sequence[str]) -> list[int] | None:
    """Times as '1403636579_763555584': epoch seconds, and all nine digits of nanoseconds."""
    if not all(len(s) == 10 and s.isdigit() and s[0] != "0" for s in seconds):
        return None
    if not all(len(n) == 9 and n.isdigit() for n in nanoseconds):
        return None
    return [int(s) * NS + int(n) for s, n in zip(seconds, nanoseconds)]
