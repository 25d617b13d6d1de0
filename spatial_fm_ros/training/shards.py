"""Tensors in safetensors files of a limited size, because some machines let only small files out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from spatial_fm_ros.core.errors import InputError, OutputError

#: Bytes of a file, with room for its header.
LIMIT = 15_700_000
INDEX = "index.json"


def write(tensors: Mapping[str, Tensor], folder: Path, facts: Mapping[str, object]) -> list[Path]:
    """Write tensors into folder/part-NN.safetensors and, last, an index with `facts`; the files written.

    Raises OutputError where a file cannot be written or one tensor alone is larger than a file may be.
    """
    parts: list[dict[str, Tensor]] = [{}]
    held = 0
    for name, tensor in tensors.items():
        size = tensor.nbytes + 200
        if size > LIMIT:
            raise OutputError(f"The tensor {name} has {tensor.nbytes} bytes and fits no file of {LIMIT} bytes.")
        if held + size > LIMIT:
            parts.append({})
            held = 0
        parts[-1][name] = tensor.detach().contiguous().cpu()
        held += size
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files = [folder / f"part-{i:02d}.safetensors" for i in range(len(parts))]
        for path, part in zip(files, parts, strict=True):
            save_file(part, path)
        index = {"files": [path.name for path in files], **facts}
        (folder / INDEX).write_text(json.dumps(index, indent=1) + "\n")
    except OSError as error:
        raise OutputError(f"The state cannot be written to {folder}: {error.strerror or error}.") from error
    return [*files, folder / INDEX]


def read(folder: Path) -> tuple[dict[str, Tensor], dict[str, object]]:
    """Tensors and facts of a folder. Raises InputError where files are missing or damaged."""
    try:
        index = json.loads((folder / INDEX).read_text())
        tensors: dict[str, Tensor] = {}
        for name in index["files"]:
            tensors.update(load_file(folder / name))
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise InputError(
            f"{folder} holds no whole training state ({type(error).__name__}: {error}); take another one."
        ) from error
    return tensors, index


def is_state(folder: Path) -> bool:
    return (folder / INDEX).is_file()


def same_shape(tensor: Tensor, like: Tensor, name: str) -> Tensor:
    """The tensor, on the device of `like`. Raises InputError for another shape."""
    if tensor.shape != like.shape:
        raise InputError(f"The state's {name} has the shape {list(tensor.shape)}, the network's {list(like.shape)}.")
    return tensor.to(like.device, torch.float32)
