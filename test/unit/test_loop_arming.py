"""The control loop of an armed arm: it is watched, and what speaks against it disarms."""

import numpy as np
import pytest
from loop_rig import Rig

from specprune_ros import rotation
from specprune_ros.types import (
    BadInput,
    Command,
    EndEffector,
    Hold,
)


def armed_rig(**changes):
    rig = Rig(**changes)
    for _ in range(3):
        rig.wait()
        rig.sense()
    assert rig.loop.obstacles(rig.now) == []
    rig.loop.engage()
    rig.wait()
    rig.sense()
    assert rig.accept(rig.request())
    return rig


def follow(rig, out):
    """The arm does in one period what it was told."""
    command = out if isinstance(out, Command) else out.braking
    if command:
        rig.position = rig.position + command.displacement.translation_m
        rig.turn = rotation.multiply(rotation.from_rotvec(command.displacement.rotation_rad), rig.turn)
    rig.wait()
    rig.sense()


def test_a_hold_brakes_within_the_limits_and_the_target_adds_up():
    rig = armed_rig(**{"output.interface": "target_pose"})
    start = rig.loop.measured.position_m
    outs = []
    for period in range(20):
        if period == 6:
            rig.loop.set_instruction("")
        outs.append(rig.tick())
        assert rig.loop.disagreement(rig.now) is None
        follow(rig, outs[-1])
    commands = [out if isinstance(out, Command) else out.braking for out in outs]
    moved = sum(c.displacement.translation_m for c in commands if c)
    last = next(c for c in reversed(commands) if c)
    np.testing.assert_allclose(last.target.position_m, start + moved)
    assert isinstance(outs[6], Hold) and outs[-1].braking is None


def test_an_armed_arm_that_does_not_follow_is_found():
    rig = armed_rig()
    for period in range(12):  # noqa: B007
        rig.tick()
        rig.wait()
        rig.sense()
        if text := rig.loop.disagreement(rig.now):
            break
    assert "does not follow" in text and (period + 1) * 0.05 <= 0.3


@pytest.mark.parametrize("interface", ["action", "target_pose"])
def test_a_pose_that_comes_late_is_a_reason_to_hold_and_says_nothing_about_following(interface):
    rig = armed_rig(**{"output.interface": interface, "limits.linear_speed": 0.25})
    for _ in range(24):
        request = rig.request()
        if request:
            assert rig.accept(request, 0.6)
        follow(rig, rig.tick())
        assert rig.loop.disagreement(rig.now) is None
    newest_ns = rig.loop.measured.stamp_ns
    for _ in range(30):
        out = rig.tick()
        command = out if isinstance(out, Command) else out.braking
        if command:
            rig.position = rig.position + command.displacement.translation_m
        assert rig.loop.disagreement(rig.now) is None
        rig.wait()
        rig.see()
        late = EndEffector(rig.now - 600_000_000, rig.position, rig.turn)
        if late.stamp_ns > newest_ns:
            rig.loop.set_state(late, np.zeros(8, np.float32))
    assert isinstance(out, Hold) and "0.60 s old" in out.reason


def test_an_armed_arm_is_disarmed_when_a_clock_goes_back_for_then_nobody_watches_it():
    for of_the_node in (True, False):
        rig = armed_rig()
        follow(rig, rig.tick())
        if of_the_node:
            rig.now -= 5 * 10**9
            rig.sense()
            assert isinstance(rig.tick(), Hold)
        else:
            rig.wait()
            rig.see()
            earlier = EndEffector(rig.now - 200_000_000, rig.position, rig.turn)
            rig.loop.set_state(earlier, np.zeros(8, np.float32))
        text = rig.loop.disagreement(rig.now)
        assert "went back by " in text and "check the clocks" in text
        rig.loop.drive.release()
        assert rig.loop.disagreement(rig.now) is None
        for _ in range(3):
            rig.wait()
            rig.sense()
        assert rig.loop.obstacles(rig.now) == []
        rig.loop.engage()
        assert rig.loop.disagreement(rig.now) is None


