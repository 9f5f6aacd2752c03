"""A pose that the arm cannot have reached is refused until it is back, or was steadily elsewhere for long."""

import numpy as np
import pytest
from hypothesis import strategies as st
from properties import given

from specprune_ros import rotation
from specprune_ros.observe.continuity import CALM_S, SETTLED_S, Continuity
from specprune_ros.types import BadInput, EndEffector

PERIOD_NS = 50_000_000


def pose(period, x=0.0, yaw=0.0):
    turned = rotation.from_rotvec((0.0, 0.0, yaw))
    return EndEffector(round(period * PERIOD_NS) + 10**9, np.array([x, 0.0, 0.3]), turned)


def believed(poses):
    continuity, verdicts = Continuity(PERIOD_NS), []
    for one in poses:
        try:
            continuity.check(one)
            verdicts.append(True)
        except BadInput:
            verdicts.append(False)
    return verdicts


@given(st.lists(st.tuples(st.floats(0.1, 2.0), st.floats(-1.0, 1.0), st.floats(-1.0, 1.0)), max_size=30))
def test_what_an_arm_can_do_is_believed(moves):
    """At full scale of an action, whatever the rate of the poses."""
    period, x, yaw, poses = 0.0, 0.0, 0.0, [pose(0)]
    for periods, speed, turn in moves:
        period, x, yaw = period + periods, x + speed * periods * 0.0866, yaw + turn * periods * 0.866
        poses.append(pose(period, x, yaw))
    assert all(believed(poses))


def test_a_jump_is_refused_until_the_arm_is_back_for_a_moment():
    verdicts = believed(pose(i, 1.0 if 2 <= i < 5 else 0.001 * i) for i in range(20))
    again = verdicts.index(True, 2)
    assert (
        verdicts[:2] == [True, True] and all(verdicts[again:]) and (again - 5) * 0.05 == pytest.approx(CALM_S, abs=0.06)
    )


def test_a_jump_is_named():
    continuity = Continuity(PERIOD_NS)
    continuity.check(pose(0))
    with pytest.raises(
        BadInput, match=r"the end effector moved by 1\.000 m within 0\.050 s, which no arm can; check the robot"
    ):
        continuity.check(pose(1, 1.0))
    continuity.reset()
    continuity.check(pose(2, 1.0))
    with pytest.raises(BadInput, match=r"turned by 3\.00 rad within 0\.050 s"):
        continuity.check(pose(3, 1.0, yaw=3.0))


def test_two_publishers_that_disagree_are_not_believed():
    assert sum(believed(pose(i / 2, float(i % 2)) for i in range(400))) == 1


def test_an_arm_that_stays_elsewhere_is_believed_in_the_end():
    verdicts = believed(pose(i, 0.0 if i < 10 else 1.0) for i in range(100))
    first = verdicts.index(True, 11)
    assert (first - 10) * 0.05 == pytest.approx(SETTLED_S, abs=0.11) and all(verdicts[first:])
    assert not any(verdicts[10:first])


def test_repeated_and_reordered_poses_say_nothing():
    assert believed([pose(0), pose(2), pose(1.5, 1.0), pose(2, 1.0), pose(3)]) == [True] * 5


def test_after_a_pause_the_arm_may_be_as_far_as_it_gets():
    assert believed([pose(0), pose(1), pose(9, 1.0), pose(10, 1.0)]) == [True] * 4
    assert believed([pose(0), pose(1), pose(5, 1.0), pose(6, 1.0)]) == [True, True, False, False]
    assert believed([pose(100), pose(101, 1.0), pose(5, 1.0), pose(6, 1.0)]) == [True, False, True, True], "a new clock"
