"""How much each patch changed since the reference frame (docs/explanation/method.md, V_dynamic)."""

from __future__ import annotations

from torch import Tensor


def patch_similarity(current: Tensor, reference: Tensor, patch: int, kind: str) -> Tensor:
    """Similarity of every patch to the same patch of the reference frame: (V, N) float32, 1 = unchanged.

    images: (V, H, W, 3) uint8. kind: `rgb_cosine`, cos(P_t, P_{t-T}) on raw RGB as published, which is nearly blind to
    brightness; or `absolute`, 1 - mean |P_t - P_{t-T}| / 255, which is not.
    """
    now, then = (patches(images, patch).float() for images in (current, reference))  # cut as bytes, before they grow
    if kind == "absolute":
        return 1.0 - (now - then).abs().mean(-1) / 255.0
    lengths = (now * now).sum(-1) * (then * then).sum(-1)
    return (now * then).sum(-1) / lengths.sqrt().clamp(min=1e-6)


def patches(images: Tensor, patch: int) -> Tensor:
    """(..., H, W, 3) -> (..., N, patch * patch * 3): patches row by row, and in each the pixels row by row.

    Pixels beyond the last whole patch belong to none, as in a convolution of that stride.
    """
    *outer, height, width, channels = images.shape
    rows, columns = height // patch, width // patch
    whole = images[..., : rows * patch, : columns * patch, :]
    blocks = whole.reshape(*outer, rows, patch, columns, patch * channels).transpose(-3, -2)
    return blocks.reshape(*outer, rows * columns, patch * patch * channels)