def test_a_camera_whose_clock_goes_back_makes_the_arm_hold_and_no_more():
    rig = armed_rig()
    rig.tick()
    rig.wait()
    rig.feel()
    rig.loop.set_image(0, rig.now - 200_000_000, np.zeros((4, 4, 3), np.uint8))
    assert isinstance(rig.tick(), Hold) and "went back" in rig.loop.last_reset
    assert rig.loop.disagreement(rig.now) is None


def test_an_armed_arm_whose_pose_jumped_is_found_and_a_glitch_is_not():
    for periods, wrong in ((2, False), (8, True)):
        rig = armed_rig()
        place = rig.position
        found = []
        for period in range(12):
            rig.wait()
            rig.see()
            at = place + ([0.3, 0, 0] if period < periods else 0)
            state = EndEffector(rig.now, np.asarray(at, float), np.array([0, 0, 0, 1.0]))
            try:
                rig.loop.set_state(state, np.zeros(8, np.float32))
            except BadInput:
                assert isinstance(rig.tick(), Hold)
            found.append(rig.loop.disagreement(rig.now))
        assert any(found) == wrong
        if wrong:
            text = next(filter(None, found))
            assert "the pose has not been possible for 0.2" in text and "moved by 0.300 m" in text


def test_an_armed_arm_that_is_pulled_out_of_its_box_is_disarmed():
    rig = armed_rig(**{"limits.workspace_max": [0.52, 0.5, 0.8]})
    for _ in range(8):
        out = rig.tick()
        assert rig.loop.disagreement(rig.now) is None
        follow(rig, out)
    rig.loop.update_config(rig.loop.config.updated({"limits.workspace_max": [0.45, 0.5, 0.8]}))
    text = rig.loop.disagreement(rig.now)
    assert "outside the workspace by more than supervision.drift_translation (0.025 m): x 0.5" in text


def test_a_camera_slower_than_its_chunks_is_named():
    rig = armed_rig(**{"control.observation_timeout": 1.0, "control.chunk_timeout": 2.0})
    outs = []
    for _ in range(12):
        outs.append(rig.tick())
        rig.wait()
        rig.feel()
    assert isinstance(outs[-1], Hold) and rig.request() is None
    assert "waiting for a new image: the newest is 0." in outs[-1].reason and "slowest camera" in outs[-1].reason


def test_a_gap_is_named_as_long_as_no_chunk_came_after_it():
    rig = Rig()
    rig.run_first_chunk()
    rig.wait(8)
    rig.sense()
    assert isinstance(out := rig.tick(), Hold)
    assert "waiting for the first inference; began anew: images: a gap of 0.40 s" in out.reason
    assert rig.accept(rig.request())
    assert isinstance(rig.tick(), Command)


def test_an_arm_outside_the_box_or_under_way_is_not_armed():
    rig = Rig()
    rig.position = np.array([0.9, 0.0, 0.3])
    rig.sense()
    [text] = rig.loop.obstacles(rig.now)
    assert "outside the workspace: x 0.900 m is above limits.workspace_max (0.8 m)" in text
    rig = Rig()
    for _ in range(3):
        rig.wait()
        rig.sense((0.1, 0, 0))
    [text] = rig.loop.obstacles(rig.now)
    assert "the end effector moves at 0.100 m/s" in text and "stop whatever moves it" in text


def test_after_a_stall_of_the_loop_the_arm_starts_from_rest():
    """The machine was busy for some periods: the arm has stopped meanwhile, whatever it was told last."""
    slow = {"limits.linear_acceleration": 0.5, "limits.linear_jerk": 10.0}
    rig = armed_rig(**slow, **{"pruning.controller.enabled": False})
    for _ in range(4):
        out = rig.tick()
        follow(rig, out)
    fast = np.linalg.norm(out.displacement.translation_m)
    for _ in range(2):
        rig.wait()
        rig.sense()
    first = np.linalg.norm(rig.tick().displacement.translation_m)
    assert fast > 0.0025 and first <= 0.5 * 0.05**2 + 1e-9, (fast, first)


def test_disarmed_nobody_is_watched():
    rig = armed_rig()
    rig.loop.drive.release()
    for _ in range(20):
        rig.tick()
        rig.wait()
        rig.sense()
        assert rig.loop.disagreement(rig.now) is None
