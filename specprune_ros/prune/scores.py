"""Attention that task tokens pay to visual tokens: only the needed rows, on top of SDPA (docs/explanation/method.md, eq. 1)."""

from __future__ import annotations

import torch
from torch import Tensor


def task_attention(q: Tensor, k: Tensor) -> Tensor:
    """Softmax attention of a few query rows over all keys present.

    q: (B, heads, T, d) rotated queries of the task tokens; k: (B, heads, L, d) rotated keys.
    Returns (B, heads, T, L) float32, each row summing to 1.
    """
    scale = q.shape[-1] ** -0.5
    if q.device.type == "cpu":  # where a bf16 product this small costs more than the conversion
        return torch.matmul(q.float() * scale, k.float().transpose(-1, -2)).softmax(-1)
    return (torch.matmul(q, k.transpose(-1, -2)).float() * scale).softmax(-1)


def visual_score(attention: Tensor, first: int, count: int) -> Tensor:
    """Eq. 1: mean over heads and task tokens of A[t, V_i].

    attention: (1, heads, T, L); the visual tokens present are `count` columns from `first`. Returns (count,) float32.
    """
    return attention[0, :, :, first : first + count].mean(dim=(0, 1))


def mean_entropy(attention: Tensor) -> Tensor:
    """Mean entropy [nat] of the attention rows over all keys: () float32."""
    # A weight of 0 adds nothing; the smallest normal number under the logarithm keeps it from being 0 * -inf.
    logarithms = attention.clamp(min=torch.finfo(attention.dtype).tiny).log()
    return -(attention * logarithms).sum() / attention[..., 0].numel()
