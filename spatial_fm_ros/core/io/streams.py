"""Standard input, output and error of this process: always there."""

from __future__ import annotations

import os
import sys


def hold_standard_streams() -> None:
    """Streams that were closed (`>&-`) lead nowhere from now on.

    Otherwise the next file that is opened gets their number, and what a library prints is written into it. To be called
    before anything is opened.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 (it stays open)
