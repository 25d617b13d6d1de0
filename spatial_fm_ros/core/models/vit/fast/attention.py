"""Attention for inference: heads prepared in one pass over a piece of tokens, and mixed by the fastest way there is."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spatial_fm_ros.core.models.vit.rope import RopeTable

#: Scores of one head held at a time where they are held at all.
SCORE_BYTES = 4 << 20
#: Held scores are rounded to 8 bits: one of this size moves its weight by 1.6 % at most. The largest one of a head is
#: looked for on so many of its queries.
LARGEST_SCORE, LOOKED_AT = 8.0, 64
#: With fewer tokens a head's products are too small for two threads to share.
FEWEST_TOKENS = 900


@dataclass(frozen=True, eq=False)
class Turning:
    """A RopeTable for a single pass: out = x * cos + halves-swapped x * signed_sin; both [T, 1, head_dim]."""

    cos: Tensor
    signed_sin: Tensor

    @staticmethod
    def of(table: RopeTable) -> Turning:
        first, second = table.sin.unflatten(-1, (2, 2, -1)).unbind(-2)
        signed = torch.stack([-first, second], dim=-2).flatten(-3)
        return Turning(table.cos[:, None], signed[:, None])

    def apply(self, x: Tensor, rows: slice) -> Tensor:
        """x float32 [B, t, heads, head_dim], the tokens `rows` of the table, turned as rope.rotate does."""
        swapped = x.unflatten(-1, (2, 2, -1)).flip(-2).flatten(-3)
        turned: Tensor = swapped.mul_(self.signed_sin[rows]).addcmul_(x, self.cos[rows])
        return turned


def prepared(x: Tensor, norm: nn.Module, turning: Turning | None, rows: slice) -> Tensor:
    """Queries or keys [B, t, heads, head_dim] through their norm and rotation, in float32 where there are any."""
    if isinstance(norm, nn.LayerNorm):
        x = F.layer_norm(x.float(), norm.normalized_shape, norm.weight, norm.bias, norm.eps)
    return x if turning is None else turning.apply(x.float(), rows)


def attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Softmax attention of [B, heads, T, head_dim] each; [B, T, heads * head_dim].

    torch's kernel for the CPU computes bfloat16 in many small products and is no faster than in float32; large
    products with the scores of some rows of one head in the cache take 0.65 to 0.8 of its time. They hold scores in
    bfloat16, so heads that attend sharply are left to torch's kernel, whose scores are float32, and so are short
    sequences.
    """
    large = query.shape[-2] >= FEWEST_TOKENS
    if large and query.device.type == "cpu" and query.dtype == torch.bfloat16:
        return _by_heads(query, key, value)
    return F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)


def _by_heads(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    batch, heads, tokens, width = query.shape
    step = max(1, min(tokens, SCORE_BYTES // (tokens * query.element_size())))
    step = -(-tokens // -(-tokens // step))  # pieces of one size
    scores = query.new_empty(step, tokens)
    out = query.new_empty(batch, tokens, heads, width)
    for b in range(batch):
        for h in range(heads):
            if _sharp(query[b, h], key[b, h]):
                q, k, v = (each[b : b + 1, h : h + 1] for each in (query, key, value))
                out[b, :, h] = F.scaled_dot_product_attention(q, k, v)[0, 0]
                continue
            across = key[b, h].t()
            for start in range(0, tokens, step):
                rows = slice(start, min(start + step, tokens))
                piece = scores[: rows.stop - rows.start]
                torch.mm(query[b, h, rows] * width**-0.5, across, out=piece)
                torch.softmax(piece, dim=-1, out=piece)
                out[b, rows, h] = torch.mm(piece, value[b, h])
    return out.flatten(2)


def _sharp(query: Tensor, key: Tensor) -> bool:
    """Scores of this head [T, head_dim] are too large to be rounded, as far as some of its queries tell."""
    some = query[:: -(-len(query) // LOOKED_AT)].float()
    return bool((some @ key.float().t()).max() * query.shape[-1] ** -0.5 > LARGEST_SCORE)
