"""Checkpoints damaged at random, and what must hold of whoever reads them."""

from __future__ import annotations

import io
import random
import time
import traceback
from pathlib import Path

import torch
from safetensors.torch import save

from spatial_fm_ros.core.errors import ModelError
from spatial_fm_ros.core.models.weights.files import read

TENSORS = {"a.weight": torch.arange(12.0).reshape(3, 4), "b": torch.tensor([1, 2], dtype=torch.bfloat16)}


def whole_files() -> list[bytes]:
    """One of each form."""
    memory, old = io.BytesIO(), io.BytesIO()
    torch.save({"model": TENSORS, "epoch": 3}, memory)
    torch.save(TENSORS, old, _use_new_zipfile_serialization=False)
    return [save(TENSORS), memory.getvalue(), old.getvalue()]


def damaged(whole: bytes, random_: random.Random) -> bytes:
    """Bytes changed, a piece removed, repeated or replaced by another one."""
    data = bytearray(whole)
    for _ in range(random_.choice((1, 1, 2, 5, 20))):
        at, length = random_.randrange(len(data)), random_.choice((1, 1, 1, 4, 8, 40))
        kind = random_.randrange(5)
        if kind == 0:
            data[at] ^= 1 << random_.randrange(8)
        elif kind == 1:
            data[at : at + length] = random_.randbytes(length)
        elif kind == 2:
            data[at:at] = data[at : at + length]
        elif kind == 3:
            data[at : at + length] = random_.choice((b"\xff", b"\0", b"\x7f")) * length
        elif len(data) > 100:
            del data[at : at + length]
    return bytes(data)


def attempt(path: Path, data: bytes) -> str:
    """Read it, and every tensor of it. What is wrong, '' for nothing."""
    path.write_bytes(data)
    began = time.monotonic()
    try:
        held = read(path)
        if sum(tensor.nbytes for tensor in held.tensors.values()) > 4 * len(data):
            return "tensors larger than the file"
        for tensor in held.tensors.values():
            tensor.clone()
    except ModelError as error:
        if not str(error).isprintable() or len(str(error)) > 2000:
            return f"no sentence: {error!r}"
    except Exception:
        return traceback.format_exc()
    return f"{time.monotonic() - began:.0f} s" if time.monotonic() - began > 10 else ""
