"""The pickles of a torch file, looked through before torch opens them.

torch runs no code of theirs, but it builds what they ask for: a `bytearray` of any size, tuples inside tuples until
the interpreter's stack ends. Nothing of that belongs to weights.
"""

from __future__ import annotations

import pickletools
from typing import Any, BinaryIO

from spatial_fm_ros.core.io.names import shown

#: Most bytes of pickles that are looked through; those of weights have some 150 for each tensor.
MOST_BYTES = 4 * 2**20
#: Most of their operations, for the same reason; weights have some 30 for each tensor. They take seconds.
MOST_STEPS = 500_000
#: Pickles at the start of an old torch file: its magic number, version, system, the content, names of storages.
_OLD_PICKLES = 5
#: Tuples inside tuples; weights have three.
_DEEPEST = 50
#: What torch would call: memory of any size, and conversions that take as long as they like.
_REFUSED = ("builtins bytearray", "__builtin__ bytearray", "torch Tensor", "torch._tensor Tensor", "_codecs encode")
#: Of what builds tensors: the plain ones.
_BUILDS = "torch._utils _rebuild_"
_PLAIN = ("tensor", "tensor_v2", "tensor_v3", "parameter", "parameter_with_state")
_TUPLES = ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_TUPLE")


class Hostile(Exception):
    """A pickle asks for what no weights need; the words stand after 'it'."""


def look_through(file: BinaryIO, old: bool) -> None:
    """Look at the pickle that begins where `file` stands; of an old torch file (`old`), at all of them.

    Raises Hostile, and ValueError for what is no pickle.
    """
    counted = _Counted(file)
    for _ in range(_OLD_PICKLES if old else 1):
        _look_through(counted)


def _look_through(file: _Counted) -> None:
    stack: list[int | None] = []  # how deep tuples are nested in each value; None: a mark
    memo: dict[int, int] = {}
    try:
        argument: Any
        steps = pickletools.genops(file)  # type: ignore[arg-type]  # it reads, nothing else
        for number, (code, argument, _) in enumerate(steps):
            name = code.name
            if number >= MOST_STEPS:
                raise Hostile(f"takes more than {MOST_STEPS} steps to open")
            if name == "GLOBAL" and _is_refused(argument):
                raise Hostile(f"asks for '{shown(argument.replace(' ', '.'), 80)}', which no weights need")
            if name in ("PUT", "BINPUT", "LONG_BINPUT"):
                memo[argument] = stack[-1] or 0
                continue
            if name == "MEMOIZE":
                memo[len(memo)] = stack[-1] or 0
                continue
            taken = _take(stack, code)
            if name in ("GET", "BINGET", "LONG_BINGET"):
                stack.append(memo[argument])
            elif name == "DUP":
                stack += [taken[0], taken[0]]
            elif name == "MARK":
                stack.append(None)
            else:
                depth = 1 + max(taken, default=0) if name in _TUPLES else 0
                if depth > _DEEPEST:
                    raise Hostile(f"holds more than {_DEEPEST} tuples inside each other")
                stack += [depth] * len(code.stack_after)
    except (IndexError, KeyError, UnicodeError, AttributeError) as error:
        raise ValueError(f"its pickle is damaged ({type(error).__name__})") from error


def _is_refused(name: str) -> bool:
    return name in _REFUSED or (name.startswith(_BUILDS) and name.removeprefix(_BUILDS) not in _PLAIN)


def _take(stack: list[int | None], code: pickletools.OpcodeInfo) -> list[int]:
    """What an operation takes from the stack: how deep its tuples are."""
    before = [each.name for each in code.stack_before]
    taken: list[int] = []
    if "mark" in before:
        while (depth := stack.pop()) is not None:
            taken.append(depth)
        before = before[: before.index("mark")]
    for _ in before:
        taken.append(stack.pop() or 0)
    return taken


class _Counted:
    """A file of which no more than MOST_BYTES are read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._left = file, MOST_BYTES

    def read(self, count: int) -> bytes:
        return self._counted(self._file.read(min(count, self._left + 1)))

    def readline(self) -> bytes:
        return self._counted(self._file.readline(self._left + 1))

    def tell(self) -> int:
        return MOST_BYTES - self._left

    def _counted(self, data: bytes) -> bytes:
        self._left -= len(data)
        if self._left < 0:
            raise Hostile(f"has more than {MOST_BYTES} bytes beside its tensors")
        return data
