"""Images on a wire: turned, flipped, made smaller, judged, before anything else sees them."""

import itertools

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("mujoco")

from input_bench import MS, START, TOPICS, Bench, image, started
from pictures import noise, seen
from sensor_msgs.msg import CompressedImage

from specprune_ros.config import IMAGE_FLIPS, IMAGE_ROTATIONS, Config, ConfigError
from specprune_ros.observe.pixels import turned
from specprune_ros.ros import convert

THIRD, WRIST = TOPICS.images


def shown(bench, view):
    return bench.loop.inputs.images[view]


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(("degrees", "flip"), [*itertools.product(IMAGE_ROTATIONS, IMAGE_FLIPS)])
def test_a_view_is_turned_and_flipped_before_anything_else_sees_it(degrees, flip, compressed):
    pixels = seen(24, 32)
    transport, suffix = ("compressed", "/compressed") if compressed else ("raw", "")
    bench = Bench(
        with_proprio=False,
        topics__image_rotations=[0, degrees],
        topics__image_flips=["none", flip],
        topics__image_transport=transport,
    )
    message = image(pixels)
    if compressed:
        data = cv2.imencode(".png", pixels[..., ::-1])[1].tobytes()
        message = CompressedImage(header=message.header, format="png", data=data)
    for topic in TOPICS.images:
        bench.wire.publish(topic + suffix, message)
    bench.arm.say_pose(START)
    assert bench.problem(START) == ""
    third, wrist = bench.loop.request(START).observation.images
    np.testing.assert_array_equal(third, pixels)
    np.testing.assert_array_equal(wrist, turned(pixels, degrees, flip))


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"topics.image_rotations": [180]}, "topics.image_rotations: 1 values for 2 image topics; give one per view"),
        ({"topics.image_rotations": [45, 0]}, "topics.image_rotations: 45 is not one of 0, 90, 180, 270"),
        ({"topics.image_flips": ["none", "sideways"]}, "'sideways' is not one of none, horizontal, vertical"),
        ({"topics.image_flips": ["vertical"] * 3}, "topics.image_flips: 3 values for 2 image topics"),
    ],
)
def test_turns_that_do_not_fit_the_views_are_refused(values, text):
    with pytest.raises(ConfigError, match=text):
        Config().updated(values)
    assert Config().updated({"topics.images": ["/a", "/b", "/c"]}).topics.image_rotations == (0, 0)


def test_large_images_are_made_smaller_and_the_newest_one_counts():
    bench = Bench(with_proprio=False)
    pixels = [seen(720, 1280, frame) for frame in range(3)]
    for i, each in enumerate(pixels):
        bench.wire.publish(THIRD, image(each, START + i * MS))
        bench.wire.publish(WRIST, image(each[:100, :100], START + i * MS))
    bench.feed(START + 3 * MS)
    assert shown(bench, 0).shape == (360, 640, 3) and shown(bench, 1).shape == (100, 100, 3)
    np.testing.assert_array_equal(shown(bench, 1), pixels[2][:100, :100])
    assert bench.loop.inputs.frame_ns == START + 2 * MS
    whole = Bench(with_proprio=False, topics__image_max_side=0)
    whole.wire.publish(THIRD, image(pixels[0]))
    whole.wire.publish(WRIST, image(pixels[0]))
    whole.feed(START)
    np.testing.assert_array_equal(shown(whole, 0), pixels[0])


@pytest.mark.parametrize(
    ("pixels", "text"),
    [
        (np.zeros((64, 64, 3), np.uint8), "the picture is black"),
        (np.full((64, 64, 3), 255, np.uint8), "the picture is white"),
        (np.full((64, 64, 3), 99, np.uint8), "the picture has one even colour"),
        (noise(64, 64), "the picture is noise"),
    ],
)
def test_a_picture_that_shows_nothing_is_a_reason_to_hold_until_it_shows_something(pixels, text):
    bench = started()
    bench.wire.publish(WRIST, image(pixels, START + MS))
    problem = bench.problem(START + MS)
    assert problem.startswith(f"image of view 2 ({WRIST}) was refused: {text}")
    bench.wire.publish(WRIST, image(seen(64, 64), START + 2 * MS))
    assert bench.problem(START + 2 * MS) == ""
    careless = started(pictures__check=False)
    careless.wire.publish(WRIST, image(pixels, START + MS))
    assert careless.problem(START + MS) == ""


def test_a_camera_whose_picture_stays_while_the_arm_moves_is_stuck():
    bench, same, still = started(), seen(32, 32), seen(32, 32, 5)
    for i in range(1, 30):
        now_ns = START + i * 50 * MS
        bench.arm.say_pose(now_ns)
        bench.arm.say_images(now_ns)
        bench.wire.publish(WRIST, image(same, now_ns + MS))
        bench.feed(now_ns + MS)
    assert "the picture has been the same to the last bit for" in bench.loop.blocked(now_ns + MS)
    calm = started()
    for i in range(1, 30):  # a simulator that stands still
        now_ns = START + i * 50 * MS
        pose = convert.pose(calm.arm.pose(START), "fr3_link0")
        pose.header = convert.header(now_ns, "fr3_link0")
        calm.wire.publish(TOPICS.ee_pose, pose)
        for topic in TOPICS.images:
            calm.wire.publish(topic, image(still, now_ns))
        assert calm.problem(now_ns) == ""
