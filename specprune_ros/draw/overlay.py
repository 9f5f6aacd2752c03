"""Draws what the pruning kept: the views side by side, dropped patches dimmed, kept patches tinted by their source."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np

from specprune_ros.draw.canvas import Canvas, shortened, text_width
from specprune_ros.types import Mode, Source

SOURCES = (
    # (bit, colour, legend), strongest claim first: a patch kept for several reasons shows the first of them.
    (Source.GLOBAL, (86, 180, 233), "last attention"),
    (Source.DYNAMIC, (240, 128, 48), "changed"),
    (Source.LOCAL, (64, 200, 120), "attention now"),
    (Source.FILL, (200, 200, 200), "spare slot"),
)
MODE_COLOURS = {"dense": (150, 150, 160), "coarse": (240, 160, 60), "fine": (90, 200, 130)}

BACKGROUND = (18, 20, 26)
FOREGROUND = (236, 238, 242)
MUTED = (150, 154, 166)
SIDE = 448
GAP = 8
HEADER = 40
FOOTER = 32
MIN_WIDTH = 2 * SIDE + GAP
"""Header and legend need this much, also above a single view."""


def overlay(
    images: Sequence[np.ndarray],
    kept: np.ndarray,
    patch_grid: tuple[int, int],
    *,
    mode: Mode,
    aggressiveness: float,
    caption: str = "",
) -> np.ndarray:
    """One picture of all views for people to look at.

    images: one (H, W, 3) uint8 RGB array per view; kept: (views * rows * cols,) uint8 bit mask as in
    PruningReport.kept; caption: e.g. the instruction, left in the header. Returns (height, width, 3) uint8 RGB.
    """
    rows, cols = patch_grid
    kept = np.asarray(kept, dtype=np.uint8)
    if kept.size != len(images) * rows * cols:
        raise ValueError(
            f"kept has {kept.size} entries; {len(images)} views of {rows} x {cols} patches need "
            f"{len(images) * rows * cols}"
        )
    views_width = len(images) * (SIDE + GAP) - GAP
    width = max(views_width, MIN_WIDTH) + 2 * GAP
    canvas = Canvas(width, HEADER + SIDE + FOOTER, BACKGROUND)
    for index, (image, mask) in enumerate(zip(images, kept.reshape(len(images), rows, cols), strict=True)):
        canvas.paste(_view(image, mask), (width - views_width) // 2 + index * (SIDE + GAP), HEADER)
    tokens = f"{np.count_nonzero(kept & Source.LAST_LAYER)} / {kept.size} tokens    aggressiveness {aggressiveness:.2f}"
    _header(canvas, width, Mode(mode).value, tokens, caption)
    _legend(canvas, kept, 14, 18)
    text = f"dropped in the decoder {_dropped_late(kept)}"
    canvas.text((width - GAP, HEADER + SIDE + FOOTER // 2), text, MUTED, 14, "rm")
    return canvas.pixels


def camera_overlay(
    image: np.ndarray, kept: np.ndarray, patch_grid: tuple[int, int], *, mode: Mode, aggressiveness: float
) -> np.ndarray:
    """One view by itself, as `overlay` draws it: image (H, W, 3), kept (rows * cols,); (height, SIDE, 3) uint8 RGB."""
    kept = np.asarray(kept, dtype=np.uint8)
    canvas = Canvas(SIDE, HEADER + SIDE + FOOTER, BACKGROUND)
    canvas.paste(_view(image, kept.reshape(patch_grid)), 0, HEADER)
    tokens = f"{np.count_nonzero(kept & Source.LAST_LAYER)} / {kept.size} tokens    aggr. {aggressiveness:.2f}"
    _header(canvas, SIDE, Mode(mode).value, tokens, "")
    _legend(canvas, kept, 11, 8)
    return canvas.pixels


def _view(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """One view at SIDE x SIDE with its (rows, cols) patch mask drawn in; OpenCV makes this a few milliseconds."""
    pixels = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    # Dropped at once: dark and nearly grey. Dropped on the way through the decoder: half-way.
    grey = cv2.cvtColor(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    dimmed = cv2.addWeighted(grey, 0.7 / 3, pixels, 0.3 / 3, 0.0)
    light = np.select([mask & Source.LAST_LAYER > 0, mask & Source.AFTER_STATIC > 0], [255, 140], 0).astype(np.uint8)
    drawn = _blended(pixels, dimmed, _at_pixels(light))
    tint, tinted = _tints(mask)
    strength = _at_pixels(light * tinted)
    strength = np.where(_border(mask.shape), strength // 10 * 9, strength // 8)
    return _blended(_at_pixels(tint), drawn, strength)


def _blended(above: np.ndarray, below: np.ndarray, strength: np.ndarray) -> np.ndarray:
    """`above` where strength (H, W) uint8 is 255, `below` where it is 0."""
    share = cv2.cvtColor(strength, cv2.COLOR_GRAY2RGB)
    front, back = cv2.multiply(above, share, scale=1 / 255), cv2.multiply(below, 255 - share, scale=1 / 255)
    return cv2.add(front, back)


def _tints(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Colour (rows, cols, 3) of each patch's source, and 1 where there is one, else 0; both uint8."""
    bits = [mask & bit > 0 for bit, _, _ in SOURCES]
    colours = np.array([colour for _, colour, _ in SOURCES] + [(0, 0, 0)], dtype=np.uint8)
    first = np.select(bits, range(len(SOURCES)), len(SOURCES))
    return colours[first], (first < len(SOURCES)).astype(np.uint8)


