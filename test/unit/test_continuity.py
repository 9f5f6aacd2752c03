"""A pose that the arm cannot have reached is refused until it is back; an arm that is not commanded may also settle
elsewhere."""

import numpy as np
import pytest
from hypothesis import strategies as st
from properties import given

from specprune_ros import rotation
from specprune_ros.observe.continuity import ANYBODY, CALM_S, SETTLED_S, Continuity, Reach
from specprune_ros.types import BadInput, EndEffector

PERIOD_NS = 50_000_000
ARMED = Reach(0.15, 0.75, "1.5 times the limits")


def pose(period, x=0.0, yaw=0.0):
    turned = rotation.from_rotvec((0.0, 0.0, yaw))
    return EndEffector(round(period * PERIOD_NS) + 10**9, np.array([x, 0.0, 0.3]), turned)


def believed(poses, reach=ANYBODY, settle=True):
    continuity, verdicts = Continuity(PERIOD_NS), []
    for one in poses:
        try:
            continuity.check(one, reach, settle)
            verdicts.append(True)
        except BadInput:
            verdicts.append(False)
    return verdicts


@given(st.lists(st.tuples(st.floats(0.1, 2.0), st.floats(-1.0, 1.0), st.floats(-1.0, 1.0)), max_size=30))
def test_what_an_arm_can_do_is_believed(moves):
    """At 1.5 times the limits, whatever the rate of the poses."""
    period, x, yaw, poses = 0.0, 0.0, 0.0, [pose(0)]
    for periods, speed, turn in moves:
        seconds = periods * 0.05
        period, x, yaw = period + periods, x + speed * seconds * ARMED.mps, yaw + turn * seconds * ARMED.radps
        poses.append(pose(period, x, yaw))
    assert all(believed(poses, ARMED, settle=False))


def test_a_glitch_is_refused_until_the_arm_is_back_for_a_moment():
    verdicts = believed((pose(i, 1.0 if 2 <= i < 5 else 0.001 * i) for i in range(20)), ARMED, settle=False)
    again = verdicts.index(True, 2)
    assert verdicts[:2] == [True, True] and all(verdicts[again:])
    assert (again - 5) * 0.05 == pytest.approx(CALM_S, abs=0.06)


@pytest.mark.parametrize("jump", [{"x": 0.1}, {"x": 0.3}, {"x": 1.0}, {"yaw": 0.5}, {"yaw": 3.0}])
def test_an_armed_arm_that_jumped_is_not_believed_before_the_limits_allow_it(jump):
    """Fault 2: 0.3 m was believed after 0.2 s, and a rotation at once."""
    verdicts = believed((pose(i, **(jump if i >= 10 else {})) for i in range(24)), ARMED, settle=False)
    assert not any(verdicts[10:18])


def test_how_long_poses_have_been_refused():
    continuity = Continuity(PERIOD_NS)
    continuity.check(pose(0), ARMED, settle=False)
    assert continuity.elsewhere_s() == 0.0
    for i in range(1, 6):
        with pytest.raises(BadInput):
            continuity.check(pose(i, 0.5), ARMED, settle=False)
    assert continuity.elsewhere_s() == pytest.approx(0.2)
    assert continuity.jump.startswith("the end effector moved by 0.500 m")


def test_a_jump_is_named():
    continuity = Continuity(PERIOD_NS)
    continuity.check(pose(0), ARMED, settle=False)
    text = (
        r"the end effector moved by 1\.000 m within 0\.050 s, where 0\.037 m are possible "
        r"\(0\.15 m/s: 1\.5 times the limits\); check the robot driver and the frame of its pose"
    )
    with pytest.raises(BadInput, match=text):
        continuity.check(pose(1, 1.0), ARMED, settle=False)
    continuity.reset()
    continuity.check(pose(2, 1.0), ARMED, settle=False)
    with pytest.raises(BadInput, match=r"turned by 3\.00 rad within 0\.050 s, where 0\.19 rad are possible"):
        continuity.check(pose(3, 1.0, yaw=3.0), ARMED, settle=False)


def test_two_publishers_that_disagree_are_not_believed():
    assert sum(believed(pose(i / 2, float(i % 2)) for i in range(400))) == 1
    assert sum(believed((pose(i / 2, 0.05 * (i % 2)) for i in range(400)), ARMED, settle=False)) == 1


def test_an_arm_that_stays_elsewhere_is_believed_in_the_end_unless_it_is_armed():
    verdicts = believed(pose(i, 0.0 if i < 10 else 1.0) for i in range(100))
    first = verdicts.index(True, 11)
    assert (first - 10) * 0.05 == pytest.approx(SETTLED_S, abs=0.11) and all(verdicts[first:])
    assert not any(verdicts[10:first])
    assert not any(believed((pose(i, 0.0 if i < 10 else 1.0) for i in range(100)), ARMED, settle=False)[10:])


def test_repeated_and_reordered_poses_say_nothing_new():
    assert believed([pose(0), pose(2), pose(1.5, 1.0), pose(2, 1.0), pose(3)]) == [True] * 5
    assert believed([pose(0), pose(1, 1.0), pose(1, 1.0), pose(0.9)], ARMED) == [True, False, False, False]


def test_after_a_pause_the_arm_may_be_as_far_as_it_gets():
    assert believed([pose(0), pose(1), pose(9, 1.0), pose(10, 1.0)]) == [True] * 4
    assert believed([pose(0), pose(1), pose(5, 1.0), pose(6, 1.0)]) == [True, True, False, False]
    assert believed([pose(100), pose(101, 1.0), pose(5, 1.0), pose(6, 1.0)]) == [True, False, True, True], "a new clock"
