"""Which device a model runs on."""

from __future__ import annotations

import torch

from spatial_fm_ros.core.errors import ModelError


def pick_device(name: str) -> torch.device:
    """The device of `model.device`; auto is the GPU where there is one. Raises ModelError for one that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ModelError(
            f"Device '{name}' was asked for but no CUDA device is usable; set model.device to auto or cpu."
        )
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ModelError(f"'{name}' is no device; set model.device to auto, cpu, cuda or cuda:N.") from error
    if device.type not in ("cpu", "cuda") or (device.index or 0) >= max(1, torch.cuda.device_count()):
        raise ModelError(f"There is no device '{name}' here; set model.device to auto, cpu, cuda or cuda:N.")
    return device
