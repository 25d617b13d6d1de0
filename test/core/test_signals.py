"""The model's libraries leave the program's handler of SIGTERM alone."""

import signal
import subprocess
import sys

import pytest

pytest.importorskip("pycolmap")

PROGRAM = """
import os, signal, sys, threading, time
if "own" in sys.argv:
    signal.signal(signal.SIGTERM, lambda number, frame: (print("handled", flush=True), os._exit(7)))
loader = threading.Thread(target=__import__, args=("spatial_fm_ros.core.models.geometric.bundle",))
loader.start()
loader.join()
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(5)
"""


@pytest.mark.parametrize(("words", "code", "output"), [(["own"], 7, "handled\n"), ([], -signal.SIGTERM, "")])
def test_sigterm_after_loading_the_geometric_model(words, code, output):
    run = subprocess.run([sys.executable, "-c", PROGRAM, *words], capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stdout) == (code, output)
    assert "Aborted" not in run.stderr
