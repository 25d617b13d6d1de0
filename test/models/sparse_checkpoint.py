"""Full-size checkpoints that take no room: a safetensors header, and zeros that the file system does not store."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path

Shape = tuple[int, ...]


def write_sparse(path: Path, shapes: Mapping[str, Shape]) -> Path:
    """A safetensors file of float32 zeros with exactly these tensors, written in the time of its header."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, shape in shapes.items():
        count = 4
        for side in shape:
            count *= side
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [offset, offset + count]}
        offset += count
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + offset)
    return path
