"""Raw camera bytes to RGB: every encoding against a slow version, every wrong size; turning and halving."""

import numpy as np
import pytest
from hypothesis import strategies as st
from properties import given

from specprune_ros.config import IMAGE_FLIPS, IMAGE_ROTATIONS
from specprune_ros.observe import pixels
from specprune_ros.types import BadInput

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
CHANNELS = {"rgb": "RGB", "bgr": "BGR", "rgba": "RGBA", "bgra": "BGRA", "mono": "R"}


def packed(picture, channels, depth=1, pad=0, bigendian=False):
    """The picture byte by byte, with `pad` bytes of rubbish after each row."""
    rows = []
    for row in picture.tolist():
        values = [{"R": r, "G": g, "B": b, "A": 77}[channel] for r, g, b in row for channel in channels]
        rows.append(
            b"".join(value.to_bytes(depth, "big" if bigendian else "little") for value in values) + b"\xaa" * pad
        )
    return b"".join(rows), len(rows[0])


@pytest.mark.parametrize("pad", [0, 3])
@pytest.mark.parametrize("name", CHANNELS)
def test_eight_bits_per_channel(name, pad):
    data, step = packed(PIXELS, CHANNELS[name], pad=pad)
    got = pixels.from_raw(data, f"{name}8", 6, 8, step)
    expected = np.repeat(PIXELS[:, :, :1], 3, axis=2) if name == "mono" else PIXELS
    assert got.dtype == np.uint8 and got.flags["C_CONTIGUOUS"] and got.flags["WRITEABLE"]
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("bigendian", [False, True])
@pytest.mark.parametrize("name", CHANNELS)
def test_sixteen_bits_per_channel_become_eight(name, bigendian):
    deep = np.random.default_rng(1).integers(0, 65536, (6, 8, 3))
    deep[0, :3, 0] = 0, 65535, 128
    data, step = packed(deep, CHANNELS[name], depth=2, pad=2, bigendian=bigendian)
    got = pixels.from_raw(data, f"{name}16", 6, 8, step, bigendian)
    expected = [[[round(value * 255 / 65535) for value in pixel] for pixel in row] for row in deep.tolist()]
    expected = np.array(expected)
    np.testing.assert_array_equal(got, np.repeat(expected[:, :, :1], 3, axis=2) if name == "mono" else expected)


def yuv(y, u, v):
    """ITU-R BT.601 with Y in 16..235, below which it is black: (r, g, b)."""
    light, u, v = 1.164383 * max(y - 16, 0), u - 128, v - 128
    return np.clip([light + 1.596027 * v, light - 0.812968 * v - 0.391762 * u, light + 2.017232 * u], 0, 255)


PAIRS = np.random.default_rng(1).integers(0, 256, (4, 3, 4)).tolist()  # rows of pairs: Y, Y, U, V


@pytest.mark.parametrize("pad", [0, 3])
@pytest.mark.parametrize("encoding", ["uyvy", "yuv422", "yuyv", "yuv422_yuy2"])
def test_pairs_of_pixels_share_their_colour(encoding, pad):
    u_first = encoding in ("uyvy", "yuv422")
    rows = [[bytes([u, y1, v, y2] if u_first else [y1, u, y2, v]) for y1, y2, u, v in row] for row in PAIRS]
    data = b"".join(b"".join(row) + b"\xaa" * pad for row in rows)
    got = pixels.from_raw(data, encoding, 4, 6, 12 + pad)
    assert got.shape == (4, 6, 3) and got.dtype == np.uint8
    for row, pairs in zip(got, PAIRS, strict=True):
        for column, (y1, y2, u, v) in enumerate(pairs):
            np.testing.assert_allclose(row[2 * column], yuv(y1, u, v), atol=1.0)
            np.testing.assert_allclose(row[2 * column + 1], yuv(y2, u, v), atol=1.0)


def planes(encoding, y, u, v, pad):
    """Bytes and step of a 4:2:0 image."""
    padded = b"\xaa" * pad
    luma = b"".join(bytes(row) + (padded if encoding.startswith("nv") else b"") for row in y.tolist())
    if encoding.startswith("nv"):
        first, second = (u, v) if encoding == "nv12" else (v, u)
        both = np.dstack([first, second]).reshape(len(u), -1)
        return luma + b"".join(bytes(row) + padded for row in both.tolist()), y.shape[1] + pad
    first, second = (v, u) if encoding == "yv12" else (u, v)
    return luma + bytes(first.ravel().tolist()) + bytes(second.ravel().tolist()), y.shape[1]


