"""TensorFlow's image resampling on any torch device: Lanczos-3 with antialias, and the 90 % centre crop.

Both follow the float32 arithmetic of TensorFlow's operations `ScaleAndTranslate` and `CropAndResize` (what their
documentation and docs/reference/openvla_oft.md state), in gathers and sums of few terms, so that neither TF32 nor the
order of a product changes a pixel.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

RADIUS = 3.0
CROP_AREA = 0.9


def lanczos3(images: Tensor, height: int, width: int) -> Tensor:
    """(V, H, W, 3) uint8 -> (V, height, width, 3) uint8, rounded and clipped; the aspect is not kept. Same size: as
    it is."""
    if images.shape[1:3] == (height, width):
        return images
    tall = _combined(images.float().movedim(1, 0), height)
    wide = _combined(tall.movedim(2, 0), width)
    return wide.movedim((0, 1, 2), (2, 1, 0)).round().clamp(0, 255).to(torch.uint8)


def centre_crop(images: Tensor) -> Tensor:
    """(V, H, W, 3) uint8 -> the same shape: the middle 90 % of the area, bilinearly, corners aligned, then
    floor(255.5 x)."""
    _, height, width, _ = images.shape
    pixels = images * images.new_full((), 1 / 255, dtype=torch.float32)
    pixels = _interpolated(pixels, 2, width)
    pixels = _interpolated(pixels, 1, height)
    return (pixels.clamp(0, 1) * 255.5).floor().to(torch.uint8)


def _combined(samples: Tensor, length: int) -> Tensor:
    """(n, ...) float32 -> (length, ...): every output is a weighted bag of input samples."""
    indices, weights = lanczos_bags(samples.shape[0], length, samples.device)
    rows = F.embedding_bag(indices, samples.flatten(1), per_sample_weights=weights, mode="sum")
    return rows.view(length, *samples.shape[1:])


@cache  # captured graphs hold on to these tensors
def lanczos_bags(source: int, target: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Input samples (target, taps) int64 and their weights (target, taps) float32 on `device`; made once per pair of
    sizes.

    Output x sits at s = (x + 1/2) source / target; the kernel is widened by source / target when that exceeds 1; its
    samples lie at half-integers; those outside the image are left out and the rest is normalised. Unused taps weigh
    0.
    """
    one = np.float32(1)
    inverse = one / (np.float32(target) / np.float32(source))
    widening = max(inverse, one)
    centre = (np.arange(target, dtype=np.float32) + np.float32(0.5)) * inverse
    reach = np.float32(RADIUS) * widening
    first = np.maximum(np.ceil(centre - reach - np.float32(0.5)), 0).astype(np.int64)
    last = np.minimum(np.floor(centre + reach - np.float32(0.5)), source - 1).astype(np.int64)
    taps = first[:, None] + np.arange((last - first).max() + 1)
    inside = taps <= last[:, None]
    distance = np.abs(taps.astype(np.float32) + np.float32(0.5) - centre[:, None]) * (one / widening)
    weights = np.where(inside, _lanczos3(distance), np.float32(0))
    total = np.cumsum(weights, axis=1, dtype=np.float32)[:, -1:]
    weights = weights * (one / total)
    with torch.inference_mode(False):
        return tuple(torch.from_numpy(a).to(device) for a in (np.where(inside, taps, first[:, None]), weights))


def _lanczos3(x: np.ndarray) -> np.ndarray:
    """sinc(x) sinc(x / 3) for 0 <= x <= 3, else 0; float32."""
    radius, pi = np.float32(RADIUS), np.float32(np.pi)
    angle = pi * np.where(x <= np.float32(1e-3), np.float32(1), x)
    value = radius * np.sin(angle) * np.sin(angle / radius) / (angle * angle)
    return np.where(x > radius, np.float32(0), np.where(x <= np.float32(1e-3), np.float32(1), value))


def _interpolated(pixels: Tensor, dim: int, length: int) -> Tensor:
    """Linear interpolation of `length` samples along `dim` at the crop's positions."""
    low, high, share = crop_samples(length, pixels.device)
    share = share.view(-1, *[1] * (pixels.dim() - 1 - dim))
    near = pixels.index_select(dim, low)
    return near + (pixels.index_select(dim, high) - near) * share


@cache  # captured graphs hold on to these tensors
def crop_samples(length: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """For every output of the centre crop the samples below and above, (length,) int64, and the share of the upper,
    float32."""
    one, last = np.float32(1), np.float32(length - 1)
    side = np.sqrt(np.float32(CROP_AREA))
    start = (one - side) / np.float32(2)
    step = ((start + side) - start) * last / max(last, one)
    at = start * last + np.arange(length, dtype=np.float32) * step
    low, high = np.floor(at).astype(np.int64), np.ceil(at).astype(np.int64)
    with torch.inference_mode(False):
        return tuple(torch.from_numpy(a).to(device) for a in (low, high, at - low.astype(np.float32)))
