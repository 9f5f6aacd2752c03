"""The JPEG round trip against three judges: libjpeg itself (through Pillow), a slow integer version, TensorFlow's own
output."""

import io
import zlib

import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from pictures import noise, picture
from PIL import Image
from properties import given

from specprune_ros.infer.jpeg import constants, jpeg_round_trip

SIZES = [(1, 1), (1, 7), (5, 1), (2, 2), (3, 4), (4, 5), (6, 4), (16, 16), (17, 33), (31, 15)]


def ours(image):
    return jpeg_round_trip(torch.from_numpy(image)[None])[0].numpy()


# A slow version in plain integers, pixel by pixel and block by block as the standard and libjpeg's documentation tell
# it.


def steps(image_is_chroma):
    luma = "16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56 14 17 22 29 51 87 80 62 "
    luma += "18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92 49 64 78 87 103 121 120 101 72 92 95 98 112 100 103 99"
    chroma = (
        "17 18 24 47 99 99 99 99 18 21 26 66 99 99 99 99 24 26 56 99 99 99 99 99 47 66 99 99 99 99 99 99 " + "99 " * 32
    )
    table = [int(step) for step in (chroma if image_is_chroma else luma).split()]
    return np.array([max(1, (10 * step + 50) // 100) for step in table]).reshape(8, 8)


def forward_1d(x, shift_even, shift):
    """libjpeg's accurate forward DCT of eight integers; shift_even: left if positive."""
    fix = {
        name: int(name * 8192 + 0.5)
        for name in (0.298631336, 0.390180644, 0.541196100, 0.765366865, 0.899976223, 1.175875602)
    }
    fix |= {
        name: int(name * 8192 + 0.5)
        for name in (1.501321110, 1.847759065, 1.961570560, 2.053119869, 2.562915447, 3.072711026)
    }

    def down(value):
        return (value + (1 << shift >> 1)) >> shift

    def even(value):
        return value << shift_even if shift_even > 0 else (value + (1 << -shift_even >> 1)) >> -shift_even

    s = [x[i] + x[7 - i] for i in range(4)]
    d = [x[i] - x[7 - i] for i in range(4)]
    out = [0] * 8
    out[0], out[4] = even(s[0] + s[3] + s[1] + s[2]), even(s[0] + s[3] - s[1] - s[2])
    z1 = (s[1] - s[2] + s[0] - s[3]) * fix[0.541196100]
    out[2], out[6] = down(z1 + (s[0] - s[3]) * fix[0.765366865]), down(z1 - (s[1] - s[2]) * fix[1.847759065])
    z5 = sum(d) * fix[1.175875602]
    z1, z2 = -(d[3] + d[0]) * fix[0.899976223], -(d[2] + d[1]) * fix[2.562915447]
    z3, z4 = z5 - (d[3] + d[1]) * fix[1.961570560], z5 - (d[2] + d[0]) * fix[0.390180644]
    out[7], out[5] = down(d[3] * fix[0.298631336] + z1 + z3), down(d[2] * fix[2.053119869] + z2 + z4)
    out[3], out[1] = down(d[1] * fix[3.072711026] + z2 + z3), down(d[0] * fix[1.501321110] + z1 + z4)
    return out


def levels_of(block, table):
    rows = [forward_1d([int(v) for v in row], 2, 11) for row in block]
    columns = [forward_1d([rows[r][c] for r in range(8)], -2, 15) for c in range(8)]
    coefficients = np.array(columns).T
    size = (np.abs(coefficients) + 4 * table) // (8 * table)
    return np.where(coefficients < 0, -size, size)


def fast_1d(x):
    """The fast inverse DCT of eight integers."""
    even, odd = x[0] + x[4], x[0] - x[4]
    s26 = x[2] + x[6]
    inner = ((x[2] - x[6]) * 362 >> 8) - s26
    z13, z10, z11, z12 = x[5] + x[3], x[5] - x[3], x[1] + x[7], x[1] - x[7]
    t7 = z11 + z13
    z5 = (z10 + z12) * 473 >> 8
    t6 = (z10 * -669 >> 8) + z5 - t7
    t5 = ((z11 - z13) * 362 >> 8) - t6
    t4 = (z12 * 277 >> 8) - z5 + t5
    e = [even + s26, odd + inner, odd - inner, even - s26]
    return [e[0] + t7, e[1] + t6, e[2] + t5, e[3] - t4, e[3] + t4, e[2] - t5, e[1] - t6, e[0] - t7]


def fast_inverse(levels, table):
    s = [1.0] + [2**0.5 * np.cos(k * np.pi / 16) for k in range(1, 8)]
    scaled = [[int(table[r, c]) * int(16384 * s[r] * s[c] + 0.5) + 2048 >> 12 for c in range(8)] for r in range(8)]
    columns = [fast_1d([int(levels[r, c]) * scaled[r][c] for r in range(8)]) for c in range(8)]
    rows = [fast_1d([columns[c][r] for c in range(8)]) for r in range(8)]
    return np.clip((np.array(rows) >> 5) + 128, 0, 255)


def accurate_inverse(levels, table):
    """The transposed graph of `forward_1d`: its matrix comes from the unit vectors, unshifted."""
    matrix = np.array([forward_1d([int(i == j) for j in range(8)], 13, 0) for i in range(8)])
    columns = matrix @ (levels * table) + (1 << 10) >> 11
    return np.clip((columns @ matrix.T + (1 << 17) >> 18) + 128, 0, 255)


def coded(plane, height, width, table, inverse):
    """`plane` extended to whole blocks by its last row and column, through every block's transform, cut to height x
    width."""
    rows, columns = (
        np.minimum(np.arange(-(-n // 8) * 8), m - 1) for n, m in zip((height, width), plane.shape, strict=True)
    )
    plane = plane[rows][:, columns]
    out = np.zeros_like(plane)
    for y in range(0, len(rows), 8):
        for x in range(0, len(columns), 8):
            block = np.s_[y : y + 8, x : x + 8]
            out[block] = inverse(levels_of(plane[block] - 128, table), table)
    return out[:height, :width]


def averaged(plane, width):
    """Means of 2 x 2 pixels; the plane is extended to the right before, at the bottom by one row where its height is
    odd."""
    columns = np.minimum(np.arange(-(-width // 16) * 16), width - 1)
    rows = np.minimum(np.arange(-(-len(plane) // 2) * 2), len(plane) - 1)
    p = plane[rows][:, columns]
    quads = p[::2, ::2] + p[::2, 1::2] + p[1::2, ::2] + p[1::2, 1::2]
    return quads + np.where(np.arange(quads.shape[1]) % 2, 2, 1) >> 2


def enlarged(plane, height, width):
    if plane.shape[1] <= 2:
        return plane.repeat(2, 0).repeat(2, 1)[:height, :width]
    out = np.zeros((height, width), plane.dtype)
    last = np.array(plane.shape) - 1
    for y in range(height):
        other = min(max(y // 2 + (1 if y % 2 else -1), 0), last[0])
        column = 3 * plane[y // 2] + plane[other]
        for x in range(width):
            beside = min(max(x // 2 + (1 if x % 2 else -1), 0), last[1])
            out[y, x] = 3 * column[x // 2] + column[beside] + (7 if x % 2 else 8) >> 4
    return out


def slow(image, inverse):
    height, width, _ = image.shape
    r, g, b = image.astype(np.int64).transpose(2, 0, 1)
    half, centre = 1 << 15, 128 << 16
    y = 19595 * r + 38470 * g + 7471 * b + half >> 16
    cb = -11059 * r - 21709 * g + 32768 * b + centre + half - 1 >> 16
    cr = 32768 * r - 27439 * g - 5329 * b + centre + half - 1 >> 16
    y = coded(y, height, width, steps(False), inverse)
    small = (height + 1) // 2, (width + 1) // 2
    cb, cr = (enlarged(coded(averaged(c, width), *small, steps(True), inverse), height, width) - 128 for c in (cb, cr))
    rgb = y + (91881 * cr + half >> 16), y + (-22554 * cb - 46802 * cr + half >> 16), y + (116130 * cb + half >> 16)
    return np.clip(np.stack(rgb, 2), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("image", [picture, noise])
def test_the_slow_version_with_the_accurate_inverse_is_libjpeg(size, image):
    """Pillow decodes accurately: everything but the inverse DCT of the next test's judge is libjpeg's."""
    file = io.BytesIO()
    Image.fromarray(image(*size)).save(file, "JPEG", quality=95, subsampling="4:2:0")
    np.testing.assert_array_equal(slow(image(*size), accurate_inverse), np.asarray(Image.open(file)))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("image", [picture, noise])
def test_equals_the_slow_version(size, image):
    np.testing.assert_array_equal(ours(image(*size)), slow(image(*size), fast_inverse))


def test_equals_tensorflow():
    """CRC-32 of what tf.io.decode_image(tf.image.encode_jpeg(picture)) gives, TensorFlow 2.21.0."""
    expected = {(17, 33): 2097036044, (100, 161): 1889311938, (224, 224): 2633395427, (480, 640): 3048386077}
    assert {size: zlib.crc32(ours(picture(*size)).tobytes()) for size in expected} == expected


@pytest.mark.parametrize("size", [(224, 224), (225, 223), (480, 640)])
def test_equals_libjpeg_turbo(size):
    simplejpeg = pytest.importorskip(
        "simplejpeg", reason="no decoder with the fast inverse DCT: pip install simplejpeg"
    )
    for image in (picture(*size), noise(*size)):
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=95, subsampling="4:2:0")
        decoded = simplejpeg.decode_jpeg(file.getvalue(), fastdct=True, fastupsample=False)
        np.testing.assert_array_equal(ours(image), decoded)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 3))
def test_views_do_not_touch_each_other(height, width, seed):
    images = [noise(height, width, seed + i) for i in range(3)]
    together = jpeg_round_trip(torch.from_numpy(np.stack(images)))
    assert together.shape == (3, height, width, 3) and together.dtype == torch.uint8
    np.testing.assert_array_equal(together.numpy(), np.stack([ours(image) for image in images]))


@given(st.integers(1, 40), st.integers(1, 40), st.tuples(*[st.integers(0, 255)] * 3))
def test_a_plain_colour_changes_by_rounding_alone(height, width, colour):
    image = np.full((height, width, 3), colour, np.uint8)
    assert np.abs(ours(image).astype(int) - image).max() <= 4
    assert (ours(image) == ours(image)[0, 0]).all()


def test_a_view_of_a_larger_tensor_is_fine():
    image = torch.from_numpy(noise(40, 48))
    cut = image[3:20, 5:38].flip(2)
    np.testing.assert_array_equal(jpeg_round_trip(cut[None])[0].numpy(), ours(cut.numpy().copy()))


def test_constants_are_made_once():
    assert constants(torch.device("cpu")) is constants(torch.device("cpu"))