@pytest.mark.parametrize("encoding", ["nv12", "nv21", "i420", "yuv420", "yuv420p", "yv12"])
def test_four_pixels_share_their_colour(encoding):
    rng = np.random.default_rng(2)
    y, u, v = rng.integers(0, 256, (4, 8)), rng.integers(0, 256, (2, 4)), rng.integers(0, 256, (2, 4))
    data, step = planes(encoding, y, u, v, pad=5)
    got = pixels.from_raw(data, encoding, 4, 8, step)
    for row in range(4):
        for column in range(8):
            expected = yuv(y[row, column], u[row // 2, column // 2], v[row // 2, column // 2])
            np.testing.assert_allclose(got[row, column], expected, atol=1.0)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_a_mosaic_of_one_colour_shows_that_colour(pattern, bits):
    """What a pattern means: which colour the first two pixels of the first two rows have."""
    colour = {"r": 200, "g": 90, "b": 30}
    rows = []
    for row in range(8):
        values = [colour[pattern[2 * (row % 2) + column % 2]] for column in range(10)]
        rows.append(b"".join((value * 257 if bits == 16 else value).to_bytes(bits // 8, "little") for value in values))
    got = pixels.from_raw(b"".join(rows), f"bayer_{pattern}{bits}", 8, 10, len(rows[0]))
    assert (got == (200, 90, 30)).all()


@pytest.mark.parametrize("encoding", pixels.ENCODINGS)
def test_every_encoding_gives_a_new_contiguous_picture(encoding):
    step = {**{name: 8 * c * d for name, (c, d, _) in pixels.PACKED.items()}, **dict.fromkeys(pixels.PAIRS, 16)}.get(
        encoding, 8
    )
    data = bytes(step * (9 if encoding in pixels.PLANES else 6))
    got = pixels.from_raw(data, encoding, 6, 8, step)
    assert got.shape == (6, 8, 3) and got.dtype == np.uint8 and got.flags["C_CONTIGUOUS"] and got.flags["WRITEABLE"]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"data": b"\0" * 143}, "143 bytes; 6 rows of 24 bytes need 144"),
        ({"step": 20}, "row step of 20 bytes is too small for 8 pixels of rgb8, which need 24"),
        ({"height": 0}, "empty"),
        ({"width": 0}, "empty"),
        ({"height": 7}, "144 bytes; 7 rows of 24 bytes need 168"),
        ({"encoding": "yuyv", "width": 7}, "yuyv stores pixels in pairs, but the image is 7 pixels wide"),
        ({"encoding": "nv12", "height": 5, "step": 8}, "nv12 stores colours of 2 x 2 pixels.*8 x 5"),
        ({"encoding": "i420", "step": 10}, "i420 with padded rows .step 10, width 8. is not supported; publish nv12"),
        ({"encoding": "bayer_rggb8", "width": 2, "step": 24}, "2 x 6 pixels are too few"),
        ({"encoding": "nv12", "step": 24}, "144 bytes; 9 rows of 24 bytes need 216"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(change, text):
    given_ = {"data": bytes(144), "encoding": "rgb8", "height": 6, "width": 8, "step": 24} | change
    with pytest.raises(BadInput, match=text):
        pixels.from_raw(**given_)


@pytest.mark.parametrize(
    ("encoding", "remedy"),
    [
        ("16UC1", "depth.*colour stream"),
        ("32FC1", "depth"),
        ("8UC3", "which channel is red.*rgb8 or bgr8"),
        ("mjpeg", "compressed stream in a raw message.*CompressedImage"),
        ("h264", "compressed stream"),
        ("nv24", ""),
        ("", ""),
    ],
)
def test_an_unsupported_encoding_is_refused_with_the_supported_ones(encoding, remedy):
    with pytest.raises(
        BadInput, match=f"'{encoding}' is not supported.*{remedy}.*rgb8, bgr8.*mono8.*bayer_rggb8.*nv12"
    ):
        pixels.from_raw(bytes(144), encoding, 6, 8, 24)


def turned_slowly(image, degrees, flip):
    """Pixel by pixel: where each one goes."""
    height, width = image.shape[:2]
    out = np.zeros((width, height, 3) if degrees in (90, 270) else image.shape, np.uint8)
    for row in range(height):
        for column in range(width):
            to = {
                0: (row, column),
                90: (column, height - 1 - row),
                180: (height - 1 - row, width - 1 - column),
                270: (width - 1 - column, row),
            }[degrees]
            to = {
                "none": to,
                "horizontal": (to[0], out.shape[1] - 1 - to[1]),
                "vertical": (out.shape[0] - 1 - to[0], to[1]),
            }[flip]
            out[to] = image[row, column]
    return out


@pytest.mark.parametrize("flip", IMAGE_FLIPS)
@pytest.mark.parametrize("degrees", IMAGE_ROTATIONS)
def test_all_ways_to_turn_an_image(degrees, flip):
    got = pixels.turned(PIXELS, degrees, flip)
    np.testing.assert_array_equal(got, turned_slowly(PIXELS, degrees, flip))


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 40))
def test_large_images_are_halved_by_means_until_they_fit(height, width, longest_side):
    image = np.random.default_rng(height * 41 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    got, expected = pixels.shrunk(image, longest_side), image.astype(int)
    while longest_side and max(expected.shape[:2]) > longest_side and min(expected.shape[:2]) > 1:
        rows, columns = expected.shape[0] // 2, expected.shape[1] // 2
        four = expected[: 2 * rows, : 2 * columns].reshape(rows, 2, columns, 2, 3)
        expected = (four.sum(axis=(1, 3)) + 2) // 4
    assert got.shape == expected.shape and got.dtype == np.uint8
    assert np.abs(got - expected).max() <= 1  # how a half is rounded


def test_images_that_fit_stay_as_they_are():
    assert pixels.shrunk(PIXELS, 8) is PIXELS and pixels.shrunk(PIXELS, 0) is PIXELS
    assert pixels.shrunk(np.zeros((720, 1280, 3), np.uint8), 640).shape == (360, 640, 3)
    assert pixels.shrunk(np.zeros((1080, 1920, 3), np.uint8), 640).shape == (270, 480, 3)


@pytest.mark.parametrize(
    ("encoding", "known"),
    [
        ("YUYV", "yuyv"),
        ("NV12", "nv12"),
        ("RGB8", "rgb8"),
        ("Bayer-RGGB8", "bayer_rggb8"),
        ("bayer_rggb_8", "bayer_rggb8"),
        ("YUY2", "yuyv"),
        ("rgb24", "rgb8"),
        ("BGR", "bgr8"),
        ("Y16", "mono16"),
        ("grey", "mono8"),
        ("YU12", "i420"),
    ],
)
def test_another_spelling_gets_the_known_one(encoding, known):
    with pytest.raises(BadInput, match=rf"'{encoding}' is not supported \(did you mean {known}\?\); use one of"):
        pixels.from_raw(bytes(144), encoding, 6, 8, 24)
