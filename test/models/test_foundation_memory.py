"""How many views fit: measured on the real allocator, and refused by it."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spatial_fm_ros.core.models.foundation.memory import (
    LEAST_GROWTH,
    RESERVE,
    ViewBudget,
    available_bytes,
    control_group_bytes,
    file_bytes_in_use,
    is_out_of_memory,
    peak_memory,
)

CPU = torch.device("cpu")
MB = 1 << 20


@pytest.mark.parametrize("size", [48 * MB, 160 * MB])
def test_the_peak_of_a_block_is_measured(size: int) -> None:
    with peak_memory(CPU) as peak:
        held = torch.ones(size // 4)
        more = torch.ones(size // 4)
        time.sleep(0.1)  # a layer's time
        del held, more
    assert 1.9 * size < peak.bytes < 2.3 * size
    with peak_memory(CPU) as again:
        np.zeros(10)
    assert again.bytes < 20 * MB


def test_a_measurement_survives_what_the_block_raises() -> None:
    with pytest.raises(ZeroDivisionError), peak_memory(CPU) as peak:
        held = np.ones(60 * MB, np.uint8)
        held[0] = 1 // 0
    assert peak.bytes > 50 * MB


def test_available_memory_is_what_the_system_says() -> None:
    words = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    total = int(words["MemTotal"].split()[0]) * 1024
    assert 0 < available_bytes(CPU) <= total


def test_pages_of_mapped_files_in_use_do_not_count_as_available(tmp_path: Path) -> None:
    """They would be read from the disk again in every window."""
    size = 256 * MB
    with (tmp_path / "weights").open("wb") as file:
        file.truncate(size)
    before = file_bytes_in_use()
    mapped = np.memmap(tmp_path / "weights", np.uint8, "r")
    assert int(mapped[::4096].sum()) == 0
    assert 0.95 * size < file_bytes_in_use() - before < 1.1 * size
    words = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    assert available_bytes(CPU) <= int(words["MemTotal"].split()[0]) * 1024 - size


@pytest.mark.parametrize(
    ("member", "folder", "names", "prefix"),
    [
        ("0::/robot/model\n", "robot/model", ("memory.max", "memory.current"), ""),
        (
            "5:devices:/\n4:memory:/robot/model\n0::/\n",
            "memory/robot/model",
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
            "total_",
        ),
    ],
)
def test_control_groups_set_limits(tmp_path: Path, member: str, folder: str, names, prefix: str) -> None:
    """Of version 2 and 1; a group above has the smaller rest."""
    membership = tmp_path / "membership"
    assert control_group_bytes(tmp_path, membership) is None
    membership.write_text(member)
    assert control_group_bytes(tmp_path, membership) is None
    group = tmp_path / folder
    group.mkdir(parents=True)
    (group / names[1]).write_text(f"{900 * MB}\n")
    files = f"anon {500 * MB}\n{prefix}inactive_file {100 * MB}\n{prefix}active_file {50 * MB}\n"
    (group / "memory.stat").write_text(files)
    (group / names[0]).write_text("max\n")
    assert control_group_bytes(tmp_path, membership) is None
    (group / names[0]).write_text(f"{2000 * MB}\n")
    assert control_group_bytes(tmp_path, membership) == 1250 * MB
    for name, size in zip(names, (1000, 950)):
        (group.parent / name).write_text(f"{size * MB}\n")
    (group.parent / "memory.stat").write_text("anon 0\n")
    assert control_group_bytes(tmp_path, membership) == 50 * MB


@given(st.integers(0, 4000), st.integers(1, 900), st.integers(0, 30_000), st.integers(1, 64))
def test_what_fits_really_fits(fixed: int, a_view: int, free: int, cap: int) -> None:
    """A pass of n views needs fixed + n * a_view: it never gets more than memory holds, however little is known."""
    budget = ViewBudget()
    assert budget.limit(free, cap) == cap and budget.bytes_per_view == 0  # nothing known yet
    budget.measured(1, fixed + a_view)
    first = budget.limit(free, cap)
    assert first == 0 or fixed + first * a_view <= free
    budget.measured(4, fixed + 4 * a_view)
    both = budget.limit(free, cap)
    assert 0 <= both <= cap and (both <= 4 or fixed + both * a_view <= free * (1 - RESERVE) + 1)
    if (fixed + cap * a_view) * max(1.0, LEAST_GROWTH * (fixed / 4 + a_view) / a_view) < free * (1 - RESERVE) - 1:
        assert both == cap


def test_out_of_memory_is_remembered() -> None:
    budget = ViewBudget()
    budget.measured(1, 10)
    budget.failed(6)
    assert budget.limit(1 << 40, 8) == 5
    budget.failed(3)
    budget.failed(7)
    assert budget.limit(1 << 40, 8) == 2


def test_the_allocators_own_words_are_understood() -> None:
    with pytest.raises(RuntimeError) as torch_says:
        torch.empty(1 << 50, dtype=torch.uint8)
    with pytest.raises(MemoryError) as numpy_says:
        np.empty(1 << 50, np.uint8)
    assert is_out_of_memory(torch_says.value) and is_out_of_memory(numpy_says.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"))
    with pytest.raises(RuntimeError) as shapes_differ:
        torch.zeros(2) + torch.zeros(3)
    assert not is_out_of_memory(shapes_differ.value) and not is_out_of_memory(ValueError("out of memory"))
