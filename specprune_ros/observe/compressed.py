"""JPEG and PNG bytes to (H, W, 3) uint8 RGB by OpenCV, and what other streams that come in their place are."""

from __future__ import annotations

import struct

import cv2
import numpy as np

from specprune_ros.types import BadInput

MAX_PIXELS = 1 << 26
"""An image that claims more is refused before its memory is asked for."""

JPEG, PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
PNG_END = b"IEND\xaeB`\x82"
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
"""JPEG markers that carry the size of the picture (ITU-T T.81, table B.1)."""
ALONE = {0x01, *range(0xD0, 0xD9)}
"""JPEG markers without a length."""
SCAN = 0xDA
"""The JPEG marker before the picture's data."""

STREAMS = {
    # what a CompressedImage's format says, in lower case -> what it is
    "compresseddepth": "a compressed depth image",
    "h264": "an H.264 video stream",
    "avc": "an H.264 video stream",
    "h265": "an HEVC (H.265) video stream",
    "hevc": "an HEVC (H.265) video stream",
    "av1": "an AV1 video stream",
    "vp8": "a VP8 video stream",
    "vp9": "a VP9 video stream",
    "theora": "a Theora video stream",
    "zstd": "a zstd-packed image",
    "rvl": "an RVL-packed depth image",
    "webp": "a WebP image",
    "tiff": "a TIFF image",
    "jpegxl": "a JPEG XL image",
    "jxl": "a JPEG XL image",
    "jp2": "a JPEG 2000 image",
    "avif": "an AVIF image",
    "gif": "a GIF image",
    "bmp": "a BMP image",
}
SIGNATURES = (
    (b"\x28\xb5\x2f\xfd", "a zstd-packed image"),
    (b"OggS", "a Theora video stream"),
    (b"\x80theora", "a Theora video stream"),
    (b"GIF8", "a GIF image"),
    (b"BM", "a BMP image"),
    (b"II*\0", "a TIFF image"),
    (b"MM\0*", "a TIFF image"),
    (b"\x00\x00\x00\x0cJXL ", "a JPEG XL image"),
    (b"\xff\x0a", "a JPEG XL image"),
    (b"\x00\x00\x00\x0cjP", "a JPEG 2000 image"),
)
START_CODES = (b"\x00\x00\x00\x01", b"\x00\x00\x01")
"""Before each unit of an H.264 or HEVC stream (ITU-T H.264 and H.265, annex B)."""
DEPTH_HEADER = 12
"""Bytes before the PNG of a compressedDepth message."""


def from_file(data: bytes, format_name: str = "") -> np.ndarray:
    """RGB of the bytes of a JPEG or PNG file, as cameras and image_transport compress; turned as its EXIF says.

    The bytes say what they are; `format_name` (CompressedImage.format) only helps to name what cannot be used.
    BadInput for any other stream, for a file that is cut off or cannot be decoded, for other than 8 bits per channel,
    and for more than MAX_PIXELS pixels.
    """
    if data.startswith(JPEG):
        width, height = _jpeg_size(data)
    elif data.startswith(PNG):
        width, height = _png_size(data)
    else:
        raise BadInput(_unusable(data, format_name))
    if width * height > MAX_PIXELS:
        raise BadInput(f"the image claims {width} x {height} pixels; the camera cannot mean it")
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        picture = None
    if picture is None:
        raise BadInput(f"{len(data)} bytes are no sound JPEG or PNG image: it cannot be decoded")
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """(width, height); BadInput for a file that ends before its picture does, which OpenCV may fill up with grey."""
    size, at = None, 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # fill
            at += 1
            continue
        if marker in ALONE:
            at += 2
            continue
        if marker in FRAMES and at + 9 <= len(data):
            precision, height, width = struct.unpack_from(">BHH", data, at + 4)
            if precision != 8:
                raise BadInput(f"the JPEG has {precision} bits per channel; publish 8")
            size = width, height
        if marker == SCAN:
            break
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    if size is None or data.rfind(b"\xff\xd9", at) < 0:
        raise BadInput(_incomplete(data, "JPEG"))
    return size


def _png_size(data: bytes) -> tuple[int, int]:
    """(width, height); BadInput for a file that is cut off, or has 16 bits per channel."""
    if len(data) < 33 or data[12:16] != b"IHDR" or PNG_END not in data[-4096:]:
        raise BadInput(_incomplete(data, "PNG"))
    width, height, bits = struct.unpack_from(">IIB", data, 16)
    if bits == 16:
        raise BadInput("the PNG has 16 bits per channel, a depth or raw sensor image; use the colour stream")
    return width, height


def _incomplete(data: bytes, kind: str) -> str:
    return f"{len(data)} bytes are no complete {kind} image; check the camera driver and the way here"


def _unusable(data: bytes, format_name: str) -> str:
    what = _other(data, format_name)
    said = f" (format {format_name!r})" if format_name else ""
    if what:
        return f"the message carries {what}{said}; only JPEG and PNG are decoded here: choose them in the camera driver"
    return f"{len(data)} bytes are no complete JPEG or PNG image{said}"


def _other(data: bytes, format_name: str) -> str | None:
    """What a stream is that is neither JPEG nor PNG, by its bytes, else by its name."""
    if data[DEPTH_HEADER:].startswith(PNG):
        return STREAMS["compresseddepth"]
    for code in START_CODES:
        if data.startswith(code):
            named = _by_name(format_name)
            return named if named and "video" in named else "an H.264 or HEVC video stream"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return STREAMS["webp"]
    if data[4:12] in (b"ftypavif", b"ftypavis"):
        return STREAMS["avif"]
    return next((what for start, what in SIGNATURES if data.startswith(start)), _by_name(format_name))


def _by_name(format_name: str) -> str | None:
    plain = format_name.lower().replace(".", "").replace("-", "").replace("_", "")
    return next((what for name, what in STREAMS.items() if name in plain), None)
