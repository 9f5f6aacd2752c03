"""cv_bridge, where it is installed, gives the same images as OpenCV; where it is not, or fails, OpenCV gives them."""

import importlib.util
import logging
import sys
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("rclpy")

from sensor_msgs.msg import Image

from specprune_ros.observe import pixels
from specprune_ros.ros import convert
from specprune_ros.types import BadInput

TOPIC = "/camera"
INSTALLED = importlib.util.find_spec("cv_bridge") is not None


@pytest.fixture(autouse=True)
def _asked_anew():
    convert.cv_bridge.cache_clear()
    yield
    convert.cv_bridge.cache_clear()


def message(encoding, pad=0, bigendian=False):
    """Random bytes of 8 x 6 pixels in an encoding, each row followed by padding."""
    bytes_per_pixel = (
        pixels.PACKED[encoding].channels * pixels.PACKED[encoding].depth if encoding in pixels.PACKED else 2
    )
    step = 8 * bytes_per_pixel + pad
    data = np.random.default_rng(0).integers(0, 256, 6 * step, dtype=np.uint8).tobytes()
    return Image(height=6, width=8, encoding=encoding, step=step, is_bigendian=bigendian, data=data)


@pytest.mark.skipif(not INSTALLED, reason="cv_bridge is not installed: it comes with an apt ROS, not from PyPI")
@pytest.mark.parametrize("padding", [0, 2])
@pytest.mark.parametrize("encoding", sorted(convert.BRIDGED))
def test_cv_bridge_and_opencv_give_the_same_image(encoding, padding):
    given = message(encoding, pad=padding * convert.BRIDGED[encoding])
    theirs = convert.cv_bridge().imgmsg_to_cv2(given, "rgb8")
    np.testing.assert_array_equal(theirs, pixels.from_raw(given.data, encoding, 6, 8, given.step))
    np.testing.assert_array_equal(theirs, convert.rgb(given, TOPIC))


@pytest.mark.skipif(not INSTALLED, reason="cv_bridge is not installed: it comes with an apt ROS, not from PyPI")
@pytest.mark.parametrize("encoding", sorted(convert.BRIDGED))
def test_what_cv_bridge_reads_wrongly_is_not_given_to_it(encoding):
    """The other order of bytes, and rows that are no whole number of pixels."""
    for given in (message(encoding, bigendian=True), message(encoding, pad=1)):
        ours = pixels.from_raw(given.data, encoding, 6, 8, given.step, bool(given.is_bigendian))
        np.testing.assert_array_equal(convert.rgb(given, TOPIC), ours)


@pytest.mark.skipif(not INSTALLED, reason="cv_bridge is not installed: it comes with an apt ROS, not from PyPI")
def test_sizes_are_checked_before_cv_bridge_sees_them():
    short = message("rgb8")
    short.height = 7
    with pytest.raises(BadInput, match=f"{TOPIC}: the image has 144 bytes; 7 rows of 24 bytes need 168"):
        convert.rgb(short, TOPIC)


def fake(monkeypatch, converted):
    class CvBridge:
        def imgmsg_to_cv2(self, given, desired):
            assert desired == "rgb8"
            return converted(given)

    monkeypatch.setitem(sys.modules, "cv_bridge", SimpleNamespace(CvBridge=CvBridge))


def test_cv_bridge_is_used_where_it_is(monkeypatch):
    fake(monkeypatch, lambda given: np.full((given.height, given.width, 3), 7, np.uint8))
    assert (convert.rgb(message("bgr8"), TOPIC) == 7).all()
    planes = Image(height=6, width=8, encoding="nv12", step=8, data=bytes(72))
    assert not (convert.rgb(planes, TOPIC) == 7).all()  # it does not know this one


def test_a_message_on_which_cv_bridge_fails_is_converted_all_the_same(monkeypatch, caplog):
    def choosy(given):
        if given.encoding == "mono16":
            raise RuntimeError("unheard of")
        return np.zeros((given.height, given.width, 3), np.uint8)

    fake(monkeypatch, choosy)
    given = message("mono16")
    np.testing.assert_array_equal(convert.rgb(given, TOPIC), pixels.from_raw(given.data, "mono16", 6, 8, 16))
    assert "cv_bridge fails on mono16, OpenCV converts it: RuntimeError('unheard of')" in caplog.text


def test_a_cv_bridge_that_fails_is_said_and_done_without(monkeypatch, caplog):
    def broken(given):
        raise AttributeError("_ARRAY_API not found")

    fake(monkeypatch, broken)
    with caplog.at_level(logging.INFO, logger="specprune_ros"):
        got = convert.rgb(message("bgr8"), TOPIC)
    np.testing.assert_array_equal(got, pixels.from_raw(message("bgr8").data, "bgr8", 6, 8, 24))
    assert "cv_bridge is installed, but fails: AttributeError('_ARRAY_API not found')" in caplog.text
