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
    "heic": "a HEIC image",
    "heif": "a HEIC image",
    "mp4": "an MP4 video",
}
SIGNATURES = (
    (b"\x12\0\x0a", "an AV1 video stream"),  # a temporal delimiter and a sequence header
    (b"\x12\0\x32", "an AV1 video stream"),  # or a frame
    (b"DKIF", "an IVF video"),
    (b"\x1a\x45\xdf\xa3", "a Matroska or WebM video"),
    *((b"\0\0\x01" + code, "an MPEG video stream") for code in (b"\xb0", b"\xb3", b"\xb6", b"\xba")),
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
BOXES = {b"ftyp", b"styp", b"moov", b"moof", b"mdat"}
"""What an MP4 file begins with, behind a length (ISO/IEC 14496-12)."""
BRANDS = {
    "avif": "an AVIF image",
    "avis": "an AVIF image",
    **dict.fromkeys(("heic", "heix", "heim", "heis", "hevc", "hevx", "mif1", "msf1"), "a HEIC image"),
}
"""Files of the same form that are pictures, by their major brand."""
TS_PACKET, TS_SYNC = 188, b"G"
"""Bytes of a packet of an MPEG transport stream, and what each begins with (ITU-T H.222.0)."""
WRAPPERS = (
    (b"/9j/", "a JPEG image as base64 text", "publish the bytes themselves"),
    (b"ivborw0kggo", "a PNG image as base64 text", "publish the bytes themselves"),
    (b"data:image/", "a data URL", "publish the bytes of its image"),
    (b"\x1f\x8b\x08", "a gzip file", "publish what is packed in it"),
    (b"http/1.", "a part of an HTTP stream", "publish each JPEG of it without its header"),
    (b"content-type:", "a part of an HTTP stream", "publish each JPEG of it without its header"),
    (b"--", "a part of an HTTP stream", "publish each JPEG of it without its header"),
)
"""What an image may be wrapped in: (its beginning in lower case, what it is, the remedy)."""
START_CODES = (b"\x00\x00\x00\x01", b"\x00\x00\x01")
"""Before each unit of an H.264 or HEVC stream (ITU-T H.264 and H.265, annex B)."""
CHECK = "check the camera driver and the way here"
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
        raise BadInput(f"the image claims {width} x {height} pixels, at most {MAX_PIXELS} are taken; {CHECK}")
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        picture = None
    if picture is None:
        raise BadInput(f"{len(data)} bytes are no sound JPEG or PNG image: it cannot be decoded; {CHECK}")
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
    return f"{len(data)} bytes are no complete {kind} image; {CHECK}"


def _unusable(data: bytes, format_name: str) -> str:
    said = f" (format {format_name!r})" if format_name else ""
    if what := _other(data, format_name):
        return f"the message carries {what}{said}; only JPEG and PNG are decoded here: choose them in the camera driver"
    if wrapped := _wrapped(data):
        return f"the message carries {wrapped[0]}{said}; {wrapped[1]}"
    start = f", beginning with {data[:8].hex(' ')}" if data else ""
    return f"{len(data)} bytes are no complete JPEG or PNG image{start}{said}; {CHECK}"


def _other(data: bytes, format_name: str) -> str | None:
    """What a stream is that is neither JPEG nor PNG, by its bytes, else by its name."""
    if data[DEPTH_HEADER:].startswith(PNG):
        return STREAMS["compresseddepth"]
    for start, what in SIGNATURES:
        if data.startswith(start):
            return what
    if data.startswith(START_CODES) or _in_units(data):
        named = _by_name(format_name)
        return named if named and "video" in named else "an H.264 or HEVC video stream"
    if data.startswith(b"RIFF"):
        return {b"WEBP": STREAMS["webp"], b"AVI ": "an AVI video"}.get(data[8:12], _by_name(format_name))
    if data[4:8] in BOXES:
        return BRANDS.get(data[8:12].decode("latin-1"), STREAMS["mp4"])
    if data.startswith(TS_SYNC) and data[TS_PACKET : TS_PACKET + 1] == TS_SYNC:
        return "an MPEG transport stream"
    return _by_name(format_name)


def _in_units(data: bytes) -> bool:
    """Whether the bytes are units of an H.264 or HEVC stream, each behind its length (ISO/IEC 14496-15), to the last
    byte."""
    at = 0
    while at + 4 < len(data) and not data[at + 4] & 0x80:
        length = int.from_bytes(data[at : at + 4], "big")
        if length == 0:
            return False
        at += 4 + length
    return 0 < at == len(data)


def _wrapped(data: bytes) -> tuple[str, str] | None:
    """What an image is wrapped in, and the remedy."""
    head = data[:512].lower()
    for start, what, remedy in WRAPPERS:
        if head.startswith(start) and (start != b"--" or b"content-type:" in head):
            return what, remedy
    return None


def _by_name(format_name: str) -> str | None:
    plain = format_name.lower().replace(".", "").replace("-", "").replace("_", "")
    return next((what for name, what in STREAMS.items() if name in plain), None)
