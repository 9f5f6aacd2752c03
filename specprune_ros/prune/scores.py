"""Attention that task tokens pay to visual tokens: only the needed rows, on top of SDPA (docs/explanation/method.md,
eq. 1)."""

from __future__ import annotations

import torch
from torch import Tensor

_HAS_FLOAT32_OUTPUT = "dtype" in torch.ops.aten.bmm.overloads()
"""Whether a product of bf16 numbers can be had in float32; it has no derivative."""


def task_attention(q: Tensor, k: Tensor) -> Tensor:
    """Softmax attention of a few query rows over all keys present.

    q: (B, heads, T, d) rotated queries of the task tokens; k: (B, heads, L, d) rotated keys.
    Returns (B, heads, T, L) float32, each row summing to 1.
    """
    return (products(q, k) * q.shape[-1] ** -0.5).softmax(-1)


def products(q: Tensor, k: Tensor) -> Tensor:
    """q k^T (B, heads, T, L) in float32 whatever the operands are: in bf16 neighbouring scores would often be the same
    number."""
    if q.is_cuda and q.dtype is not torch.float32 and not q.requires_grad and _HAS_FLOAT32_OUTPUT:
        found = torch.bmm(q.flatten(0, 1), k.flatten(0, 1).transpose(-1, -2), out_dtype=torch.float32)
        return found.unflatten(0, q.shape[:2])
    # On a CPU a bf16 product this small costs more than the conversion.
    return torch.matmul(q.float(), k.float().transpose(-1, -2))


def visual_score(attention: Tensor, first: int, count: int) -> Tensor:
    """Eq. 1: mean over heads and task tokens of A[t, V_i].

    attention: (1, heads, T, L); the visual tokens present are `count` columns from `first`. Returns (count,) float32.
    """
    return attention[0, :, :, first : first + count].mean(dim=(0, 1))


def scored(logits: Tensor, width: int, first: int, count: int) -> tuple[Tensor, Tensor]:
    """`task_attention` (1, heads, T, L) of its products (1, heads, T, L) with heads of `width`, and the `visual_score`
    (count,) of it."""
    attention = (logits * width**-0.5).softmax(-1)
    return attention, visual_score(attention, first, count)


def mean_entropy(attention: Tensor) -> Tensor:
    """Mean entropy [nat] of the attention rows over all keys: () float32."""
    # A weight of 0 adds nothing; the smallest normal number under the logarithm keeps it from being 0 * -inf.
    logarithms = attention.clamp(min=torch.finfo(attention.dtype).tiny).log()
    return -(attention * logarithms).sum() / attention[..., 0].numel()
