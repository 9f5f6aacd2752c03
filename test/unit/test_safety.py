"""The gate: nothing passes before arming, the emergency stop latches, long holds disarm."""

from specprune_ros.config import Safety
from specprune_ros.control.limits import REST
from specprune_ros.control.safety import SafetyGate, SafetyState
from specprune_ros.types import Command, Hold

COMMAND = Command(REST, chunk_id=1, step=0, chunk_age=0.1)
SECOND = 1_000_000_000
SAFETY = Safety()


def passed(gate, outcome=COMMAND, now_s=0.0, safety=SAFETY):
    return gate.pass_on(outcome, round(now_s * SECOND), safety)


def test_nothing_passes_before_arming():
    gate = SafetyGate()
    out = passed(gate)
    assert isinstance(out, Hold) and out.reason == "disarmed: not armed yet; call ~/arm"
    assert gate.arm([]) is None and passed(gate) is COMMAND


def test_arming_is_refused_with_everything_that_is_in_the_way():
    gate = SafetyGate()
    assert gate.arm(["no image", "another publisher"]) == "no image; another publisher"
    assert gate.state is SafetyState.DISARMED and isinstance(passed(gate), Hold)


def test_the_emergency_stop_latches():
    gate = SafetyGate()
    gate.arm([])
    gate.estop("~/estop was called")
    gate.estop("again")
    assert passed(gate).reason == "estopped: ~/estop was called"
    assert "call ~/reset_estop first" in gate.arm([])
    gate.disarm("somebody else")
    assert gate.state is SafetyState.ESTOPPED, "disarming does not unlatch it"
    assert gate.reset_estop() is None and gate.state is SafetyState.DISARMED
    assert isinstance(passed(gate), Hold), "reset, but not armed"
    assert gate.arm([]) is None and passed(gate) is COMMAND
    assert "not latched" in gate.reset_estop() and gate.trips == 1


def test_a_long_hold_disarms_and_a_short_one_does_not():
    gate = SafetyGate()
    gate.arm([])
    hold = Hold("no image")
    for now_s in (0.0, 1.0, 1.9):
        assert passed(gate, hold, now_s) is hold
    assert passed(gate, COMMAND, 1.95) is COMMAND
    for now_s in (2.0, 3.0, 4.0, 4.1):
        passed(gate, hold, now_s)
    assert gate.state is SafetyState.DISARMED and gate.reason == "held for 2.1 s (safety.hold_timeout 2 s): no image"
    assert isinstance(passed(gate, COMMAND, 4.2), Hold), "good input alone does not move the arm again"


def test_hold_timeout_zero_never_disarms():
    gate = SafetyGate()
    gate.arm([])
    for now_s in range(100):
        passed(gate, Hold("x"), now_s, Safety(hold_timeout=0.0))
    assert gate.state is SafetyState.ARMED


def test_the_brake_passes_while_armed_and_not_in_the_period_that_disarms():
    gate, braking = SafetyGate(), Hold("no image", COMMAND)
    gate.arm([])
    assert passed(gate, braking, 0.0) is braking
    assert passed(gate, braking, 2.5).braking is None and gate.state is SafetyState.DISARMED
    assert passed(gate, braking, 2.6).braking is None
