"""Linear layers for inference: the faster of two libraries on the processor, low precision for many rows."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

#: With fewer rows than this reading the weights is all the work, and full precision costs nothing.
MANY_ROWS = 64
#: Rows of a low-precision weight brought to float32 at a time; they stay in a core's cache.
WEIGHT_ROWS = 256


@lru_cache(maxsize=1)
def onednn_linear_works() -> bool:
    """oneDNN's linear operator is in this torch and right.

    torch.nn.functional.linear calls MKL for float32, which on AMD processors is 10 to 15 % slower than oneDNN; the
    operator, which torch.compile uses too, takes the weights as they are and puts the GELU into the product.
    """
    if not torch.backends.mkldnn.is_available():
        return False
    x, weight = torch.linspace(-2, 2, 3 * 16).view(3, 16), torch.linspace(-1, 1, 5 * 16).view(5, 16)
    bias = torch.linspace(-1, 1, 5)
    try:
        fused = _onednn_linear(x, weight, bias, gelu=True)
    except (AttributeError, RuntimeError):
        return False
    return bool(torch.allclose(fused, F.gelu(F.linear(x, weight, bias)), atol=1e-5))


def _onednn_linear(x: Tensor, weight: Tensor, bias: Tensor | None, gelu: bool) -> Tensor:
    after, form = ("gelu", "none") if gelu else ("none", "")
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, after, [], form)  # type: ignore[no-any-return]


class FastLinear(nn.Linear):
    """A linear layer, through `linear`: with few rows its weights may be of lower precision than they."""

    def __init__(self, plain: nn.Linear) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = plain.in_features, plain.out_features
        self.weight, self.bias = plain.weight, plain.bias

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self)


def linear(x: Tensor, layer: nn.Linear, *, gelu: bool = False) -> Tensor:
    """layer(x), through the exact GELU where asked for, for x [..., in] of any dtype, without gradients.

    Many rows: in the dtype of the weights, which is that of the result. Few rows: in the dtype of x, with the
    weights brought to it block by block.
    """
    return product(x, layer.weight, layer.bias, gelu=gelu)


def product(x: Tensor, weight: Tensor, bias: Tensor | None, *, gelu: bool = False) -> Tensor:
    """`linear` of weight [out, in] and bias [out]."""
    if x.numel() < MANY_ROWS * x.shape[-1] and x.dtype != weight.dtype:
        y = _by_blocks(x, weight, bias)
        return F.gelu(y) if gelu else y
    x = x.to(weight.dtype)
    if x.device.type == "cpu" and x.dtype in (torch.float32, torch.bfloat16) and onednn_linear_works():
        return _onednn_linear(x, weight, bias, gelu)
    y = F.linear(x, weight, bias)
    return F.gelu(y) if gelu else y


def _by_blocks(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The product in the dtype of x, without a copy of the whole weight in it."""
    y = x.new_empty(*x.shape[:-1], len(weight))
    for start in range(0, len(weight), WEIGHT_ROWS):
        rows = slice(start, start + WEIGHT_ROWS)
        y[..., rows] = F.linear(x, weight[rows].to(x.dtype), None if bias is None else bias[rows].to(x.dtype))
    return y
