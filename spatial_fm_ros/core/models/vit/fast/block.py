"""The transformer block for inference: the plain block's parameters, a piece of tokens at a time."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spatial_fm_ros.core.models.vit.block import Block, Mlp
from spatial_fm_ros.core.models.vit.fast.attention import Turning, attention, prepared
from spatial_fm_ros.core.models.vit.fast.linear import MANY_ROWS, linear
from spatial_fm_ros.core.models.vit.rope import RopeTable

#: Tokens worked on at a time. On the CPU their hidden layer stays in the shared cache and below the size from which
#: every allocation is made of fresh pages; on a GPU it bounds memory.
PIECE = {"cpu": 700, "cuda": 16384}


class FastBlock(nn.Module):
    """A Block's forward without gradients, under the names of its parameters.

    The residual stream, norms and LayerScale are in the dtype of the tokens (float32), products and attention in
    that of the weights. Equal to the plain block within rounding.
    """

    def __init__(self, plain: Block) -> None:
        super().__init__()
        self.norm1, self.attn, self.ls1 = plain.norm1, plain.attn, plain.ls1
        self.norm2, self.mlp, self.ls2 = plain.norm2, plain.mlp, plain.ls2

    def forward(self, x: Tensor, rope: RopeTable | None = None) -> Tensor:
        """x [B, T, dim]; the table's rows are the T tokens."""
        attn, (batch, tokens, dim) = self.attn, x.shape
        low = x.dtype if batch * tokens < MANY_ROWS else attn.qkv.weight.dtype
        # Three tensors: large blocks of like size fit into each other's holes in the heap.
        shape = (batch, attn.heads, tokens, dim // attn.heads)
        query, key, value = (x.new_empty(shape, dtype=low) for _ in range(3))
        turning = None if rope is None else Turning.of(rope)
        pieces = list(_pieces(batch, tokens, x.device))
        for scenes, rows in pieces:
            packed = linear(_normed(x[scenes, rows], self.norm1), attn.qkv).unflatten(-1, (3, attn.heads, -1))
            query[scenes, :, rows] = prepared(packed[:, :, 0], attn.q_norm, turning, rows).transpose(1, 2)
            key[scenes, :, rows] = prepared(packed[:, :, 1], attn.k_norm, turning, rows).transpose(1, 2)
            value[scenes, :, rows] = packed[:, :, 2].transpose(1, 2)
        mixed = attention(query, key, value)
        del query, key, value
        out = torch.empty_like(x)
        for scenes, rows in pieces:
            piece = out[scenes, rows]
            change = linear(mixed[scenes, rows], attn.proj).to(x.dtype)
            torch.addcmul(x[scenes, rows], change, self.ls1.gamma, out=piece)
            piece.addcmul_(self._fed_forward(_normed(piece, self.norm2)).to(x.dtype), self.ls2.gamma)
        return out

    def _fed_forward(self, x: Tensor) -> Tensor:
        if isinstance(self.mlp, Mlp):
            return linear(linear(x, self.mlp.fc1, gelu=True), self.mlp.fc2)
        gate, value = linear(x, self.mlp.w12).chunk(2, dim=-1)
        return linear(F.silu(gate).mul_(value), self.mlp.w3)


def _normed(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    return F.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)


def _pieces(batch: int, tokens: int, device: torch.device) -> Iterator[tuple[slice, slice]]:
    """Slices of batch and tokens that cover [batch, tokens], each of at most PIECE tokens and of about one size."""
    most = PIECE.get(device.type, PIECE["cuda"])
    scenes = max(1, most // tokens)
    count = -(-tokens // most)
    step = -(-tokens // count)
    for first in range(0, batch, scenes):
        for start in range(0, tokens, step):
            yield slice(first, min(first + scenes, batch)), slice(start, min(start + step, tokens))
