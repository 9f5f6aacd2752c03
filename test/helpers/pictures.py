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
