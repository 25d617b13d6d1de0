#!/usr/bin/env python3
"""Writes what is generated from core/config.py: config/default.yaml and docs/parameters.md.

Run it after every change of a parameter; `--check` only says whether it is needed (exit status 1).
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from spatial_fm_ros.core.config import Config  # noqa: E402
from spatial_fm_ros.core.config_files import parameter_table, to_yaml  # noqa: E402

YAML_HEAD = """\
# Every parameter with its default. Written by scripts/write_config.py from spatial_fm_ros/core/config.py.
# Copy what you change into a file of your own and pass it as config:=FILE (ROS) or --config FILE.
"""
DOC_HEAD = """\
# Parameters

Written by `scripts/write_config.py` from `spatial_fm_ros/core/config.py`; `config/default.yaml` holds the
same as a ROS 2 parameter file. ROS parameters, YAML keys and command-line overrides share these names.

"""


def outputs() -> dict[Path, str]:
    """The text of every generated file."""
    return {
        ROOT / "config" / "default.yaml": YAML_HEAD + to_yaml(Config(), ros=True),
        ROOT / "docs" / "parameters.md": DOC_HEAD + parameter_table(),
    }


def main() -> int:
    check = "--check" in sys.argv[1:]
    stale = {p: t for p, t in outputs().items() if not p.exists() or p.read_text(encoding="utf-8") != t}
    for path, text in stale.items():
        if not check:
            path.write_text(text, encoding="utf-8")
        print(f"{path.relative_to(ROOT)} {'is stale: run scripts/write_config.py' if check else 'written'}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
