"""Which of several files holds the weights."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath

#: Endings of weight files, the preferred ones first.
ENDINGS = (".safetensors", ".pt", ".pth", ".bin")
#: Names under which hubs and this package store a model's weights, the preferred ones first.
NAMES = ("model.safetensors", "model.pt", "pytorch_model.bin")


def weight_files(names: Iterable[str]) -> list[str]:
    """Those of `names` that can be weights."""
    return sorted(name for name in names if PurePosixPath(name).suffix in ENDINGS)


def choose(names: Iterable[str]) -> str | None:
    """The file that holds the weights, or None where there is none or it is not clear which.

    A usual name, safetensors before torch files; else the only weight file of the best ending.
    """
    found = weight_files(names)
    for name in NAMES:
        if name in found:
            return name
    for ending in ENDINGS:
        alike = [name for name in found if name.endswith(ending)]
        if alike:
            return alike[0] if len(alike) == 1 else None
    return None
