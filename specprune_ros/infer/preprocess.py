"""Camera frames to model input, on the model's device."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..model.config import ModelConfig
from ..types import BadInput

CROP_AREA = 0.9


def image_tensor(images: tuple[np.ndarray, ...], views: int, size: int) -> Tensor:
    """(V, size, size, 3) uint8 from one (H, W, 3) uint8 RGB array per view; other sizes are resized with antialiasing."""
    if len(images) != views:
        raise BadInput(f"images: the policy takes {views} views, got {len(images)}; set topics.images to {views} topics")
    return torch.stack([_resized(_checked(image, view), size) for view, image in enumerate(images, start=1)])


def to_model(frames: Tensor, config: ModelConfig) -> Tensor:
    """(V, H, W, 3) uint8 -> (V, 3, H, W) float32 in [0, 1], cropped to the middle 90 % of the area where the checkpoint
    was trained that way. The towers normalise."""
    pixels = frames.movedim(-1, 1).float() / 255
    return _centre_crop(pixels) if config.center_crop else pixels


def _checked(image: np.ndarray, view: int) -> Tensor:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise BadInput(f"image of view {view}: shape {image.shape}, {image.dtype}; give (H, W, 3) uint8 RGB")
    return torch.from_numpy(np.ascontiguousarray(image))


def _resized(image: Tensor, size: int) -> Tensor:
    if image.shape[:2] == (size, size):
        return image
    pixels = image.movedim(-1, 0)[None].float()
    resized = F.interpolate(pixels, (size, size), mode="bicubic", antialias=True, align_corners=False)
    return resized[0].movedim(0, -1).round().clamp(0, 255).to(torch.uint8)


def _centre_crop(pixels: Tensor) -> Tensor:
    """TensorFlow's `crop_and_resize` of the centre: output pixel i samples at (1 - s) / 2 * (n - 1) + i * s, s = sqrt(0.9),
    then floor(255.5 x) (openvla_oft.md, Details)."""
    side = CROP_AREA**0.5
    views, _, height, width = pixels.shape
    theta = pixels.new_tensor([[side, 0, 0], [0, side, 0]]).expand(views, 2, 3)
    grid = F.affine_grid(theta, (views, 3, height, width), align_corners=True)
    cropped = F.grid_sample(pixels, grid, mode="bilinear", align_corners=True)
    return torch.floor(255.5 * cropped).clamp(0, 255) / 255
