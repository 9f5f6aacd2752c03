"""The boundary of trust: what does not pass, and that what has passed can no longer be changed."""

import math

import numpy as np
import pytest

from specprune_ros.config import Config
from specprune_ros.control.loop import ControlLoop
from specprune_ros.observe.inputs import Inputs, check_pose, view_names
from specprune_ros.types import BadInput, EndEffector

UPRIGHT = np.array([0.0, 0.0, 0.0, 1.0])
IMAGE = np.zeros((4, 4, 3), np.uint8)


def inputs():
    return Inputs(("/a", "/b"), "/pose", 8, 50_000_000)


@pytest.mark.parametrize(
    ("image", "text"),
    [
        (np.zeros((4, 4), np.uint8), r"expected \(H, W, 3\) uint8 RGB, got \(4, 4\) uint8"),
        (np.zeros((4, 4, 4), np.uint8), r"got \(4, 4, 4\) uint8"),
        (np.zeros((4, 4, 3), np.float32), r"got \(4, 4, 3\) float32; convert it to rgb8"),
        (np.zeros((0, 4, 3), np.uint8), r"got \(0, 4, 3\)"),
    ],
)
def test_images_that_do_not_pass(image, text):
    with pytest.raises(BadInput, match=text):
        inputs().checked_image(1, image)


def test_a_view_that_is_not_there():
    with pytest.raises(BadInput, match="there is no view 3; the policy has 2 views"):
        inputs().checked_image(2, IMAGE)


@pytest.mark.parametrize(
    ("position", "quaternion", "text"),
    [
        ([0, math.nan, 0], UPRIGHT, r"position is \[0.0, nan, 0.0\], not finite"),
        ([0, 0, 0], [0, 0, 0, math.inf], "quaternion is .*not finite"),
        ([0, 0, 0], [0, 0, 0, 0], "norm 0.000, expected 1; check that the publisher fills the orientation"),
        ([0, 0], UPRIGHT, r"position has shape \(2,\), expected \(3,\)"),
        ([0, 0, 0], [0, 0, 1], r"quaternion has shape \(3,\), expected \(4,\)"),
    ],
)
def test_poses_that_do_not_pass(position, quaternion, text):
    bad = EndEffector(0, np.array(position, float), np.array(quaternion, float))
    for check in (check_pose, lambda pose: inputs().checked_state(pose, np.zeros(8))):
        with pytest.raises(BadInput, match=text):
            check(bad)


@pytest.mark.parametrize(
    ("proprio", "text"),
    [
        (None, r"proprio has shape None, the policy needs \(8,\)"),
        (np.zeros(7), r"shape \(7,\)"),
        (np.full(8, math.nan), "not finite"),
    ],
)
def test_proprio_that_does_not_pass(proprio, text):
    with pytest.raises(BadInput, match=text):
        inputs().checked_state(EndEffector(0, np.zeros(3), UPRIGHT), proprio)


def test_what_has_passed_is_frozen_all_the_way_to_the_policy():
    loop = ControlLoop(Config(instruction="move"), view_count=2, chunk_steps=8)
    own = IMAGE.copy()
    loop.set_frame(0, (own, own))
    loop.set_state(EndEffector(0, np.zeros(3), UPRIGHT.copy()), np.zeros(8))
    observation = loop.request(0).observation
    for array in (*observation.images, observation.proprio, loop.measured.position_m, loop.measured.quaternion_xyzw):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 1
    own[0, 0] = 7  # whoever made it may go on
    assert observation.proprio.dtype == np.float32


def test_names_of_views_come_from_their_topics():
    assert view_names(("/camera/third_person/color/image_raw", "/camera/wrist/color/image_raw")) == (
        "third_person",
        "wrist",
    )
    assert view_names(("/left/image", "/right/image", "/wrist/image")) == ("left", "right", "wrist")
    assert view_names(("camera/left/image", "camera/right/image")) == ("left", "right")
    assert view_names(("/robot1/left/image", "/robot1/right/image")) == ("left", "right")
    assert view_names(("left", "right")) == ("left", "right")
    assert view_names(("~/left", "~/right")) == ("left", "right")
    assert view_names(("/only/image",)) == ("view1",)
    assert view_names(("/a/x/image", "/b/y/image")) == ("view1", "view2")
    assert view_names(("/a/image", "/a/image_raw/more")) == ("view1", "view2")
    assert view_names(("/a/image", "/b/image", "/a/image")) == ("view1", "view2", "view3")
