"""Servo repeats its last verdict for ever: which of them are about us, and how long one that stopped us stands."""

import numpy as np
import pytest

from specprune_ros import rotation
from specprune_ros.control.halts import AWAY_M, AWAY_RAD, HALTED, JUDGED_AFTER_S, SETTLED_S, SILENT_S, Halts
from specprune_ros.types import EndEffector

CLEAR, SLOWED = 0, 4


def pose(x=0.4, turned_rad=0.0):
    return EndEffector(0, np.array([x, 0.0, 0.3]), rotation.from_rotvec(np.array([0.0, 0.0, turned_rad])))


def halted(code=2):
    """Armed, a twist sent at 0 s, halted at 0.4 s, and seen to be so."""
    halts = Halts()
    halts.sent(0.0)
    halts.heard(code, JUDGED_AFTER_S + 0.1)
    halts.obstacle(pose(), JUDGED_AFTER_S + 0.1)
    return halts


@pytest.mark.parametrize("code", HALTED)
def test_a_halt_is_obeyed_with_its_number_and_the_remedy(code):
    text = halted(code).obstacle(pose(), 0.5)
    assert text == f"{HALTED[code][0]} (status {code}); {HALTED[code][1]}"


@pytest.mark.parametrize("code", [CLEAR, SLOWED, 1, 3, 6])
def test_other_verdicts_stop_nothing(code):
    assert halted(code).obstacle(pose(), 0.5) is None


def test_a_verdict_on_somebody_elses_command_is_not_ours():
    halts = Halts()
    halts.heard(2, 0.0)
    assert halts.obstacle(pose(), 0.0) is None
    halts.sent(1.0)
    halts.heard(2, 1.0 + JUDGED_AFTER_S / 2)
    assert halts.obstacle(pose(), 1.2) is None, "Servo has not judged our twist yet"
    halts.heard(2, 1.1 + JUDGED_AFTER_S)
    assert "singularity" in halts.obstacle(pose(), 1.5)


def test_a_halt_stands_after_disarming_while_servo_repeats_it_and_the_arm_is_still_there():
    halts = halted()
    halts.release()
    for k in range(20):
        halts.heard(2, 2.0 + k)
        assert "singularity" in halts.obstacle(pose(0.4 + 0.5 * AWAY_M), 2.0 + k)
    assert "singularity" in halts.obstacle(None, 30.0), "nobody knows where the arm is"


@pytest.mark.parametrize("elsewhere", [pose(0.4 + 1.1 * AWAY_M), pose(turned_rad=1.1 * AWAY_RAD)])
def test_a_halt_ends_when_the_arm_is_elsewhere_although_servo_repeats_it(elsewhere):
    halts = halted()
    halts.release()
    assert halts.obstacle(elsewhere, 2.0) is None
    halts.heard(2, 2.1)
    assert halts.obstacle(pose(), 2.2) is None, "for good: whether it is a halt again, Servo says after our next twist"


def test_an_arm_that_brakes_after_the_halt_is_not_elsewhere():
    halts = halted()
    assert "singularity" in halts.obstacle(pose(0.42), 0.5), "still armed"
    halts.release()
    for now_s, x in ((0.6, 0.44), (1.0, 0.46), (0.39 + SETTLED_S, 0.47), (2.0, 0.471), (100.0, 0.47)):
        assert "singularity" in halts.obstacle(pose(x), now_s)
    assert halts.obstacle(pose(), 101.0) is None


def test_a_halt_ends_when_servo_says_something_else_or_is_gone():
    halts = halted()
    halts.release()
    halts.heard(CLEAR, 1.0)
    assert halts.obstacle(pose(), 1.0) is None
    halts = halted()
    halts.forget()
    assert halts.obstacle(pose(), 1.0) is None


def test_a_servo_that_says_nothing_while_it_gets_twists_is_an_obstacle():
    halts = Halts()
    halts.heard(CLEAR, 0.0)
    assert halts.obstacle(pose(), 100.0) is None, "not while it gets none"
    halts.sent(100.0)
    assert halts.obstacle(pose(), 100.0 + 0.9 * SILENT_S) is None
    text = halts.obstacle(pose(), 100.2 + SILENT_S)
    assert "has not said its status for 1.2 s (bound 1 s); is it paused (pause_servo)" in text
    halts.heard(CLEAR, 101.5)
    assert halts.obstacle(pose(), 101.6) is None
