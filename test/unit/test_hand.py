"""The gripper's state machine: every goal is followed to its end, failures are tried once more and then said."""

import pytest
from hypothesis import strategies as st
from properties import given

from specprune_ros.control.hand import (
    CANCEL_S,
    HOME_AGAIN_S,
    MOST_TRIES,
    PAUSE_S,
    Cancel,
    End,
    Goal,
    Hand,
    HandSettings,
    Task,
    judged,
)

SETTINGS = HandSettings(open_m=0.04, tolerance_m=0.002)
HOMING = HandSettings(open_m=0.04, tolerance_m=0.002, homing=True)


def there(task):
    """A server is there."""
    return


class Rig:
    """A hand and its time."""

    def __init__(self, settings=SETTINGS):
        self.hand, self.now_s, self.absent = Hand(settings), 100.0, there

    def want(self, opening, hysteresis=0.1):
        self.hand.want(opening, hysteresis)
        return self.next()

    def next(self, after_s=0.0):
        self.now_s += after_s
        return self.hand.next(self.now_s, self.absent)

    def accept(self, goal, after_s=0.0):
        self.now_s += after_s
        return self.hand.accepted(goal.number, self.now_s)

    def end(self, goal, end=End.SUCCEEDED, detail="", after_s=0.5):
        self.now_s += after_s
        self.hand.ended(goal.number, end, detail, self.now_s)

    def do(self, goal, end=End.SUCCEEDED, detail=""):
        assert self.accept(goal)
        self.end(goal, end, detail)

    @property
    def state(self):
        return self.hand.state(self.now_s)


def test_only_a_change_of_the_wish_is_a_goal():
    rig = Rig()
    assert rig.next() is None and rig.state.wanted == "nothing"
    close = rig.want(0.2)
    assert close == Goal(1, Task.CLOSE, 0.0) and rig.want(0.1) is None
    rig.do(close)
    assert rig.want(0.3) is None and rig.state.reached == rig.state.wanted == "closed"
    opening = rig.want(0.9)
    assert opening == Goal(2, Task.OPEN, 0.04)
    rig.do(opening)
    assert rig.next(100.0) is None and rig.state.error == ""


def test_a_policy_that_wavers_around_the_middle_does_not_make_the_hand_chatter():
    rig = Rig()
    assert rig.want(0.5) is None, "no wish yet"
    rig.do(rig.want(0.49))
    for opening in (0.51, 0.59, 0.41, 0.6):
        assert rig.want(opening) is None
    assert rig.want(0.61).task is Task.OPEN


def test_a_hand_that_opens_to_797_tenth_of_a_millimetre_is_asked_for_less_and_from_then_on():
    rig = Rig()
    first = rig.want(1.0)
    rig.do(first, End.ABORTED, "max_width 0.0797")
    assert rig.state.error == "opening to 0.04 m a finger was aborted (max_width 0.0797); trying again"
    assert rig.next(PAUSE_S / 2) is None
    second = rig.next(PAUSE_S)
    assert second.task is Task.OPEN and second.position_m == pytest.approx(0.038)
    rig.do(second)
    assert rig.state.error == "" and rig.state.reached == "open"
    rig.do(rig.want(0.0))
    assert rig.want(1.0).position_m == pytest.approx(0.038)


def test_a_goal_that_fails_is_tried_once_more_and_then_said_until_something_else_is_wanted():
    rig = Rig()
    rig.do(rig.want(0.0), End.ABORTED, "not homed")
    rig.do(rig.next(PAUSE_S), End.REJECTED)
    assert rig.next(1000.0) is None and rig.want(0.0) is None
    assert rig.state.error == "closing to 0 m a finger was rejected; given up until something else is wanted"
    assert rig.state.reached == "nothing"
    rig.do(rig.want(1.0))
    assert rig.state.error == ""
    assert rig.want(0.0).task is Task.CLOSE


def test_arming_anew_makes_the_next_wish_a_command_again():
    rig = Rig()
    rig.do(rig.want(0.0))
    rig.hand.release()
    assert rig.next(1.0) is None and rig.state.reached == "nothing", "somebody may have moved it"
    assert rig.want(0.0).task is Task.CLOSE


def test_a_goal_under_way_when_the_arm_is_disarmed_is_followed_and_not_sent_twice():
    rig = Rig()
    close = rig.want(0.0)
    rig.accept(close)
    rig.hand.release()
    assert rig.next(1.0) is None, "what the hand holds it goes on holding"
    assert rig.want(0.0) is None
    rig.end(close)
    assert rig.next() is None and rig.state.reached == "closed"


