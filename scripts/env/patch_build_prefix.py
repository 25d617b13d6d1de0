"""Correct two paths of another machine that the message compiler's wheels carry in their CMake files.

Run by the build environment's own Python. Without this CMake stops on header folders that do not exist.
"""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

import numpy

WRONG = "/opt/python/cp312-cp312"


def main() -> int:
    replacements = {
        f"{WRONG}/include/python3.12": sysconfig.get_path("include"),
        f"{WRONG}/lib/python3.12/site-packages/numpy/_core/include": numpy.get_include(),
    }
    changed = 0
    for file in (Path(sys.prefix) / "share").glob("**/*.cmake"):
        text = file.read_text()
        fixed = text
        for wrong, right in replacements.items():
            fixed = fixed.replace(wrong, right)
        if fixed != text:
            file.write_text(fixed)
            changed += 1
    print(f"{changed} CMake files corrected")
    return 0


if __name__ == "__main__":
    sys.exit(main())
