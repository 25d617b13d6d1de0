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

from spatial_fm_ros.core import stopping
from spatial_fm_ros.core.errors import ModelError
from spatial_fm_ros.core.io.names import shown
from spatial_fm_ros.core.models.weights.appearance import looks_like
from spatial_fm_ros.core.models.weights.identify import Shape

#: Where training scripts put the weights inside what they save.
_WRAPPERS = ("model", "state_dict", "model_state_dict")
_WRAPPED = 8
#: All tensors together may have this many times the file's bytes: some share their memory.
_SHARED = 4
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
    name = shown(path)
    if form.kind not in ("safetensors", "torch"):
        raise ModelError(f"The checkpoint {name} cannot be used: it is {form.words}. {form.remedy or _REMEDY}")
    if form.kind == "torch" and path.suffix == ".safetensors":  # torch goes by the name and would misread it
        raise ModelError(f"The checkpoint {name} is a torch file with the name of a safetensors file; name it .pt.")
    stopping.check()
    tensors = _read_safetensors(path) if form.kind == "safetensors" else _read_torch(path, form.mappable)
    if not tensors:
        raise ModelError(f"The checkpoint {name} holds no tensors. {_REMEDY}")
    _believe(path, tensors)
    return Checkpoint(path, tensors)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
    except SafetensorError as error:
        raise ModelError(
            f"The checkpoint {shown(path)} is a safetensors file that is damaged or not whole "
            f"({path.stat().st_size} bytes; {shown(error, 200)}), as an interrupted download leaves it. {_REMEDY}"
        ) from error
    except OSError as error:
        raise _unreadable(path, error) from error


def _read_torch(path: Path, mapped: bool) -> dict[str, Tensor]:
    name = shown(path)
    try:
        loaded = torch.load(path, map_location="cpu", mmap=mapped, weights_only=True)
    except OSError as error:
        raise _unreadable(path, error) from error
    except Exception as error:  # damaged bytes lead the unpickler to any exception there is
        if isinstance(error, pickle.UnpicklingError) and "Unsupported operand" not in str(error):
            raise ModelError(
                f"The checkpoint {name} is a pickle that would run code when it is opened, so it is not opened: a "
                "whole saved model or a training state. Save its weights alone, with torch.save(model.state_dict(), "
                "...) or as safetensors, where you trust it."
            ) from error
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"The checkpoint {name} begins like a torch file but is damaged or not whole "
            f"({path.stat().st_size} bytes; {shown(first, 200)}), as an interrupted download leaves it. {_REMEDY}"
        ) from error
    return _unwrapped(path, loaded)


def _unwrapped(path: Path, loaded: Any) -> dict[str, Tensor]:
    for _ in range(_WRAPPED):
        if not isinstance(loaded, Mapping):
            break
        inner = next((loaded[key] for key in _WRAPPERS if isinstance(loaded.get(key), Mapping)), None)
        if inner is None:
            break
        loaded = inner
    else:
        raise ModelError(
            f"The checkpoint {shown(path)} holds state dicts inside each other, {_WRAPPED} deep or without end; "
            "expected one, alone or under 'model' or 'state_dict'."
        )
    if not isinstance(loaded, Mapping):
        raise ModelError(
            f"The checkpoint {shown(path)} holds a {type(loaded).__name__}, expected tensors by name (a state dict)."
        )
    other = [name for name, value in loaded.items() if not (isinstance(name, str) and isinstance(value, Tensor))]
    if other:
        named = ", ".join(shown(name, 80) if isinstance(name, str) else "a key that is no name" for name in other[:3])
        raise ModelError(
            f"The checkpoint {shown(path)} holds things that are no tensors ({named}), expected a state dict, "
            "alone or under 'model' or 'state_dict'."
        )
    return dict(loaded)


def _believe(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Raises ModelError for tensors that say they are larger than what the file holds for them."""
    held = path.stat().st_size
    total = 0
    for name, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized or tensor.is_nested:
            raise ModelError(f"In the checkpoint {shown(path)}, '{shown(name, 80)}' is no plain tensor. {_REMEDY}")
        claimed = tensor.numel() * tensor.element_size()
        total += claimed
        if claimed > min(held, tensor.untyped_storage().nbytes()) or total > _SHARED * held:
            raise ModelError(
                f"In the checkpoint {shown(path)}, '{shown(name, 80)}' would need {claimed} bytes (all up to it "
                f"{total}), more than the file of {held} bytes holds for it. Save it again with its own memory "
                "(tensor.clone())."
            )


def _unreadable(path: Path, error: OSError) -> ModelError:
    return ModelError(f"The checkpoint {shown(path)} cannot be read: {error.strerror or error}.")
