"""Camera bytes to (H, W, 3) uint8 RGB: raw images by the names of their encodings, and JPEG or PNG files."""

from __future__ import annotations

import io
import warnings

import numpy as np

from specprune_ros.types import BadInput

CHANNELS = {
    # encoding: (bytes per pixel, which of them are red, green, blue)
    "rgb8": (3, (0, 1, 2)),
    "bgr8": (3, (2, 1, 0)),
    "rgba8": (4, (0, 1, 2)),
    "bgra8": (4, (2, 1, 0)),
    "mono8": (1, (0, 0, 0)),
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

# ITU-R BT.601 for 8 bits, Y in 16..235: rows Y, U, V; columns R, G, B.
_BT601 = np.array([[1.164384, 1.164384, 1.164384], [0.0, -0.391762, 2.017232], [1.596027, -0.812968, 0.0]], np.float32)
_BT601_ZERO = np.array([16.0, 128.0, 128.0], np.float32)

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
    size, order = CHANNELS.get(encoding, (2, ()))
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
    pixels = rows.reshape(height, width, size)
    return np.ascontiguousarray(pixels if order == tuple(range(size)) else pixels[:, :, order])


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
    first, second, u, v = order
    yuv = np.stack([pairs[:, :, [luma, u, v]] for luma in (first, second)], axis=2).astype(np.float32)
    rgb = np.rint((yuv - _BT601_ZERO) @ _BT601).clip(0, 255).astype(np.uint8)
    return rgb.reshape(pairs.shape[0], 2 * pairs.shape[1], 3)
