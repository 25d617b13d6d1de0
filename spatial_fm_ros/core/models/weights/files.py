"""A checkpoint file, mapped into memory: safetensors, or a torch file that holds tensors only."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from spatial_fm_ros.core.errors import ModelError
from spatial_fm_ros.core.models.weights.appearance import looks_like
from spatial_fm_ros.core.models.weights.identify import Shape

#: Where training scripts put the weights inside what they save.
_WRAPPERS = ("model", "state_dict", "model_state_dict")
_REMEDY = "Get it again (spatial-fm weights get), or check it with spatial-fm weights check."


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of one file by name, on the CPU, in the file's dtypes.

    They are views of privately mapped pages: reading the file takes no memory until a tensor is used, and writing
    into a tensor never changes the file. The file must not be shortened while they are in use. Only old torch files
    (before torch 1.6, not a zip archive) cannot be mapped and are read into memory.
    """

    path: Path
    tensors: dict[str, Tensor]

    @property
    def shapes(self) -> dict[str, Shape]:
        return {name: tuple(tensor.shape) for name, tensor in self.tensors.items()}

    @property
    def parameters(self) -> int:
        return sum(tensor.numel() for tensor in self.tensors.values())

    @property
    def dtypes(self) -> list[str]:
        """Names of the dtypes in the file, the most frequent one first."""
        names = [str(tensor.dtype).removeprefix("torch.") for tensor in self.tensors.values()]
        return sorted(set(names), key=lambda name: (-names.count(name), name))


def read(path: Path) -> Checkpoint:
    """Map a checkpoint file. Raises ModelError that says what the file looks like where it is none.

    What it is follows from its content, not from its name. Nested {"model": {...}} and {"state_dict": {...}} are
    unwrapped. No code of the file is ever run.
    """
    form = looks_like(path)
    if form.kind not in ("safetensors", "torch"):
        raise ModelError(f"The checkpoint {path} cannot be used: it is {form.words}. {form.remedy or _REMEDY}")
    if form.kind == "torch" and path.suffix == ".safetensors":  # torch goes by the name and would misread it
        raise ModelError(f"The checkpoint {path} is a torch file with the name of a safetensors file; name it .pt.")
    tensors = _read_safetensors(path) if form.kind == "safetensors" else _read_torch(path, form.mappable)
    if not tensors:
        raise ModelError(f"The checkpoint {path} holds no tensors. {_REMEDY}")
    return Checkpoint(path, tensors)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
    except SafetensorError as error:
        held = path.stat().st_size
        raise ModelError(
            f"The checkpoint {path} is a safetensors file that is damaged or not whole ({held} bytes; {error}), as an "
            f"interrupted download leaves it. {_REMEDY}"
        ) from error
    except OSError as error:
        raise _unreadable(path, error) from error


def _read_torch(path: Path, mapped: bool) -> dict[str, Tensor]:
    try:
        loaded = torch.load(path, map_location="cpu", mmap=mapped, weights_only=True)
    except OSError as error:
        raise _unreadable(path, error) from error
    except Exception as error:  # damaged bytes lead the unpickler to any exception there is
        if isinstance(error, pickle.UnpicklingError) and "Unsupported operand" not in str(error):
            raise ModelError(
                f"The checkpoint {path} is a pickle that would run code when it is opened, so it is not opened: a "
                "whole saved model or a training state. Save its weights alone, with torch.save(model.state_dict(), "
                "...) or as safetensors, where you trust it."
            ) from error
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"The checkpoint {path} begins like a torch file but is damaged or not whole ({path.stat().st_size} bytes; "
            f"{first[:200]}), as an interrupted download leaves it. {_REMEDY}"
        ) from error
    return _unwrapped(path, loaded)


def _unwrapped(path: Path, loaded: Any) -> dict[str, Tensor]:
    while isinstance(loaded, Mapping):
        inner = next((loaded[key] for key in _WRAPPERS if isinstance(loaded.get(key), Mapping)), None)
        if inner is None:
            break
        loaded = inner
    if not isinstance(loaded, Mapping):
        raise ModelError(
            f"The checkpoint {path} holds a {type(loaded).__name__}, expected tensors by name (a state dict)."
        )
    other = [str(name) for name, value in loaded.items() if not isinstance(value, Tensor)]
    if other:
        raise ModelError(
            f"The checkpoint {path} holds things that are no tensors ({', '.join(other[:3])}), expected a state dict, "
            "alone or under 'model' or 'state_dict'."
        )
    return {str(name): tensor for name, tensor in loaded.items()}


def _unreadable(path: Path, error: OSError) -> ModelError:
    return ModelError(f"The checkpoint {path} cannot be read: {error.strerror or error}.")
