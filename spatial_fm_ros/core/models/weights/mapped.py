"""Pages of mapped files: given back once their content has been converted."""

from __future__ import annotations

import ctypes
import mmap
import sys
from bisect import bisect_right
from pathlib import Path

from torch import Tensor


class MappedFiles:
    """Address ranges of this process that are private mappings of files, as they are now (Linux; elsewhere none)."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        maps = Path("/proc/self/maps")
        if not (sys.platform == "linux" and maps.exists()):
            return
        for line in maps.read_text().splitlines():
            span, rights, _, _, inode, *_ = line.split(maxsplit=5)
            if inode != "0" and rights[3] == "p":
                start, _, end = span.partition("-")
                self._starts.append(int(start, 16))
                self._ends.append(int(end, 16))
        if self._starts:
            self._advise = ctypes.CDLL(None, use_errno=True).madvise

    def hold(self, tensor: Tensor) -> bool:
        """Whether the tensor's first byte lies in a file's mapping."""
        if tensor.device.type != "cpu":
            return False
        return self._end(tensor.data_ptr()) > 0

    def give_back(self, tensor: Tensor) -> None:
        """Let the kernel drop the whole pages inside a mapped tensor; read again, they come from the file.

        They would count as this process's memory although nobody needs them any more. What was written into the
        tensor is lost. A tensor that is not mapped stays as it is.
        """
        if tensor.device.type != "cpu" or not tensor.is_contiguous():
            return
        begin, end = tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes
        if end > self._end(begin):
            return
        page = mmap.PAGESIZE
        start = -(-begin // page) * page
        length = end // page * page - start
        if length > 0:
            self._advise(ctypes.c_void_p(start), ctypes.c_size_t(length), ctypes.c_int(mmap.MADV_DONTNEED))

    def _end(self, address: int) -> int:
        """Where the mapping that holds this address ends; 0 where none does."""
        place = bisect_right(self._starts, address) - 1
        return self._ends[place] if place >= 0 and address < self._ends[place] else 0
