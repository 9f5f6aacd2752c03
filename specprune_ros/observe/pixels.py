"""Camera bytes to (H, W, 3) uint8 RGB: raw images by the names of their encodings, and JPEG or PNG files."""

from __future__ import annotations

import io
import warnings

import numpy as np

from specprune_ros.types import BadInput

CHANNELS = {
    # encoding: (bytes per pixel, which of them are red, green, blue)
    "rgb8": (3, slice(None)),
    "bgr8": (3, slice(None, None, -1)),
    "rgba8": (4, slice(3)),
    "bgra8": (4, slice(2, None, -1)),
    "mono8": (1, slice(None)),
}
PAIRS = {
    # encoding: of the four bytes of two neighbouring pixels, which are the first and second Y, which the common U and V
    "uyvy": (1, 3, 0, 2),
    "yuv422": (1, 3, 0, 2),
    "yuyv": (0, 2, 1, 3),
    "yuv422_yuy2": (0, 2, 1, 3),
}
"""Names as in sensor_msgs/image_encodings.hpp, old and new."""

ENCODINGS = (*CHANNELS, *PAIRS)

_SHIFT = 5
"""Fraction bits of the tables below, with which sums stay within 16 bits."""


def _table(factor: float, zero: int) -> np.ndarray:
    return np.rint(factor * (np.arange(256) - zero) * (1 << _SHIFT)).astype(np.int16)


# ITU-R BT.601 for 8 bits with Y in 16..235: what Y adds to every channel, and (U, V) to red, green and blue.
_LUMA = _table(1.164384, 16) + (1 << _SHIFT >> 1)
_CHROMA = [(_table(u, 128), _table(v, 128)) for u, v in ((0.0, 1.596027), (-0.391762, -0.812968), (2.017232, 0.0))]

MAX_PIXELS = 1 << 26
"""A compressed image that claims more is refused before its memory is asked for."""


def from_raw(data: bytes, encoding: str, height: int, width: int, step: int) -> np.ndarray:
    """RGB of an uncompressed image of `height` rows of `step` bytes, the last of which may be padding."""
    if encoding not in ENCODINGS:
        raise BadInput(
            f"image encoding {encoding!r} is not supported{_kind(encoding)}; use one of {', '.join(ENCODINGS)}"
        )
    if height == 0 or width == 0:
        raise BadInput(f"the image is empty ({width} x {height} pixels)")
    size, order = CHANNELS.get(encoding, (2, slice(None)))
    if encoding in PAIRS and width % 2:
        raise BadInput(f"{encoding} stores pixels in pairs, but the image is {width} pixels wide")
    if step < width * size:
        raise BadInput(f"a row step of {step} bytes is too small for {width} pixels of {encoding}")
    rows = np.frombuffer(data, dtype=np.uint8)
    if rows.size != step * height:
        raise BadInput(f"the image has {rows.size} bytes; {height} rows of {step} bytes need {step * height}")
    rows = rows.reshape(height, step)[:, : width * size]
    if encoding in PAIRS:
        return _from_pairs(rows.reshape(height, width // 2, 4), PAIRS[encoding])
    pixels = rows.reshape(height, width, size)[:, :, order]
    return np.repeat(pixels, 3, axis=2) if size == 1 else np.ascontiguousarray(pixels)


def from_file(data: bytes) -> np.ndarray:
    """RGB of the bytes of a JPEG or PNG file, as cameras and image_transport compress."""
    from PIL import Image  # lazily: only robots with compressed images need it

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # ours is stricter
            picture = Image.open(io.BytesIO(data), formats=("JPEG", "PNG"))
        if picture.width * picture.height > MAX_PIXELS:
            raise BadInput(f"the image claims {picture.width} x {picture.height} pixels; the camera cannot mean it")
        if picture.mode.startswith(("I", "F")):
            raise BadInput("the image has 16 bits per channel, a depth or raw sensor image; use the colour stream")
        return np.ascontiguousarray(picture.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # Pillow's for broken files
        if isinstance(error, BadInput):
            raise
        raise BadInput(f"{len(data)} bytes are no complete JPEG or PNG image ({error})") from None


def _kind(encoding: str) -> str:
    """What an encoding that cannot be used most likely is."""
    if encoding.startswith("bayer"):
        return " (a raw sensor image: let the camera driver or image_proc debayer it)"
    if "16" in encoding or "32" in encoding:
        return " (a depth or raw sensor image: use the colour stream)"
    return ""


def _from_pairs(pairs: np.ndarray, order: tuple[int, int, int, int]) -> np.ndarray:
    """(H, W / 2, 4) bytes of YUV 4:2:2 to (H, W, 3) RGB; both pixels of a pair have the pair's colour."""
    first, second, u, v = (pairs[:, :, at] for at in order)
    lumas = _LUMA[first], _LUMA[second]
    rgb = np.empty((*pairs.shape[:2], 2, 3), np.uint8)
    for channel, (from_u, from_v) in enumerate(_CHROMA):
        colour = from_u[u] + from_v[v]
        for place, luma in enumerate(lumas):
            rgb[:, :, place, channel] = ((luma + colour) >> _SHIFT).clip(0, 255)
    return rgb.reshape(pairs.shape[0], 2 * pairs.shape[1], 3)
