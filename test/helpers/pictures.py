"""Made-up pictures, the same on every machine."""

import numpy as np


def picture(height, width):
    """Ramps, texture and hard coloured edges, the same on every machine."""
    y, x = np.mgrid[:height, :width]
    return np.stack(
        [(7 * x + 3 * y) % 256, (x * y // 5 + 40 * (x // 9)) % 256, 255 * ((x // 7 + y // 11) % 2)], 2
    ).astype(np.uint8)


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def seen(height, width, frame=0):
    """A table with things on it, as a camera sees it: with a little noise, other in every frame."""
    rng = np.random.default_rng(frame)
    y, x = np.mgrid[:height, :width]
    image = np.stack([60 + 120 * y / height, 90 + 60 * x / width, 140 - 80 * y / height], 2)
    for left, colour in ((0.15, (200, 40, 40)), (0.45, (40, 170, 70)), (0.7, (50, 70, 210))):
        inside = (abs(x / width - left - 0.1) < 0.1) & (abs(y / height - 0.6) < 0.15)
        image[inside] = colour
    return (image + rng.integers(-2, 3, image.shape)).clip(0, 255).astype(np.uint8)
