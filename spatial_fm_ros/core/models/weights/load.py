"""Weights into a network that was built on the meta device, without a second copy of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spatial_fm_ros.core import stopping
from spatial_fm_ros.core.errors import ModelError
from spatial_fm_ros.core.io.names import shown
from spatial_fm_ros.core.models.weights.identify import Shape, identify
from spatial_fm_ros.core.models.weights.mapped import MappedFiles

#: Which dtype a parameter, known by its name in the network, is to have.
DtypeOf = Callable[[str, Tensor], torch.dtype]

_NAMED = 4  # keys named in an error


@dataclass(frozen=True)
class Loaded:
    """What a network now holds. `random` weights say nothing about the world: whoever publishes must say so."""

    parameters: int
    bytes: int  # of the parameters in their dtypes, mapped ones included
    random: bool


def fill(module: nn.Module, tensors: Mapping[str, Tensor], device: torch.device | str, dtype_of: DtypeOf) -> Loaded:
    """Put a checkpoint's tensors into `module`, strictly: every key of both, every shape.

    The module may be on the meta device; nothing is ever allocated twice. Parameters that are to stay as the file has
    them (on the CPU, in its dtype) are the mapped pages themselves; the others are converted one at a time, and the
    pages they came from are given back. A network with rules of its own for published files (absent heads, other
    names) takes them through its `load_published(tensors, assign=True)`, which is as strict. Raises ModelError that
    names keys and says what the file looks like.
    """
    own = getattr(module, "load_published", None)
    if own is not None:
        own(tensors, assign=True)
    else:
        check(module, {name: tuple(tensor.shape) for name, tensor in tensors.items()})
        module.load_state_dict(dict(tensors), strict=True, assign=True)
    place(module, torch.device(device), dtype_of)
    return loaded(module, random=False)


def place(module: nn.Module, device: torch.device, dtype_of: DtypeOf) -> None:
    """Bring every parameter and buffer to the device and its dtype, one at a time; gradients are forgotten."""
    files = MappedFiles()
    for name, tensor in module.state_dict(keep_vars=True).items():
        stopping.check()
        dtype = dtype_of(name, tensor)
        if tensor.device == device and tensor.dtype == dtype:
            continue
        # Where there is a GPU, it converts: the host's cores are fewer and slower at it.
        assign(module, name, tensor.detach().to(device).to(dtype))
        files.give_back(tensor)


def loaded(module: nn.Module, random: bool) -> Loaded:
    """The figures of a filled network."""
    parameters = list(module.parameters())
    return Loaded(sum(p.numel() for p in parameters), sum(p.nbytes for p in parameters), random)


def check(module: nn.Module, shapes: Mapping[str, Shape]) -> None:
    """Raises ModelError unless keys and shapes are exactly those that `fill` needs for this module."""
    own = getattr(module, "published_names", None)
    if own is not None:
        own(shapes)
        return
    wanted: dict[str, Shape] = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    missing = [name for name in wanted if name not in shapes]
    unexpected = [name for name in shapes if name not in wanted]
    misshaped = [name for name in wanted if name in shapes and shapes[name] != wanted[name]]
    if not (missing or unexpected or misshaped):
        return
    faults = []
    if missing:
        faults.append(f"{len(missing)} tensors are missing ({_some(missing)})")
    if unexpected:
        faults.append(f"{len(unexpected)} are foreign ({_some(unexpected)})")
    if misshaped:
        examples = (f"{name} is {_size(shapes[name])} where {_size(wanted[name])} is needed" for name in misshaped)
        faults.append(f"{len(misshaped)} have another shape ({_some(examples)})")
    raise ModelError(
        f"The checkpoint does not fit the network: of {len(wanted)} tensors, {'; '.join(faults)}. "
        f"It looks like {identify(shapes).note}, the network like {identify(wanted).note}."
    )


def assign(module: nn.Module, name: str, tensor: Tensor) -> None:
    """Replace one parameter or buffer by its full name."""
    owner = module.get_submodule(name.rpartition(".")[0])
    leaf = name.rpartition(".")[2]
    old = getattr(owner, leaf)
    setattr(owner, leaf, nn.Parameter(tensor, requires_grad=old.requires_grad) if leaf in owner._parameters else tensor)


def _some(names: Iterable[str]) -> str:
    listed = [shown(name, 200) for name in names]
    return ", ".join(listed[:_NAMED]) + (", ..." if len(listed) > _NAMED else "")


def _size(shape: Shape) -> str:
    return "x".join(map(str, shape)) or "a scalar"
