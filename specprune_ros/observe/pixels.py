"""Raw camera bytes to (H, W, 3) uint8 RGB, by the names that encodings have in sensor_msgs/image_encodings.hpp, and
what is done to every image before the policy sees it: turned, flipped, made smaller. OpenCV does the arithmetic."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from specprune_ros.config import Topics
from specprune_ros.types import BadInput

# OpenCV's own threads have no priority: the control thread would wait for them.
cv2.setNumThreads(1)


class Packed(NamedTuple):
    """Pixels one after the other. channels per pixel, bytes per channel; code: OpenCV's conversion to RGB, if any."""

    channels: int
    depth: int
    code: int | None


PACKED = {
    "rgb8": Packed(3, 1, None),
    "bgr8": Packed(3, 1, cv2.COLOR_BGR2RGB),
    "rgba8": Packed(4, 1, cv2.COLOR_RGBA2RGB),
    "bgra8": Packed(4, 1, cv2.COLOR_BGRA2RGB),
    "mono8": Packed(1, 1, cv2.COLOR_GRAY2RGB),
    "rgb16": Packed(3, 2, None),
    "bgr16": Packed(3, 2, cv2.COLOR_BGR2RGB),
    "rgba16": Packed(4, 2, cv2.COLOR_RGBA2RGB),
    "bgra16": Packed(4, 2, cv2.COLOR_BGRA2RGB),
    "mono16": Packed(1, 2, cv2.COLOR_GRAY2RGB),
    # OpenCV names the second row's second and third pixel, ROS the first row's first two and the second row's.
    **{f"bayer_rggb{bits}": Packed(1, bits // 8, cv2.COLOR_BayerBG2RGB) for bits in (8, 16)},
    **{f"bayer_bggr{bits}": Packed(1, bits // 8, cv2.COLOR_BayerRG2RGB) for bits in (8, 16)},
    **{f"bayer_gbrg{bits}": Packed(1, bits // 8, cv2.COLOR_BayerGR2RGB) for bits in (8, 16)},
    **{f"bayer_grbg{bits}": Packed(1, bits // 8, cv2.COLOR_BayerGB2RGB) for bits in (8, 16)},
}

PAIRS = {
    # 4:2:2: two bytes a pixel; two neighbours share their colour.
    "uyvy": cv2.COLOR_YUV2RGB_UYVY,
    "yuv422": cv2.COLOR_YUV2RGB_UYVY,
    "yuyv": cv2.COLOR_YUV2RGB_YUY2,
    "yuv422_yuy2": cv2.COLOR_YUV2RGB_YUY2,
}

PLANES = {
    # 4:2:0: a plane of Y, then half as many rows of colour; `step` is that of the plane of Y.
    "nv12": cv2.COLOR_YUV2RGB_NV12,
    "nv21": cv2.COLOR_YUV2RGB_NV21,
    "i420": cv2.COLOR_YUV2RGB_I420,
    "yuv420": cv2.COLOR_YUV2RGB_I420,
    "yuv420p": cv2.COLOR_YUV2RGB_I420,
    "yv12": cv2.COLOR_YUV2RGB_YV12,
}
"""YUV is ITU-R BT.601 with Y in 16..235, as OpenCV and cv_bridge take it."""

ENCODINGS = (*PACKED, *PAIRS, *PLANES)

SPELLINGS = {"".join(filter(str.isalnum, name)): name for name in ENCODINGS} | {
    # as V4L2, GStreamer and FFmpeg call them
    **dict.fromkeys(("rgb", "rgb24", "rgb888"), "rgb8"),
    **dict.fromkeys(("bgr", "bgr24", "bgr888"), "bgr8"),
    **dict.fromkeys(("gray", "grey", "gray8", "grey8", "y8", "y800"), "mono8"),
    **dict.fromkeys(("gray16", "grey16", "gray16le", "y16"), "mono16"),
    **dict.fromkeys(("yuy2", "yuyv422"), "yuyv"),
    "uyvy422": "uyvy",
    **dict.fromkeys(("yu12", "iyuv"), "i420"),
}
"""Other names of known encodings, in small letters and digits. They are only named: what is meant is not guessed."""

ROTATIONS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}


def from_raw(data: bytes, encoding: str, height: int, width: int, step: int, bigendian: bool = False) -> np.ndarray:
    """RGB of an uncompressed image of `height` rows of `step` bytes, the last of which may be padding.

    16 bits per channel become 8 as in cv_bridge, by 255 / 65535. BadInput names what does not fit.
    """
    rows = checked_rows(data, encoding, height, width, step)
    if encoding in PAIRS:
        return cv2.cvtColor(np.ascontiguousarray(rows[:, : 2 * width]).reshape(height, width, 2), PAIRS[encoding])
    if encoding in PLANES:
        return cv2.cvtColor(np.ascontiguousarray(rows[:, :width]), PLANES[encoding])
    channels, depth, code = PACKED[encoding]
    order = ">u2" if bigendian else "<u2"
    pixels = np.ascontiguousarray(rows[:, : width * channels * depth]).view(np.uint8 if depth == 1 else order)
    pixels = pixels.reshape(height, width, channels) if channels > 1 else pixels.reshape(height, width)
    if depth == 2:
        pixels = pixels.astype(np.uint16)  # in the machine's own order of bytes
    converted = pixels.copy() if code is None else cv2.cvtColor(pixels, code)
    return converted if depth == 1 else cv2.convertScaleAbs(converted, alpha=255.0 / 65535.0)


def checked_rows(data: bytes, encoding: str, height: int, width: int, step: int) -> np.ndarray:
    """(rows, step) uint8: the bytes row by row, once encoding and sizes are known to fit. BadInput otherwise."""
    if encoding not in ENCODINGS:
        raise BadInput(
            f"image encoding {encoding!r} is not supported{_kind(encoding)}; use one of {', '.join(ENCODINGS)}"
        )
    if height == 0 or width == 0:
        raise BadInput(f"the image is empty ({width} x {height} pixels)")
    if encoding in PAIRS and width % 2:
        raise BadInput(f"{encoding} stores pixels in pairs, but the image is {width} pixels wide")
    if encoding in PLANES and (width % 2 or height % 2):
        raise BadInput(f"{encoding} stores colours of 2 x 2 pixels, but the image has {width} x {height} pixels")
    if encoding.startswith("bayer") and (width < 3 or height < 3):
        raise BadInput(f"{encoding}: {width} x {height} pixels are too few to tell colours")
    if step < (needed := _row_bytes(encoding, width)):
        raise BadInput(f"a row step of {step} bytes is too small for {width} pixels of {encoding}, which need {needed}")
    if encoding in PLANES and not encoding.startswith("nv") and step != width:
        raise BadInput(f"{encoding} with padded rows (step {step}, width {width}) is not supported; publish nv12")
    rows = height * 3 // 2 if encoding in PLANES else height
    found = np.frombuffer(data, dtype=np.uint8)
    if found.size != step * rows:
        raise BadInput(f"the image has {found.size} bytes; {rows} rows of {step} bytes need {step * rows}")
    return found.reshape(rows, step)


def as_configured(image: np.ndarray, topics: Topics, view: int) -> np.ndarray:
    """The image of a view (index from 0) as the policy is to see it: turned, flipped, and then made smaller."""
    degrees = topics.image_rotations[view] if view < len(topics.image_rotations) else 0
    flip = topics.image_flips[view] if view < len(topics.image_flips) else "none"
    return shrunk(turned(image, degrees, flip), topics.image_max_side)


def turned(image: np.ndarray, degrees: int, flip: str) -> np.ndarray:
    """The image (H, W, 3) uint8 rotated clockwise by 0, 90, 180 or 270 degrees, and then flipped. A quarter turn swaps
    H and W. flip: one of config.IMAGE_FLIPS."""
    if degrees:
        image = cv2.rotate(image, ROTATIONS[degrees])
    if flip != "none":
        image = cv2.flip(image, 1 if flip == "horizontal" else 0)
    return image


def shrunk(image: np.ndarray, longest_side: int) -> np.ndarray:
    """The image (H, W, 3) uint8 halved, by the mean of 2 x 2 pixels, until neither side is above `longest_side`
    [pixels]; 0: as it is. An odd last row or column is dropped by each halving."""
    while longest_side and max(image.shape[:2]) > longest_side and min(image.shape[:2]) > 1:
        height, width = (side // 2 for side in image.shape[:2])
        image = cv2.resize(image[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA)
    return image


def _row_bytes(encoding: str, width: int) -> int:
    if encoding in PACKED:
        channels, depth, _ = PACKED[encoding]
        return width * channels * depth
    return 2 * width if encoding in PAIRS else width


def _kind(encoding: str) -> str:
    """What an encoding that cannot be used most likely is."""
    if known := SPELLINGS.get("".join(filter(str.isalnum, encoding.lower()))):
        return f" (did you mean {known}?)"
    if encoding.startswith(("16UC", "32FC", "32SC", "64FC")):
        return " (a depth image or a matrix: use the colour stream)"
    if encoding.startswith("8UC"):
        return " (it does not say which channel is red: let the driver name the order, rgb8 or bgr8)"
    if any(name in encoding.lower() for name in ("jpeg", "jpg", "png", "h264", "h265", "hevc")):
        return " (a compressed stream in a raw message: publish sensor_msgs/CompressedImage or rgb8)"
    return ""
