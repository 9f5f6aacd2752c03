"""JPEG and PNG bytes: what is decoded, what is refused, and how streams that are neither are named."""

import base64
import gzip
import struct
import zlib

import cv2
import numpy as np
import pytest

from specprune_ros.observe.compressed import from_file
from specprune_ros.types import BadInput

SMOOTH = np.dstack([*np.meshgrid(np.arange(40) * 3, np.arange(30) * 4), np.full((30, 40), 90)]).astype(np.uint8)


def jpeg(picture=SMOOTH, *options):
    shown = picture[..., ::-1] if picture.ndim == 3 else picture
    return cv2.imencode(".jpg", shown, [cv2.IMWRITE_JPEG_QUALITY, 95, *options])[1].tobytes()


def png(picture=SMOOTH):
    return cv2.imencode(".png", picture[..., [2, 1, 0, *range(3, picture.shape[2])]] if picture.ndim == 3 else picture)[
        1
    ].tobytes()


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(width, height, bits, colour, rows):
    """A PNG made by hand: what OpenCV does not write."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + rows + chunk(b"IEND", b"")


@pytest.mark.parametrize("name", ["", "jpeg", "png", "rgb8; jpeg compressed bgr8", "bgr8; png compressed", "nonsense"])
def test_the_bytes_say_what_they_are_whatever_the_format_says(name):
    np.testing.assert_array_equal(from_file(png(), name), SMOOTH)
    decoded = from_file(jpeg(), name)
    assert decoded.dtype == np.uint8 and decoded.flags["C_CONTIGUOUS"]
    np.testing.assert_allclose(decoded.astype(int), SMOOTH, atol=6)


@pytest.mark.parametrize("options", [(cv2.IMWRITE_JPEG_PROGRESSIVE, 1), (cv2.IMWRITE_JPEG_RST_INTERVAL, 2)])
def test_other_kinds_of_jpeg(options):
    np.testing.assert_allclose(from_file(jpeg(SMOOTH, *options)).astype(int), SMOOTH, atol=6)


def test_grey_transparent_and_indexed_images_become_rgb():
    grey = SMOOTH[..., 0]
    for data in (png(grey), jpeg(grey)):
        got = from_file(data)
        assert got.shape == SMOOTH.shape and (got == got[..., :1]).all()
        np.testing.assert_allclose(got[..., 0].astype(int), grey, atol=6)
    see_through = np.dstack([SMOOTH, np.full((30, 40), 10, np.uint8)])
    np.testing.assert_array_equal(from_file(png(see_through)), SMOOTH)
    palette = chunk(b"PLTE", bytes([255, 0, 0, 0, 0, 255]))
    indexed = png_of(2, 1, 8, 3, palette + chunk(b"IDAT", zlib.compress(b"\0\0\1")))
    np.testing.assert_array_equal(from_file(indexed), [[[255, 0, 0], [0, 0, 255]]])


def with_orientation(data, value):
    """The JPEG with an EXIF orientation (CIPA DC-008, tag 0x0112)."""
    tiff = b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, value, 0, 0)
    exif = b"Exif\0\0" + tiff
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]


@pytest.mark.parametrize(("value", "turns", "mirrored"), [(1, 0, False), (3, 2, False), (6, 3, False), (2, 0, True)])
def test_a_jpeg_is_turned_as_its_exif_says(value, turns, mirrored):
    upright = from_file(jpeg())
    expected = np.rot90(upright[:, ::-1] if mirrored else upright, turns)
    np.testing.assert_array_equal(from_file(with_orientation(jpeg(), value)), expected)


def test_padding_and_rubbish_after_the_end_do_no_harm():
    for tail in (b"\0" * 300, b"\0\xff", b"next"):
        np.testing.assert_array_equal(from_file(jpeg() + tail), from_file(jpeg()))
        np.testing.assert_array_equal(from_file(png() + tail), SMOOTH)


def thumbnailed(data):
    """The JPEG with another one inside its metadata, whose end is not the picture's end."""
    small = jpeg(SMOOTH[:8, :8])
    return data[:2] + b"\xff\xe2" + struct.pack(">H", len(small) + 2) + small + data[2:]


def test_metadata_may_hold_another_jpeg():
    np.testing.assert_array_equal(from_file(thumbnailed(jpeg())), from_file(jpeg()))


@pytest.mark.parametrize("make", [jpeg, png, lambda: thumbnailed(jpeg())], ids=["jpeg", "png", "with thumbnail"])
def test_whatever_is_cut_off_is_refused(make):
    data = make()
    for length in {0, 1, 2, 3, 8, 20, 100, len(data) // 2, len(data) - 40, len(data) - 2, len(data) - 1}:
        with pytest.raises(BadInput, match=f"^{length} bytes are no (complete|sound) (JPEG|PNG)") as raised:
            from_file(data[:length], "jpeg")
        assert "BytesIO" not in str(raised.value)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\xff\xd8garbage" * 9, "81 bytes are no complete JPEG or PNG"),
        (b"\xff\xd8\xff\xe0garbage" * 9, "99 bytes are no complete JPEG"),
        (png_of(4, 4, 8, 2, chunk(b"IDAT", b"rubbish")), "no sound JPEG or PNG image: it cannot be decoded"),
        (png(np.zeros((9, 9), np.uint16)), "16 bits per channel, a depth"),
        (png_of(10_000, 10_000, 8, 0, chunk(b"IDAT", b"")), "claims 10000 x 10000 pixels"),
        (jpeg()[:163] + b"\xff\xd9", "no (complete|sound) JPEG"),
    ],
    ids=["garbage", "garbage after a marker", "broken data", "16 bits", "huge", "no picture"],
)
def test_broken_images_are_refused(data, text):
    with pytest.raises(BadInput, match=text):
        from_file(data)


