"""How much each patch changed since the reference frame (method.md 1, V_dynamic)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def patches_of(images: Tensor, patch: int) -> Tensor:
    """(V, H, W, 3) uint8 -> (V, N, patch * patch * 3) float32, row-major patches."""
    views, height, width, _ = images.shape
    x = images.view(views, height // patch, patch, width // patch, patch * 3)
    return x.transpose(2, 3).reshape(views, -1, patch * patch * 3).float()


def patch_similarity(current: Tensor, reference: Tensor, patch: int, kind: str) -> Tensor:
    """Similarity of every patch to the same patch of the reference frame: (V, N) float32, 1 = unchanged.

    images: (V, H, W, 3) uint8. kind: `rgb_cosine`, cos(P_t, P_{t-T}) on raw RGB as published, which is nearly blind to
    brightness; or `absolute`, 1 - mean |P_t - P_{t-T}| / 255, which is not.
    """
    now, then = patches_of(current, patch), patches_of(reference, patch)
    if kind == "rgb_cosine":
        return F.cosine_similarity(now, then, dim=-1, eps=1e-6)
    return 1.0 - (now - then).abs().mean(-1) / 255.0
