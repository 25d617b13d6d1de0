"""How worker threads of numerical libraries behave on a machine that has other things to do."""

from __future__ import annotations

import os
import sys


def wait_passively() -> None:
    """Let OpenMP threads sleep, not spin, while they wait for each other.

    A robot's processor is shared; spinning threads whose partner is not running burn whole time slices. On
    4 cores with a load of 12, a window of the geometric model took 19 CPU seconds spinning and 5 sleeping.
    It works only before torch is imported, so it stands where models are imported; what the user set is kept.
    """
    if "torch" not in sys.modules:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