@pytest.mark.parametrize(
    ("data", "name", "what"),
    [
        (b"\0\0\0\x01\x67abc", "h264", "an H.264 video stream"),
        (b"\0\0\0\x01\x67abc", "", "an H.264 or HEVC video stream"),
        (b"\0\0\x01\x40abc", "hevc", "an HEVC .H.265. video stream"),
        (b"\0\0\0\x01\x40abc", "H.265", "an HEVC .H.265. video stream"),
        (b"\x12\0abc", "av1", "an AV1 video stream"),
        (b"\x80theora...", "", "a Theora video stream"),
        (b"OggS....", "theora", "a Theora video stream"),
        (b"\x28\xb5\x2f\xfd....", "rgb8; zstd", "a zstd-packed image"),
        (bytes(12) + png(np.zeros((9, 9), np.uint16)), "16UC1; compressedDepth png", "a compressed depth image"),
        (bytes(12) + png(np.zeros((9, 9), np.uint16)), "", "a compressed depth image"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "", "a WebP image"),
        (b"GIF89a....", "", "a GIF image"),
        (b"II*\0....", "tiff", "a TIFF image"),
        (b"\xff\x0a....", "", "a JPEG XL image"),
        (b"\0\0\0\x20ftypavif", "", "an AVIF image"),
        (b"anything", "16UC1; compressedDepth rvl", "a compressed depth image"),
        (b"\0\0\0\x04\x67abc\0\0\0\x03\x68ab", "", "an H.264 or HEVC video stream"),
        (b"\0\0\0\x04\x67abc\0\0\0\x03\x68ab", "h264", "an H.264 video stream"),
        (b"\0\0\0\x18ftypisom....", "", "an MP4 video"),
        (b"\0\0\0\x18moof....", "", "an MP4 video"),
        (b"\0\0\0\x18ftypheic....", "", "a HEIC image"),
        (b"\0\0\0\x18ftypmif1....", "", "a HEIC image"),
        (b"G" + bytes(187) + b"G" + bytes(187), "", "an MPEG transport stream"),
        (b"\x12\0\x0a\x0babc", "", "an AV1 video stream"),
        (b"DKIF....", "", "an IVF video"),
        (b"\x1a\x45\xdf\xa3....", "", "a Matroska or WebM video"),
        (b"RIFF\x10\0\0\0AVI LIST", "", "an AVI video"),
        (b"\0\0\x01\xba....", "", "an MPEG video stream"),
    ],
)
def test_other_streams_are_named(data, name, what):
    with pytest.raises(BadInput, match=f"the message carries {what}.*only JPEG and PNG are decoded") as raised:
        from_file(data, name)
    assert not name or repr(name) in str(raised.value)


def base64_of(data):
    return base64.b64encode(data)


@pytest.mark.parametrize(
    ("data", "what", "remedy"),
    [
        (base64_of(jpeg()), "a JPEG image as base64 text", "publish the bytes themselves"),
        (base64_of(png()), "a PNG image as base64 text", "publish the bytes themselves"),
        (b"data:image/jpeg;base64," + base64_of(jpeg()), "a data URL", "publish the bytes of its image"),
        (gzip.compress(jpeg()), "a gzip file", "publish what is packed in it"),
        (
            b"--frame\r\nContent-Type: image/jpeg\r\n\r\n" + jpeg(),
            "a part of an HTTP stream",
            "publish each JPEG of it without its header",
        ),
        (b"HTTP/1.0 200 OK\r\n\r\n" + jpeg(), "a part of an HTTP stream", "publish each JPEG of it without its header"),
    ],
)
def test_what_wraps_an_image_is_named(data, what, remedy):
    with pytest.raises(BadInput, match=f"^the message carries {what}.*; {remedy}"):
        from_file(data, "jpeg")


@pytest.mark.parametrize("data", [b"", b"anything", b"\0" * 40, b"G" * 40, b"\xff\xd8\xff\xe0garbage", jpeg()[:-300]])
def test_every_refusal_has_a_remedy(data):
    with pytest.raises(BadInput, match="; (check|publish|lower|choose)"):
        from_file(data)


def test_a_small_part_of_anything_is_not_taken_for_a_stream():
    for data in (b"\0\0\0\x05\x67abc", b"\0\0\0\x04\xe7abc", b"G" + bytes(187), b"\x12\0"):
        with pytest.raises(BadInput, match="are no complete JPEG or PNG image, beginning with"):
            from_file(data)
