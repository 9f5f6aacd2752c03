"""How much each patch changed since the reference frame (method.md 1, V_dynamic)."""

from __future__ import annotations

import torch
from torch import Tensor


def patch_similarity(current: Tensor, reference: Tensor, patch: int, kind: str) -> Tensor:
    """Similarity of every patch to the same patch of the reference frame: (V, N) float32, 1 = unchanged.

    images: (V, H, W, 3) uint8. kind: `rgb_cosine`, cos(P_t, P_{t-T}) on raw RGB as published, which is nearly blind to
    brightness; or `absolute`, 1 - mean |P_t - P_{t-T}| / 255, which is not.
    """
    both = _patches(torch.stack((current, reference)), patch)
    now, then = both
    if kind == "absolute":
        return 1.0 - (now - then).abs().mean(-1) / 255.0
    squares = torch.linalg.vecdot(both, both)
    return torch.linalg.vecdot(now, then) / (squares[0] * squares[1]).sqrt().clamp(min=1e-6)


def _patches(images: Tensor, patch: int) -> Tensor:
    """(..., H, W, 3) uint8 -> (..., N, patch * patch * 3) float32; the pixels move as bytes, before they grow."""
    *outer, height, width, _ = images.shape
    blocks = images.reshape(*outer, height // patch, patch, width // patch, patch * 3).transpose(-3, -2)
    return blocks.reshape(*outer, -1, patch * patch * 3).float()
