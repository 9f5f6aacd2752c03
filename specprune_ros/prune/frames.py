"""How much each patch changed since the reference frame (method.md 1, V_dynamic)."""

from __future__ import annotations

from torch import Tensor


def patch_similarity(current: Tensor, reference: Tensor, patch: int, kind: str) -> Tensor:
    """Similarity of every patch to the same patch of the reference frame: (V, N) float32, 1 = unchanged.

    images: (V, H, W, 3) uint8. kind: `rgb_cosine`, cos(P_t, P_{t-T}) on raw RGB as published, which is nearly blind to
    brightness; or `absolute`, 1 - mean |P_t - P_{t-T}| / 255, which is not.
    """
    now, then = _blocks(current, patch), _blocks(reference, patch)
    if kind == "absolute":
        return 1.0 - _sums((now - then).abs()) / (255.0 * 3 * patch * patch)
    lengths = (_sums(now * now) * _sums(then * then)).sqrt()
    return _sums(now * then) / lengths.clamp(min=1e-6)


def _blocks(images: Tensor, patch: int) -> Tensor:
    """(V, H, W, 3) uint8 -> (V, rows, patch, columns, patch * 3) float32, without moving a pixel."""
    views, height, width, _ = images.shape
    return images.reshape(views, height // patch, patch, width // patch, patch * 3).float()


def _sums(blocks: Tensor) -> Tensor:
    """Sum over every patch: (V, rows * columns)."""
    return blocks.sum((2, 4)).flatten(1)