def _at_pixels(patches: np.ndarray) -> np.ndarray:
    """(rows, cols) or (rows, cols, 3) patch values as a SIDE x SIDE image."""
    return cv2.resize(patches, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST_EXACT)


@lru_cache(maxsize=4)
def _border(grid: tuple[int, int]) -> np.ndarray:
    """(SIDE, SIDE) bool: the one-pixel frame of every patch, one pixel in, so that neighbours stay apart."""
    rows, cols = ((2 * np.arange(SIDE) + 1) * patches // (2 * SIDE) for patches in grid)
    inside = [_inset(index, 1) for index in (rows, cols)]
    core = [_inset(index, 2) for index in (rows, cols)]
    return np.logical_and.outer(*inside) & ~np.logical_and.outer(*core)


def _inset(patch_of_pixel: np.ndarray, margin: int) -> np.ndarray:
    """True for pixels at least `margin` pixels away from the edges of their patch."""
    padded = np.pad(patch_of_pixel, margin, constant_values=-1)
    before, after = padded[: -2 * margin], padded[2 * margin :]
    return (before == patch_of_pixel) & (after == patch_of_pixel)


def _header(canvas: Canvas, width: int, mode: str, tokens: str, caption: str) -> None:
    middle, size = HEADER // 2, 18
    badge = text_width(mode.upper(), size) + 20
    canvas.rectangle((GAP, 8, GAP + badge, HEADER - 8), fill=MODE_COLOURS[mode])
    canvas.text((GAP + badge / 2, middle), mode.upper(), BACKGROUND, size, "mm")
    canvas.text((width - GAP, middle), tokens, FOREGROUND, size, "rm")
    left, right = GAP + badge + 14, width - GAP - text_width(tokens, size) - 14
    canvas.text((left, middle), shortened(caption, size, right - left), MUTED, size)


def _legend(canvas: Canvas, kept: np.ndarray, size: int, space: int) -> None:
    """Sources with their colours and counts in letters of `size`, with `space` pixels between them."""
    middle, box = HEADER + SIDE + FOOTER // 2, size - 2
    x = GAP
    for bit, colour, name in SOURCES:
        canvas.rectangle((x, middle - box // 2, x + box, middle + box // 2), outline=colour)
        text = f"{name} {np.count_nonzero((kept & bit > 0) & (kept & Source.AFTER_STATIC > 0))}"
        canvas.text((x + box + 7, middle), text, MUTED, size)
        x += box + 7 + text_width(text, size) + space


def _dropped_late(kept: np.ndarray) -> int:
    """Tokens that static pruning kept and the decoder dropped."""
    return np.count_nonzero((kept & Source.AFTER_STATIC > 0) & (kept & Source.LAST_LAYER == 0))
