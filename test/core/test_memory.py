"""The heap helpers really act: freed pages go back to the system."""

import subprocess
import sys

import pytest

PROGRAM = """
import psutil
from spatial_fm_ros.core.memory import bound_arenas, return_freed
bound_arenas()
blocks = [bytearray(100_000) for _ in range(2000)]   # below the threshold of mmap: 200 MB of heap
keep = blocks[::200]
del blocks
before = psutil.Process().memory_info().rss
return_freed()
print((before - psutil.Process().memory_info().rss) / 1e6)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc only")
def test_freed_memory_is_returned() -> None:
    run = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert float(run.stdout) > 100
