"""The gate: nothing passes before arming, the emergency stop latches, long holds disarm; and the target pose on its leash."""

import numpy as np
import pytest
from hypothesis import strategies as st
from properties import given

from specprune_ros import rotation
from specprune_ros.config import Limits, Output, Safety
from specprune_ros.control.limits import REST
from specprune_ros.control.safety import SafetyGate, State
from specprune_ros.control.target import TargetPose
from specprune_ros.types import Command, Displacement, EndEffector, Hold

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
    assert gate.state is State.DISARMED and isinstance(passed(gate), Hold)


def test_the_emergency_stop_latches():
    gate = SafetyGate()
    gate.arm([])
    gate.estop("~/estop was called")
    gate.estop("again")
    assert passed(gate).reason == "estopped: ~/estop was called"
    assert "call ~/reset_estop first" in gate.arm([])
    gate.disarm("somebody else")
    assert gate.state is State.ESTOPPED, "disarming does not unlatch it"
    assert gate.reset_estop() is None and gate.state is State.DISARMED
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
    assert gate.state is State.DISARMED and gate.reason == "held for 2.1 s (safety.hold_timeout 2 s): no image"
    assert isinstance(passed(gate, COMMAND, 4.2), Hold), "good input alone does not move the arm again"


def test_hold_timeout_zero_never_disarms():
    gate = SafetyGate()
    gate.arm([])
    for now_s in range(100):
        passed(gate, Hold("x"), now_s, Safety(hold_timeout=0.0))
    assert gate.state is State.ARMED


@given(st.lists(st.sampled_from(["arm", "blocked", "disarm", "estop", "reset", "command", "hold"]), max_size=40))
def test_a_command_passes_only_while_armed(events):
    """Against the rules in words: armed by an unhindered arm; not by anything else; unlatched only by reset."""
    gate, armed, latched = SafetyGate(), False, False
    for tick, event in enumerate(events):
        if event == "arm":
            armed = armed or (gate.arm([]) is None)
            assert armed is not latched or not armed
        elif event == "blocked":
            gate.arm(["x"])
        elif event == "disarm":
            gate.disarm("x")
            armed = False
        elif event == "estop":
            gate.estop("x")
            armed, latched = False, True
        elif event == "reset":
            latched = latched and gate.reset_estop() is not None
        out = passed(gate, Hold("x") if event == "hold" else COMMAND, tick * 0.05)
        assert isinstance(out, Command) == (armed and event != "hold")
        assert gate.state is (State.ESTOPPED if latched else State.ARMED if armed else State.DISARMED)


def pose(x=0.5, turn=(0.0, 0.0, 0.0)):
    return EndEffector(0, np.array([x, 0.0, 0.3]), rotation.from_rotvec(turn))


def step(x=0.0, yaw=0.0):
    return Displacement(np.array([x, 0.0, 0.0]), np.array([0.0, 0.0, yaw]), 1.0)


OUTPUT, LIMITS = Output(leash_translation=0.05, leash_rotation=0.3), Limits()


def test_a_target_starts_at_the_measured_pose_and_integrates():
    target = TargetPose()
    for expected in (0.51, 0.52, 0.53):
        got = target.moved(step(0.01, 0.1), pose(), Output(leash_rotation=0.5), LIMITS)
        assert got.position_m[0] == pytest.approx(expected)
    np.testing.assert_allclose(rotation.to_rotvec(got.quaternion_xyzw), [0, 0, 0.3], atol=1e-12)
    target.clear()
    assert target.moved(step(0.01), pose(0.6), OUTPUT, LIMITS).position_m[0] == pytest.approx(0.61)


@given(st.lists(st.tuples(st.floats(-0.1, 0.1), st.floats(-0.5, 0.5), st.floats(0.3, 0.7)), min_size=1, max_size=20))
def test_a_blocked_arm_is_not_outrun(moves):
    target = TargetPose()
    for x, yaw, at in moves:
        measured = pose(at, (3.0, 0.0, 0.0))
        got = target.moved(step(x, yaw), measured, OUTPUT, LIMITS)
        assert np.linalg.norm(got.position_m - measured.position_m) <= 0.05 + 1e-9
        assert np.linalg.norm(rotation.difference(got.quaternion_xyzw, measured.quaternion_xyzw)) <= 0.3 + 1e-9
        assert np.linalg.norm(got.quaternion_xyzw) == pytest.approx(1.0)


def test_the_target_does_not_leave_the_workspace_ahead_of_the_arm():
    target, at_wall = TargetPose(), pose(0.79)
    places = [target.moved(step(0.004), at_wall, OUTPUT, LIMITS).position_m[0] for _ in range(10)]
    assert places[:2] == pytest.approx([0.794, 0.798]) and places[2:] == pytest.approx([0.8] * 8)
    outside = TargetPose()
    assert outside.moved(step(0.01), pose(0.85), OUTPUT, LIMITS).position_m[0] == pytest.approx(0.85), "no further out"
    assert outside.moved(step(-0.01), pose(0.85), OUTPUT, LIMITS).position_m[0] == pytest.approx(0.84), "but back in"
