"""Camera frames to model input: the host checks and uploads uint8, everything else happens on the model's device.

After one call per set of shapes, which uploads the constants, nothing here waits for the host: a CUDA graph can
capture it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from specprune_ros.infer.jpeg import jpeg_round_trip
from specprune_ros.infer.resize import centre_crop, lanczos3
from specprune_ros.model.config import ModelConfig
from specprune_ros.types import BadInput

Frames = tuple[Tensor, ...]
"""One (H, W, 3) uint8 RGB tensor per view; the cameras' sizes may differ."""


def upload(images: tuple[np.ndarray, ...], views: int, device: torch.device | str) -> Frames:
    """Frames on `device` from one (H, W, 3) uint8 RGB array per view; BadInput says what is wrong with them.

    To a GPU they go through page-locked memory, without waiting.
    """
    if len(images) != views:
        raise BadInput(
            f"images: the policy takes {views} views, got {len(images)}; set topics.images to {views} topics"
        )
    for view, image in enumerate(images, start=1):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
            raise BadInput(f"image of view {view}: shape {image.shape}, {image.dtype}; give (H, W, 3) uint8 RGB")
    return tuple(_uploaded(image, torch.device(device)) for image in images)


def to_model(frames: Frames, config: ModelConfig) -> Tensor:
    """(V, S, S, 3) uint8, S = `config.image_size`, from frames of any size: what the towers see. The towers
    normalise it.

    As in upstream's evaluation: JPEG round trip at the camera's size, Lanczos-3 to S x S, crop to the middle 90 % of
    the area; without the first or the last where the checkpoint was trained without.
    """

    def seen(images: Tensor) -> Tensor:
        coded = jpeg_round_trip(images) if config.jpeg_round_trip else images
        sized = lanczos3(coded, config.image_size, config.image_size)
        return centre_crop(sized) if config.center_crop else sized

    return _batched(seen, frames)


def to_compare(frames: Frames, config: ModelConfig) -> Tensor:
    """(V, S, S, 3) uint8: what the patches of two moments are compared on. Cropped as the model sees them, so that
    patches are where its tokens are; without the JPEG round trip, whose losses are no change."""

    def seen(images: Tensor) -> Tensor:
        sized = lanczos3(images, config.image_size, config.image_size)
        return centre_crop(sized) if config.center_crop else sized

    return _batched(seen, frames)


def _batched(function: Callable[[Tensor], Tensor], frames: Frames) -> Tensor:
    """`function` of (V, H, W, 3): of all views at once where they have one size, else view by view."""
    if len({frame.shape for frame in frames}) == 1:
        return function(torch.stack(frames))
    return torch.cat([function(frame[None]) for frame in frames])


def _uploaded(image: np.ndarray, device: torch.device) -> Tensor:
    """A copy on `device`; torch keeps the page-locked buffer until the transfer is done."""
    host = torch.empty(image.shape, dtype=torch.uint8, pin_memory=device.type == "cuda")
    np.copyto(host.numpy(), image)
    return host.to(device, non_blocking=True)