def test_a_changed_wish_cancels_the_goal_before_the_next_one_is_sent():
    rig = Rig()
    close = rig.want(0.0)
    assert rig.want(1.0) is None, "it cannot be canceled before it is accepted"
    rig.accept(close)
    assert rig.next() == Cancel(close.number) and rig.next() is None
    rig.end(close, End.CANCELED, after_s=0.1)
    assert rig.state.error == "", "we asked for it"
    assert rig.next().task is Task.OPEN


def test_a_canceled_goal_that_does_not_end_is_given_up():
    rig = Rig()
    close = rig.want(0.0)
    rig.accept(close)
    rig.want(1.0)
    assert rig.next(CANCEL_S / 2) is None
    assert rig.next(CANCEL_S) is None
    opening = rig.next()
    assert opening.task is Task.OPEN
    rig.end(close, End.ABORTED, "late")
    assert rig.hand.busy and rig.state.error == "", "an old goal's end is nobody's"
    rig.do(opening)
    assert rig.state.reached == "open"


def test_a_goal_that_somebody_else_cancels_is_said_and_not_fought_over():
    rig = Rig()
    rig.do(rig.want(0.0), End.CANCELED)
    assert "was canceled by somebody else; given up until something else is wanted" in rig.state.error
    assert rig.next(100.0) is None


@pytest.mark.parametrize("accepted", [False, True])
def test_a_server_that_never_answers_is_said_with_the_bound(accepted):
    rig = Rig()
    bound_s = SETTINGS.result_s if accepted else SETTINGS.answer_s
    goals = []
    for _ in range(MOST_TRIES):
        goals.append(rig.want(0.0) or rig.next(PAUSE_S))
        if accepted:
            rig.accept(goals[-1])
        assert rig.next(bound_s - 0.1) is None
        assert rig.next(0.2) == Cancel(goals[-1].number), "should it wake up, it must not close the hand then"
    what = "has no result" if accepted else "was not answered"
    assert f"{what} after {bound_s + 0.1:.1f} s (bound {bound_s:g} s); restart the gripper's driver" in rig.state.error
    assert rig.next(1000.0) is None
    assert not rig.accept(goals[0]), "the shell cancels it"


def test_a_missing_server_is_said_and_waited_for():
    rig = Rig()
    rig.absent = lambda task: "no server of /franka_gripper/grasp"
    assert rig.want(0.0) is None
    assert rig.state.error == "closing is not possible: no server of /franka_gripper/grasp"
    rig.absent = there
    goal = rig.next(100.0)
    assert goal.task is Task.CLOSE
    rig.do(goal)
    assert rig.state.error == ""


def test_a_server_that_vanishes_under_a_goal_is_said_and_the_goal_sent_again_when_it_is_back():
    rig = Rig()
    for _ in range(3):  # however often: it is no failure of the hand
        goal = rig.want(0.0) or rig.next(PAUSE_S)
        rig.accept(goal)
        rig.absent = lambda task: "no server"
        assert rig.next(1.0) is None
        assert "got no result: the server vanished (no server)" in rig.state.error
        rig.absent = there
    assert rig.next(PAUSE_S).task is Task.CLOSE


# Homing.


def test_a_hand_is_homed_once_and_before_anything_else():
    rig = Rig(HOMING)
    assert rig.want(0.0).task is Task.CLOSE, "who armed without `prepare` wants no homing"
    rig = Rig(HOMING)
    assert "is being homed" in rig.hand.prepare(rig.now_s) and rig.hand.preparing
    goal = rig.next()
    assert goal.task is Task.HOME
    assert "is being homed" in rig.hand.prepare(rig.now_s)
    rig.do(goal)
    assert rig.hand.prepare(rig.now_s) is None and not rig.hand.preparing and rig.state.reached == "homed"
    rig.hand.release()
    assert rig.hand.prepare(rig.now_s) is None and rig.want(1.0).task is Task.OPEN


def test_homing_that_fails_refuses_arming_and_is_tried_anew_later():
    rig = Rig(HOMING)
    rig.hand.prepare(rig.now_s)
    rig.do(rig.next(), End.ABORTED, "blocked")
    assert "homing was aborted (blocked); trying again" in rig.hand.prepare(rig.now_s) and rig.hand.preparing
    rig.do(rig.next(PAUSE_S), End.ABORTED, "blocked")
    assert not rig.hand.preparing and "homing was aborted (blocked); given up" in rig.hand.prepare(rig.now_s)
    assert rig.next(1.0) is None
    rig.now_s += HOME_AGAIN_S
    assert "is being homed" in rig.hand.prepare(rig.now_s) and rig.next().task is Task.HOME


