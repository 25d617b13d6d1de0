"""How the tests run `spatial-fm`: in a process of its own, as users do."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "spatial_fm_ros.cli", *map(str, arguments)]


def environment() -> dict[str, str]:
    """That of this process; terminal width and colours are fixed so that output can be compared."""
    found = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1", "OMP_NUM_THREADS": "2"}
    found["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    found.pop("SPATIAL_FM_DEBUG", None)
    return found


def oracle(truth: Path) -> list[str]:
    """Options that map with the exact model and little work for the gate."""
    return ["--model", "oracle", "--set", f"model.oracle.truth={truth}", "--set", "intake.disparity_px=6"]
