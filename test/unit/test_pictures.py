"""What a picture must be like for the arm to move by it: covered, dazzled, noisy and stuck cameras, and sound ones."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from pictures import noise

from specprune_ros.config import Config, Pictures
from specprune_ros.observe.pictures import PictureWatch, check_content
from specprune_ros.types import BadInput, EndEffector

SETTINGS = Pictures()
SHAPES = [(16, 16), (224, 224), (360, 640), (480, 300)]


def scene(height, width):
    """A table, a wall and a few things on it."""
    image = np.zeros((height, width, 3), np.uint8)
    image[: height // 3] = 190, 200, 205
    image[height // 3 :] = 150, 120, 90
    for part, colour in enumerate(((200, 30, 30), (30, 160, 60), (40, 60, 200))):
        top, left = height // 2 + part * height // 12, width // 5 + part * width // 4
        image[top : top + height // 6 + 1, left : left + width // 8 + 1] = colour
    return image


def noisy(mean, deviation, shape, seed=0):
    values = np.random.default_rng(seed).normal(mean, deviation, (*shape, 3))
    return values.clip(0, 255).astype(np.uint8)


def jpeg(image, quality):
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


@pytest.mark.parametrize("shape", SHAPES)
def test_scenes_pass(shape):
    for image in (scene(*shape), scene(*shape)[::-1, ::-1], np.flip(scene(*shape), 2)):
        check_content(image, SETTINGS)
        check_content(jpeg(image, 50), SETTINGS)
        check_content(image // 4, SETTINGS)  # in the dark
        check_content(255 - (255 - image) // 4, SETTINGS)
        worn = image.astype(int) + np.random.default_rng(0).normal(0, 8, image.shape).astype(int)
        check_content(worn.clip(0, 255).astype(np.uint8), SETTINGS)


def test_stripes_and_grids_are_no_noise():
    columns = np.arange(224)
    for period in range(2, 20):
        stripes = np.where(columns % period < period / 2, 230, 20).astype(np.uint8)
        image = np.broadcast_to(stripes[None, :, None], (224, 224, 3)).copy()
        image[180:, 40:] = 90  # the table below
        check_content(image, SETTINGS)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("level", [0, 3, 10])
def test_a_covered_lens_is_black_also_with_a_sensors_noise(shape, level):
    for image in (np.full((*shape, 3), level, np.uint8), noisy(level, 2, shape)):
        with pytest.raises(
            BadInput, match=r"is black \(mean .*pictures.dark 12.*uncover the lens or turn on the light"
        ):
            check_content(image, SETTINGS)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_dazzled_camera_is_white(shape):
    for image in (np.full((*shape, 3), 255, np.uint8), noisy(250, 2, shape)):
        with pytest.raises(BadInput, match=r"is white \(mean .*pictures.bright 243.*shorten the exposure"):
            check_content(image, SETTINGS)


@pytest.mark.parametrize("colour", [(128, 128, 128), (0, 135, 0), (90, 60, 50), (255, 0, 0)])
def test_one_even_colour_shows_nothing(colour):
    with pytest.raises(BadInput, match=r"has one even colour \(mean .*pictures.even 1.*uncover the lens"):
        check_content(np.full((224, 224, 3), colour, np.uint8), SETTINGS)


@pytest.mark.parametrize("shape", SHAPES)
def test_noise_is_no_picture(shape):
    raw = noise(*shape)
    images = [raw, noisy(128, 30, shape), 255 * (raw[..., :1] > 127).repeat(3, axis=2).astype(np.uint8)]
    if min(shape) > 100:
        images += [jpeg(raw, quality) for quality in (95, 70, 40)]
        images += [cv2.demosaicing(np.ascontiguousarray(raw[..., 0]), cv2.COLOR_BayerBG2RGB)]
        images += [cv2.GaussianBlur(raw, (0, 0), 1.0), cv2.resize(raw, None, fx=0.5, fy=0.5)]
    for image in images:
        with pytest.raises(BadInput, match=r"is noise \(pixels 4 to 7 apart correlate by 0...*pictures.noise 0.25"):
            check_content(image, SETTINGS)


def test_the_limits_are_parameters_and_there_is_an_off_switch():
    dark = noisy(10, 1, (64, 64))
    check_content(dark, Pictures(dark=5.0, even=0.0, noise=0.0))
    off = Config().updated({"pictures.check": False}).pictures
    PictureWatch().check(np.zeros((64, 64, 3), np.uint8), 0, None, off)


def pose(x=0.4, angle=0.0, stamp_ns=0):
    return EndEffector(stamp_ns, np.array([x, 0.0, 0.3]), np.array([0.0, 0.0, np.sin(angle / 2), np.cos(angle / 2)]))


SCENE = scene(64, 64)
SECOND = 1_000_000_000


def test_a_scene_that_stands_still_is_normal():
    """A simulated camera has no noise: its picture of an arm at rest is always the same."""
    watch = PictureWatch()
    for second in range(100):
        watch.check(SCENE.copy(), second * SECOND, pose(0.4 + 1e-4 * (second % 2)), SETTINGS)


@pytest.mark.parametrize("moved", [{"x": 0.43}, {"angle": 0.2}])
def test_a_picture_that_stays_while_the_arm_moves_is_stuck_until_it_changes(moved):
    watch = PictureWatch()
    watch.check(SCENE, 0, pose(), SETTINGS)
    watch.check(SCENE.copy(), SECOND, pose(), SETTINGS)
    for _ in range(3):
        with pytest.raises(BadInput, match=r"same to the last bit for 2.00 s, while the arm moved by 0.0.0 m.*0.02 m"):
            watch.check(SCENE.copy(), 2 * SECOND, pose(**moved), SETTINGS)
    other = SCENE.copy()
    other[5, 5, 1] += 1
    watch.check(other, 3 * SECOND, pose(**moved), SETTINGS)
    watch.check(other.copy(), 4 * SECOND, pose(**moved), SETTINGS)


def test_two_pictures_that_a_stuck_driver_shows_in_turn_are_found_and_an_arm_that_comes_back_is_not():
    other = SCENE.copy()
    other[7, 7] += 1
    watch = PictureWatch()

    def look(step, x):
        watch.check((SCENE, other)[step % 2], step * SECOND, pose(x, stamp_ns=step * SECOND), SETTINGS)

    for step in range(6):  # without noise the same place gives the same picture
        look(step, 0.4 + 0.1 * (step % 2))
    with pytest.raises(BadInput, match=r"while the arm moved by 0.200 m"):
        look(6, 0.6)
    with pytest.raises(BadInput, match=r"while the arm moved by 0.100 m"):
        look(7, 0.6)


def test_without_a_pose_nothing_is_stuck_and_it_counts_from_the_first_one():
    watch = PictureWatch()
    watch.check(SCENE, 0, None, SETTINGS)
    watch.check(SCENE.copy(), SECOND, pose(0.5), SETTINGS)
    watch.check(SCENE.copy(), 2 * SECOND, pose(0.51), SETTINGS)
    with pytest.raises(BadInput, match="for 2.00 s, while the arm moved by 0.050 m"):
        watch.check(SCENE.copy(), 3 * SECOND, pose(0.55), SETTINGS)


def test_motion_before_the_picture_was_taken_does_not_count():
    """A simulator that is reset: the picture of the new place arrives before the pose there, and the arm then stands
    still before a camera without noise. It was refused for ever."""
    watch = PictureWatch()
    before, after = replace(pose(0.4), stamp_ns=SECOND - 1), replace(pose(0.6), stamp_ns=SECOND)
    watch.check(SCENE, SECOND, before, SETTINGS)
    for second in range(2, 20):
        watch.check(SCENE.copy(), second * SECOND, replace(after, stamp_ns=second * SECOND), SETTINGS)
    with pytest.raises(BadInput, match="while the arm moved by 0.050 m"):
        watch.check(SCENE.copy(), 20 * SECOND, replace(pose(0.65), stamp_ns=20 * SECOND), SETTINGS)