def test_homing_without_a_server_is_given_up_so_that_arming_does_not_wait_for_ever():
    rig = Rig(HOMING)
    rig.absent = lambda task: "no server of /franka_gripper/homing"
    rig.hand.prepare(rig.now_s)
    assert rig.next() is None and rig.hand.preparing, "it may be found in a moment"
    assert rig.next(HOMING.answer_s + 0.1) is None and not rig.hand.preparing
    assert rig.hand.prepare(rig.now_s) == "homing is not possible: no server of /franka_gripper/homing"
    rig.absent = there
    rig.hand.prepare(rig.now_s + HOME_AGAIN_S)
    assert rig.next(HOME_AGAIN_S).task is Task.HOME


def test_a_homing_nobody_waits_for_is_not_begun_later():
    rig = Rig(HOMING)
    rig.absent = lambda task: "no server of /franka_gripper/homing"
    rig.hand.prepare(rig.now_s)
    assert rig.next() is None
    assert rig.hand.prepare(rig.now_s) == "homing is not possible: no server of /franka_gripper/homing"
    rig.hand.release()
    rig.absent = there
    assert rig.next(1.0) is None


# What a result of GripperCommand means.


@pytest.mark.parametrize(
    ("task", "end", "reached", "stalled", "position_m", "expected"),
    [
        (Task.CLOSE, End.ABORTED, False, True, 0.01, End.SUCCEEDED),  # stands still on an object
        (Task.CLOSE, End.SUCCEEDED, False, True, 0.01, End.SUCCEEDED),
        (Task.CLOSE, End.ABORTED, False, False, 0.01, End.ABORTED),  # Franka's grasp of a thick object
        (Task.CLOSE, End.CANCELED, False, True, 0.01, End.CANCELED),
        (Task.OPEN, End.SUCCEEDED, True, False, 0.04, End.SUCCEEDED),
        (Task.OPEN, End.SUCCEEDED, False, True, 0.01, End.ABORTED),  # something is in the way
        (Task.OPEN, End.SUCCEEDED, False, True, 0.0385, End.SUCCEEDED),
        (Task.OPEN, End.SUCCEEDED, False, False, 0.0, End.SUCCEEDED),  # a server that fills in nothing
        (Task.OPEN, End.ABORTED, False, False, 0.0797, End.ABORTED),
    ],
)
def test_a_result_is_judged_by_what_the_fingers_did(task, end, reached, stalled, position_m, expected):
    goal = Goal(1, task, 0.04 if task is Task.OPEN else 0.0)
    assert judged(goal, end, reached, stalled, position_m, tolerance_m=0.002) is expected


# Whatever happens.

EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("want"), st.floats(0.0, 1.0)),
        st.tuples(st.just("wait"), st.floats(0.0, 12.0)),
        st.tuples(st.sampled_from(["accept", "release", "prepare", "lose", "find"]), st.none()),
        st.tuples(st.just("end"), st.sampled_from(End)),
    ),
    max_size=60,
)


@given(EVENTS)
def test_one_goal_at_a_time_and_never_more_tries_than_allowed(events):
    rig, running = Rig(HOMING), None
    for what, value in events:
        if what == "want":
            rig.hand.want(value, 0.1)
        elif what == "wait":
            rig.now_s += value
        elif what == "accept" and running:
            rig.accept(running)
        elif what == "release":
            rig.hand.release()
        elif what == "prepare":
            rig.hand.prepare(rig.now_s)
        elif what in ("lose", "find"):
            rig.absent = there if what == "find" else lambda task: "gone"
        elif what == "end" and running:
            rig.end(running, value)
        running = running if rig.hand.busy else None
        order = rig.next()
        running = running if rig.hand.busy else None
        if isinstance(order, Goal):
            assert running is None, "another goal runs"
            running = order
            assert 0.0 <= order.position_m <= SETTINGS.open_m
        state = rig.state
        assert state.wanted in ("open", "closed", "nothing") and state.doing
        assert (running is None) == (state.doing == "nothing")
        assert f"try {MOST_TRIES + 1}" not in state.doing
