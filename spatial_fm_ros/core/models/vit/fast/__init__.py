"""Fast twins of the plain layers for inference, equal to them within rounding.

`optimised` swaps them into a network by type, before or after weights are loaded; names and shapes of parameters
stay. `dtype_policy` says which parameters may be of low precision.
"""

from __future__ import annotations

from typing import TypeVar

from torch import nn

from spatial_fm_ros.core.models.vit.block import Block
from spatial_fm_ros.core.models.vit.dpt import FusionBlock, PixelLayers, Reassemble, ResidualConvUnit, Scratch
from spatial_fm_ros.core.models.vit.fast.block import FastBlock
from spatial_fm_ros.core.models.vit.fast.dense import (
    FastConv2d,
    FastFusionBlock,
    FastPixelLayers,
    FastResidualConvUnit,
)
from spatial_fm_ros.core.models.vit.fast.linear import FastLinear
from spatial_fm_ros.core.models.vit.fast.precision import dtype_policy

__all__ = ["dtype_policy", "optimised"]

Network = TypeVar("Network", bound=nn.Module)

_TWINS: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: FastLinear,
    Block: FastBlock,
    ResidualConvUnit: FastResidualConvUnit,
    FusionBlock: FastFusionBlock,
    PixelLayers: FastPixelLayers,
}
_CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)


def optimised(network: Network) -> Network:
    """The network itself, in eval mode without gradients, with fast twins in the place of plain layers.

    Parameters keep names, shapes and memory; they may lie on the meta device still. Every twin takes float32 and
    computes in the dtype of its own weights, so that weights may come in mixed precision (dtype_policy).
    """
    for module in list(network.modules()):
        if isinstance(module, (Reassemble, Scratch)):
            _swap_convolutions(module)
    _swap(network)
    return network.eval().requires_grad_(False)


def _swap(module: nn.Module) -> None:
    for name, child in module.named_children():
        _swap(child)
        twin = _TWINS.get(type(child))
        if twin is not None:
            setattr(module, name, twin(child))


def _swap_convolutions(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, _CONVOLUTIONS):
            module._modules[name] = FastConv2d(child)
        elif not isinstance(child, FastConv2d):
            _swap_convolutions(child)
