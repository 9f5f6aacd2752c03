"""Scaled dot-product attention without a mask: OpenVLA-OFT's is bidirectional everywhere."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """(B, heads, T, d), (B, heads, L, d), (B, heads, L, d) -> (B, heads, T, d).

    SDPA, except while training on a CPU: there the backward of the plain products is several times faster in bf16.
    """
    if q.requires_grad and q.device.type == "cpu":
        return torch.matmul((torch.matmul(q, k.transpose(-1, -2)) * q.shape[-1] ** -0.5).softmax(-1), v)
    return F.scaled_dot_product_attention(q, k, v)
