"""The command `spatial-fm`, also as `python -m spatial_fm_ros`. Imports little: Ctrl-C counts from the first moment."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from spatial_fm_ros.core import interrupts
from spatial_fm_ros.core.io.streams import hold_standard_streams


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command and ends the process with its exit code."""
    try:
        hold_standard_streams()
        with interrupts.raising():
            from spatial_fm_ros import cli

            cli.main(arguments)
    except KeyboardInterrupt:
        os.write(2, b"interrupted\n")
        sys.exit(interrupts.exit_code() or 130)


if __name__ == "__main__":
    main()
