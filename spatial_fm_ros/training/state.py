"""A learner's state in files: exact, to go on here; or packed, to go on elsewhere through a narrow door.

Exact: weights, running average and both moments of AdamW in float32, 16 bytes a parameter. Packed, 2.6 bytes a
parameter: weights in half precision; the average as its difference from the weights in 4 bits with a scale for every
64; the second moment as the product of its row and column means (Shazeer and Stern, 'Adafactor', 2018); the first
moment not at all, since ten steps bring it back.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.training import shards
from spatial_fm_ros.training.learner import Learner

#: Values that share a scale in 4 bits, and their largest magnitude.
BLOCK, LARGEST = 64, 7
#: Scales are kept so many times larger: late in a run they would fall below what half precision resolves.
GAIN = 4096.0
KEPT_STATES = 2


def save(learner: Learner, run: Path) -> Path:
    """The exact state into a new folder of the run; older ones go, but for the newest before it."""
    folder = run / f"state-{learner.step:08d}"
    tensors: dict[str, Tensor] = {}
    for name, parameter, average in _parameters(learner):
        state = learner.optimizer.state[parameter]
        tensors[f"weight.{name}"] = parameter
        tensors[f"average.{name}"] = average
        if state:
            tensors[f"first.{name}"], tensors[f"second.{name}"] = state["exp_avg"], state["exp_avg_sq"]
    shards.write(tensors, folder, {"step": learner.step, "updates": _updates(learner), "form": "exact"})
    for old in states(run)[:-KEPT_STATES]:
        shutil.rmtree(old)
    return folder


def pack(learner: Learner, folder: Path) -> list[Path]:
    """The packed state into a folder; the files."""
    tensors: dict[str, Tensor] = {}
    for name, parameter, average in _parameters(learner):
        low = parameter.detach().half()
        tensors[f"weight.{name}"] = low
        tensors[f"average.{name}"], tensors[f"average_scale.{name}"] = quantised(average - low.float())
        state = learner.optimizer.state[parameter]
        if state:
            second = state["exp_avg_sq"]
            if second.ndim < 2:
                tensors[f"second.{name}"] = second
            else:
                matrix = second.flatten(1)
                tensors[f"second_rows.{name}"], tensors[f"second_columns.{name}"] = matrix.mean(1), matrix.mean(0)
    return shards.write(tensors, folder, {"step": learner.step, "updates": _updates(learner), "form": "packed"})


@torch.no_grad()
def restore(learner: Learner, folder: Path) -> None:
    """Bring a fresh learner of the same settings to a saved state of either form. Raises InputError."""
    tensors, facts = shards.read(folder)
    step, updates = facts.get("step"), facts.get("updates")
    if not isinstance(step, int) or not isinstance(updates, int):
        raise InputError(f"{folder} does not say at which step its state is; take another one.")
    packed = facts.get("form") == "packed"
    for name, parameter, average in _parameters(learner):
        weight = tensors.get(f"weight.{name}")
        if weight is None:
            raise InputError(f"The state in {folder} is of another network: it has no {name}.")
        parameter.copy_(shards.same_shape(weight, parameter, name))
        if packed:
            difference = dequantised(tensors[f"average.{name}"], tensors[f"average_scale.{name}"], average.shape)
            average.copy_(parameter + difference.to(average.device))
        else:
            average.copy_(shards.same_shape(tensors[f"average.{name}"], average, name))
        second = _second(tensors, name, parameter)
        if second is not None:
            first = tensors.get(f"first.{name}")
            learner.optimizer.state[parameter] = {
                "step": torch.tensor(float(updates), device=parameter.device if _on_device(learner) else "cpu"),
                "exp_avg": torch.zeros_like(parameter) if first is None else first.to(parameter.device),
                "exp_avg_sq": second,
            }
    learner.step = step


def states(run: Path) -> list[Path]:
    """The whole states of a run, oldest first."""
    return sorted(folder for folder in run.glob("state-*") if shards.is_state(folder))


def newest(source: Path) -> Path:
    """The state to go on from: a run's newest, or the folder itself where it is one. Raises InputError for neither."""
    if shards.is_state(source):
        return source
    found = states(source)
    if not found:
        raise InputError(f"{source} holds no training state; expected a run or a packed state.")
    return found[-1]


def quantised(x: Tensor) -> tuple[Tensor, Tensor]:
    """A tensor of n values as uint8 [ceil(n / BLOCK) * BLOCK / 2], two values a byte, and half-precision scales."""
    flat = x.detach().float().flatten()
    blocks = nn.functional.pad(flat, (0, -len(flat) % BLOCK)).view(-1, BLOCK)
    scale = (GAIN * blocks.abs().amax(1) / LARGEST).clamp(max=6e4).half()
    steps = torch.where(scale > 0, scale.float() / GAIN, torch.inf)
    codes = ((blocks / steps[:, None]).round().clamp(-LARGEST, LARGEST) + LARGEST + 1).to(torch.uint8).view(-1, 2)
    return codes[:, 0] | (codes[:, 1] << 4), scale


def dequantised(codes: Tensor, scale: Tensor, shape: torch.Size) -> Tensor:
    """float32 tensor of `shape` from what `quantised` gave."""
    values = torch.stack([codes & 15, codes >> 4], dim=-1).float() - (LARGEST + 1)
    flat = (values.view(-1, BLOCK) * (scale.float() / GAIN)[:, None]).flatten()
    return flat[: shape.numel()].view(shape)


def _parameters(learner: Learner) -> Iterator[tuple[str, nn.Parameter, Tensor]]:
    for (name, parameter), average in zip(learner.network.named_parameters(), learner.average, strict=True):
        yield name, parameter, average


def _updates(learner: Learner) -> int:
    """Steps that AdamW has counted: those that were skipped are not among them."""
    counts = [int(state["step"]) for state in learner.optimizer.state.values() if state]
    return max(counts, default=0)


def _second(tensors: dict[str, Tensor], name: str, parameter: nn.Parameter) -> Tensor | None:
    if f"second.{name}" in tensors:
        return shards.same_shape(tensors[f"second.{name}"], parameter, name)
    if f"second_rows.{name}" not in tensors:
        return None
    rows, columns = (tensors[f"second_{part}.{name}"].to(parameter.device) for part in ("rows", "columns"))
    return (rows[:, None] * columns / rows.mean().clamp(min=1e-30)).view_as(parameter)


def _on_device(learner: Learner) -> bool:
    """The fused AdamW of GPUs counts its steps on the device."""
    options: dict[str, Any] = learner.optimizer.defaults
    return bool(options.get("fused"))
