"""Joint positions pieced together from publishers that each know a part: names, ages, and what is said when one is
missing."""

import math

import numpy as np
import pytest

from specprune_ros.observe.joints import PROPRIO_DIMS, JointBook, proprio
from specprune_ros.types import BadInput, EndEffector

MS = 1_000_000


def book(**positions):
    """Each joint by itself, at 100 ms."""
    known = JointBook("/joint_states")
    for name, position in positions.items():
        known.update([name], [position], 100 * MS)
    return known


def test_joints_are_found_by_name_whoever_published_them():
    known = book(b=2.0)
    known.update(["c", "a"], [math.nan, 1.0], 90 * MS)
    stamp_ns, positions = known.positions(["a", "b"], 0.3)
    assert stamp_ns == 90 * MS and positions.dtype == np.float64
    np.testing.assert_array_equal(positions, [1.0, 2.0])


def test_the_newest_message_counts_and_leaves_other_joints_alone():
    known = book(a=1.0, b=2.0)
    known.update(["b"], [3.0], 110 * MS)
    stamp_ns, positions = known.positions(["a", "b", "b"], 0.3)
    assert stamp_ns == 100 * MS
    np.testing.assert_array_equal(positions, [1.0, 3.0, 3.0])  # a gripper with one measured finger names it twice


def test_a_message_without_positions_says_nothing():
    known = book(a=1.0)
    known.update(["a"], [], 200 * MS)
    assert known.positions(["a"], 0.3)[0] == 100 * MS


@pytest.mark.parametrize(
    ("names", "positions", "text"),
    [
        (["c"], [1.0], "no position of joint b; heard so far: a, c"),
        (["b"], [math.nan], "the position of b is nan, not finite; check the robot driver"),
        (["b"], [-math.inf], "the position of b is -inf, not finite"),
        (["b", "c"], [1.0], "2 joint names but 1 positions"),
    ],
)
def test_what_cannot_be_used_is_named_until_it_can(names, positions, text):
    known = book(a=1.0)
    known.update(names, positions, 100 * MS)
    with pytest.raises(BadInput, match=f"/joint_states: {text}"):
        known.positions(["a", "b"], 0.3)
    known.update(["b"], [2.0], 120 * MS)
    np.testing.assert_array_equal(known.positions(["a", "b"], 0.3)[1], [1.0, 2.0])


def test_a_refused_message_is_remembered_for_its_joints_only():
    known = book(a=1.0, b=2.0)
    known.refuse(["b"], BadInput("/joint_states: no stamp"))
    assert known.positions(["a"], 0.3)[1] == [1.0]
    with pytest.raises(BadInput, match="no stamp"):
        known.positions(["a", "b"], 0.3)


def test_joints_measured_too_far_apart_do_not_belong_together():
    known = book(a=1.0)
    known.update(["b"], [2.0], 400 * MS)
    assert known.positions(["a", "b"], 0.3)[0] == 100 * MS
    known.update(["b"], [2.0], 401 * MS)
    with pytest.raises(BadInput, match="/joint_states: a is 0.30 s older than the other joints; check that its driver"):
        known.positions(["b", "a"], 0.3)


def test_proprio_is_position_rotation_vector_and_both_fingers():
    down = EndEffector(0, np.array([0.4, -0.1, 0.3]), np.array([1.0, 0.0, 0.0, 0.0]))
    values = proprio(down, [0.03, 0.02])
    assert values.shape == (PROPRIO_DIMS,) and values.dtype == np.float32
    np.testing.assert_allclose(values, [0.4, -0.1, 0.3, math.pi, 0, 0, 0.03, -0.02], atol=1e-6)
