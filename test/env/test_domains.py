"""Domains of their own for demos and test runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

RESERVE = "from spatial_fm_ros.bridge.domains import reserve_domain as r; print(r(), r(), flush=True); input()"


def test_no_two_processes_hold_the_same_domain() -> None:
    runs = [
        subprocess.Popen([sys.executable, "-c", RESERVE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    held = [int(word) for run in runs for word in run.stdout.readline().split()]  # type: ignore[union-attr]
    for run in runs:
        run.communicate("\n", timeout=30)
    assert len(set(held)) == 6 and all(1 <= domain <= 100 for domain in held)


def test_a_file_that_is_not_ours_is_passed_over(tmp_path: Path) -> None:
    """Links and FIFOs under these names, which anybody may put among the temporary files, are not followed."""
    victim = tmp_path / "victim"
    for domain in range(1, 100):
        (tmp_path / f"spatial_fm_ros_domain_{domain}.lock").symlink_to(victim)
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", RESERVE], env=environment, input="\n", capture_output=True, text=True, timeout=30
    )
    assert done.stdout.split() == ["100", "None"] and not victim.exists()
